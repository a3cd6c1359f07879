"""Recipe -> online DreamerV2 -> stop rule -> dataset with its evidence (paper, section 4.1 and appendix B.2)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coworld_bench.checkpoints import Checkpoints
from coworld_bench.config import Config, need_pictures, override, resolve, usual_env
from coworld_bench.costs import Meter
from coworld_bench.data.build import build
from coworld_bench.data.dataset import dataset_folder, dataset_id, open_dataset
from coworld_bench.data.formats import FORMATS, find_format
from coworld_bench.data.staging import Staging
from coworld_bench.devices import choose_device
from coworld_bench.envs import check_task, domain_of, gl_info
from coworld_bench.envs.pool import env_pool
from coworld_bench.errors import UsageError, unknown
from coworld_bench.evaluation import Evaluator
from coworld_bench.files import clear_folder, digest_of, try_folder, write_json
from coworld_bench.online import OnlineAgent
from coworld_bench.paths import data_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.recipes import Reference, need_reference, recipe
from coworld_bench.seeding import check_seed
from coworld_bench.stopping import Stop, StoppedAtCheckpoint, Timer, never
from coworld_bench.tasks import EnvSpec

COSTS = "costs"  # in a data home: what its datasets took

Observe = Callable[[dict[str, Any]], None]
QUALITIES = {"medium-replay": 1 / 3, "medium-expert": 1.0}  # the share of the reference return that stops collection
OWN_FORMAT = "zarr"  # as datasets are kept here


@dataclass(frozen=True)
class Collected:
    """A finished dataset; `fired` says whether the rule stopped the collection or its budget did."""

    dataset_id: str
    folder: Path
    fingerprint: str
    fired: bool
    episodes: int
    return_mean: float


@dataclass(frozen=True)
class CollectSpec:
    """A collection, resolved: everything that decides which episodes come out."""

    task: str
    quality: str
    preset: str
    seed: int
    config: Config
    reference: Reference
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        return QUALITIES[self.quality] * self.reference.value

    @property
    def env(self) -> EnvSpec:
        return self.config.env.spec(self.task)

    @property
    def id(self) -> str:
        return dataset_id(self.task, self.quality, self.preset, self.env.variant(usual_env(self.task, self.preset)))

    @property
    def recipe(self) -> dict[str, Any]:
        """The part of the settings that decides the episodes, and its digest."""
        decisive = self.config.part("env", "model", "behaviour", "optimiser", "batch", "online", "compute")
        made_of = {"config": decisive, "seed": self.seed, "threshold": self.threshold, "quality": self.quality}
        return made_of | {"digest": digest_of([self.env.to_dict(), made_of])}


def plan_collection(
    task: str,
    quality: str = "medium-replay",
    preset: str = "quick",
    seed: int | None = None,
    reference_return: float | None = None,
    options: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> CollectSpec:
    """The preset, the task's pinned recipe and the user's options, in this order; `workers` is `online.workers`.

    Raises UsageError for a name that does not exist or a task without a reference return."""
    if quality not in QUALITIES:
        raise unknown("quality", quality, QUALITIES)
    found = check_task(task)
    config = resolve(preset, found.suite)
    pinned = recipe(found.id, preset)
    asked = dict(options or {}) | ({} if workers is None else {"online.workers": str(workers)})
    config = override(override(config, pinned.options, found.suite), asked, found.suite)
    need_pictures(config)
    if reference_return is None:
        reference = need_reference(found.id, preset)
    elif 0 < reference_return < math.inf:
        reference = Reference(value=reference_return, how="given by --reference-return")
    else:
        raise UsageError(f"a reference return must be a number above 0; got {reference_return}")
    chosen = pinned.seed if seed is None else seed
    check_seed(chosen)
    return CollectSpec(found.id, quality, preset, chosen, config, reference, {**pinned.options, **asked})


def collect(
    task: str,
    quality: str = "medium-replay",
    *,
    preset: str = "quick",
    seed: int | None = None,
    data: Path | str | None = None,
    out: Path | str | None = None,
    format: str = "zarr",
    reference_return: float | None = None,
    options: Mapping[str, str] | None = None,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    workers: int | None = None,
    observe: Observe | None = None,
    stop: Stop = never,
) -> Collected:
    """Train DreamerV2 on `task` until the quality's share of the reference return is reached; keep all its experience.

    A finished dataset is never overwritten and an unfinished collection never dropped without `force`; `resume` goes on
    with the latter. `format` is zarr or one of `data.formats`, which the dataset is exported to. `out` is the dataset's
    folder or the export's (for `minari`: the folder of Minari datasets). `workers` environment processes act together
    while the agent learns; another number of them (above 1) makes another dataset. When `stop` says so the work ends at a
    checkpoint, with StoppedAtCheckpoint."""
    if format != OWN_FORMAT and format not in FORMATS:
        raise unknown("format", format, [OWN_FORMAT, *FORMATS])
    spec = plan_collection(task, quality, preset, seed, reference_return, options, workers)
    out = None if out is None else Path(out).expanduser()
    if format != OWN_FORMAT:
        find_format(format).demand(out)
    folder = out if out is not None and format == OWN_FORMAT else dataset_folder(data_home(data), spec.id)
    if (folder / "manifest.json").is_file() and not force:
        if format == OWN_FORMAT:
            raise UsageError(f"dataset {spec.id} is finished at {folder}; --force collects it again")
    else:
        _collect(spec, folder, data_home(data), choose_device(device), resume, force, observe, stop)
    dataset = open_dataset(folder)
    if format != OWN_FORMAT:
        folder = find_format(format).export(dataset, out)
    fired = bool(dataset.card["quality"]["fired"])
    return Collected(dataset.id, folder, dataset.fingerprint, fired, dataset.episodes, float(dataset.returns.mean()))


def _collect(
    spec: CollectSpec,
    folder: Path,
    home: Path,
    device: str,
    resume: bool,
    force: bool,
    observe: Observe | None,
    stop: Stop,
) -> None:
    work = home / "collecting" / f"{spec.id.replace('/', '-')}-s{spec.seed}-{spec.recipe['digest'][:10]}"
    try_folder(folder)
    if force:
        clear_folder(work)
    elif work.is_dir() and not resume:
        raise UsageError(f"an unfinished collection lies in {work}; --resume goes on with it, --force begins again")
    with at_work(spec, work, device, observe, stop) as collection:
        curve, fired = collection.finish()
        card = make_card(spec, collection.online, curve, fired)
        build(collection.online.staging, folder, card, force=force)
        write_json(costs_path(home, spec.id), collection.costs())
    clear_folder(work)


def costs_path(home: Path, dataset: str) -> Path:
    """What collecting a dataset took: beside the datasets, since it differs each time, and a dataset's bytes do not."""
    return home / COSTS / f"{dataset.replace('/', '-')}.json"


