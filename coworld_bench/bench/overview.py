"""What of a plan is done, at work and left: rows and columns as in its report, how long the rest takes, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from coworld_bench.bench.drivers import Driver
from coworld_bench.bench.standing import STATES, Standing
from coworld_bench.config import PRESETS
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.selection import of_cell, row_label

QUEUED, ABSENT = "queued", "not begun"
WORDS = (*STATES[:2], QUEUED, *STATES[2:], ABSENT)  # in the order in which they are told
LEFT = ("running", "lost", "stopped", "interrupted", QUEUED)  # what a driver has before it


@dataclass(frozen=True)
class Spot:
    """A row on a column: what each seed is at, None where it was not begun; `queued` of these a driver will do."""

    seeds: Mapping[int, Standing | None]
    queued: frozenset[int] = frozenset()

    def state_of(self, seed: int) -> str:
        found = self.seeds[seed]
        return found.state if found else QUEUED if seed in self.queued else ABSENT

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.state_of(seed) for seed in self.seeds)

    @property
    def begun(self) -> list[Standing]:
        return [found for found in self.seeds.values() if found]

    @property
    def words(self) -> str:
        """`1/3 45% 1 queued`: finished of all, how far those at work are, and the rest."""
        if self.counts[ABSENT] == len(self.seeds):
            return "—"
        shares = sorted((found.share for found in self.begun if found.state == "running"), reverse=True)
        rest = [f"{self.counts[word]} {word}" for word in WORDS if word not in ("done", "running", ABSENT)]
        counted = [text for text in rest if not text.startswith("0 ")]
        return " ".join([f"{self.counts['done']}/{len(self.seeds)}", *(f"{share:.0%}" for share in shares), *counted])


@dataclass(frozen=True)
class Overview:
    """A plan under one preset, with `options` on top of the plan's own, and the drivers at work on it."""

    plan: Plan
    preset: str
    options: Mapping[str, str]
    spots: Mapping[tuple[str, Cell], Spot]
    drivers: tuple[Driver, ...]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.spots))

    @property
    def title(self) -> str:
        options = "".join(f", {key}={value}" for key, value in self.options.items())
        return f"{self.plan.name} (preset {self.preset}{options})"

    @cached_property
    def counts(self) -> Counter[str]:
        return sum((spot.counts for spot in self.spots.values()), Counter())

    @cached_property
    def begun(self) -> list[Standing]:
        """Every run once: a run without a source may stand in several columns."""
        found = {standing.log: standing for spot in self.spots.values() for standing in spot.begun}
        return list(found.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that a driver would do."""
        return not any(count for word, count in self.counts.items() if word not in ("done", "failed"))

    @property
    def width(self) -> int:
        """How many processes work at the same time."""
        known = [driver.width for driver in self.drivers if driver.width]
        return max(1, sum(known), sum(found.state == "running" for found in self.begun))

    def left_s(self, needs: Iterable[Standing] = ()) -> float | None:
        """Seconds until what drivers have before them is done, after what runs still need; None where nobody is at work or
        a method was never measured."""
        if not self.drivers and not self.counts["running"]:
            return None
        each = [self._left_of(row, found) for row, found in self._before_drivers()]
        if None in each:
            return None
        lefts = [left for left in each if left is not None]
        first = max((remaining(need) or 0.0 for need in needs), default=0.0)
        return first + max([sum(lefts) / self.width, *lefts], default=0.0)

    def _before_drivers(self) -> list[tuple[str, Standing | None]]:
        left: dict[Any, tuple[str, Standing | None]] = {}
        for (row, cell), spot in self.spots.items():
            for seed, found in spot.seeds.items():
                if spot.state_of(seed) in LEFT and (found is None or found.state == "running" or seed in spot.queued):
                    left[found.log if found else (row, cell, seed)] = row, found
        return list(left.values())

    def _left_of(self, row: str, found: Standing | None) -> float | None:
        whole = self._whole_of(row)
        if found is None:
            return whole
        return remaining(found) if found.share else None if whole is None else max(0.0, whole - found.seconds)

    def _whole_of(self, row: str) -> float | None:
        """Seconds of a run of this row: the median of its finished ones, else what drivers thought beforehand."""
        begun = [found for (name, _), spot in self.spots.items() if name == row for found in spot.begun]
        done = [found.seconds for found in begun if found.state == "done" and found.seconds]
        thought = {method: s for driver in self.drivers for method, s in (driver.told.get("usual_s") or {}).items()}
        return median(done) if done else thought.get(self.plan.arm(row).method)

    def label(self, row: str) -> str:
        return row_label(self.plan.arm(row), row, {})


def remaining(found: Standing) -> float | None:
    """Seconds that a job at work still takes, at its pace so far; None where it has not told of any progress."""
    return found.seconds * (1 - found.share) / found.share if found.share else None


class Runs:
    """The runs of a store, by what plans choose them by."""

    def __init__(self, standings: Iterable[Standing]) -> None:
        self.all = [found for found in standings if found.is_run]
        self._groups: dict[tuple[str, str, str], list[Standing]] = {}
        for found in self.all:
            if found.content:
                key = found.content["preset"], found.content["method"], found.content["target"]
                self._groups.setdefault(key, []).append(found)

    def beside(self, logs: Container[Path]) -> list[Standing]:
        """Those whose logs are none of these; of one that has only just been begun nobody can say which run it is."""
        return [found for found in self.all if found.log not in logs and (found.content or found.state != "running")]

    def presets(self, plan: Plan) -> list[str]:
        """Under which there is a run of a plan's methods on its targets."""
        pairs = {(plan.arm(name).method, cell.target) for name in plan.methods for cell in plan.cells}
        found = {preset for preset, *pair in self._groups if tuple(pair) in pairs}
        return [preset for preset in PRESETS if preset in found]

    def of_plan(self, plan: Plan, preset: str, methods: Iterable[str]) -> dict[tuple[str, str], list[Any]]:
        """As reports choose: rows by method and target, of the plan's quality and the newest protocol."""
        targets = {cell.target for cell in plan.cells}
        pairs = {(method, target) for method in methods for target in targets}
        groups = {pair: [found.row for found in self._groups.get((preset, *pair), ())] for pair in pairs}
        newest = max((row.protocol for rows in groups.values() for row in rows), default=0)

        def fits(row: Any) -> bool:
            return row.quality in ("", plan.quality) and row.protocol in (0, newest)

        return {pair: [row for row in rows if fits(row)] for pair, rows in groups.items()}


def overview(
    plan: Plan,
    preset: str,
    runs: Runs,
    drivers: Sequence[Driver] = (),
    options: Mapping[str, str] | None = None,
) -> Overview:
    """What a store holds of a plan with these options on top of its own; `drivers` are at work on it."""
    wanted, names = plan.options_of(preset) | dict(options or {}), row_names(plan, drivers)
    groups = runs.of_plan(plan, preset, {plan.arm(name).method for name in names})

    def look(name: str, cell: Cell) -> Spot:
        return spot(plan, preset, name, cell, drivers, of_cell(groups, plan.arm(name), cell, preset, wanted))

    spots = {(name, cell): look(name, cell) for name in names for cell in plan.cells}
    return Overview(plan, preset, dict(options or {}), spots, tuple(drivers))


def row_names(plan: Plan, drivers: Iterable[Driver]) -> list[str]:
    """The plan's rows, then the other methods that drivers were asked for."""
    return list(dict.fromkeys([*plan.methods, *(name for driver in drivers for name in driver.told.get("methods", ()))]))


def spot(plan: Plan, preset: str, name: str, cell: Cell, drivers: Iterable[Driver], rows: Iterable[Any]) -> Spot:
    newest = {row.seed: row.standing for row in sorted(rows, key=lambda row: order(row.standing))}
    covering = [seeds_of(driver, plan, preset) for driver in drivers if covers(driver, plan, name, cell)]
    queued = frozenset(seed for seeds in covering for seed in seeds)
    planned = plan.seeds.get(preset, ()) if name in plan.methods else ()
    seeds = sorted({*planned, *newest, *queued})
    return Spot({seed: newest.get(seed) for seed in seeds}, queued)


def order(found: Standing) -> tuple[bool, float]:
    """What is at work comes last, and before it the newest."""
    return found.state == "running", found.changed


def covers(driver: Driver, plan: Plan, name: str, cell: Cell) -> bool:
    """Whether a driver is to do a row on a column."""
    methods, targets = driver.told.get("methods"), driver.told.get("targets")
    return name in (methods or plan.methods) and cell.target in (targets or [cell.target])


def seeds_of(driver: Driver, plan: Plan, preset: str) -> Sequence[int]:
    return driver.told.get("seeds") or plan.seeds.get(preset, ())
