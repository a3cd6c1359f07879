"""Which results may share a table: one preset, one protocol, one setting and dataset per cell. Says what it drops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from coworld_bench.config import FILE, NEUTRAL_OPTIONS, PRESETS, Config, content_of, flat, read_value, resolve, world_model
from coworld_bench.errors import unknown
from coworld_bench.plans import Arm, Cell, Plan
from coworld_bench.reporting.published import LABELS
from coworld_bench.reporting.stats import Summary, summarise
from coworld_bench.reporting.store import FAILED, FINISHED, UNFINISHED, Store, source_options_text
from coworld_bench.tasks import find_task


@dataclass(frozen=True)
class Measurement:
    """One row on one cell: its finished runs, and the seeds that failed or are on their way."""

    method: str
    cell: Cell
    planned: tuple[int, ...]
    runs: pd.DataFrame  # finished, one row per seed
    failed: tuple[int, ...] = ()
    unfinished: tuple[int, ...] = ()

    @cached_property
    def scores(self) -> dict[int, float]:
        """Score by seed."""
        return {int(seed): float(score) for seed, score in zip(self.runs["seed"], self.runs["score"], strict=True)}

    @cached_property
    def summary(self) -> Summary | None:
        return summarise(list(self.scores.values())) if len(self.runs) else None

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that its runs learnt from, whatever column they stand in."""
        return tuple(dict.fromkeys(task for names in self.runs["source"] for task in names.split("+") if task))

    @property
    def episodes(self) -> int:
        """That its number is made of, over all seeds."""
        return int(self.runs["episodes"].fillna(0).sum())

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
    options: Mapping[str, str] = field(default_factory=dict)  # on top of the preset, the plan's own among them
    asked: Mapping[str, str] | None = None  # the options that `select` was given

    @property
    def methods(self) -> tuple[str, ...]:
        """Those of the plan, then others that were run on its cells."""
        return tuple(self.labels)

    def only(self, methods: Iterable[str]) -> Selection:
        """The same without the other rows, in the order of this one."""
        wanted = set(methods)
        labels = {method: label for method, label in self.labels.items() if method in wanted}
        kept = {(method, cell): found for (method, cell), found in self.measurements.items() if method in labels}
        return replace(self, measurements=kept, labels=labels)

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The rows of all runs that count."""
        frames = [measurement.runs for measurement in self.measurements.values() if len(measurement.runs)]
        return pd.concat(frames, ignore_index=True).drop_duplicates("run") if frames else self.store.runs.iloc[:0]

    @cached_property
    def _environments(self) -> dict[Cell, set[str]]:
        """The digests of the environments that the runs of each cell were judged in."""
        found: dict[Cell, set[str]] = {cell: set() for cell in self.plan.cells}
        for (_, cell), measurement in self.measurements.items():
            found[cell].update(measurement.runs["env"])
        return found

    @property
    def seed_words(self) -> str:
        """`3 seeds`, `1 to 3 seeds (3 planned)`: of the cells that have any."""
        counts = [len(found.runs) for found in self.measurements.values() if len(found.runs)] or [0]
        low, high = min(counts), max(counts)
        planned = len(self.plan.seeds.get(self.preset, ()))
        counted = f"{low}" if low == high else f"{low} to {high}"
        return f"{counted} seed{'s' * (high != 1)}" + f" ({planned} planned)" * (low < planned)

    @property
    def circumstances(self) -> str:
        """What every title says of where its numbers come from."""
        options = "".join(f" · {key}={value}" for key, value in self.options.items())
        return f"preset {self.preset}{options} · {self.seed_words}"

    @property
    def config(self) -> Config:
        """The settings that its runs share, on the suite of its first cell."""
        groups = {key: value for key, value in self.options.items() if key.split(".")[0] in Config.model_fields}
        return resolve(self.preset, find_task(self.plan.cells[0].target).suite, groups)

    def anchor(self, cell: Cell, kind: str) -> dict[str, Any] | None:
        """`random`, `untrained` or `constant` of a cell's target, where it was measured in the environment of its runs."""
        envs = self._environments[cell] or {env_of(cell, self.preset, {})}
        found = (self.store.anchors.get((cell.target, self.preset, env), {}) for env in sorted(envs))
        return next((anchors[kind] for anchors in found if kind in anchors), None)


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
    asked = counting(plan.options_of(preset) if options is None else options)
    labels = row_labels(plan, rows)
    planned = tuple(plan.seeds.get(preset, ()))
    groups = by_method_and_target(rows)
    fitting = {(row, cell): of_cell(groups, plan.arm(row), cell, preset, asked) for row in labels for cell in plan.cells}
    used = {run.run for found in fitting.values() for run in found}
    notes += other_settings(rows[~rows["run"].isin(used)])
    labels = {row: label for row, label in labels.items() if row in plan.methods or any_of(fitting, row)}
    measurements = {
        (row, cell): measure(labels[row], row, cell, planned, rows, fitting[row, cell], notes)
        for row in labels
        for cell in plan.cells
    }
    notes += dataset_notes(plan, measurements)
    notes, said = list(dict.fromkeys(notes)), without_files(asked, rows)
    return Selection(plan, preset, store, measurements, labels, tuple(notes), said, options)


