"""A run at work: train, evaluate on the way, store what happened; go on from the last checkpoint when interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from gymnasium.error import InvalidAction

from coworld_bench.checkpoints import Checkpoints
from coworld_bench.costs import Meter
from coworld_bench.data.dataset import Dataset
from coworld_bench.devices import choose_device, describe_device
from coworld_bench.domains import PICTURES, Embed, data_pictures, describe, source_pictures
from coworld_bench.dreamer import AgentSpec, Metrics, read_metrics
from coworld_bench.errors import DatasetError, UserError
from coworld_bench.evaluation import Evaluator, Visit, evaluator, mean_return, score
from coworld_bench.files import (
    append_line,
    clear_folder,
    clear_partials,
    read_json,
    read_lines,
    sync,
    write_json,
    write_text,
)
from coworld_bench.methods import Job, Learner
from coworld_bench.paths import runs_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.rollouts import write_rollout
from coworld_bench.run_spec import ResolvedRun, RunSpec
from coworld_bench.seeding import episode_seed
from coworld_bench.stopping import Stop, StoppedAtCheckpoint, Timer, never
from coworld_bench.tasks import Domain
from coworld_bench.tracking import Tracker, Tracking, chosen, point, score_values

Observe = Callable[[dict[str, Any]], None]
LOGS = "eval.jsonl", "metrics.jsonl"
OF_DRIVER = "stderr.log", "status.json", "stop"  # of a run's files
TELL_S = 10.0  # between evaluations, how often a run says how far it is


def train(
    spec: RunSpec,
    *,
    data: Path | None = None,
    runs: Path | None = None,
    device: str = "auto",
    force: bool = False,
    workers: int = 0,
    observe: Observe | None = None,
    stop: Stop = never,
    track: str | Tracker | None = None,
) -> dict[str, Any]:
    """Do a run, or go on with it from its last checkpoint, or read its result if it is finished (unless `force`).

    `workers` processes play the episodes of an evaluation at the same time; the result is the same. When `stop` says so
    the run ends at a checkpoint with StoppedAtCheckpoint. `track` names trackers (see `tracking`)."""
    tracking = Tracking(chosen(track))
    resolved = spec.resolve(data)
    folder = runs_home(runs) / resolved.id
    if (folder / "result.json").is_file() and not force:
        return read_json(folder / "result.json")
    if not force:
        refuse_other_data(resolved, folder)
    resolved.planned.settings.check()
    missing = [source for source in resolved.planned.source_specs() if not source.ready(data)]
    if missing:
        raise DatasetError(f"source agent {missing[0].folder(data)} is missing; `pretrain_source` or `run` makes it")
    if force:
        clear_run(folder)
    run = Run(resolved, folder, data, choose_device(device), observe, workers, stop, tracking)
    try:
        with closing(tracking):
            return run.finish()
    except StoppedAtCheckpoint as stopped:
        if force:
            raise StoppedAtCheckpoint(f"{stopped} (without --force)") from None
        raise


def clear_run(folder: Path) -> None:
    """Remove what a run left, but for what its driver reads and writes now; the result last: while that is there, all is
    still to be done again."""
    paths = [path for path in folder.glob("*") if path.name not in OF_DRIVER]
    for path in sorted(paths, key=lambda path: (path.name == "result.json", path.name)):
        if path.is_dir():
            clear_folder(path)
        else:
            path.unlink(missing_ok=True)


def refuse_other_data(resolved: ResolvedRun, folder: Path) -> None:
    """Raises DatasetError where this run was begun beside `folder` with other episodes under the same dataset's name."""
    mine, name = json.loads(json.dumps(resolved.config)), resolved.dataset.id
    for path in folder.parent.glob(f"{resolved.stem}--*/config.json"):
        if (path.parent / "result.json").is_file() or not Checkpoints(path.parent / "checkpoints"):
            continue
        stored = read_json(path)
        if stored["dataset"] != mine["dataset"] and stored | {"dataset": mine["dataset"], "run": mine["run"]} == mine:
            raise DatasetError(
                f"run {path.parent.name} was begun on {name} with fingerprint {stored['dataset'][:10]}, which "
                f"is {mine['dataset'][:10]} now; put the episodes back to go on, or give --force to begin anew with these"
            )


