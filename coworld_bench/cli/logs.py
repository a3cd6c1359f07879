"""`logs`: what a run wrote."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coworld_bench.cli.common import Json, Runs, show
from coworld_bench.errors import UsageError

if TYPE_CHECKING:
    from coworld_bench.bench.standing import Standing


def logs(
    name: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id or the beginning of one, or a job as `status` names it.")
    ],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="And what comes, until it ends.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Of its log, from the end.")] = 20,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Show how a run stands, why it failed, its last metrics and the end of its log."""
    if json and follow:
        raise UsageError("--json is one document; it does not go with --follow")
    from coworld_bench.bench import following
    from coworld_bench.bench.finding import find_job, open_store

    store = open_store(runs)
    job = find_job(store, name)
    metrics = following.last_metrics(job.log.parent) if job.is_run else {}
    log = following.last_lines(job.log, lines)
    show("" if json else logs_text(job, metrics, log), logs_document(job, metrics, log), json)
    if follow:
        with suppress(KeyboardInterrupt):
            typer.echo(state_words(following.follow(store, job, typer.echo)))


def logs_text(job: Standing, metrics: dict[str, Any], log: list[str]) -> str:
    parts = [f"{job.words}\n{state_words(job)}"]
    if job.error and job.error.splitlines()[-1] not in log:
        parts.append(job.error)
    if metrics:
        values = {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "updates"}
        told = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        parts.append(f"metrics after {metrics.get('updates', '?')} updates:\n{told}")
    parts.append("\n".join([f"end of {job.log}:", *log]) if log else f"{job.log} is empty or not there")
    return "\n\n".join(parts)


def state_words(job: Standing) -> str:
    """`running at 45% on HOST, attempt 2`."""
    from coworld_bench.cli.telling import reason

    place = f" on {job.status['host']}, attempt {job.status.get('attempt', 1)}" if "host" in job.status else ""
    share = "" if job.state == "done" else f" at {job.share:.0%}"
    silent = f" ({reason(job)})" if job.state == "lost" else ""
    return f"{job.state}{share}{place}{silent}"


def logs_document(job: Standing, metrics: dict[str, Any], log: list[str]) -> dict[str, Any]:
    from coworld_bench.cli.telling import job_document

    return {"schema": 1, **job_document(job), "metrics": metrics, "lines": log}