class Collection:
    """A collecting agent in its working folder, with checkpoints to resume from."""

    def __init__(
        self,
        spec: CollectSpec,
        work: Path,
        online: OnlineAgent,
        judge: Evaluator,
        observe: Observe | None,
        stop: Stop = never,
    ) -> None:
        self.spec, self.work, self.online, self.judge, self.observe, self.stop = spec, work, online, judge, observe, stop
        self.checkpoints, self.timer = Checkpoints(work / "checkpoints"), Timer(spec.config.compute.checkpoint_minutes)
        self.curve: list[dict[str, Any]] = []
        self.meter = Meter(online.agent.device.type)
        self.began = 0.0, 0  # clock and env steps at the first episode of this process

    def finish(self) -> tuple[list[dict[str, Any]], bool]:
        """Collect until the rule fires or the budget ends: the learning curve, and whether it fired."""
        self._resume()
        online, config = self.online, self.spec.config.online
        self.began = time.perf_counter(), online.env_steps
        while not self.fired and online.env_steps < config.env_steps:
            episodes = online.episodes(config.env_steps)
            evaluated = online.updates > 0 and online.env_steps >= self._next_evaluation
            if evaluated:
                self._evaluate()
            stopping = self.stop()
            if evaluated or (online.updates and (self.timer.due() or stopping)):
                self._checkpoint()
            self._report(episodes[-1].ret, evaluated)
            if stopping and not self.fired:
                raise StoppedAtCheckpoint(f"stopped after {online.env_steps} env steps; --resume goes on from there")
        return self.curve, self.fired

    @property
    def fired(self) -> bool:
        """The rule: the first evaluation whose mean reaches the threshold."""
        return bool(self.curve) and self.curve[-1]["mean"] >= self.spec.threshold

    @property
    def _next_evaluation(self) -> int:
        last = self.curve[-1]["env_steps"] if self.curve else 0
        return last + self.spec.config.online.evaluate_every

    def _evaluate(self) -> None:
        online, episodes, began = self.online, self.spec.config.online.evaluate_episodes, time.perf_counter()
        records = self.judge.checkpoint(online.agent, self.spec.seed, len(self.curve), episodes, stream="select")
        returns = [record["return"] for record in records]
        point = {"env_steps": online.env_steps, "updates": online.updates, "returns": returns}
        self.curve.append(point | {"mean": sum(returns) / len(returns)})
        self.meter.spent["evaluation_s"] += time.perf_counter() - began

    def costs(self) -> dict[str, Any]:
        self.meter.read()
        made = {"dataset_id": self.spec.id, "preset": self.spec.preset, "env_steps": self.online.env_steps}
        return made | {"time": self.meter.times(), "cost": self.meter.cost(self.online.updates)}

    def _checkpoint(self) -> None:
        spent = self.meter.read()
        self.checkpoints.save({"online": self.online.state_dict(), "curve": self.curve, "spent": spent})
        self.timer.reset()

    def _resume(self) -> None:
        state = self.checkpoints.newest()
        if state is not None:
            self.online.load_state_dict(state["online"])
            self.curve = state["curve"]
            self.meter.go_on(state.get("spent", {}))
        else:
            self.online.forget(keep=self.online.random_episodes)

    def _report(self, episode_return: float, evaluated: bool) -> None:
        if self.observe is None:
            return
        online, config = self.online, self.spec.config.online
        seconds = time.perf_counter() - self.began[0]
        progress = {
            "env_steps": online.env_steps,
            "env_steps_total": config.env_steps,
            "updates": online.updates,
            "episode_return": episode_return,
            "threshold": self.spec.threshold,
            "env_steps_per_s": (online.env_steps - self.began[1]) / seconds,
        }
        self.observe(progress | ({"evaluation": self.curve[-1]["mean"]} if evaluated else {}))


