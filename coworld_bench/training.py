"""One run: a method, a target, its sources, a seed. Resolved before any work, stored so that it explains itself."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from coworld_bench.config import Config, Settings, override, resolve
from coworld_bench.data.dataset import Dataset, dataset_folder, dataset_id, open_dataset
from coworld_bench.devices import choose_device, describe_device
from coworld_bench.dreamer import AgentSpec, Metrics, read_metrics
from coworld_bench.envs import check_task, domain_of
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.evaluation import PROTOCOL, Evaluator, evaluator, mean_return, score
from coworld_bench.files import (
    append_line,
    atomic,
    digest_of,
    read_json,
    read_lines,
    sha256_file,
    write_json,
    write_text,
)
from coworld_bench.folders import clear_folder
from coworld_bench.methods import Job, Learner, Method, load_method
from coworld_bench.paths import runs_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import Domain, EnvSpec

Observe = Callable[[dict[str, Any]], None]
SCHEMA = 1


@dataclass(frozen=True)
class RunSpec:
    """A run as it is asked for. `options` are dotted settings; a method's own carry its name: `coworld.alpha`."""

    method: str
    target: str
    sources: tuple[str, ...] = ()
    seed: int = 0
    preset: str = "quick"
    quality: str = "medium-replay"
    options: Mapping[str, str] = field(default_factory=dict)

    def plan(self) -> PlannedRun:
        """Everything but the dataset's fingerprint. Raises UsageError for anything that does not exist."""
        method = load_method(self.method)
        target = check_task(self.target)
        sources = tuple(check_task(source).id for source in self.sources)[: method.sources]
        if len(sources) < method.sources:
            raise UsageError(f"{method.name} needs {method.sources} source task(s); give --source suite/task")
        own = {key: value for key, value in self.options.items() if key.startswith(f"{method.name}.")}
        shared = {key: value for key, value in self.options.items() if key not in own and not _of_other_method(key)}
        config = override(method.adapt(resolve(self.preset, target.suite), target.suite), shared)
        settings = override(
            method.defaults(self.preset, target.suite),
            {key.removeprefix(f"{method.name}."): value for key, value in own.items()},
        )
        env = EnvSpec(target.id, action_repeat=config.env.action_repeat, profile=config.env.profile)
        return PlannedRun(self, method, config, settings, env, sources, shared)

    def resolve(self, data: Path | None = None) -> ResolvedRun:
        """The run with its dataset. Raises DatasetError when that is missing or damaged."""
        planned = self.plan()
        return ResolvedRun(planned, open_dataset(planned.dataset_id, data))


def _of_other_method(key: str) -> bool:
    """Whether an option belongs to some method's own settings; `run` hands all options to every method."""
    from coworld_bench.methods import method_names

    return key.split(".")[0] in method_names()


@dataclass(frozen=True)
class PlannedRun:
    spec: RunSpec
    method: Method
    config: Config
    settings: Settings
    env: EnvSpec
    sources: tuple[str, ...]
    shared_options: Mapping[str, str]

    @property
    def dataset_id(self) -> str:
        return dataset_id(self.env.task, self.spec.quality, self.spec.preset)

    def source_specs(self) -> tuple[SourceSpec, ...]:
        """The source agents this run starts from; they understand the actions of every domain."""
        if not self.sources:
            return ()
        tasks = [self.env.task, *self.sources]
        widest = max(domain_of(EnvSpec(task, observation="state")).action for task in tasks)
        model, spec = self.config.model.to_dict(), self.spec
        return tuple(SourceSpec(task, spec.preset, spec.seed, widest, model, self.shared_options) for task in self.sources)