class Run:
    """A run at work in its folder."""

    def __init__(
        self,
        resolved: ResolvedRun,
        folder: Path,
        data: Path | None,
        device: str,
        observe: Observe | None,
        workers: int = 0,
        stop: Stop = never,
        tracking: Tracking | None = None,
    ) -> None:
        self.tracking = tracking or Tracking({})
        self.resolved, self.folder, self.data, self.device, self.workers = resolved, folder, data, device, workers
        self.planned, self.config, self.observe, self.stop = resolved.planned, resolved.planned.config, observe, stop
        self.checkpoints, self.timer = Checkpoints(folder / "checkpoints"), Timer(self.config.compute.checkpoint_minutes)
        self.pace = Timer(TELL_S / 60)
        self.evaluations: list[dict[str, Any]] = []
        self.means = MetricMeans()
        self.meter = Meter(device)
        self.started = datetime.now(UTC).isoformat(timespec="seconds")

    def finish(self) -> dict[str, Any]:
        """Train to the end, evaluating on the way; writes and returns the result."""
        clear_partials(self.folder)
        write_json(self.folder / "config.json", self.resolved.config)
        learner = self.make_learner(self.checkpoints.newest())
        self.tracking.start(self.resolved.id, self.resolved.config, self.folder)
        domain, behaviour = self.resolved.dataset.domain, self.config.behaviour
        scale = AgentSpec.of(domain, self.config).reward_scale
        workers = min(self.workers, self.config.evaluation.episodes)
        with evaluator(self.planned.env, scale, behaviour.discount, workers) as judge:
            self._train(learner, judge)
            result, visit = self._result(learner), self.visit(learner, judge)
        write_rollout(self.folder, self.resolved.id, learner.updates, visit)
        result |= self.domains(learner, visit)
        write_json(self.folder / "result.json", result)
        self.tracking.log(learner.updates, score_values(result["score"]))
        return result

    def make_learner(self, state: dict[str, Any] | None) -> Learner:
        """The learner as it was at a checkpoint, or at its beginning."""
        if state is None:
            clear_folder(self.folder / "scratch")
        learner = self.planned.method.make(self.planned.settings, self.job)
        self._go_back(learner, state)
        return learner

    @cached_property
    def job(self) -> Job:
        sources = tuple(source.open(self.data) for source in self.planned.source_specs())
        domain: Domain = self.resolved.dataset.domain
        memory = self.resolved.dataset.load(self.config.compute.memory)
        seed = self.planned.spec.seed
        return Job(self.config, domain, memory, sources, seed, self.device, self.folder / "scratch")

    def _train(self, learner: Learner, judge: Evaluator) -> None:
        if not self.evaluations:
            self._evaluate(learner, judge)
        while learner.updates < learner.total:
            before = learner.updates
            self.means.add(learner.turn())
            if learner.updates > before and self._due(learner):
                self._evaluate(learner, judge)
                stopping = self.stop()
            else:
                stopping = self.stop()
                if stopping or self.timer.due():
                    self._checkpoint(learner)
            if self.pace.due():
                self._tell(learner)
            if stopping and learner.updates < learner.total:
                self._tell(learner)
                raise StoppedAtCheckpoint(f"stopped after {learner.updates} updates; the same command goes on from there")

    def _due(self, learner: Learner) -> bool:
        config, updates, total = self.config.evaluation, learner.updates, learner.total
        every = config.every if updates > total / 2 else config.early_every
        return updates % every == 0 or updates == total

    def _evaluate(self, learner: Learner, judge: Evaluator) -> None:
        """Play the policy's episodes, write one line to each log, and store a checkpoint."""
        began = time.perf_counter()
        updates = learner.updates
        index, episodes = len(self.evaluations), self.config.evaluation.episodes
        try:
            records = judge.checkpoint(learner.policy, self.planned.spec.seed, index, episodes)
        except InvalidAction as error:
            raise UserError(f"after {updates} updates the policy of {self.planned.method.name} fails: {error}") from error
        self.evaluations.append({"updates": updates, "episodes": records})
        for record in records:
            append_line(self.folder / "eval.jsonl", {"updates": updates, **record})
        metrics = {**self.means.read(), **learner.counts()}
        append_line(self.folder / "metrics.jsonl", {"updates": updates, **metrics})
        for path in (*(self.folder / name for name in LOGS), self.folder):
            sync(path)  # before the checkpoint that counts on it
        self.meter.spent["evaluation_s"] += time.perf_counter() - began
        self._checkpoint(learner)
        self.tracking.log(updates, point(metrics, records))
        self._tell(learner, evaluation=mean_return(records))

    def _tell(self, learner: Learner, **news: float) -> None:
        """Whoever looks on, how far it is, at what cost."""
        if self.observe is not None:
            spent = self.meter.read()
            progress = {"updates": learner.updates, "updates_total": learner.total, **news}
            self.observe(progress | {name: spent[name] for name in ("wall_s", "cpu_s", "gpu_s")})
        self.pace.reset()

    def _checkpoint(self, learner: Learner) -> None:
        """Store all that the rest of the run depends on: a killed run goes on from here to the same numbers."""
        state = {"learner": learner.state_dict(), "evaluations": self.evaluations, "spent": self.meter.read()}
        self.checkpoints.save(state | {"means": self.means.state_dict()})
        self.timer.reset()

    def _go_back(self, learner: Learner, state: dict[str, Any] | None) -> None:
        """To a stored state; what was logged after it is dropped."""
        if state is not None:
            learner.load_state_dict(state["learner"])
            self.evaluations = state["evaluations"]
            self.meter.go_on(state["spent"])
            self.means.load_state_dict(state["means"], self.device)
        last = self.evaluations[-1]["updates"] if self.evaluations else -1
        for name in LOGS:
            keep_lines(self.folder / name, last)

    def _result(self, learner: Learner) -> dict[str, Any]:
        dataset, total = self.resolved.dataset, learner.total
        finished = {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        told = self.resolved.config | own_report(learner)
        return told | {
            "dataset": facts(dataset),
            "source_agents": [source.card(self.data) for source in self.planned.source_specs()],
            "evaluations": self.evaluations,
            "score": score(self.evaluations, total),
            "diagnostics": diagnostics(read_lines(self.folder / "metrics.jsonl"), total),
            "budget": learner.counts(),
            "time": self.meter.times() | finished,
            "cost": self.meter.cost(total),
            "device": describe_device(self.device),
            "machine": machine(),
            "versions": packages(),
            "commit": git_state(),
        }

    def visit(self, learner: Learner, judge: Evaluator) -> Visit:
        """An episode of its own, which no score counts."""
        return judge.visit(learner.policy, episode_seed("visit", self.planned.spec.seed, 0), PICTURES)

    def domains(self, learner: Learner, visit: Visit) -> dict[str, Any]:
        """Where the policy's encoder, if it has one, puts pictures of its dataset, of an episode and of the source."""
        embed: Embed | None = getattr(learner.policy, "embed", None)
        if embed is None:
            return {}
        seed, job = self.planned.spec.seed, self.job
        pictures = {
            "data": data_pictures(job.data, seed),
            "policy": visit.pictures,
            "source": source_pictures(job.sources, seed),
        }
        groups = {name: embed(images) for name, images in pictures.items() if images is not None}
        return {"domains": describe(groups, seed)}


class MetricMeans:
    """Means of metrics between two readings, kept on the device so that learning never waits for them."""

    def __init__(self) -> None:
        self.sums: Metrics = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The means since the last reading."""
        means = {name: value / self.counts[name] for name, value in read_metrics(self.sums).items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any], device: str) -> None:
        moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in state["sums"].items()}
        self.sums, self.counts = moved, dict(state["counts"])


def diagnostics(lines: list[dict[str, Any]], total: int) -> dict[str, float]:
    """Means over the last half of training of what a sceptic asks for: critic, constraint, alignment."""
    late = [line for line in lines if line["updates"] > total / 2]
    names = sorted({name for line in late for name in line if name.startswith(("coworld/", "critic/", "model/"))})
    found = {name: [line[name] for line in late if name in line] for name in names}
    return {name.removeprefix("coworld/"): sum(values) / len(values) for name, values in found.items()}


def own_report(learner: Learner) -> dict[str, Any]:
    """What a method itself tells of its run, where it tells anything."""
    report: dict[str, Any] = getattr(learner, "report", dict)()
    return {"method_report": report} if report else {}


def facts(dataset: Dataset) -> dict[str, Any]:
    """What a result says of the data it was made from."""
    return {
        "id": dataset.id,
        "fingerprint": dataset.fingerprint,
        "episodes": dataset.episodes,
        "rows": dataset.rows,
        "return_mean": float(dataset.returns.mean()),
        "return_std": float(dataset.returns.std()),
        "fired": bool(dataset.card["quality"]["fired"]),
    }


def keep_lines(path: Path, last: int) -> None:
    """Drop the lines that were written after the checkpoint a run goes on from."""
    if not path.is_file():
        return
    lines = [line for line in read_lines(path) if line["updates"] <= last]
    write_text(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
