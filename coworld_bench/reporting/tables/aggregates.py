"""Aggregates over the cells of a plan: IQM, median, mean and optimality gap of normalised scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from coworld_bench.plans import Cell
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.aggregates import REPS, SEED, interval, iqm, mean, median, optimality_gap
from coworld_bench.reporting.layout import Table, number
from coworld_bench.reporting.normalised import (
    Sample,
    Scale,
    complete_cells,
    sample,
    sample_of,
    scales,
    target_code,
    without_scale,
)
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.stats import FEW
from coworld_bench.reporting.tables.measured import FEW_MARK, SHORTCUT_MARK, References, shortcut

AGGREGATES = {"IQM": iqm, "median": median, "mean": mean, "optimality gap": optimality_gap}
LEAST = 2  # cells of an aggregate, each with runs of its own
# How often an interval that says 95 % holds the truth, for a mean over so many cells with three seeds each and normal
# scores: a test simulates it.
COVERED = {1: 0.75, 6: 0.86}


@dataclass(frozen=True)
class Estimate:
    """An aggregate with the ends of its interval, where there are runs to resample."""

    value: float
    low: float | None = None
    high: float | None = None
    few: bool = False

    def text(self, counted: str = "") -> str:
        """`0.31 [0.25, 0.38]`, marked where it rests on few seeds."""
        ends = "" if self.low is None else f" [{number(self.low, self.value)}, {number(self.high, self.value)}]"
        return number(self.value) + ends + counted + FEW_MARK * self.few


def estimates(found: Sample, names: Iterable[str] = AGGREGATES) -> dict[str, Estimate]:
    """Aggregates of a method's normalised scores, by name."""
    chosen = {name: AGGREGATES[name] for name in names}
    values = {name: float(aggregate(found.scores)) for name, aggregate in chosen.items()}
    if not found.has_interval:
        return {name: Estimate(value, few=True) for name, value in values.items()}
    low, high = interval(partial(stacked, list(chosen.values())), found.scores, shared=[found.shared])
    return {
        name: Estimate(value, float(low[place]), float(high[place]), found.few)
        for place, (name, value) in enumerate(values.items())
    }


def stacked(aggregates: list[Callable[..., Any]], scores: Any, counts: Any) -> Any:
    """[..., aggregates]: of the same resamples."""
    return np.stack([aggregate(scores, counts) for aggregate in aggregates], axis=-1)


def aggregates_table(selection: Selection, references: References = reference_return) -> Table | None:
    """A row for each method that is complete on any cell, those with all cells first; None where none is on two cells."""
    plan = selection.plan
    complete = {method: complete_cells(selection, method, plan.cells) for method in selection.methods}
    if max(map(len, complete.values()), default=0) < LEAST:
        return None
    scale_of = scales(selection, references)
    unfit = unfit_cells(selection, scale_of, references)
    columns = ("method", "cells", "runs", *(f"{name} [95 %]" for name in AGGREGATES))
    columns += (f"IQM without {SHORTCUT_MARK} [95 %]",) * bool(unfit)
    samples = {method: sample(selection, method, scale_of) for method, cells in complete.items() if cells}
    whole = [method for method, found in samples.items() if found and len(found.cells) == len(scale_of)]
    others = [method for method in samples if method not in whole]
    rows = tuple(aggregates_row(selection, method, samples[method], scale_of, unfit) for method in (*whole, *others))
    notes = aggregates_notes(selection, samples, others, scale_of, unfit, without_scale(selection, references))
    title = f"Aggregates over cells · {selection.circumstances}"
    return Table("aggregates", title, columns, rows, tuple(notes), divider=len(whole) if others else 0)


def unfit_cells(selection: Selection, cells: Iterable[Cell], references: References) -> list[Cell]:
    """Those that a constant action solves."""
    return [cell for cell in cells if (found := shortcut(selection, cell, references)) and found.unfit]


