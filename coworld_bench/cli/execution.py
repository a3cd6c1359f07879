"""Options of the verbs that do runs: where, how many at a time, within which limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from coworld_bench.config import parse_options
from coworld_bench.errors import STOPPED

if TYPE_CHECKING:
    from coworld_bench.bench.execution import Execution
    from coworld_bench.bench.run import RunSummary

Jobs = Annotated[int | None, typer.Option(help="Processes at a time; 0: none but this.  [default: a core or a GPU each]")]
Executor = Annotated[str, typer.Option(help="local, ray or slurm: where the processes run.")]
PerGpu = Annotated[int | None, typer.Option(help="Processes that share a GPU.  [default: 1]")]
Retries = Annotated[int, typer.Option(help="Repetitions of a run that was killed, stopped or out of memory.")]
Timeout = Annotated[str | None, typer.Option(help="The longest an attempt may take: 90s, 30min, 48h.")]
Memory = Annotated[str | None, typer.Option(help="The most memory a run's processes may take: 8GB.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster: auto or HOST:PORT.  [default: one here]")]
Slurm = Annotated[
    list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="A parameter of Slurm's jobs: partition=gpu.")
]


def execution_of(
    executor: str,
    per_gpu: int | None,
    retries: int,
    timeout: str | None,
    memory: str | None,
    address: str | None,
    slurm: list[str] | None,
    shard: str | None = None,
) -> Execution:
    """What the options say. Raises UsageError for what cannot be read."""
    from coworld_bench.bench.execution import Execution, parse_duration, parse_shard, parse_size

    return Execution(
        executor, per_gpu, parse_duration(timeout), parse_size(memory), retries, parse_shard(shard), address,
        parse_options(slurm or []),
    )  # fmt: skip


def tell_failed(summary: RunSummary) -> None:
    """On stderr, what did not come to its end."""
    for key, outcome in summary.failed.items():
        typer.echo(f"{outcome.state}: {key}: {outcome.note.splitlines()[-1]}", err=True)
    if summary.exit_code == STOPPED:
        typer.echo("stopped at checkpoints; the same command goes on from there", err=True)
