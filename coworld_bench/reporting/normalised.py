"""Scores of complete cells on one scale, so that cells can be aggregated: 0 is a random policy, 1 the reference return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from coworld_bench.plans import Cell
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.aggregates import Scores, score_matrix
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.stats import FEW
from coworld_bench.reporting.tables.measured import References
from coworld_bench.tasks import find_task


@dataclass(frozen=True)
class Scale:
    """The returns that count as 0 and as 1 on a cell."""

    random: float
    reference: float

    def normalised(self, score: float) -> float:
        return (score - self.random) / (self.reference - self.random)


RAW = Scale(0.0, 1.0)


@dataclass(frozen=True)
class Sample:
    """The scores [runs, cells] of a method on the cells where it is complete; `shared` numbers the sets of runs, since one
    without a source has the same runs on every cell of a target."""

    cells: tuple[Cell, ...]
    scores: Scores
    shared: tuple[int, ...]
    seeds: tuple[int, ...]  # of each cell
    runs: int

    @property
    def sets(self) -> int:
        """How many of its cells have runs of their own."""
        return len(set(self.shared))

    @property
    def few(self) -> bool:
        """Whether a cell has fewer seeds than an interval should rest on."""
        return min(self.seeds) < FEW

    @property
    def has_interval(self) -> bool:
        return min(self.seeds) > 1


def scales(selection: Selection, references: References = reference_return) -> dict[Cell, Scale]:
    """The scale of every cell that has one."""
    return {
        cell: Scale(random, reference)
        for cell in selection.plan.cells
        if (random := random_return(selection, cell)) is not None
        and (reference := reference_of(selection, cell, references)) is not None
        and reference > random
    }


def random_return(selection: Selection, cell: Cell) -> float | None:
    found = selection.anchor(cell, "random")
    return fmean(found["returns"]) if found and found["returns"] else None


def reference_of(selection: Selection, cell: Cell, references: References) -> float | None:
    found = references(cell.target, selection.preset)
    return found.value if found else None


def without_scale(selection: Selection, references: References = reference_return) -> list[str]:
    """A sentence for each cell that cannot be normalised: why, and what helps."""
    known = scales(selection, references)
    return [why_not(selection, cell, references) for cell in selection.plan.cells if cell not in known]


def why_not(selection: Selection, cell: Cell, references: References) -> str:
    random, reference = random_return(selection, cell), reference_of(selection, cell, references)
    if random is None:
        options = {**selection.options, **dict(cell.target_options)}
        flags = "".join(f" -o {key}={value}" for key, value in options.items() if key.startswith("env."))
        return (
            f"{cell.code}: its random policy was not measured, which "
            f"`coworld-bench anchors {cell.target} --preset {selection.preset}{flags}` does"
        )
    if reference is None:
        return f"{cell.code}: no reference return of {cell.target} is known under preset {selection.preset}"
    return f"{cell.code}: its reference return, {reference:g}, is not above a random policy's, {random:g}"


def sample(selection: Selection, method: str, scale_of: Mapping[Cell, Scale]) -> Sample | None:
    """The method on those of the cells where it is complete; None where it is on none."""
    return sample_of(selection, method, complete_cells(selection, method, scale_of), scale_of)


def sample_of(
    selection: Selection, method: str, cells: Iterable[Cell], scale_of: Mapping[Cell, Scale] | None = None
) -> Sample | None:
    """The method on exactly these cells; without scales its scores as they are. None where there are no cells."""
    found = {cell: selection.measurements[method, cell] for cell in cells}
    if not found:
        return None
    sets = [tuple(measured.runs["run"]) for measured in found.values()]
    distinct = list(dict.fromkeys(sets))
    columns = [
        [(scale_of[cell] if scale_of else RAW).normalised(score) for score in measured.scores.values()]
        for cell, measured in found.items()
    ]
    shared = tuple(distinct.index(each) for each in sets)
    return Sample(tuple(found), score_matrix(columns), shared, tuple(map(len, columns)), sum(map(len, distinct)))


def target_code(cell: Cell) -> str:
    """What tells a scale from others: the target's code, and the label."""
    code = find_task(cell.target).code
    return f"{code} ({cell.label})" if cell.label else code


def complete_cells(selection: Selection, method: str, among: Iterable[Cell]) -> tuple[Cell, ...]:
    return tuple(cell for cell in among if selection.measurements[method, cell].complete)
