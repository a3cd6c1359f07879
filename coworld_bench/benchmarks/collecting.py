"""Collected env steps per second against environment processes: with random actions, and while the agent learns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coworld_bench.collecting import plan_collection
from coworld_bench.data.episode import Episode
from coworld_bench.data.staging import Staging
from coworld_bench.devices import choose_device
from coworld_bench.envs import domain_of
from coworld_bench.envs.pool import env_pool
from coworld_bench.online import OnlineAgent

SHORT = {"env.action_repeat": "10"}  # episodes of 50 env steps on Meta-World, to be done in a minute
Round = Callable[[], list[Episode]]


def measure(
    task: str = "metaworld/window_close",
    preset: str = "quick",
    processes: Sequence[int] = (1, 2, 4),
    repeats: int = 3,
    options: Mapping[str, str] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """A row per work and number of processes (1: this one alone): medians of `repeats` rounds in which they take turns.

    `options` are dotted settings, by default those of short episodes."""
    chosen, options = choose_device(device), SHORT if options is None else options
    spent: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        arms = {count: Arm(stack, task, preset, count, options, chosen) for count in processes}
        for arm in arms.values():
            arm.warm_up()
        for _ in range(repeats):
            for count, arm in arms.items():
                for work, play in arm.works.items():
                    spent.setdefault((work, count), []).append(arm.timed(play))
        rows = [row(work, count, arms[count], times) for (work, count), times in sorted(spent.items())]
        env, every = arms[processes[0]].env, arms[processes[0]].online.config.online.train_every
    notes = [
        f"{task}, preset {preset}: episodes of {env.env_steps} env steps of {env.action_repeat} frame(s), drawn with "
        f"profile {env.profile}; learning means an update per {every} env steps.",
        f"Medians of {repeats} rounds in which the arms take turns; a round is an episode in each environment.",
        "cpu_ms counts this process and the environments'. 1 process is this one, doing everything in turn.",
    ]
    return {"rows": rows, "notes": notes}


class Arm:
    """A collecting agent with `count` environments; what it opens is closed with `stack`."""

    def __init__(
        self, stack: ExitStack, task: str, preset: str, count: int, options: Mapping[str, str], device: str
    ) -> None:
        spec = plan_collection(task, preset=preset, reference_return=1.0, options=options, workers=count)
        staging = stack.enter_context(Staging(Path(stack.enter_context(TemporaryDirectory())) / "episodes"))
        self.pool, self.env = stack.enter_context(env_pool(spec.env, count)), spec.env
        online = OnlineAgent(domain_of(spec.env), spec.config, spec.seed, staging, device, pool=self.pool)
        self.online, self.count = stack.enter_context(closing(online)), count

    @property
    def works(self) -> dict[str, Round]:
        online, count = self.online, self.count
        if self.pool is None:
            return {
                "random actions": lambda: [online.prefill_episode()],
                "learning": lambda: [online.agent_episode()[0]],
            }
        return {
            "random actions": lambda: online.prefill_round(count),
            "learning": lambda: online.agent_round(count),
        }

    def warm_up(self) -> None:
        """Start the processes, make the first episodes and the first update."""
        self.works["random actions"]()
        self.online.update()

    def timed(self, play: Round) -> tuple[float, float]:
        """Wall and CPU seconds per env step of one round."""
        began = time.perf_counter(), self.cpu_s
        env_steps = sum(episode.env_steps for episode in play())
        return (time.perf_counter() - began[0]) / env_steps, (self.cpu_s - began[1]) / env_steps

    @property
    def cpu_s(self) -> float:
        return time.process_time() + (0.0 if self.pool is None else self.pool.cpu_s)


def row(work: str, count: int, arm: Arm, times: list[tuple[float, float]]) -> dict[str, Any]:
    wall_s, cpu_s = (statistics.median(each) for each in zip(*times, strict=True))
    return {
        "work": work,
        "processes": count,
        "env_steps_per_s": round(1 / wall_s, 1),
        "frames_per_s": round(arm.env.action_repeat / wall_s, 1),
        "cpu_ms_per_env_step": round(1e3 * cpu_s, 2),
    }
