"""A plan turned into jobs: the runs that are asked for, and the datasets, source agents and anchors they need.

Everything is made once and everything that is there is reused. Datasets are made by their recipes: of the user's options
only those of the environment reach them, since a run must be evaluated where its data came from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from coworld_bench.anchors import anchors_path, resolved
from coworld_bench.bench.claims import holder
from coworld_bench.bench.estimates import Estimates
from coworld_bench.bench.job import Forecast, Job
from coworld_bench.bench.predictions import Machine
from coworld_bench.collecting import plan_collection
from coworld_bench.data.dataset import Dataset, dataset_folder, open_dataset
from coworld_bench.envs import check_task
from coworld_bench.errors import OK, SOME_FAILED, UsageError, unknown
from coworld_bench.methods import load_method, method_names, whole_name
from coworld_bench.plans import Cell, Plan
from coworld_bench.run_spec import PlannedRun, ResolvedRun, RunSpec, of_environment
from coworld_bench.seeding import check_seed
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import find_task

NOT_FIRED = (OK, SOME_FAILED)  # `collect` ends with 1 when its rule did not fire; the dataset is kept and says so


@dataclass(frozen=True)
class Place:
    """Where things lie, what computes and which trackers look on; `machine` is what predictions are for, None: this one."""

    data: Path
    runs: Path
    device: str = "cpu"
    track: str = "none"
    machine: Machine | None = None

    def has_dataset(self, name: str) -> bool:
        return name in self._opened or (dataset_folder(self.data, name) / "manifest.json").is_file()

    def dataset(self, name: str) -> Dataset:
        """The dataset, opened once. Raises DatasetError as `open_dataset` does."""
        if name not in self._opened:
            self._opened[name] = open_dataset(name, self.data)
        return self._opened[name]

    @cached_property
    def estimates(self) -> Estimates:
        return Estimates(self.runs, self.data, self.device, self.machine)

    @cached_property
    def _opened(self) -> dict[str, Dataset]:
        return {}

    @cached_property
    def words(self) -> dict[str, str]:
        """The same for another process."""
        folders = {"data": str(self.data.resolve()), "runs": str(self.runs.resolve())}
        return folders | {"device": self.device, "track": self.track}


@dataclass(frozen=True)
class Selection:
    """What of a plan is to be run; `methods` names its rows."""

    plan: Plan
    preset: str
    methods: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    force: bool = False

    @cached_property
    def families(self) -> set[str]:
        return families(self.plan, self.methods)


def select(
    plan: Plan,
    preset: str,
    methods: list[str] | None = None,
    targets: list[str] | None = None,
    seeds: list[int] | None = None,
    options: Mapping[str, str] | None = None,
    force: bool = False,
) -> Selection:
    """The chosen part of a plan; what is not chosen is the plan's. Raises UsageError for a name that does not exist."""
    chosen = tuple(dict.fromkeys(methods or plan.methods))
    names = families(plan, chosen)
    check_names(plan, chosen)
    settings = plan.options_of(preset) | dict(options or {})
    check_prefixes(settings, names)
    wanted = tuple(dict.fromkeys(seeds)) if seeds else plan.seeds_of(preset)
    for seed in wanted:
        check_seed(seed)
    return Selection(plan, preset, chosen, select_cells(plan, targets), wanted, settings, force)


def families(plan: Plan, rows: Iterable[str]) -> set[str]:
    """What options of the methods of these rows begin with."""
    return {load_method(plan.arm(row).method).family for row in rows}


def check_names(plan: Plan, rows: Iterable[str]) -> None:
    """Raises UsageError where two methods have one name: no report could tell their results apart."""
    names: dict[str, str] = {}
    for method in [row for row in rows if row not in plan.arms]:
        other = names.setdefault(load_method(method).name, method)
        if other != method:
            raise UsageError(f"{other} and {method} are both called {load_method(method).name}; rename one METHOD")