@contextmanager
def at_work(
    spec: CollectSpec, work: Path, device: str, observe: Observe | None, stop: Stop = never
) -> Iterator[Collection]:
    """The collecting agent with its environments, closed at the end; it is evaluated in the processes it collects with."""
    with (
        Staging(work / "episodes") as staging,
        env_pool(spec.env, spec.config.online.workers) as pool,
        closing(Evaluator(spec.env, pool=pool)) as judge,
        closing(OnlineAgent(domain_of(spec.env), spec.config, spec.seed, staging, device, pool=pool)) as online,
    ):
        yield Collection(spec, work, online, judge, observe, stop)


def make_card(spec: CollectSpec, online: OnlineAgent, curve: list[dict[str, Any]], fired: bool) -> dict[str, Any]:
    """Who the dataset is: what was asked, the evidence for its quality, and what made it."""
    share = "a third of" if spec.quality == "medium-replay" else "all of"
    workers = spec.config.online.workers
    made_by = {"packages": packages(), "git": git_state(), "gl": gl_info(), "machine": machine()}
    return {
        "dataset_id": spec.id,
        "task": spec.task,
        "preset": spec.preset,
        "seed": spec.seed,
        "env_spec": spec.env.to_dict(),
        "quality": {
            "label": spec.quality,
            "rule": f"all experience up to the first evaluation whose mean reaches {share} the reference return",
            "reference": spec.reference.value,
            "reference_how": spec.reference.how,
            "threshold": spec.threshold,
            "fired": fired,
            "curve": curve,
        },
        "recipe": spec.recipe | {"options": {key: str(value) for key, value in spec.options.items()}},
        "policy": {"algo": "DreamerV2", "config_digest": digest_of(spec.config.identity()), "updates": online.updates},
        "provenance": made_by | ({"workers": workers} if workers > 1 else {}),
        "has_success": online.env.has_success,
        "license": "CC-BY-4.0",
    }