@dataclass(frozen=True)
class ResolvedRun:
    planned: PlannedRun
    dataset: Dataset

    def __post_init__(self) -> None:
        has, wants = self.dataset.env_spec, self.planned.env
        if has != wants:
            differ = [key for key, value in wants.to_dict().items() if has.to_dict()[key] != value]
            pairs = ", ".join(f"{key} {getattr(has, key)!r} against {getattr(wants, key)!r}" for key in differ)
            raise UsageError(
                f"dataset {self.dataset.id} was made in another environment than this run would be evaluated in: {pairs}; "
                f"set env.{differ[0]} to the dataset's, or collect again"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """All that determines the result; its digest names the run."""
        planned, spec = self.planned, self.planned.spec
        return {
            "protocol": PROTOCOL,
            "method": planned.method.name,
            "method_file": sha256_file(Path(spec.method).expanduser()) if spec.method.endswith(".py") else None,
            "target": planned.env.task,
            "env": planned.env.to_dict(),
            "source_digests": [source.digest for source in planned.source_specs()],
            "seed": spec.seed,
            "preset": spec.preset,
            "config": planned.config.to_dict(),
            "method_config": planned.settings.to_dict(),
            "dataset": self.dataset.fingerprint,
        }

    @property
    def id(self) -> str:
        spec, planned = self.planned.spec, self.planned
        names = [planned.method.name, planned.env.task.replace("/", "-")]
        names += [source.replace("/", "-") for source in planned.sources] or ["none"]
        return "--".join([*names, f"s{spec.seed}", digest_of(self.identity)[:10]])

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds: the identity, and who it is in words."""
        planned, spec = self.planned, self.planned.spec
        return self.identity | {
            "schema": SCHEMA,
            "run": self.id,
            "label": planned.method.label,
            "sources": list(planned.sources),
            "options": dict(spec.options),
            "quality": spec.quality,
        }


def train(
    spec: RunSpec,
    *,
    data: Path | None = None,
    runs: Path | None = None,
    device: str = "auto",
    force: bool = False,
    observe: Observe | None = None,
) -> dict[str, Any]:
    """Do a run, or go on with it from its last checkpoint, or read its result if it is finished (unless `force`)."""
    resolved = spec.resolve(data)
    folder = runs_home(runs) / resolved.id
    if (folder / "result.json").is_file() and not force:
        return read_json(folder / "result.json")
    missing = [source for source in resolved.planned.source_specs() if not source.ready(data)]
    if missing:
        raise DatasetError(f"source agent {missing[0].folder(data)} is missing; `pretrain_source` or `run` makes it")
    if force:
        clear_folder(folder)
    run = Run(resolved, folder, data, choose_device(device), observe)
    return run.finish()


class Run:
    """A run at work in its folder."""

    def __init__(
        self, resolved: ResolvedRun, folder: Path, data: Path | None, device: str, observe: Observe | None
    ) -> None:
        self.resolved, self.folder, self.data, self.device = resolved, folder, data, device
        self.planned, self.config, self.observe = resolved.planned, resolved.planned.config, observe
        self.evaluations: list[dict[str, Any]] = []
        self.spent = {"wall_s": 0.0, "cpu_s": 0.0, "evaluation_s": 0.0}
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.clock = time.perf_counter(), time.process_time()

    def finish(self) -> dict[str, Any]:
        """Train to the end, evaluating on the way; writes and returns the result."""
        write_json(self.folder / "config.json", self.resolved.config)
        learner = self.make_learner()
        domain, behaviour = self.resolved.dataset.domain, self.config.behaviour
        scale = AgentSpec.of(domain, self.config).reward_scale
        with evaluator(self.planned.env, scale, behaviour.discount) as judge:
            self._train(learner, judge)
        result = self._result(learner)
        write_json(self.folder / "result.json", result)
        return result

    def make_learner(self) -> Learner:
        checkpoint = self.folder / "checkpoints" / "last.pt"
        if not checkpoint.is_file():
            clear_folder(self.folder / "scratch")
        learner = self.planned.method.learner(self.planned.settings, self._job())
        if checkpoint.is_file():
            self._resume(learner, checkpoint)
        return learner

    def _job(self) -> Job:
        sources = tuple(source.open(self.data) for source in self.planned.source_specs())
        domain: Domain = self.resolved.dataset.domain
        memory = self.resolved.dataset.load()
        seed = self.planned.spec.seed
        return Job(self.config, domain, memory, sources, seed, self.device, self.folder / "scratch")

    def _train(self, learner: Learner, judge: Evaluator) -> None:
        means = MetricMeans()
        if not self.evaluations:
            self._checkpoint(learner, judge, means)
        while learner.updates < learner.total:
            before = learner.updates
            means.add(learner.turn())
            if learner.updates > before and self._due(learner):
                self._checkpoint(learner, judge, means)

    def _due(self, learner: Learner) -> bool:
        config, updates, total = self.config.evaluation, learner.updates, learner.total
        every = config.every if updates > total / 2 else config.early_every
        return updates % every == 0 or updates == total

    def _checkpoint(self, learner: Learner, judge: Evaluator, means: MetricMeans) -> None:
        """Evaluate, write one line to each log, and store the state: the place a killed run goes on from."""
        began = time.perf_counter()
        updates = learner.updates
        index, episodes = len(self.evaluations), self.config.evaluation.episodes
        records = judge.checkpoint(learner.policy, self.planned.spec.seed, index, episodes)
        self.evaluations.append({"updates": updates, "episodes": records})
        for record in records:
            append_line(self.folder / "eval.jsonl", {"updates": updates, **record})
        append_line(self.folder / "metrics.jsonl", {"updates": updates, **means.read(), **learner.counts()})
        self.spent["evaluation_s"] += time.perf_counter() - began
        self._count_time()
        state = {"learner": learner.state_dict(), "evaluations": self.evaluations, "spent": self.spent}
        save(self.folder / "checkpoints" / "last.pt", state)
        if self.observe is not None:
            progress = {"updates": updates, "updates_total": learner.total, "evaluation": mean_return(records)}
            self.observe(progress | {"wall_s": self.spent["wall_s"]})

    def _resume(self, learner: Learner, checkpoint: Path) -> None:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        learner.load_state_dict(state["learner"])
        self.evaluations, self.spent = state["evaluations"], state["spent"]
        last = self.evaluations[-1]["updates"]
        for name in ("eval.jsonl", "metrics.jsonl"):
            keep_lines(self.folder / name, last)

    def _count_time(self) -> None:
        now = time.perf_counter(), time.process_time()
        self.spent["wall_s"] += now[0] - self.clock[0]
        self.spent["cpu_s"] += now[1] - self.clock[1]
        self.clock = now

    def _result(self, learner: Learner) -> dict[str, Any]:
        dataset, total = self.resolved.dataset, learner.total
        finished = {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        return self.resolved.config | {
            "dataset": facts(dataset),
            "source_agents": [source.card(self.data) for source in self.planned.source_specs()],
            "evaluations": self.evaluations,
            "score": score(self.evaluations, total),
            "diagnostics": diagnostics(read_lines(self.folder / "metrics.jsonl"), total),
            "budget": learner.counts(),
            "time": {name: round(value, 1) for name, value in self.spent.items()} | finished,
            "device": describe_device(self.device),
            "machine": machine(),
            "versions": packages(),
            "commit": git_state(),
        }


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


def diagnostics(lines: list[dict[str, Any]], total: int) -> dict[str, float]:
    """Means over the last half of training of what a sceptic asks for: critic, constraint, alignment."""
    late = [line for line in lines if line["updates"] > total / 2]
    names = sorted({name for line in late for name in line if name.startswith(("coworld/", "critic/", "model/"))})
    found = {name: [line[name] for line in late if name in line] for name in names}
    return {name.removeprefix("coworld/"): sum(values) / len(values) for name, values in found.items()}


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
    import json

    lines = [line for line in read_lines(path) if line["updates"] <= last]
    write_text(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def save(path: Path, state: Any) -> None:
    """`torch.save`, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


__all__ = ["ResolvedRun", "RunSpec", "dataset_folder", "train"]
