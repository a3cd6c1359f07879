"""`run`: do a plan."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import (
    Data,
    Device,
    Json,
    Options,
    Preset,
    Runs,
    Track,
    Weights,
    names,
    numbers,
    of_weights,
    show,
    table,
)
from coworld_bench.config import parse_options


def run(
    plan: Annotated[str, typer.Argument(help="A plan's name (`list plans`) or a TOML file of your own.")],
    preset: Preset = "quick",
    methods: Annotated[str | None, typer.Option(help="Only these, as a,b; a FILE.py is a method of your own.")] = None,
    targets: Annotated[str | None, typer.Option(help="Only these, as suite/a,suite/b.")] = None,
    seeds: Annotated[str | None, typer.Option(help="These instead of the plan's, as 0-2 or 0,1.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes at a time; 0: none but this.  [default: a core or a GPU each]")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, ray or slurm: where the processes run.")] = "local",
    per_gpu: Annotated[int | None, typer.Option(help="Processes that share a GPU.  [default: 1]")] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only every N-th run, from the I-th: 0/4 … 3/4.")] = None,
    retries: Annotated[int, typer.Option(help="Repetitions of a run that was killed, stopped or out of memory.")] = 2,
    timeout: Annotated[str | None, typer.Option(help="The longest an attempt may take: 90s, 30min, 48h.")] = None,
    memory: Annotated[str | None, typer.Option(help="The most memory a run's processes may take: 8GB.")] = None,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster: auto or HOST:PORT.  [default: one here]")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="A parameter of Slurm's jobs: partition=gpu.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do finished runs again; datasets are kept.")] = False,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    track: Track = None,
    weights: Weights = None,
    json: Json = False,
    option: Options = None,
) -> int:
    """Do every run of a plan that is not finished, with what it needs, and print its report."""
    chosen_methods, chosen_targets, chosen_seeds = names(methods), names(targets), numbers(seeds)
    options = parse_options(option or []) | of_weights(weights)
    from coworld_bench.bench.execution import Execution, parse_duration, parse_shard, parse_size
    from coworld_bench.bench.run import run as run_plan

    execution = Execution(
        executor, per_gpu, parse_duration(timeout), parse_size(memory), retries, parse_shard(shard), address,
        parse_options(slurm or []),
    )  # fmt: skip

    summary = run_plan(
        plan, preset, methods=chosen_methods, targets=chosen_targets, seeds=chosen_seeds, jobs=jobs,
        execution=execution, dry_run=dry_run, force=force, runs=runs, data=data, device=device, options=options, quiet=json,
        track=track,
    )  # fmt: skip
    text = summary.tables
    if dry_run:
        from coworld_bench.bench.costing import cost_lines, listing

        if summary.jobs:
            text = "\n".join([table(*listing(summary.jobs)), "", *cost_lines(summary.jobs, summary.estimate_s)])
    elif summary.report:
        text += f"\n\nreport: {summary.report[0].parent}"
    if text or json:
        show(text, summary.to_dict(), json)
    for key, outcome in summary.failed.items():
        typer.echo(f"{outcome.state}: {key}: {outcome.note.splitlines()[-1]}", err=True)
    return summary.exit_code
