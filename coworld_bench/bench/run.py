"""`run`: a plan in, finished results and their report out. What is finished is skipped, what was killed goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from coworld_bench.bench.board import PlainBoard, board
from coworld_bench.bench.claims import share
from coworld_bench.bench.costing import costs
from coworld_bench.bench.drivers import Registration, registered
from coworld_bench.bench.estimates import estimate_all, words
from coworld_bench.bench.execution import LOCAL, Execution, make_backend, make_slots, shard_of
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.bench.jobs import Place, Selection, plan_jobs, select
from coworld_bench.bench.opened import open_runs, refresh
from coworld_bench.bench.status import status_path
from coworld_bench.config import PRESETS
from coworld_bench.errors import DATASET, OK, SOME_FAILED, STOPPED, NotUsable, UsageError, unknown
from coworld_bench.files import try_folder, write_json
from coworld_bench.methods import load_method
from coworld_bench.paths import data_home
from coworld_bench.plans import Plan, load_plan
from coworld_bench.reporting import report, table_text
from coworld_bench.tracking import chosen as chosen_trackers
from coworld_bench.tracking import whole_names

NOUNS = {
    "collect": ("dataset", "datasets"),
    "source": ("source agent", "source agents"),
    "anchors": ("set of anchors", "sets of anchors"),
}


@dataclass(frozen=True)
class RunSummary:
    """What a `run` did. `outcomes` by job, `before` the runs that were finished already, `tables` ready to print."""

    plan: str
    preset: str
    runs: int
    before: int
    jobs: tuple[Job, ...]
    estimate_s: float | None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    ended_by: int | None = None
    wall_s: float = 0.0
    tables: str = ""
    report: tuple[Path, ...] = ()

    @property
    def interrupted(self) -> bool:
        """Whether it ended early: by Ctrl-C, SIGTERM or a request to stop, as `ended_by`, an exit code, says."""
        return self.ended_by is not None

    @property
    def failed(self) -> dict[str, Outcome]:
        """The jobs that crashed or could not start."""
        return {key: outcome for key, outcome in self.outcomes.items() if outcome.state in ("failed", "not started")}

    @property
    def exit_code(self) -> int:
        if self.ended_by is not None:
            return self.ended_by
        if any(outcome.state == "stopped" for outcome in self.outcomes.values()):
            return STOPPED
        if self.failed and all(outcome.code == DATASET for outcome in self.failed.values() if outcome.state == "failed"):
            return DATASET
        return SOME_FAILED if self.failed else OK

    def to_dict(self) -> dict[str, Any]:
        """The same as one JSON document."""
        return {
            "schema": 1,
            "plan": self.plan,
            "preset": self.preset,
            "runs": self.runs,
            "finished_before": self.before,
            "estimate_s": self.estimate_s,
            "costs": costs(self.jobs),
            "jobs": [self._job_words(job) for job in self.jobs],
            "interrupted": self.interrupted,
            "wall_s": round(self.wall_s, 1),
            "report": [str(path) for path in self.report],
        }

    def _job_words(self, job: Job) -> dict[str, Any]:
        words: dict[str, Any] = {"job": job.key, "kind": job.kind, "needs": list(job.needs), "estimate_s": job.estimate_s}
        words |= {"estimate": asdict(job.forecast)}
        if job.key in self.outcomes:
            outcome = self.outcomes[job.key]
            words |= {"state": outcome.state, "note": outcome.note, "seconds": round(outcome.seconds, 1)}
            words["attempts"] = outcome.attempts
        return words


def run(
    plan: str | Plan,
    preset: str = "quick",
    *,
    methods: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    execution: Execution = LOCAL,
    dry_run: bool = False,
    force: bool = False,
    runs: Path | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    options: Mapping[str, str] | None = None,
    quiet: bool = False,
    track: str | None = None,
) -> RunSummary:
    """Do every run of a plan that is not finished, with the datasets, source agents and anchors it needs, and report.

    `methods`, `targets` and `seeds` choose a part of the plan, `jobs` how many processes work at a time (default: a
    core each, or one per GPU; 0: this process does all the work itself, which a debugger can follow), `execution` where
    and within which limits, `force` does finished runs again, `dry_run` only plans, `track` as in `train`. Progress goes to
    stderr.
    Raises UsageError, DatasetError or NotUsable before any work where something asked for cannot be."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
    check_jobs(jobs)
    execution.check()
    found = load_plan(plan) if isinstance(plan, str) else plan
    chosen = select(found, preset, listed(methods), listed(targets), listed(seeds), options, force)
    chosen_trackers(track)
    place = Place(data_home(data), open_runs(runs), execution.device(device), whole_names(track))
    width = width_of(place, jobs, execution)
    summary = plan_summary(chosen, place, width or 1, execution)
    about = about_driver(chosen, plan if isinstance(plan, str) else found.name, options)
    summary = do(summary, about, place, execution, jobs, width, dry_run, quiet)
    if dry_run or summary.interrupted or not summary.runs:
        return summary
    return with_report(summary, found, place, chosen.options if options else None)