def select_cells(plan: Plan, targets: list[str] | None) -> tuple[Cell, ...]:
    """The cells of these targets, each given as `suite/task`, as the task alone or as its paper code."""
    if not targets:
        return plan.cells
    names: dict[str, str] = {}
    for cell in plan.cells:
        task = find_task(cell.target)
        names |= {task.id: task.id, task.name: task.id, task.code: task.id}
    chosen = set()
    for target in targets:
        name = names.get(target.strip()) or names.get(target.strip().replace("-", "_"))
        if name is None:
            raise unknown(f"target in plan {plan.name}:", target, {cell.target for cell in plan.cells})
        chosen.add(name)
    return tuple(cell for cell in plan.cells if cell.target in chosen)


def check_prefixes(options: Mapping[str, str], methods: set[str]) -> None:
    """Raises UsageError for an option of a method that takes no part: it would change nothing."""
    for key in options:
        prefix = key.split(".")[0]
        if prefix in method_names() and prefix not in methods:
            raise UsageError(f"option {key} is of method {prefix}, which takes no part; chosen: {', '.join(methods)}")


def plan_jobs(selection: Selection, place: Place) -> list[Job]:
    """Every job of a selection, needs first. Raises UsageError or DatasetError for all that can be known to be wrong."""
    jobs: dict[str, Job] = {}
    for cell in selection.cells:
        planned = [run_spec(selection, cell, row, selection.seeds[0]).plan() for row in selection.methods]
        known = [(run, collect_job(run, place), run_forecast(run, place)) for run in planned]
        for seed in selection.seeds:
            for run, dataset, forecast in known:
                for job in run_jobs(run.of_seed(seed), dataset, place, forecast, selection.force, selection.options):
                    jobs.setdefault(job.key, job)
        anchors = anchors_job(cell.target, selection.preset, target_environment(selection, cell), place)
        jobs.setdefault(anchors.key, anchors)
    return list(jobs.values())


def count_runs(plan: Plan, preset: str) -> int:
    """How many runs a plan is; those that several cells or rows share count once."""
    chosen = select(plan, preset)
    each = product(chosen.cells, chosen.methods, chosen.seeds)
    return len({run_spec(chosen, *run).plan().title() for run in each})


def target_environment(selection: Selection, cell: Cell) -> dict[str, str]:
    return of_environment({**selection.options, **dict(cell.target_options)})


def run_spec(selection: Selection, cell: Cell, row: str, seed: int) -> RunSpec:
    """The run of one row of the plan on a cell."""
    arm = selection.plan.arm(row)
    method = load_method(arm.method)
    many = method.sources == "many"
    sources = cell.many_sources if many else (cell.source,) if cell.source else ()
    others = selection.families - {method.family}
    options = {**selection.options, **arm.options_of(selection.preset)}
    options = {key: value for key, value in options.items() if key.split(".")[0] not in others}
    taken = method.take(tuple(check_task(source).id for source in sources))
    return RunSpec(
        whole_name(arm.method), cell.target, taken, seed, selection.preset, selection.plan.quality,
        options, dict(cell.target_options), dict(cell.source_options),
    )  # fmt: skip


def run_forecast(planned: PlannedRun, place: Place) -> Forecast:
    """What a run takes, whatever its seed."""
    name = planned.dataset_id
    return place.estimates.run(planned, place.dataset(name).rows if place.has_dataset(name) else None)


def jobs_of(spec: RunSpec, place: Place) -> list[Job]:
    """A run of no plan and what it needs, needs first."""
    planned = spec.plan()
    return run_jobs(planned, collect_job(planned, place), place, run_forecast(planned, place))


def run_jobs(
    planned: PlannedRun,
    dataset: Job,
    place: Place,
    forecast: Forecast,
    force: bool = False,
    common: Mapping[str, str] | None = None,
) -> list[Job]:
    """A run and what it needs, needs first; options in `common` are in all runs and not named."""
    sources = [source_job(source, place) for source in planned.source_specs()]
    needs = tuple(job.key for job in (dataset, *sources))
    return [dataset, *sources, train_job(planned, needs, place, forecast, force, common)]


