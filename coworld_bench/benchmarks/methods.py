"""How long an update of any method takes: this code, its plain oracle, compiled."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.benchmarks.counting import count
from coworld_bench.config import keys
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.devices import prepare_cpu
from coworld_bench.envs import domain_of
from coworld_bench.errors import unknown
from coworld_bench.methods import Job, Learner, load_method
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.tasks import Domain

ARMS: dict[str, dict[str, str]] = {
    "plain": {"compute.plain": "true"},
    "fast": {},
    "compiled": {"compute.compile": "true"},
}
TARGET, SOURCE, EPISODE_STEPS, EPISODES = "toy/point", "toy/point_mirrored", 50, 8
KINDS = {"world_model_updates": "world model", "behaviour_updates": "behaviour", "source_updates": "source"}
Sizes = Mapping[str, tuple[str, dict[str, str]]]  # preset, and what differs from it


def measure(methods: list[str], sizes: Sizes, arms: list[str], repeats: int) -> dict[str, Any]:
    """A row per method, size, kind of turn and arm: CPU and wall milliseconds of an update, medians of all such turns.

    Raises UsageError for a method or an arm that does not exist, before anything is measured."""
    for arm in arms:
        if arm not in ARMS:
            raise unknown("arm of bench train --method:", arm, ARMS)
    for method in methods:
        load_method(method)
    prepare_cpu()
    rows = [
        row for method in methods for size in sizes for row in measure_method(method, size, *sizes[size], arms, repeats)
    ]
    notes = [
        "One update of each kind of turn that the method's schedule has, on made-up pictures of a toy domain; one of the",
        "source comes with its share of an episode in the toy environment.",
        f"Medians of about {repeats} turns, arms by turns, on one thread; ratio: the first arm's CPU time over this.",
        "Launches and synchronisations: operations dispatched that would be kernels on a GPU, or make the host wait.",
    ]
    return {"rows": rows, "notes": notes}


def measure_method(
    method: str, size: str, preset: str, options: Mapping[str, str], arms: list[str], repeats: int
) -> list[dict[str, Any]]:
    timed, counted = ({arm: Turns() for arm in arms} for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:

        def learners(turns: int, place: Path) -> dict[str, Learner]:
            own = {arm: {**options, **ARMS[arm]} for arm in arms}
            return {arm: make_learner(method, preset, own[arm], turns, place / arm) for arm in arms}

        at_work = learners(repeats, Path(folder) / "timed"), learners(2, Path(folder) / "counted")
        for made, turns, counting in zip(at_work, (timed, counted), (False, True), strict=True):
            while working := {arm: learner for arm, learner in made.items() if learner.updates < learner.total}:
                for arm, learner in working.items():
                    turns[arm].take(learner, counting)
    rows = []
    for kind, first in timed[arms[0]].cpu_ms.items():
        for arm in arms:
            cpu, wall = (median(spent[kind]) for spent in (timed[arm].cpu_ms, timed[arm].wall_ms))
            row = {
                "method": method,
                "size": size,
                "turn": kind,
                "arm": arm,
                "cpu_ms": round(cpu, 1),
                "wall_ms": round(wall, 1),
            }
            rows.append(row | {"ratio": round(median(first) / cpu, 2)} | counted[arm].counts.get(kind, {}))
    return rows


def median(spent: list[float]) -> float:
    """Without the first, which warms up and compiles."""
    return statistics.median(spent[1:] or spent)


class Turns:
    """What turns took or asked for, by what they did, told per update."""

    def __init__(self) -> None:
        self.cpu_ms: dict[str, list[float]] = {}
        self.wall_ms: dict[str, list[float]] = {}
        self.counts: dict[str, dict[str, Any]] = {}

    def take(self, learner: Learner, counting: bool) -> None:
        """A turn, measured; while it is counted it takes longer, so that is not measured too."""
        before, began = learner.counts(), (time.perf_counter(), time.process_time())
        counts = count(learner.turn) if counting else learner.turn()
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        after = learner.counts()
        did = {name: after[key] - before[key] for key, name in KINDS.items() if after[key] > before[key]}
        kind, updates = " + ".join(did) or "no update", max(did.values(), default=1)
        if counting:
            each = {name: round(counts[name] / updates) for name in ("launches", "synchronisations")}
            self.counts[kind] = each | {"tflop": round(counts["tflop"] / updates, 5)}
        else:
            self.cpu_ms.setdefault(kind, []).append(1e3 * cpu / updates)
            self.wall_ms.setdefault(kind, []).append(1e3 * wall / updates)


def make_learner(
    method: str, preset: str, options: Mapping[str, str], turns: int, folder: Path, episodes: int = EPISODES
) -> Learner:
    """The method's learner on made-up data, with a schedule in which every kind of turn comes about `turns` times."""
    planned = shortened(method, preset, options, turns)
    sources = planned.source_specs()
    for source in sources:
        pretrain_source(source, folder, "cpu")
    target = domain_of(planned.env)
    data = EpisodeMemory().extend(made_up(target, seed) for seed in range(episodes))
    opened = tuple(source.open(folder) for source in sources)
    job = Job(planned.config, target, data, opened, 0, "cpu", folder / "scratch")
    return planned.method.learner(planned.settings, job)


def shortened(method: str, preset: str, options: Mapping[str, str], turns: int) -> PlannedRun:
    """The method at the sizes of a preset with options, and as few updates as there are turns to measure."""

    def plan(options: Mapping[str, str]) -> PlannedRun:
        sources = (SOURCE,) if loaded.sources else ()
        return RunSpec(method, TARGET, sources, preset=preset, options=options).plan()

    loaded = load_method(method)
    usual = plan(options)
    warm = min(usual.config.budget.warmup, turns)
    online = {"prefill": "100", "pretrain": "1", "train_every": "25", "source_env_steps": "150"}
    short = {"budget.warmup": str(warm), "budget.updates": str(warm + turns)}
    short |= {f"online.{key}": value for key, value in online.items()}
    steps = str(EPISODE_STEPS * -(-turns // 2))  # two blocks of the source
    own = {"warm_rounds": "1", "epochs": "2", "source_env_steps_per_round": steps, "source_env_steps_per_epoch": steps}
    own |= {"behaviour_updates": str(turns), "least_imagined": "0", "sequences": "4"}
    short |= {f"{loaded.family}.{key}": value for key, value in own.items() if key in keys(usual.settings)}
    return plan({**options, **short})


def made_up(domain: Domain, seed: int) -> Episode:
    """An episode of noise."""
    rng, rows = np.random.default_rng(seed), EPISODE_STEPS + 1
    image = rng.integers(0, 256, (rows, *domain.image), np.uint8)
    state = rng.normal(size=(rows, domain.state)).astype(np.float32)
    action = rng.uniform(-1, 1, (rows, domain.action)).astype(np.float32)
    reward = rng.uniform(0, 1, rows).astype(np.float32)
    action[0], reward[0] = 0, 0
    return Episode(image, state, action, reward, np.zeros(rows, np.uint8))