def on_plan(rows: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The runs on a plan's cells and dataset quality; those without a source count for every source."""
    pairs = {(cell.target, source) for cell in plan.cells for source in sources_of(cell)}
    matches = [pair in pairs for pair in zip(rows["target"], rows["source"], strict=True)]
    return rows[pd.Series(matches, index=rows.index, dtype=bool) & rows["quality"].isin(["", plan.quality])]


def counting(options: Mapping[str, str]) -> dict[str, str]:
    """Those that change a number."""
    return {key: value for key, value in options.items() if key not in NEUTRAL_OPTIONS}


def same_protocol(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The newest protocol's runs; a score of another means something else."""
    known = rows.loc[rows["protocol"] > 0, "protocol"]
    if known.nunique() < 2:
        return rows
    newest = known.max()
    old = rows["protocol"].between(1, newest - 1)
    notes.append(f"{old.sum()} run(s) of an older evaluation protocol than {newest} are left out")
    return rows[~old]


def other_settings(left: pd.DataFrame) -> list[str]:
    """A note on the runs that fit no row of the plan."""
    kinds = sorted(set(left["options"]) - {"", "{}"})
    plain = ["none"] if left["options"].isin(["", "{}"]).any() else []
    told = ", ".join([*kinds[:3], *plain]) + f" and {len(kinds) - 3} more" * (len(kinds) > 3)
    return [f"{len(left)} run(s) with other settings are left out: {told}"] if kinds else []


def row_labels(plan: Plan, rows: pd.DataFrame) -> dict[str, str]:
    """Label by row: the plan's in its order, then the other methods that were run on its cells."""
    planned = {plan.arm(name).method for name in plan.methods}
    seen = dict(zip(rows["method"], rows["label"], strict=True))
    names = [*plan.methods, *sorted(set(rows["method"]) - planned)]
    return {name: row_label(plan.arm(name), name, seen) for name in names}


def row_label(arm: Arm, name: str, seen: Mapping[str, str]) -> str:
    if arm.label:
        return arm.label
    return seen[name] if seen.get(name, name) != name else LABELS.get(name, name)


def any_of(fitting: Mapping[tuple[str, Cell], list[Any]], row: str) -> bool:
    return any(found for (name, _), found in fitting.items() if name == row)


def by_method_and_target(rows: pd.DataFrame) -> dict[tuple[str, str], list[Any]]:
    """The rows as tuples, so that a cell need not look at those of all others."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for run in rows.itertuples():
        groups.setdefault((run.method, run.target), []).append(run)
    return groups


def sources_of(cell: Cell) -> set[str]:
    """What a run of this cell records as its source: none, the source, or all that a method may choose from."""
    return {"", cell.source or "", "+".join(cell.many_sources)}


def of_cell(
    groups: Mapping[tuple[str, str], list[Any]], arm: Arm, cell: Cell, preset: str, options: Mapping[str, str]
) -> list[Any]:
    """The runs of a row on a cell: those with exactly its options (or that do not record any), in its environments."""
    runs = groups.get((arm.method, cell.target), [])
    if not runs:
        return []
    wanted = {**options, **arm.options_of(preset)}
    sources = sources_of(cell)
    envs = {"", env_of(cell, preset, wanted)}
    source_options = {"", source_options_text(wanted, dict(cell.source_options))}
    fits: dict[tuple[str, str], bool] = {}  # runs that share their settings are looked at once

    def fit(run: Any) -> bool:
        key = run.options, run.variant
        if key not in fits or not run.variant:
            fits[key] = has_settings(run, wanted)
        return fits[key]

    return [
        run
        for run in runs
        if run.source in sources and run.env in envs and run.source_options in source_options and fit(run)
    ]


def env_of(cell: Cell, preset: str, options: Mapping[str, str]) -> str:
    """The digest of the environment that the runs of a cell are judged in."""
    asked = {key: value for key, value in {**options, **dict(cell.target_options)}.items() if key.startswith("env.")}
    return env_digest_of(cell.target, preset, tuple(sorted(asked.items())))


@lru_cache(maxsize=4096)
def env_digest_of(target: str, preset: str, options: tuple[tuple[str, str], ...]) -> str:
    return resolve(preset, find_task(target).suite, dict(options)).env.spec(target).digest


def has_settings(run: Any, wanted: Mapping[str, str]) -> bool:
    """Whether a run has the wanted settings, and no other that differs from its preset's.

    A named world model that changed nothing under the preset is not recorded; the run has its settings. What an option
    changes in the environments is compared there; options of other methods do not count."""
    if run.options == "":
        return True
    groups = {*Config.model_fields, run.method.partition(":")[0]} - {"env"}
    recorded = {key: read_value(value) for key, value in json.loads(run.options).items() if not key.startswith("env.")}
    own = {key: value for key, value in wanted.items() if key.split(".")[0] in groups and key not in NEUTRAL_OPTIONS}
    own = {key: read_value(value) for key, value in own.items()}
    if "model" in own and "model" not in recorded:
        named = Config(model=world_model(str(own.pop("model")), find_task(run.target).suite))
        own = flat(named.part("model")) | own
    has = {**recorded, **run.settings}
    return set(recorded) <= set(own) and all(key in has and fits(has[key], value) for key, value in own.items())


def fits(recorded: Any, wanted: Any) -> bool:
    """Whether a recorded setting is the wanted one; of a file its content is recorded."""
    if is_file(recorded) and (path := Path(str(wanted)).expanduser()).is_file():
        return bool(recorded == content_of(path))
    return bool(recorded == wanted)


def without_files(options: Mapping[str, str], rows: pd.DataFrame) -> dict[str, str]:
    """The options less those of files, of which the runs recorded what was in them: where they lie says nothing."""
    files = {key for settings in rows["settings"] for key, value in settings.items() if is_file(value)}
    return {key: value for key, value in options.items() if key not in files}


def is_file(value: Any) -> bool:
    """Whether a recorded setting stands for what was in a file."""
    return isinstance(value, str) and value.startswith(FILE)


def measure(
    label: str,
    method: str,
    cell: Cell,
    planned: tuple[int, ...],
    rows: pd.DataFrame,
    found: list[Any],
    notes: list[str],
) -> Measurement:
    """The seeds of one cell that share their settings and dataset: of several such groups the largest, then newest.
    `found` are the cell's of `rows`."""
    finished = [run for run in found if run.state == FINISHED]
    chosen = largest_group(finished)
    if len(chosen) < len(finished):
        notes.append(
            f"{len(finished) - len(chosen)} run(s) of {label} on {cell.code} with other settings or data are left out"
        )
    counted = one_per_seed(chosen)
    if len(counted) < len(chosen):
        notes.append(f"of several runs of {label} on {cell.code} with the same seed the newest counts")
    kept = {chosen[0].variant, ""} if chosen else {run.variant for run in found}
    failed, unfinished = (
        {run.seed for run in found if run.state == state and run.variant in kept} - {run.seed for run in counted}
        for state in (FAILED, UNFINISHED)
    )
    frame = rows.loc[[run.Index for run in counted]].reset_index(drop=True)
    return Measurement(method, cell, planned, frame, tuple(sorted(failed)), tuple(sorted(unfinished - failed)))


def largest_group(finished: list[Any]) -> list[Any]:
    """Of the runs that share all but the seed those with most seeds, then the newest."""
    groups: dict[str, list[Any]] = {}
    for run in sorted(finished, key=lambda run: run.variant):
        groups.setdefault(run.variant, []).append(run)

    def size(group: list[Any]) -> tuple[int, str]:
        return len({run.seed for run in group}), max(run.finished_at for run in group)

    return max(groups.values(), key=size, default=[])


def one_per_seed(runs: list[Any]) -> list[Any]:
    """The newest of each seed, by seed."""
    newest = {run.seed: run for run in sorted(runs, key=lambda run: (run.finished_at, run.run))}
    return [newest[seed] for seed in sorted(newest)]


def dataset_notes(plan: Plan, measurements: Mapping[tuple[str, Cell], Measurement]) -> list[str]:
    """Columns whose methods did not see the same data, and datasets whose stop rule never fired."""
    fingerprints: dict[Cell, set[str]] = {cell: set() for cell in plan.cells}
    fired = dict.fromkeys(plan.cells, True)
    for (_, cell), found in measurements.items():
        fingerprints[cell].update(found.runs["fingerprint"])
        fired[cell] &= bool(found.runs["dataset_fired"].astype(bool).all())
    notes = []
    for cell in plan.cells:
        if len(fingerprints[cell]) > 1:
            notes.append(f"the methods on {cell.code} did not learn from the same dataset; do not compare them")
        if not fired[cell]:
            notes.append(f"the dataset of {cell.code} ended at its budget, before its stop rule fired")
    return notes
