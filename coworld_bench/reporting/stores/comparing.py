"""Two stores, cell by cell: what is the same, better or worse in the second, and what cannot be said.

Seeds are independent and not paired. Two runs of one seed share the episodes they are judged on and, under the same code,
where they start; their learning soon has nothing in common, and a paired interval over two or three seeds would pay for
what little they share with half of its degrees of freedom. A run that both stores hold with the same numbers is one run:
where all runs of a cell are, the cell is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from coworld_bench.config import PRESETS
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import read_json
from coworld_bench.plans import Cell, Plan, list_plans, load_plan
from coworld_bench.reporting.contrasts import Estimate, contrast
from coworld_bench.reporting.selection import Measurement, Selection, presets_with_results, select
from coworld_bench.reporting.stats import Summary
from coworld_bench.reporting.store import FINISHED, Store, read_store
from coworld_bench.reporting.stores.records import Difference, differences, read_records

SAME, BETTER, WORSE, UNDECIDED = "same", "better", "worse", "undecided"
ONLY_A, ONLY_B, FAILED_B, INCOMPARABLE = "only in A", "only in B", "failed in B", "not comparable"
VERDICTS = (SAME, BETTER, WORSE, FAILED_B, UNDECIDED, INCOMPARABLE, ONLY_A, ONLY_B)
BAD = (WORSE, FAILED_B)
NO_RUN = Measurement("", Cell("toy/point"), (), pd.DataFrame({"seed": [], "score": []}))


@dataclass(frozen=True)
class Compared:
    """One cell of both stores. `low` and `high` bound the difference B - A; `reasons` say why the verdict is no other."""

    plan: str
    preset: str
    row: str
    label: str
    cell: Cell
    a: Measurement
    b: Measurement
    verdict: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """`repeated` counts the cells of later plans that are those of an earlier one; `unequal` holds what differs in runs of
    one name."""

    a: Path
    b: Path
    tolerance: float
    cells: tuple[Compared, ...]
    repeated: Mapping[tuple[str, str], int] = field(default_factory=dict)
    shared: int = 0
    unequal: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many cells got which verdict."""
        found = Counter(cell.verdict for cell in self.cells)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def ok(self) -> bool:
        """Whether no cell became worse."""
        return not any(cell.verdict in BAD for cell in self.cells)


@dataclass(frozen=True)
class Asked:
    """From which share of A's mean on a difference counts, and whether other settings and data may be compared."""

    tolerance: float = 0.0
    anyway: bool = False


def compare(
    a: Path | str,
    b: Path | str,
    plans: Iterable[str | Plan] = (),
    preset: str | None = None,
    tolerance: float = 0.0,
    anyway: bool = False,
) -> Comparison:
    """Compare the cells of plans (default: all that both stores have results of) under a preset (default: all that both
    have).

    A cell is better or worse where the whole 95 % interval of the difference lies beyond `tolerance` times A's mean, same
    where the whole interval lies within, else undecided. With `anyway`, cells whose dataset or settings differ are compared
    too. Raises UsageError where there is nothing to compare."""
    if not 0 <= tolerance < 1:
        raise UsageError(f"a tolerance is a share of A's mean, from 0 to below 1; got {tolerance}")
    first, second = read_store(a), read_store(b)
    if first.folder.resolve() == second.folder.resolve():
        raise UsageError(f"both stores are {first.folder}; name two")
    if preset not in (None, *PRESETS):
        raise unknown("preset", str(preset), PRESETS, "coworld-bench list presets")
    asked = Asked(tolerance, anyway)
    chosen = [plan if isinstance(plan, Plan) else load_plan(plan) for plan in plans]
    pairs = selections(first, second, chosen, preset)
    unequal = determinism(first, second)
    cells: list[Compared] = []
    seen: set[tuple[Any, ...]] = set()
    repeated: Counter[tuple[str, str]] = Counter()
    for mine, other in pairs:
        for found in compared(mine, other, asked, unequal):
            key = (found.preset, *(tuple(entry.runs["run"]) if len(entry.runs) else () for entry in (found.a, found.b)))
            repeated[found.plan, found.preset] += key in seen
            cells += [found] if key not in seen else []
            seen.add(key)
    common = set(finished(first)) & set(finished(second))
    told = {run: tuple(found) for run, found in unequal.items() if found}
    again = {place: count for place, count in repeated.items() if count}
    return Comparison(first.folder, second.folder, tolerance, tuple(cells), again, len(common), told)


