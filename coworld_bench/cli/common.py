"""Options that several verbs have, and how they print."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from coworld_bench.errors import UsageError
from coworld_bench.paths import BUCKETS, runs_home, shipped

Preset = Annotated[str, typer.Option(help="quick (two CPU cores), paper (one GPU a run), smoke (seconds, tests only).")]
Quality = Annotated[str, typer.Option(help="medium-replay or medium-expert.")]
Part = Annotated[
    str, typer.Option(help="medium-replay or medium-expert; behind an @, which of its episodes: medium-replay@first=0.5.")
]
Data = Annotated[
    Path | None, typer.Option(help="Where datasets lie.  [default: $COWORLD_BENCH_DATA or ~/.coworld_bench/datasets]")
]
Runs = Annotated[
    Path | None,
    typer.Option(help="Where results lie: a folder or s3://bucket/folder.  [default: $COWORLD_BENCH_RUNS or ./runs]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Environment processes that play an evaluation's episodes; the numbers stay the same.")
]
Options = Annotated[
    list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="A setting; `list settings` has all.")
]
SourceOptions = Annotated[
    list[str] | None,
    typer.Option("--source-option", metavar="KEY=VALUE", help="A setting of source agents alone: env.observation=state."),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="R3M's published weights: for method r3m, as -o r3m.weights=FILE.")
]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Log to tensorboard or wandb, too, or your own FILE.py.  [default: $COWORLD_BENCH_TRACK or none]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Do finished work again.")]


def results(runs: Path | None) -> Path | None:
    """The store that a verb reads: as given; where none is and the usual one is not there, the measured results that this
    project's checkout holds. That of a URL is brought up to date."""
    if names_bucket(runs):
        return opened(runs)
    usual, measured = runs_home(runs), shipped("reports") / "measured" / "quick"
    if runs is not None or os.environ.get("COWORLD_BENCH_RUNS") or usual.is_dir() or not measured.is_dir():
        return runs
    typer.echo(f"there is no folder {usual} of results; reading this checkout's measured ones, {measured}", err=True)
    return measured


def names_bucket(runs: Path | None) -> bool:
    """Whether results lie behind a URL."""
    text = str(runs or os.environ.get("COWORLD_BENCH_RUNS") or "")
    return text.partition(":")[0] in BUCKETS and ":/" in text


def opened(runs: Path | None) -> Path | None:
    """A store that is read: as given, for a URL the folder that mirrors it, brought up to date."""
    if not names_bucket(runs):
        return runs
    from coworld_bench.bench.opened import open_runs

    return open_runs(runs)


def show(text: str, document: Any, as_json: bool) -> None:
    """Print for people, or for programs."""
    typer.echo(json.dumps(document, indent=2, sort_keys=True, default=str) if as_json else text)


def of_weights(weights: Path | None, method: str = "r3m") -> dict[str, str]:
    """The option that `--weights` stands for, as another process in another folder understands it."""
    if weights is not None and method.partition(":")[0] != "r3m":
        raise UsageError(f"--weights is for method r3m; {method} reads none")
    return {} if weights is None else {"r3m.weights": str(weights.expanduser().absolute())}


def names(text: str | None) -> list[str] | None:
    """`a,b` as a list; None where nothing was given."""
    if text is None:
        return None
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"a list is written a,b,c; got {text!r}")
    return found


MANY = 10_000  # numbers of one range


def numbers(text: str | None, what: str = "seeds") -> list[int] | None:
    """`0,2` or `0-2` or both, as a list. Raises UsageError for anything else."""
    parts = names(text)
    if parts is None:
        return None
    found: list[int] = []
    for part in parts:
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise UsageError(f"{what} are written 0,1,2 or 0-2; got {text!r}")
        if dash and int(last) - int(first) >= MANY:
            raise UsageError(f"{what} {part} are too many; at most {MANY:,} at a time")
        found += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(found))


def table(rows: list[list[str]], header: list[str]) -> str:
    """Columns aligned with spaces."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)
