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
from coworld_bench.config import parse_options


def run(
    plan: Annotated[str, typer.Argument(help="A plan's name (`list plans`) or a TOML file of your own.")],
    preset: Preset = "quick",
    methods: Annotated[str | None, typer.Option(help="Only these, as a,b; a FILE.py is a method of your own.")] = None,
    targets: Annotated[str | None, typer.Option(help="Only these, as suite/a,suite/b.")] = None,
    seeds: Annotated[str | None, typer.Option(help="These instead of the plan's, as 0-2 or 0,1.")] = None,
    jobs: Jobs = None,
    executor: Executor = "local",
    per_gpu: PerGpu = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only every N-th run, from the I-th: 0/4 … 3/4.")] = None,
    retries: Retries = 2,
    timeout: Timeout = None,
    memory: Memory = None,
    address: Address = None,
    slurm: Slurm = None,
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
    execution = execution_of(executor, per_gpu, retries, timeout, memory, address, slurm, shard)
    from coworld_bench.bench.run import run as run_plan

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
    tell_failed(summary)
    return summary.exit_code
