"""`claims`: what the paper states, tested on stored results and on its own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Json, Runs, results, show
from coworld_bench.errors import OK, SOME_FAILED


def claims(
    file: Annotated[Path | None, typer.Argument(help="Claims of your own, written as reports/claims.toml is.")] = None,
    plan: Annotated[str | None, typer.Option(help="Only the claims on this plan.")] = None,
    preset: Annotated[str | None, typer.Option(help="[default: the one nearest to the paper's that has results]")] = None,
    runs: Runs = None,
    brief: Annotated[bool, typer.Option("--brief", help="Verdicts without evidence.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where results contradict a claim.")] = False,
    format: Annotated[str, typer.Option(help="How to print: text, md or html.")] = "text",
    json: Json = False,
) -> int:
    """Judge the paper's statements: holds, contradicted or undecided, for stored results and for the printed numbers."""
    from coworld_bench.reporting.claims import judge_stored, rendered
    from coworld_bench.reporting.claims.page import document

    preset, judged = judge_stored(file, plan, preset, results(runs))
    show(rendered(judged, preset, format, brief).rstrip("\n"), document(judged, preset), json)
    contradicted = any(found.measured.verdict == "contradicted" for found in judged)
    return SOME_FAILED if strict and contradicted else OK
