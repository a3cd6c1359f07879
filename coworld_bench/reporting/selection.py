"""Which results may share a table: one preset, one protocol, one setting and dataset per cell. Says what it drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from coworld_bench.config import PRESETS, resolve
from coworld_bench.errors import unknown
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.published import LABELS
from coworld_bench.reporting.stats import Summary, summarise
from coworld_bench.reporting.store import FAILED, FINISHED, UNFINISHED, Store, options_text
from coworld_bench.tasks import find_task


@dataclass(frozen=True)
class Measurement:
    """One method on one cell: its finished runs, and the seeds that failed or are on their way."""

    method: str
    cell: Cell
    planned: tuple[int, ...]
    runs: pd.DataFrame  # finished, one row per seed
    failed: tuple[int, ...] = ()
    unfinished: tuple[int, ...] = ()

    @property
    def scores(self) -> dict[int, float]:
        """Score by seed."""
        return {int(seed): float(score) for seed, score in zip(self.runs["seed"], self.runs["score"], strict=True)}

    @property
    def summary(self) -> Summary | None:
        return summarise(list(self.scores.values())) if len(self.runs) else None

    @property
    def complete(self) -> bool:
        """Whether as many seeds finished as were planned, and none failed."""
        return len(self.runs) >= max(1, len(self.planned)) and not self.failed

    @property
    def started(self) -> bool:
        return bool(len(self.runs) or self.failed or self.unfinished)


@dataclass(frozen=True)
class Selection:
    """The results of a plan under one preset, by (method, cell); `notes` say what was left out and why."""

    plan: Plan
    preset: str
    store: Store
    measurements: Mapping[tuple[str, Cell], Measurement]
    labels: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Those of the plan, then others that were run on its cells."""
        return tuple(self.labels)

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of all runs that count."""
        frames = [measurement.runs for measurement in self.measurements.values() if len(measurement.runs)]
        return pd.concat(frames, ignore_index=True).drop_duplicates("run") if frames else self.store.runs.iloc[:0]

    @property
    def seed_words(self) -> str:
        """`3 seeds`, `1 to 3 of 3 planned seeds`: of the cells that have any."""
        counts = [len(found.runs) for found in self.measurements.values() if len(found.runs)] or [0]
        low, high = min(counts), max(counts)
        planned = len(self.plan.seeds.get(self.preset, ()))
        counted = f"{low}" if low == high else f"{low} to {high}"
        return f"{counted}{f' of {planned} planned' * (low < planned)} seed{'s' * (max(high, planned) != 1)}"

    @property
    def circumstances(self) -> str:
        """What every title says of where its numbers come from."""
        return f"preset {self.preset} · {self.seed_words}"

    def anchor(self, target: str, kind: str) -> dict[str, Any] | None:
        """`random`, `untrained` or `constant` of a target, where it was measured in the environment of its runs."""
        runs = (found.runs for (_, cell), found in self.measurements.items() if cell.target == target)
        envs = {env for rows in runs for env in rows["env"]} or {usual_env(target, self.preset)}
        found = (self.store.anchors.get((target, self.preset, env), {}) for env in sorted(envs))
        return next((anchors[kind] for anchors in found if kind in anchors), None)


def usual_env(target: str, preset: str) -> str:
    """The digest of the environment that a preset has without options."""
    return resolve(preset, find_task(target).suite).env.spec(target).digest


def presets_with_results(store: Store, plan: Plan) -> list[str]:
    """The presets under which anything of a plan was started, largest first."""
    found = set(on_plan(store.runs, plan)["preset"])
    return [preset for preset in PRESETS if preset in found]


def select(store: Store, plan: Plan, preset: str, options: Mapping[str, str] | None = None) -> Selection:
    """What the store holds of a plan under a preset. Without `options`, the runs with the plan's own settings."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
    notes: list[str] = []
    rows = on_plan(store.runs, plan)
    rows = rows[rows["preset"] == preset]
    rows = same_protocol(rows, notes)
    rows = same_options(rows, plan.options_of(preset) if options is None else options, notes)
    labels = method_labels(plan, rows)
    planned = tuple(plan.seeds.get(preset, ()))
    measurements = {
        (method, cell): measure(method, cell, planned, of_cell(rows, method, cell), notes)
        for method in labels
        for cell in plan.cells
    }
    notes += dataset_notes(plan, measurements)
    return Selection(plan, preset, store, measurements, labels, tuple(dict.fromkeys(notes)))


