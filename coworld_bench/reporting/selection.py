"""Which results may share a table: one preset, one protocol, one setting and dataset per cell. Says what it drops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from coworld_bench.config import FILE, PRESETS, Config, content_of, flat, read_value, resolve, world_model
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
        options = "".join(f" · {key}={value}" for key, value in self.options.items())
        return f"preset {self.preset}{options} · {self.seed_words}"

    @property
    def config(self) -> Config:
        """The settings that its runs share, on the suite of its first cell."""
        groups = {key: value for key, value in self.options.items() if key.split(".")[0] in Config.model_fields}
        return resolve(self.preset, find_task(self.plan.cells[0].target).suite, groups)

    def anchor(self, cell: Cell, kind: str) -> dict[str, Any] | None:
        """`random`, `untrained` or `constant` of a cell's target, where it was measured in the environment of its runs."""
        runs = (found.runs for (_, place), found in self.measurements.items() if place == cell)
        envs = {env for rows in runs for env in rows["env"]} or {env_of(cell, self.preset, {})}
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
    asked = plan.options_of(preset) if options is None else dict(options)
    labels = row_labels(plan, rows)
    planned = tuple(plan.seeds.get(preset, ()))
    fitting = {(row, cell): of_cell(rows, plan.arm(row), cell, preset, asked) for row in labels for cell in plan.cells}
    used = {run for found in fitting.values() for run in found["run"]}
    notes += other_settings(rows[~rows["run"].isin(used)])
    labels = {row: label for row, label in labels.items() if row in plan.methods or any_of(fitting, row)}
    measurements = {
        (row, cell): measure(labels[row], row, cell, planned, fitting[row, cell], notes)
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
    return [f"{len(left)} run(s) with other settings are left out: {', '.join(kinds)}"] if kinds else []


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


def any_of(fitting: Mapping[tuple[str, Cell], pd.DataFrame], row: str) -> bool:
    return any(len(found) for (name, _), found in fitting.items() if name == row)


def sources_of(cell: Cell) -> set[str]:
    """What a run of this cell records as its source: none, the source, or all that a method may choose from."""
    return {"", cell.source or "", "+".join(cell.many_sources)}


def of_cell(rows: pd.DataFrame, arm: Arm, cell: Cell, preset: str, options: Mapping[str, str]) -> pd.DataFrame:
    """The runs of a row on a cell: those with exactly its options (or that do not record any), in its environments."""
    wanted = {**options, **arm.options_of(preset)}
    rows = rows[(rows["method"] == arm.method) & (rows["target"] == cell.target) & rows["source"].isin(sources_of(cell))]
    rows = rows[rows["env"].isin(["", env_of(cell, preset, wanted)])]
    rows = rows[rows["source_options"].isin(["", source_options_text(wanted, dict(cell.source_options))])]
    fit = [has_settings(row, wanted) for row in rows.itertuples()]
    return rows[pd.Series(fit, index=rows.index, dtype=bool)]


def env_of(cell: Cell, preset: str, options: Mapping[str, str]) -> str:
    """The digest of the environment that the runs of a cell are judged in."""
    asked = {key: value for key, value in {**options, **dict(cell.target_options)}.items() if key.startswith("env.")}
    return resolve(preset, find_task(cell.target).suite, asked).env.spec(cell.target).digest


def has_settings(row: Any, wanted: Mapping[str, str]) -> bool:
    """Whether a run has the wanted settings, and no other that differs from its preset's.

    A named world model that changed nothing under the preset is not recorded; the run has its settings. What an option
    changes in the environments is compared there; options of other methods do not count."""
    if row.options == "":
        return True
    groups = {*Config.model_fields, row.method.partition(":")[0]} - {"env"}
    recorded = {key: read_value(value) for key, value in json.loads(row.options).items() if not key.startswith("env.")}
    own = {key: read_value(value) for key, value in wanted.items() if key.split(".")[0] in groups}
    if "model" in own and "model" not in recorded:
        named = Config(model=world_model(str(own.pop("model")), find_task(row.target).suite))
        own = flat(named.part("model")) | own
    has = {**recorded, **row.settings}
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
    label: str, method: str, cell: Cell, planned: tuple[int, ...], rows: pd.DataFrame, notes: list[str]
) -> Measurement:
    """The seeds of one cell that share their settings and dataset: of several such groups the largest, then newest."""
    finished = rows[rows["state"] == FINISHED]
    groups = [group for _, group in finished.groupby("variant", sort=True)]
    if groups:
        chosen = max(groups, key=lambda group: (group["seed"].nunique(), group["finished_at"].max()))
        variant = chosen["variant"].iloc[0]
        if len(groups) > 1:
            left = len(finished) - len(chosen)
            notes.append(f"{left} run(s) of {label} on {cell.code} with other settings or data are left out")
        rows = rows[rows["variant"].isin([variant, ""])]
        finished = one_per_seed(chosen)
        if len(finished) < len(chosen):
            notes.append(f"of several runs of {label} on {cell.code} with the same seed the newest counts")
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