def about_driver(chosen: Selection, plan: str, options: Mapping[str, str] | None) -> dict[str, Any]:
    """What others are told of the driver that does a selection; `plan` is its name or the path of its file."""
    return {
        "plan": str(Path(plan).expanduser().absolute()) if plan.endswith(".toml") else plan,
        "preset": chosen.preset,
        "options": dict(options or {}),
        "methods": [row if row in chosen.plan.methods else load_method(row).name for row in chosen.methods],
        "targets": list(dict.fromkeys(cell.target for cell in chosen.cells)),
        "seeds": list(chosen.seeds),
    }


def do(
    summary: RunSummary,
    about: Mapping[str, Any],
    place: Place,
    execution: Execution,
    jobs: int | None,
    width: int | None,
    dry_run: bool = False,
    quiet: bool = False,
) -> RunSummary:
    """Tell what jobs there are, make sure that they can be done, and do them; `about` is what others are told of it.

    Raises UsageError or NotUsable before any work."""
    with board(len(summary.jobs), quiet) as shown:
        for line in announcement(summary, width):
            shown.console.print(line, markup=False, highlight=False, soft_wrap=True)
        if dry_run or not summary.jobs:
            return summary
        for job in summary.jobs:
            job.check()
        check_folders(summary.jobs, place)
        if execution.executor == "local":
            check_rendering(about["targets"])
        told = {**about, "executor": execution.executor, "width": width, "usual_s": usual_seconds(summary.jobs)}
        with registered(place.runs, told) as driver:
            return execute(summary, execution, jobs, shown, place, driver)


def usual_seconds(jobs: Sequence[Job]) -> dict[str, float]:
    """What a run of each method is thought to take."""
    return {job.identity["method"]: job.estimate_s for job in jobs if job.kind == "train" and job.estimate_s}


def check_jobs(jobs: int | None) -> None:
    if jobs is not None and jobs < 0:
        raise UsageError(f"--jobs must be at least 0; got {jobs}")


def width_of(place: Place, jobs: int | None, execution: Execution) -> int | None:
    """How many processes work at a time; None where the executor decides."""
    if jobs is not None or execution.executor != "local":
        return jobs
    return len(make_slots(place.device, jobs, execution.per_gpu))


def listed(values: Sequence[Any] | None) -> list[Any] | None:
    return list(values) if values is not None else None


def plan_summary(chosen: Selection, place: Place, slots: int, execution: Execution = LOCAL) -> RunSummary:
    """What is to be done: the jobs that are not finished, and what is."""
    jobs = shard_of(plan_jobs(chosen, place), execution.shard)
    open_jobs = tuple(job for job in jobs if job.again or not job.finished())
    trains = [job for job in jobs if job.kind == "train"]
    before = len(trains) - sum(job.kind == "train" for job in open_jobs)
    needed = needed_jobs(open_jobs)
    return RunSummary(chosen.plan.name, chosen.preset, len(trains), before, needed, estimate_all(needed, slots))


