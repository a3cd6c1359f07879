"""`explain`: what made a number."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Json, Options, Runs, results, show
from coworld_bench.config import parse_options


def explain(
    cell: Annotated[str, typer.Argument(help="PLAN:METHOD:COLUMN, as table2:cql:dc-bp; PLAN alone lists what there is.")],
    preset: Annotated[str | None, typer.Option(help="[default: the largest that has results]")] = None,
    runs: Runs = None,
    json: Json = False,
    option: Options = None,
) -> None:
    """Say which runs, episodes, data, settings, code and hours made a number of a table."""
    from coworld_bench.reporting.explain.explained import explanation_text
    from coworld_bench.reporting.explain.explaining import explain as explain_cell

    found = explain_cell(cell, results(runs), preset, parse_options(option or []) or None)
    show(explanation_text(found), found, json)