def on_plan(rows: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The runs on a plan's cells and dataset quality; those without a source count for every source."""
    pairs = {(cell.target, source) for cell in plan.cells for source in ("", cell.source or "")}
    matches = [pair in pairs for pair in zip(rows["target"], rows["source"], strict=True)]
    return rows[pd.Series(matches, index=rows.index, dtype=bool) & rows["quality"].isin(["", plan.quality])]


def same_protocol(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The newest protocol's runs; a score of another means something else."""
    known = rows.loc[rows["protocol"] > 0, "protocol"]
    if known.nunique() < 2:
        return rows
    newest = known.max()
    old = rows["protocol"].between(1, newest - 1)
    notes.append(f"{old.sum()} run(s) of an older evaluation protocol than {newest} are left out")
    return rows[~old]


def same_options(rows: pd.DataFrame, options: Mapping[str, str], notes: list[str]) -> pd.DataFrame:
    """The runs made with exactly these options, or that do not record any."""
    other = ~rows["options"].isin([options_text(options), ""])
    if other.any():
        kinds = ", ".join(sorted(set(rows.loc[other, "options"])))
        notes.append(f"{other.sum()} run(s) with other settings are left out: {kinds}")
    return rows[~other]


def method_labels(plan: Plan, rows: pd.DataFrame) -> dict[str, str]:
    """Label by method name: the plan's methods in its order, then the others."""
    names = [*plan.methods, *sorted(set(rows["method"]) - set(plan.methods))]
    seen = dict(zip(rows["method"], rows["label"], strict=True))
    return {name: seen[name] if seen.get(name, name) != name else LABELS.get(name, name) for name in names}


def of_cell(rows: pd.DataFrame, method: str, cell: Cell) -> pd.DataFrame:
    sources = ["", cell.source or ""]
    return rows[(rows["method"] == method) & (rows["target"] == cell.target) & rows["source"].isin(sources)]


def measure(method: str, cell: Cell, planned: tuple[int, ...], rows: pd.DataFrame, notes: list[str]) -> Measurement:
    """The seeds of one cell that share their settings and dataset: of several such groups the largest, then newest."""
    finished = rows[rows["state"] == FINISHED]
    groups = [group for _, group in finished.groupby("variant", sort=True)]
    if groups:
        chosen = max(groups, key=lambda group: (group["seed"].nunique(), group["finished_at"].max()))
        variant = chosen["variant"].iloc[0]
        if len(groups) > 1:
            left = len(finished) - len(chosen)
            notes.append(f"{left} run(s) of {method} on {cell.code} with other settings or data are left out")
        rows = rows[rows["variant"].isin([variant, ""])]
        finished = one_per_seed(chosen)
        if len(finished) < len(chosen):
            notes.append(f"of several runs of {method} on {cell.code} with the same seed the newest counts")
    failed, unfinished = (
        tuple(sorted(set(rows.loc[rows["state"] == state, "seed"]) - set(finished["seed"])))
        for state in (FAILED, UNFINISHED)
    )
    return Measurement(method, cell, planned, finished, failed, tuple(set(unfinished) - set(failed)))


def one_per_seed(rows: pd.DataFrame) -> pd.DataFrame:
    newest = rows.sort_values(["finished_at", "run"], kind="stable").drop_duplicates("seed", keep="last")
    return newest.sort_values("seed").reset_index(drop=True)


def dataset_notes(plan: Plan, measurements: Mapping[tuple[str, Cell], Measurement]) -> list[str]:
    """Columns whose methods did not see the same data, and datasets whose stop rule never fired."""
    notes = []
    for cell in plan.cells:
        runs = [found.runs for (_, place), found in measurements.items() if place == cell and len(found.runs)]
        if not runs:
            continue
        rows = pd.concat(runs)
        if rows["fingerprint"].nunique() > 1:
            notes.append(f"the methods on {cell.code} did not learn from the same dataset; do not compare them")
        if not rows["dataset_fired"].astype(bool).all():
            notes.append(f"the dataset of {cell.code} ended at its budget, before its stop rule fired")
    return notes