def needed_jobs(open_jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Without the datasets and source agents that no open run needs."""
    needed = {need for job in open_jobs for need in job.needs}
    return tuple(job for job in open_jobs if job.kind in ("train", "anchors") or job.key in needed)


def announcement(summary: RunSummary, width: int | None) -> list[str]:
    """How much there is to do and how long it takes, in words."""
    made = [count(summary.jobs, kind, *nouns) for kind, nouns in NOUNS.items()]
    made = [text for text in made if text]
    runs = "1 run" if summary.runs == 1 else f"{summary.runs} runs"
    first = f"{summary.plan} (preset {summary.preset}): {runs}, {summary.before} finished already"
    if not summary.jobs:
        return [f"{first}; nothing to do"]
    also = f"; also to make: {', '.join(made)}" if made else ""
    at_once = {None: " one after the other; as many at a time as there is room for", 0: ", one by one in this process"}
    return [first + also, words(summary.estimate_s) + at_once.get(width, f", {width} at a time")]


def count(jobs: Sequence[Job], kind: str, one: str, many: str) -> str:
    number = sum(job.kind == kind for job in jobs)
    return f"{number} {one if number == 1 else many}" if number else ""


def check_folders(jobs: Sequence[Job], place: Place) -> None:
    """Raises UsageError or NotUsable now, rather than in every job, where nothing can be written."""
    wanted = {"--runs": place.runs}
    if any(job.kind in ("collect", "source") for job in jobs):
        wanted["--data"] = place.data
    for option, folder in wanted.items():
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; {option} names a folder")
        try:
            try_folder(folder)
        except OSError as error:
            raise NotUsable(f"{option} {folder} cannot be written: {(error.strerror or str(error)).lower()}") from error


def check_rendering(targets: Sequence[str]) -> None:
    """Raises NotUsable now, rather than in every job, where a simulator cannot draw."""
    if any(not target.startswith("toy/") for target in targets):
        from coworld_bench.envs import check_opengl

        check_opengl()


def execute(
    summary: RunSummary,
    execution: Execution,
    jobs: int | None,
    shown: PlainBoard,
    place: Place,
    driver: Registration,
) -> RunSummary:
    """The summary with the outcome of every job."""
    began = time.monotonic()
    recorder = Recorder(shown, place)
    backend = make_backend(execution, place, jobs, recorder)
    if backend.where:
        shown.console.print(backend.where, markup=False, highlight=False, soft_wrap=True)
    executor = Executor(backend, recorder, execution.policy, driver.asked_to_stop)
    driver.counts = partial(counts_of, executor, len(summary.jobs))
    outcomes = executor.run(summary.jobs)
    return replace(summary, outcomes=outcomes, ended_by=executor.ended_by, wall_s=time.monotonic() - began)


def counts_of(executor: Executor, total: int) -> dict[str, int]:
    """How many jobs are at what, for other processes to read."""
    ended, running = Counter[str](outcome.state for outcome in list(executor.outcomes.values())), len(executor.at_work)
    return {"total": total, "running": running, "waiting": total - running - ended.total(), **ended}


class Recorder:
    """Keeps a crashed run's error beside it, where the report finds it, and passes everything on to the board."""

    def __init__(self, shown: PlainBoard, place: Place) -> None:
        self.shown, self.place = shown, place

    def started(self, job: Job) -> None:
        if job.kind == "train":
            (job.log().parent / "failed.json").unlink(missing_ok=True)
        self.shown.started(job)

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        self.shown.progressed(job, progress)

    def repeated(self, job: Job, outcome: Outcome) -> None:
        self.shown.repeated(job, outcome)

    def ended(self, job: Job, outcome: Outcome) -> None:
        if job.kind == "train" and outcome.state == "failed":
            folder, tries = job.log().parent, {"attempts": outcome.attempts, "spec": job.spec}
            write_json(folder / "failed.json", {**job.identity, **tries, "run": folder.name, "error": outcome.note})
            share(self.place.runs, folder / "failed.json")
        if job.kind == "train" and outcome.state in ("done", "failed", "stopped"):
            share(self.place.runs, status_path(job.log()))
        self.shown.ended(job, outcome)


def with_report(summary: RunSummary, plan: Plan, place: Place, options: Mapping[str, str] | None) -> RunSummary:
    """The summary with its tables and the files of its report; without them where the store holds nothing yet."""
    refresh(place.runs)
    try:
        tables = table_text(plan, place.runs, summary.preset, options)
        files = report([plan], place.runs, preset=summary.preset, options=options)
    except UsageError as nothing:
        if not summary.failed:
            raise
        return replace(summary, tables=f"no report: {nothing}")
    return replace(summary, tables=tables, report=tuple(files))
