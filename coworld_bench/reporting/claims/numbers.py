"""The numbers that claims are tested on: measured ones, and those that the paper prints."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from coworld_bench.plans import Cell
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.claims.kinds import Chosen, Value
from coworld_bench.reporting.claims.statements import QUANTITIES, Claim
from coworld_bench.reporting.contrasts import Contrast, Estimate, contrast
from coworld_bench.reporting.layout import number
from coworld_bench.reporting.published import averages, read_published
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import summarise
from coworld_bench.reporting.tables.measured import SHORTCUT_MARK, References, shortcut
from coworld_bench.reporting.tables.side_by_side import SINGLE_SOURCE, published_for

COLUMNS = {"return": ("score", 1.0), "training_time": ("training_s", 60.0), "episode_time": ("episode_s", 1.0)}
UNITS = {"training_time": " min", "episode_time": " s", "hours_to_90": " h"}
PAPER_SEEDS = 3
SOLVED = "one constant action reaches this share of the reference return"
NOT_NUMBERS = "not published as numbers"


class Lacking(Exception):
    """Why a number cannot be had, or cannot count: whose, in words of evidence, with what differs between cells aside."""

    def __init__(self, words: str, who: str = "", detail: str = "") -> None:
        super().__init__(f"{who}: {words}" if who else words)
        self.words, self.who, self.detail = words, who, detail


@dataclass(frozen=True)
class Numbers(ABC):
    """The numbers of one claim. `by_means` says whether means alone decide."""

    claim: Claim

    @property
    @abstractmethod
    def by_means(self) -> bool: ...

    @abstractmethod
    def estimate(self, method: str, cell: Cell) -> Estimate:
        """The claim's quantity. Raises Lacking."""

    @abstractmethod
    def gap(self, method: str, cell: Cell) -> tuple[Estimate, float]:
        """Predicted less realised value, and the mean of the latter. Raises Lacking."""

    @abstractmethod
    def choices(self, method: str, cell: Cell) -> list[str]:
        """The source that was taken, by seed. Raises Lacking."""

    def check(self, methods: Iterable[str], cell: Cell) -> None:
        """Raises Lacking where the methods cannot be compared on the cell."""
        return

    def check_place(self, cells: Sequence[Cell]) -> None:
        """Raises Lacking where the claim cannot be judged on these cells, whatever the methods do there."""
        return

    def printed_average(self, method: str) -> float | None:
        """The average as the paper prints it."""
        return None

    def weighted(self, weights: Sequence[tuple[float, str]], cells: Sequence[Cell], shift: float = 0.0) -> Contrast:
        """`shift` + Σ weight · mean over the cells. Raises Lacking."""
        for cell in cells:
            self.check([method for _, method in weights], cell)
        return contrast(
            [(weight / len(cells), self.estimate(method, cell)) for weight, method in weights for cell in cells], shift
        )

    def told(self, method: str, cells: Sequence[Cell]) -> str:
        """`CoWorld 879 ± 610 (3)`; of several cells their mean. Raises Lacking."""
        label, unit = self.claim.label(method), UNITS.get(self.claim.quantity, "")
        if len(cells) > 1:
            return f"{label} {number(self.weighted([(1.0, method)], cells).value)}{unit}"
        found = self.estimate(method, cells[0])
        spread = "" if found.sd is None else f" ± {number(found.sd, found.mean)}"
        return f"{label} {number(found.mean)}{spread}{unit}{self.seeds(found)}"

    def seeds(self, found: Estimate) -> str:
        return f" ({found.n})"