def collect_job(planned: PlannedRun, place: Place) -> Job:
    spec, (name, _, view) = planned.spec, planned.dataset_id.partition("@")
    quality, options = spec.quality.partition("@")[0], of_environment({**spec.options, **spec.target_options})
    folder = dataset_folder(place.data, name)
    forecast = Forecast()
    if not (folder / "manifest.json").is_file():
        forecast = place.estimates.collection(plan_collection(planned.env.task, quality, spec.preset, options=options))
    elif view:
        open_dataset(planned.dataset_id, place.data)  # which episodes it says is known to be wrong before any run
    asked = {"task": planned.env.task, "quality": quality, "preset": spec.preset, "options": options}
    return Job(
        "collect",
        f"collect {name}",
        worker("collect", f"collect {name}", asked, place),
        (folder / "manifest.json").is_file,
        lambda: place.runs / "logs" / f"collect-{name.replace('/', '-')}.log",
        estimate_s=forecast.seconds,
        accepts=NOT_FIRED,
        forecast=forecast,
        holder=lambda: holder(place.data, name.replace("/", "-")),
    )


def source_job(spec: SourceSpec, place: Place) -> Job:
    name, forecast = spec.folder(place.data).name, place.estimates.source(spec)
    return Job(
        "source",
        f"source {name}",
        worker("source", f"source {name}", {"spec": asdict(spec)}, place),
        lambda: spec.ready(place.data),
        lambda: place.runs / "logs" / f"source-{name}.log",
        estimate_s=forecast.seconds,
        forecast=forecast,
        holder=lambda: holder(place.data, name),
    )


def anchors_job(task: str, preset: str, options: Mapping[str, str], place: Place) -> Job:
    path = anchors_path(task, preset, place.runs, options)
    detail = path.stem.removeprefix(f"{find_task(task).id.replace('/', '-')}-{preset}")
    key = f"anchors {task} {preset}{detail}"
    forecast = place.estimates.anchors(resolved(task, preset, options).env.spec(task), preset)
    return Job(
        "anchors",
        key,
        worker("anchors", key, {"task": task, "preset": preset, "options": dict(options)}, place),
        path.is_file,
        lambda: place.runs / "logs" / f"anchors-{path.stem}.log",
        estimate_s=forecast.seconds,
        forecast=forecast,
        holder=lambda: holder(place.runs, path.stem, path),
    )


def train_job(
    planned: PlannedRun,
    needs: tuple[str, ...],
    place: Place,
    forecast: Forecast,
    force: bool,
    common: Mapping[str, str] | None = None,
) -> Job:
    spec, told = planned.spec, asdict(planned.spec)
    files = RunFiles(planned, place)
    key = f"train {planned.title(common)}"
    return Job(
        "train",
        key,
        worker("train", key, {"spec": told, "force": force}, place),
        files.finished,
        lambda: files.folder / "stderr.log",
        needs,
        forecast.seconds,
        again=force,
        check=planned.settings.check,
        identity={
            "method": planned.method.name,
            "target": planned.env.task,
            "env": planned.env.to_dict(),
            "seed": spec.seed,
            "preset": spec.preset,
            **planned.words,
        },
        spec=told,
        forecast=forecast,
        holder=lambda: holder(place.runs, files.resolved.id),
    )


@dataclass
class RunFiles:
    """Where a run lies: its folder carries the digest of its dataset, so it is known once that is there."""

    planned: PlannedRun
    place: Place

    @cached_property
    def resolved(self) -> ResolvedRun:
        return ResolvedRun(self.planned, self.place.dataset(self.planned.dataset_id))

    @cached_property
    def folder(self) -> Path:
        return self.place.runs / self.resolved.id

    def finished(self) -> bool:
        there = self.place.has_dataset(self.planned.dataset_id)
        return there and (self.folder / "result.json").is_file()


def worker(kind: str, key: str, asked: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    """The command line of a job's process, less its status file."""
    document = {"kind": kind, "job": key, **asked, "place": place.words}
    return (sys.executable, "-m", "coworld_bench.bench.worker", json.dumps(document, sort_keys=True))
