"""A comparison of two stores as tables, as tidy rows and as one document."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from coworld_bench.errors import unknown
from coworld_bench.files import write_text
from coworld_bench.reporting.formats.html import html
from coworld_bench.reporting.formats.markdown import markdown
from coworld_bench.reporting.formats.text import plain
from coworld_bench.reporting.layout import Page, Part, Table, Words, number
from coworld_bench.reporting.selection import Measurement
from coworld_bench.reporting.stats import FEW
from coworld_bench.reporting.stores.comparing import BAD, VERDICTS, Compared, Comparison
from coworld_bench.reporting.stores.records import in_words
from coworld_bench.reporting.tables.measured import FEW_MARK, cell_text, spread_columns

COLUMNS = ("method", "cell", "A", "B", "B − A", "95 % interval", "verdict", "why")
WIDTH = 110  # of a line of words on a terminal
SUFFIXES = (".csv", ".html", ".md")


def comparison_page(comparison: Comparison) -> Page:
    """A table for each plan and preset, and below them the runs of one name that came out otherwise."""
    lead = f"{stores_words(comparison)} {verdict_words(comparison)}"
    return Page("Two stores compared", lead, parts(comparison))


def comparison_text(comparison: Comparison) -> str:
    """The same as plain text, with the verdict last, where a terminal shows it."""
    told = [part_text(part) for part in parts(comparison)]
    return "\n\n".join([stores_words(comparison), *told, verdict_words(comparison)])


def parts(comparison: Comparison) -> tuple[Part, ...]:
    places = dict.fromkeys((cell.plan, cell.preset) for cell in comparison.cells)
    tables = [table(comparison, *place) for place in places]
    return (*tables, rules(comparison), determinism(comparison))


def part_text(part: Part) -> str:
    if isinstance(part, Table):
        return plain(part).rstrip("\n")
    paragraphs = part.paragraphs if isinstance(part, Words) else ()
    return "\n".join([part.title, "", *(textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in paragraphs)])


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """The comparison as the kind of file that the name ends in. Raises UsageError for another."""
    suffix = check_suffix(path)
    if suffix == ".csv":
        frame = pd.DataFrame(tidy(comparison), columns=TIDY)
        write_text(path, frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    else:
        write_text(path, (html if suffix == ".html" else markdown)(comparison_page(comparison)))
    return path


def check_suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise unknown("kind of comparison", path.suffix or path.name, SUFFIXES)
    return path.suffix


def stores_words(comparison: Comparison) -> str:
    return f"A is {comparison.a}, B is {comparison.b}."


def verdict_words(comparison: Comparison) -> str:
    """`5 cells: 3 same, 1 worse, 1 undecided.`"""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items())
    cells = len(comparison.cells)
    return f"{cells} cell{'s' * (cells != 1)}: {counted}."


def table(comparison: Comparison, plan: str, preset: str) -> Table:
    rows = [row(cell) for cell in comparison.cells if (cell.plan, cell.preset) == (plan, preset)]
    repeated = comparison.repeated.get((plan, preset), 0)
    notes = ["A, B: mean ± std over seeds (number of seeds)."]
    if any(FEW_MARK in text for line in rows for text in line):
        notes.append(f"{FEW_MARK} fewer than {FEW} seeds.")
    if repeated:
        notes.append(f"{repeated} more of its cells are made of the same runs as cells above.")
    return Table(f"{plan}-{preset}", f"{plan} · preset {preset}", COLUMNS, tuple(rows), tuple(notes))


def row(cell: Compared) -> tuple[str, ...]:
    like = cell.a.summary.mean if cell.a.summary else None
    interval = "—" if cell.low is None else f"{signed(cell.low, like)} to {signed(cell.high, like)}"
    ours = (cell.label, cell.cell.code, cell_text(cell.a), cell_text(cell.b))
    return (*ours, signed(cell.difference, like), interval, cell.verdict, "; ".join(cell.reasons))


def signed(value: float | None, like: float | None) -> str:
    """A difference with its sign, with the decimals of what it is a difference of."""
    text = number(value, like)
    return f"+{text}" if value is not None and value > 0 and float(text) else text


def rules(comparison: Comparison) -> Words:
    """How a verdict is reached."""
    share = f"{100 * comparison.tolerance:g} % of A's mean" if comparison.tolerance else "0"
    said = (
        f"Interval: 95 %, Welch's t over seeds, which are not paired. Worse or better: all of it lies beyond {share}; "
        "same: all of it lies within, or both stores hold the same runs; undecided: neither. Not comparable: what the "
        "reason names is not the same in both; --anyway compares cells with other datasets or settings. A run that is in "
        "both stores counts in both, which makes an interval too wide rather than too narrow."
    )
    return Words("How a verdict is reached", (said,))


def determinism(comparison: Comparison) -> Words:
    """Runs of one name that did not come out alike, each with what differs."""
    if not comparison.unequal:
        return Words("Determinism", (f"{comparison.shared} runs are in both stores, all with the same numbers.",))
    lead = f"Of {comparison.shared} runs that are in both stores {len(comparison.unequal)} came out otherwise in B:"
    lines = [f"{run}: {'; '.join(in_words(found))}" for run, found in sorted(comparison.unequal.items())]
    return Words("Determinism", (lead, *lines))


TIDY = [
    "plan", "preset", "row", "label", "target", "source", "cell", "mean_a", "std_a", "n_a", "mean_b", "std_b", "n_b",
    "difference", "low95", "high95", "verdict", "why",
]  # fmt: skip


def tidy(comparison: Comparison) -> list[dict[str, Any]]:
    """A record per cell, unrounded."""
    return [
        {
            "plan": cell.plan,
            "preset": cell.preset,
            "row": cell.row,
            "label": cell.label,
            "target": cell.cell.target,
            "source": cell.cell.source or "",
            "cell": cell.cell.code,
            **numbers(cell.a, "a"),
            **numbers(cell.b, "b"),
            "difference": cell.difference,
            "low95": cell.low,
            "high95": cell.high,
            "verdict": cell.verdict,
            "why": "; ".join(cell.reasons),
        }
        for cell in comparison.cells
    ]


def numbers(found: Measurement, store: str) -> dict[str, Any]:
    told = spread_columns(found.summary)
    return {f"{key}_{store}": told.get(key) for key in ("mean", "std", "n")}


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one JSON document."""
    return {
        "schema": 1,
        "a": str(comparison.a),
        "b": str(comparison.b),
        "tolerance": comparison.tolerance,
        "ok": comparison.ok,
        "verdicts": {verdict: comparison.counts.get(verdict, 0) for verdict in VERDICTS},
        "bad": list(BAD),
        "cells": tidy(comparison),
        "runs_in_both": comparison.shared,
        "came_out_otherwise": {
            run: [{"path": each.path, "a": each.ours, "b": each.theirs} for each in found]
            for run, found in sorted(comparison.unequal.items())
        },
    }