def selections(a: Store, b: Store, chosen: list[Plan], preset: str | None) -> list[tuple[Selection, Selection]]:
    """The results of every plan and preset that both stores have any of."""
    pairs = []
    for plan in chosen or every_plan():
        of_b = presets_with_results(b, plan)
        for name in presets_with_results(a, plan):
            if name in of_b and preset in (None, name):
                pairs.append((select(a, plan, name), select(b, plan, name)))
    if not pairs:
        what = f"plan {', '.join(plan.name for plan in chosen)}" if chosen else "any plan"
        under = f" under preset {preset}" if preset else ""
        raise UsageError(
            f"{a.folder} and {b.folder} do not both hold runs of {what}{under}; `explain PLAN` lists what one has"
        )
    return pairs


def every_plan() -> list[Plan]:
    """The shipped plans, those whose columns most methods share first: what a later one repeats is not told again."""
    return [load_plan(name) for name in sorted(list_plans(), key=lambda name: name.startswith("figure"))]


def compared(a: Selection, b: Selection, asked: Asked, unequal: Mapping[str, list[Difference]]) -> Iterator[Compared]:
    """Every cell that is finished in either store."""
    labels = dict(b.labels) | dict(a.labels)
    for row in [*a.labels, *(row for row in b.labels if row not in a.labels)]:
        for cell in a.plan.cells:
            mine, other = a.measurements.get((row, cell), NO_RUN), b.measurements.get((row, cell), NO_RUN)
            if len(mine.runs) or len(other.runs):
                verdict = judge(mine, other, asked, unequal)
                yield Compared(a.plan.name, a.preset, row, labels[row], cell, mine, other, **verdict)


def judge(a: Measurement, b: Measurement, asked: Asked, unequal: Mapping[str, list[Difference]]) -> dict[str, Any]:
    """The verdict on one cell, with the difference and its interval where they mean something."""
    trouble = [f"{name}: {words}" for name, entry in (("A", a), ("B", b)) if (words := failed_words(entry))]
    if a.summary is None or b.summary is None:
        lost = b.summary is None and b.failed
        return {"verdict": FAILED_B if lost else ONLY_A if b.summary is None else ONLY_B, "reasons": tuple(trouble)}
    apart = unlike(a.runs, b.runs)
    if apart.meaning or (apart.making and not asked.anyway):
        return {"verdict": INCOMPARABLE, "reasons": (*apart.meaning, *apart.making, *trouble)}
    runs, theirs = set(a.runs["run"]), set(b.runs["run"])
    alike = {run for run in runs & theirs if not unequal.get(run)}
    if runs == theirs == alike:
        return {"verdict": SAME, "difference": 0.0, "reasons": ("the same runs", *trouble)}
    reasons = [*apart.making, *apart.code, *shared_words(runs & theirs, alike), *trouble]
    found = contrast([(1.0, estimate(b.summary)), (-1.0, estimate(a.summary))])
    verdict = UNDECIDED
    if found.low is None or found.high is None:
        reasons.append("a single seed tells nothing of the spread")
    else:
        verdict = verdict_of(found.low, found.high, asked.tolerance * abs(a.summary.mean))
    told = {"verdict": verdict, "difference": found.value, "low": found.low, "high": found.high}
    return told | {"reasons": tuple(reasons)}


def estimate(summary: Summary) -> Estimate:
    return Estimate(summary.mean, summary.sd, summary.n)


def failed_words(entry: Measurement) -> str:
    return f"seed {', '.join(map(str, entry.failed))} failed" if entry.failed else ""


