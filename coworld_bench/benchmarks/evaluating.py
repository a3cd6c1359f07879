"""What an evaluation costs: its episodes one by one, and the same episodes in several processes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from coworld_bench.config import resolve
from coworld_bench.devices import choose_device
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.envs import domain_of
from coworld_bench.evaluation import Evaluator, Record, evaluator
from coworld_bench.tasks import EnvSpec, find_task

SHORT = {"env.action_repeat": "5"}  # episodes of 100 env steps on Meta-World, to be done in a minute


def measure(
    task: str = "metaworld/window_close",
    preset: str = "quick",
    processes: Sequence[int] = (1, 2, 4),
    episodes: int = 4,
    repeats: int = 3,
    options: Mapping[str, str] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """A row per number of processes (1: one by one in this one): seconds per evaluation of an untrained agent, medians of
    `repeats` evaluations in which they take turns. `options` are dotted settings, by default those of short episodes."""
    config = resolve(preset, find_task(task).suite, SHORT if options is None else options)
    chosen = choose_device(device)
    env = EnvSpec(task, action_repeat=config.env.action_repeat, profile=config.env.profile)
    agent = DreamerAgent(config, AgentSpec.of(domain_of(env), config), 0, chosen)
    spent: dict[int, list[tuple[float, float]]] = {count: [] for count in processes}
    started, records = {}, {}
    with ExitStack() as stack:
        judges = {count: stack.enter_context(evaluator(env, workers=count)) for count in processes}
        for index in range(repeats + 1):
            for count, judge in judges.items():
                wall_s, cpu_s, records[count] = timed(judge, agent, index, episodes)
                if index:
                    spent[count].append((wall_s, cpu_s))
                else:
                    started[count] = wall_s
    same = all(found == records[processes[0]] for found in records.values())
    medians = {count: [statistics.median(each) for each in zip(*times, strict=True)] for count, times in spent.items()}
    first = medians[processes[0]][0]
    rows = [
        {
            "processes": count,
            "wall_s": round(wall_s, 2),
            "cpu_s": round(cpu_s, 2),
            "ratio": round(first / wall_s, 2),
            "first_evaluation_s": round(started[count], 2),
        }
        for count, (wall_s, cpu_s) in medians.items()
    ]
    notes = [
        f"{task}, preset {preset}: {episodes} episodes of {env.env_steps} env steps of {env.action_repeat} frame(s), drawn "
        f"with profile {env.profile}.",
        f"Medians of {repeats} evaluations in which the arms take turns; the first of each, which starts processes and "
        "simulators, counts apart. ratio: the first arm's wall time over this.",
        "cpu_s counts this process, where the policy acts, and the environments'.",
        f"Every episode's return, length, success and values were {'' if same else 'NOT '}the same in all arms.",
    ]
    return {"rows": rows, "notes": notes}


def timed(judge: Evaluator, agent: DreamerAgent, index: int, episodes: int) -> tuple[float, float, list[Record]]:
    """Wall and CPU seconds of one evaluation, and its records."""
    began = time.perf_counter(), time.process_time() + judge.pool_cpu_s
    records = judge.checkpoint(agent, 0, index, episodes)
    return time.perf_counter() - began[0], time.process_time() + judge.pool_cpu_s - began[1], records