def aggregates_row(
    selection: Selection, method: str, found: Sample | None, scale_of: Mapping[Cell, Scale], unfit: list[Cell]
) -> tuple[str, ...]:
    cells = found.cells if found else ()
    texts = aggregate_texts(found, AGGREGATES)
    if unfit:
        fit = sample_of(selection, method, [cell for cell in cells if cell not in unfit], scale_of)
        texts += aggregate_texts(fit, ["IQM"])
    runs = str(found.runs) if found else "—"
    return (selection.labels[method], f"{len(cells)} of {len(selection.plan.cells)}", runs, *texts)


def aggregate_texts(found: Sample | None, names: Iterable[str]) -> list[str]:
    if found is None or found.sets < LEAST:
        return ["—" for _ in names]
    return [estimate.text() for estimate in estimates(found, names).values()]


def aggregates_notes(
    selection: Selection,
    samples: Mapping[str, Sample | None],
    others: list[str],
    scale_of: Mapping[Cell, Scale],
    unfit: list[Cell],
    lacking: list[str],
) -> list[str]:
    ends = {
        f"{target_code(cell)} {number(scale.random)}, {number(scale.reference)}": None for cell, scale in scale_of.items()
    }
    notes = [
        "Of normalised scores, (score − random policy) / (reference return − random policy): 0 is a random policy, 1 the "
        f"reference. Random policy and reference by target: {'; '.join(ends) or 'none'}.",
        "IQM: mean of the runs without their lowest and highest quarter (rounded down to whole runs), cells weighing the "
        "same. Median, mean: of the cells' means. Optimality gap: how far runs stay below 1 on average, smaller is better "
        "(Agarwal et al. 2021).",
        interval_note(),
    ]
    known = [found for found in samples.values() if found]
    notes += few_notes(known)
    if any(found.sets < len(found.cells) for found in known):
        notes.append("A method without a source has the same runs on every cell of a target: they are resampled as one.")
    if others:
        notes.append(
            "Only cells where a method is complete count. Rows below the line lack cells; what they aggregate is other "
            f"tasks, not to be ranked with the rows above: {'; '.join(cells_of(selection, samples, others))}. "
            f"— fewer than {LEAST} cells with runs of their own."
        )
    if unfit:
        codes = ", ".join(dict.fromkeys(map(target_code, unfit)))
        notes.append(
            f"{SHORTCUT_MARK} a constant action reaches half of the reference or more on {codes}: these cells can carry no "
            "claim, and no more can the part of an aggregate that rests on them."
        )
    return notes + [f"Left out, since it cannot be normalised: {sentence}." for sentence in lacking]


def interval_note() -> str:
    """What the brackets are, and are not."""
    one, six = (f"{100 * COVERED[cells]:.0f} %" for cells in (1, 6))
    return (
        f"Brackets: percentile interval of a stratified bootstrap, seeds resampled within each cell ({REPS:,} resamples, "
        f"PCG64 with seed {SEED}). With three seeds it is too narrow: what is called 95 % covers about {six} for a mean "
        f"over six cells and {one} for one cell, where Student's t keeps its 95 %. Intervals of single cells are "
        "Student's t."
    )


def few_notes(samples: Iterable[Sample]) -> list[str]:
    """The mark, where it occurs."""
    marked = [found for found in samples if found.few and found.sets >= LEAST]
    single = any(not found.has_interval for found in marked)
    ending = ", without an interval where a cell has one" if single else ""
    return [f"{FEW_MARK} a cell with fewer than {FEW} seeds is among them{ending}."] if marked else []


def cells_of(selection: Selection, samples: Mapping[str, Sample | None], methods: list[str]) -> list[str]:
    """`CQL, CURL: BT → WC`: methods of the same cells together."""
    by_cells: dict[tuple[Cell, ...], list[str]] = {}
    for method in methods:
        found = samples[method]
        by_cells.setdefault(found.cells if found else (), []).append(selection.labels[method])
    return [
        f"{', '.join(labels)}: {', '.join(cell.code for cell in cells) or 'none'}" for cells, labels in by_cells.items()
    ]
