"""Reports: stored results in, tables, figures and pages out. Needs neither torch nor a simulator.

    read (store.py) -> choose what may share a table (selection.py) -> tables/, words.py, figures/ -> pages in formats/

    output.py        which pages, in which folders; indexing.py the first page of all
    stats.py         over seeds; contrasts.py of differences; aggregates.py over cells, on the scale of normalised.py
    published.py     the paper's numbers
    claims/          what the paper states, judged
    explain/         who made a number
    stores/          stores as wholes: verify, compare (merging needs locks and lies in bench/)
    opened.py        what the cells of a page open
    method_pages.py  the measured sections of docs/methods

The same store gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coworld_bench.reporting.formats import FORMATS, USUAL

if TYPE_CHECKING:
    from coworld_bench.plans import Plan


def report(
    plans: Iterable[str | Plan] = (),
    runs: Path | str | None = None,
    out: Path | str | None = None,
    preset: str | None = None,
    figures: Iterable[str] = (),
    formats: Iterable[str] = USUAL,
    options: Mapping[str, str] | None = None,
    highlight: Iterable[str] = (),
    pages: Path | str | None = None,
    everything: bool = False,
) -> list[Path]:
    """Write the report of each plan, one folder per plan and preset; returns the files.

    `runs` is a store of results, `out` defaults to its `report` folder. Without `plans`, all that have results; without
    `preset`, a report for every preset that has some. `figures` are drawn besides those that a plan names itself.
    `options` asks for the runs that were made with exactly these settings on top. Each method of `highlight` gets a figure
    in which it is in colour. `pages` is a folder of pages on methods (`docs/methods`) whose measured sections are written
    anew. With `everything`, every shipped plan gets its page, whatever was measured of it, and an index leads to them.
    Raises UsageError for an unknown plan, preset, format, figure or method, and where the store holds nothing of a plan."""
    from coworld_bench.reporting.output import Asked, write_report

    asked = Asked(tuple(formats), tuple(figures), tuple(highlight))
    return write_report(plans, runs, out, preset, options, pages, asked, everything)


def table_text(
    plan: str | Plan, runs: Path | str | None = None, preset: str = "quick", options: Mapping[str, str] | None = None
) -> str:
    """The measured table of a plan as aligned plain text, with what it can and cannot tell below it."""
    from coworld_bench.reporting.output import plain_table

    return plain_table(plan, runs, preset, options)


__all__ = ["FORMATS", "report", "table_text"]
