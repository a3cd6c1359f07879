"""`compare`: two stores, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Json, names, opened, show
from coworld_bench.errors import OK, SOME_FAILED


def compare(
    store_a: Annotated[Path, typer.Argument(help="A folder of results: what it was.")],
    store_b: Annotated[Path, typer.Argument(help="Another: what it is now.")],
    plan: Annotated[str | None, typer.Option(help="Only these, as a,b.  [default: all that both have results of]")] = None,
    preset: Annotated[str | None, typer.Option(help="[default: every preset that both have results under]")] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="SHARE", help="What a difference must exceed, as a share of A's mean: 0.05.")
    ] = 0.0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also cells whose datasets or settings differ.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write it, as .md, .html or .csv.")] = None,
    json: Json = False,
) -> int:
    """Say which cells of two stores are the same, better or worse; exit code 1 where one is worse or fails now."""
    from coworld_bench.reporting.stores.compared import (
        check_suffix,
        comparison_document,
        comparison_text,
        write_comparison,
    )
    from coworld_bench.reporting.stores.comparing import compare as compare_stores

    if out is not None:
        check_suffix(out)
    found = compare_stores(
        opened(store_a) or store_a, opened(store_b) or store_b, names(plan) or (), preset, tolerance, anyway
    )
    if out is not None:
        write_comparison(found, out)
    show(comparison_text(found), comparison_document(found), json)
    return OK if found.ok else SOME_FAILED
