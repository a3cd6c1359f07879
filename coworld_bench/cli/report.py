"""`report`: tables and pictures of stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Json, Options, Runs, names, results, show
from coworld_bench.config import parse_options


def report(
    plans: Annotated[list[str] | None, typer.Argument(help="Plans; without any, all that have results.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the paper, and an index.")] = False,
    heatmap: Annotated[bool, typer.Option("--heatmap", help="Also the source × target picture.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Also the learning curves.")] = False,
    profiles: Annotated[bool, typer.Option("--profiles", help="Also performance profiles with the IQM.")] = False,
    highlight: Annotated[
        str | None, typer.Option(metavar="METHOD[,METHOD]", help="Also its curves in colour before the others' in grey.")
    ] = None,
    pages: Annotated[
        Path | None, typer.Option(help="Also write what was measured into a folder of pages on methods: docs/methods.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="[default: every preset that has results]")] = None,
    runs: Runs = None,
    data: Annotated[Path | None, typer.Option(help="As `run` has it; a report reads no datasets.")] = None,
    device: Annotated[str, typer.Option(help="As `run` has it; a report computes nothing.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="[default: the folder `report` of the results, or here for measured ones]")
    ] = None,
    format: Annotated[str, typer.Option(help="Some of md,csv,html,latex,json.")] = "md,csv,html",
    json: Json = False,
    option: Options = None,
) -> None:
    """Write the report of stored results; needs no GPU, no simulator and no network."""
    from coworld_bench.reporting import report as write_report

    options = parse_options(option or []) or None
    wanted = {"heatmap": heatmap, "curves": curves, "profiles": profiles}
    figures = [name for name, asked in wanted.items() if asked]
    store = results(runs)
    out = Path("report") if out is None and store != runs else out
    files = write_report(
        plans or [], store, out, preset, figures, names(format) or [], options, names(highlight) or [], pages,
        everything,
    )  # fmt: skip
    show("\n".join(map(str, files)), {"schema": 1, "files": [str(path) for path in files]}, json)