@dataclass(frozen=True)
class Measured(Numbers):
    """What a store holds under one preset."""

    selection: Selection
    references: References = reference_return
    by_means = False

    def estimate(self, method: str, cell: Cell) -> Estimate:
        if self.claim.quantity not in COLUMNS:
            raise Lacking("runs do not record this quantity")
        column, unit = COLUMNS[self.claim.quantity]
        return self.over_seeds(method, self.finished(method, cell)[column] / unit)

    def gap(self, method: str, cell: Cell) -> tuple[Estimate, float]:
        runs = self.finished(method, cell)
        found = self.over_seeds(method, runs["value_predicted"] - runs["value_realised"])
        return found, float(runs["value_realised"].mean())

    def choices(self, method: str, cell: Cell) -> list[str]:
        told: list[dict[str, Any]] = [entry for entry in self.finished(method, cell)["chosen"] if entry]
        if len(told) < 2:
            raise Lacking(f"{len(told)} recorded choices, 2 seeds are needed", self.claim.label(method))
        return [max(sorted(entry["share"]), key=entry["share"].__getitem__) for entry in told]

    def check(self, methods: Iterable[str], cell: Cell) -> None:
        runs = [self.selection.measurements[method, cell].runs for method in methods]
        if differ(runs, "fingerprint"):
            raise Lacking("the methods learnt from different datasets")
        if self.claim.quantity != "return" and differ(runs, "device"):
            raise Lacking("the methods ran on different devices")

    def check_place(self, cells: Sequence[Cell]) -> None:
        if isinstance(self.claim.asks, Value) and self.selection.preset != "paper":
            raise Lacking(f"an absolute number under preset {self.selection.preset} says nothing of the paper's")
        if self.claim.quantity != "return" or isinstance(self.claim.asks, Chosen):
            return  # times and choices do not depend on what solves a target
        found = [(cell.code, shortcut(self.selection, cell, self.references)) for cell in cells]
        shares = {code: f"{100 * entry.share:.0f} %" for code, entry in found if entry and entry.unfit}
        if shares:
            named = ", ".join(f"{code} {share}" for code, share in shares.items())
            detail = named if len(cells) > 1 else "".join(shares.values())
            raise Lacking(f"excluded {SHORTCUT_MARK}, {SOLVED}", detail=detail)

    def finished(self, method: str, cell: Cell) -> pd.DataFrame:
        """The runs of a cell, one per seed, in which none failed."""
        found = self.selection.measurements[method, cell]
        label = self.claim.label(method)
        if found.failed:
            raise Lacking(f"seed {', '.join(map(str, found.failed))} failed", label)
        if len(found.runs) < 2:
            raise Lacking(seeds_text(found), label)
        return found.runs

    def over_seeds(self, method: str, column: pd.Series) -> Estimate:
        values = pd.to_numeric(column).dropna().tolist()
        if len(values) < max(2, len(column)):
            raise Lacking("not recorded by all seeds", self.claim.label(method))
        found = summarise(values)
        return Estimate(found.mean, found.sd, found.n)


@dataclass(frozen=True)
class Published(Numbers):
    """What the paper prints."""

    by_means = True

    def estimate(self, method: str, cell: Cell) -> Estimate:
        label, metric = self.claim.label(method), QUANTITIES[self.claim.quantity]
        known = (printed(name, label, cell, metric) for name in self.claim.published)
        found = next(filter(None, known), None)
        if found is None:
            raise Lacking(NOT_NUMBERS, label)
        return found

    def gap(self, method: str, cell: Cell) -> tuple[Estimate, float]:
        raise Lacking(NOT_NUMBERS, self.claim.label(method))

    def choices(self, method: str, cell: Cell) -> list[str]:
        rows = printed_rows("table13.csv")
        found = rows[(rows["target"] == cell.target) & (rows["method"] == self.claim.label(method))]
        if not len(found):
            raise Lacking(NOT_NUMBERS, self.claim.label(method))
        return [str(found["source"].iloc[0])]

    def printed_average(self, method: str) -> float | None:
        label = self.claim.label(method)
        wanted = (label, SINGLE_SOURCE) if label == "CoWorld" else (label,)
        known = [entry for name in self.claim.published for entry in averages(printed_rows(name))]
        return next((entry.printed for entry in known if entry.method in wanted), None)

    def seeds(self, found: Estimate) -> str:
        return ""


def differ(runs: Iterable[pd.DataFrame], column: str) -> bool:
    """Whether runs that recorded it have more than one value of a column."""
    return len({value for rows in runs for value in rows[column] if value}) > 1


def seeds_text(found: Measurement) -> str:
    """`1 finished seed of 3`, `no run`."""
    if not found.started:
        return "no run"
    return f"{len(found.runs)} finished seed{'s' * (len(found.runs) != 1)} of {len(found.planned)}"


@cache
def printed(name: str, label: str, cell: Cell, metric: str) -> Estimate | None:
    """What a published table says of a method on a cell; None where it says nothing or N/A."""
    found = published_for(printed_rows(name), label, cell, metric)
    if found is None or math.isnan(found[0]):
        return None
    return Estimate(found[0], None if math.isnan(found[1]) else found[1], PAPER_SEEDS)


@cache
def printed_rows(name: str) -> pd.DataFrame:
    return read_published(name)
