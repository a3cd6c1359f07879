"""How probably a run of one method beats a run of another, over the cells that both have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coworld_bench.reporting.aggregates import interval, probability_of_improvement
from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.normalised import Sample, complete_cells, sample_of
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.tables.aggregates import LEAST, Estimate, few_notes

BASELINE, OURS = "offline_dv2", "coworld"
Pair = Callable[[str], tuple[str, str]]  # from the method of a row to the two that are compared


def improvement_table(selection: Selection) -> Table | None:
    """How probably a run of a method beats one of the baseline, and one of CoWorld beats it; None where no two methods are
    complete on the same two cells."""
    if len(selection.plan.cells) < LEAST:
        return None
    baseline = baseline_of(selection)
    pairs: dict[str, Pair] = {f"method > {selection.labels[baseline]}": lambda method: (method, baseline)}
    if OURS in selection.labels and baseline != OURS:
        pairs[f"{selection.labels[OURS]} > method"] = lambda method: (OURS, method)
    rows, compared = [], []
    for method, label in selection.labels.items():
        found = [Comparison.of(selection, *pair(method)) for pair in pairs.values()]
        if any(found):
            rows.append((label, *(each.text if each else "—" for each in found)))
            compared += [each for each in found if each]
    if not rows:
        return None
    title = f"Probability of improvement · {selection.circumstances}"
    notes = (
        "P(X > Y): how probably a run of X scores above a run of Y on the same cell, a tie counting half; mean over the "
        "cells where both are complete (at least two; their number in parentheses). It needs no normalisation, and says "
        "nothing of how much better. 0.5: no difference.",
        "Brackets: as in the aggregates over cells, the runs of both methods resampled. An interval without width says "
        "that all seeds of these cells agree, not that more seeds would.",
        *few_notes(found for comparison in compared for found in (comparison.above, comparison.below)),
    )
    columns = ("method", *(f"P({name}) [95 %] (cells)" for name in pairs))
    return Table("improvement", title, columns, tuple(rows), tuple(notes))


def baseline_of(selection: Selection) -> str:
    """Offline DV2, or the first method of a plan without it."""
    return BASELINE if BASELINE in selection.labels else selection.methods[0]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the cells where both are complete."""

    above: Sample
    below: Sample

    @classmethod
    def of(cls, selection: Selection, above: str, below: str) -> Comparison | None:
        """None for a method and itself, and for two without two cells in common that have runs of their own."""
        cells = complete_cells(selection, above, complete_cells(selection, below, selection.plan.cells))
        one, other = sample_of(selection, above, cells), sample_of(selection, below, cells)
        if above == below or one is None or other is None:
            return None
        return cls(one, other) if min(one.sets, other.sets) >= LEAST else None

    @property
    def estimate(self) -> Estimate:
        scores, few = (self.above.scores, self.below.scores), self.above.few or self.below.few
        value = float(probability_of_improvement(*scores))
        if not (self.above.has_interval and self.below.has_interval):
            return Estimate(value, few=few)
        shared = self.above.shared, self.below.shared
        low, high = interval(probability_of_improvement, *scores, shared=shared)
        return Estimate(value, float(low), float(high), few)

    @property
    def text(self) -> str:
        """`0.48 [0.28, 0.69] (6)`: with the number of cells."""
        return self.estimate.text(f" ({len(self.above.cells)})")
