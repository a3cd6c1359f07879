"""`retry`: failed runs, again."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Device, Json, Runs, show, table
from coworld_bench.cli.execution import (
    Address,
    Executor,
    Jobs,
    Memory,
    PerGpu,
    Retries,
    Slurm,
    Timeout,
    execution_of,
    tell_failed,
)
from coworld_bench.errors import OK, SOME_FAILED, UsageError

NO_SPEC = "{} does not tell how it was asked for; give the command again that began it"


def retry(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN…]", help="Failed runs, as `status` names them.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed run of the store.")] = False,
    jobs: Jobs = None,
    executor: Executor = "local",
    per_gpu: PerGpu = None,
    retries: Retries = 2,
    timeout: Timeout = None,
    memory: Memory = None,
    address: Address = None,
    slurm: Slurm = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Do failed runs again, from their last checkpoints, as they were asked for; reports are left to `report`."""
    execution = execution_of(executor, per_gpu, retries, timeout, memory, address, slurm)
    from coworld_bench.bench.again import failed_runs, retry, spec_of
    from coworld_bench.bench.finding import open_store

    store = open_store(runs)
    chosen = failed_runs(store, names or (), failed)
    told = [NO_SPEC.format(found.name) for found in chosen if spec_of(found) is None]
    if told and not failed:
        raise UsageError(told[0])
    for sentence in told:
        typer.echo(f"left out: {sentence}", err=True)
    specs = [spec for found in chosen if (spec := spec_of(found)) is not None]
    summary = retry(specs, store, jobs=jobs, execution=execution, dry_run=dry_run, data=data, device=device, quiet=json)
    rows = [[job.key, summary.outcomes[job.key].state if job.key in summary.outcomes else "to do"] for job in summary.jobs]
    nothing = "nothing to do again" if chosen else f"nothing failed in {store}"
    show(table(rows, ["job", "state"]) if rows else nothing, summary.to_dict(), json)
    tell_failed(summary)
    return summary.exit_code or (SOME_FAILED if told else OK)