def shared_words(common: set[str], alike: set[str]) -> list[str]:
    """Of the runs that both stores hold, how many are one and the same and how many came out otherwise."""
    other = len(common) - len(alike)
    return [f"runs in both: {len(alike)}"] * bool(alike) + [f"of one name with other numbers: {other}"] * bool(other)


def verdict_of(low: float, high: float, margin: float) -> str:
    """What an interval of the difference says of a margin on either side of none."""
    if high < -margin:
        return WORSE
    if low > margin:
        return BETTER
    return SAME if -margin <= low and high <= margin else UNDECIDED


@dataclass(frozen=True)
class Unlike:
    """What the runs of a cell do not share with those of the other store: `meaning` makes other numbers of their scores,
    `making` is what else they were made from, `code` is what one compares."""

    meaning: tuple[str, ...]
    making: tuple[str, ...]
    code: tuple[str, ...]


def unlike(a: pd.DataFrame, b: pd.DataFrame) -> Unlike:
    meaning = [f"{name} {words(a, key)} against {words(b, key)}" for name, key in MEANING.items() if differ(a, b, key)]
    making = [f"dataset {words(a, 'fingerprint')} against {words(b, 'fingerprint')}"] if differ(a, b, "fingerprint") else []
    making += setting_differences(a["settings"].iloc[0], b["settings"].iloc[0])
    if differ(a, b, "source_options"):
        making.append(f"options of the source {a['source_options'].iloc[0]} against {b['source_options'].iloc[0]}")
    alike = not (meaning or making)
    if alike and other_agents(a, b):
        making.append("other source agents")
    code = (
        ["the method's code has another revision, or its file another content"] if alike and differ(a, b, "variant") else []
    )
    return Unlike(tuple(meaning), tuple(making), tuple(code))


MEANING = {"protocol": "protocol", "environment": "env", "score": "rule"}


def differ(a: pd.DataFrame, b: pd.DataFrame, key: str) -> bool:
    """Whether both record it and not the same; what a store does not record cannot be compared."""
    ours, theirs = recorded(a, key), recorded(b, key)
    return bool(ours and theirs and ours != theirs)


def recorded(rows: pd.DataFrame, key: str) -> set[Any]:
    return {value for value in rows[key] if value == value and value not in ("", None, 0)}


def words(rows: pd.DataFrame, key: str) -> str:
    return ", ".join(
        sorted(str(value)[:10] if key in ("fingerprint", "env") else str(value) for value in recorded(rows, key))
    )


def setting_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Settings that both record, in order of their names; one that only a later version knows is at its default."""
    return [
        f"{key} {ours[key]} against {theirs[key]}" for key in sorted(ours) if key in theirs and ours[key] != theirs[key]
    ]


def other_agents(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether runs of one seed, of the same settings, dataset and code, have other names: their source agents remain."""
    if a["source"].iloc[0] == "" or differ(a, b, "variant") or "" in {*a["variant"], *b["variant"]}:
        return False
    mine, other = (dict(zip(rows["seed"], rows["run"], strict=True)) for rows in (a, b))
    return any(mine[seed] != other[seed] for seed in mine.keys() & other.keys())


def finished(store: Store) -> list[str]:
    return list(store.runs.loc[store.runs["state"] == FINISHED, "run"])


def determinism(a: Store, b: Store) -> dict[str, list[Difference]]:
    """What differs in the results of each run that is finished in both, by name; nothing, where it was done twice alike."""
    common = set(finished(a)) & set(finished(b))
    if not common:
        return {}
    ours, theirs = (results(store, common) for store in (a, b))
    return {run: differences(read_json(ours[run]), read_json(theirs[run])) for run in sorted(common)}


def results(store: Store, wanted: set[str]) -> dict[str, Path]:
    """The files of finished runs, by name."""
    found = (record for record in read_records(store.folder) if record.state == FINISHED and record.run in wanted)
    return {record.run: record.folder / "result.json" for record in found}
