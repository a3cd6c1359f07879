"""What a number must be seen beside: a random policy, the best constant action, an untrained agent, a scripted policy.

All but the untrained agent look at no picture, so they are played without rendering. The constant action is searched:
candidates on a grid and at random, the best few played again on fresh episodes, the best of those reported; with no local
search, so it is a lower bound on what a constant can do. The scripted policy reads the simulator's state; reference
returns are made from it and from the best constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.config import Config, need_pictures, resolve
from coworld_bench.devices import choose_device
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.envs import TaskEnv, check_task, domain_of, make_env
from coworld_bench.envs.base import Observation
from coworld_bench.envs.experts import scripted_policy
from coworld_bench.envs.pool import EnvPool, env_pool
from coworld_bench.errors import UsageError
from coworld_bench.evaluation import Record, evaluator, mean_return, play, play_all
from coworld_bench.files import digest_of, read_json, write_json
from coworld_bench.paths import runs_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.seeding import episode_seed, generator
from coworld_bench.tasks import Domain, find_task

Observe = Callable[[dict[str, Any]], None]
SEARCH = {  # candidates, episodes each, how many are played again, on how many episodes; random and untrained episodes
    "paper": (200, 3, 3, 20, 50, 10),
    "quick": (60, 2, 2, 12, 30, 8),
    "smoke": (4, 1, 1, 2, 2, 1),
}


def anchors_path(task: str, preset: str, runs: Path | None = None, options: Mapping[str, str] | None = None) -> Path:
    """Where the anchors of a task lie; those of another environment than the preset's carry its digest."""
    found = find_task(task)
    env, usual = (resolved(found.id, preset, chosen).env.spec(found.id) for chosen in (options, None))
    other = "" if env == usual else f"-{env.digest[:8]}"
    return runs_home(runs) / "anchors" / f"{found.id.replace('/', '-')}-{preset}{other}.json"


def resolved(task: str, preset: str, options: Mapping[str, str] | None) -> Config:
    """The preset with options of the environment. Raises UsageError for others: anchors do not depend on them."""
    others = [key for key in options or {} if not key.startswith("env.")]
    if others:
        raise UsageError(f"anchors depend on the environment alone, on options such as env.action_repeat; got {others[0]}")
    config = resolve(preset, find_task(task).suite, options)
    need_pictures(config)
    return config


def measure_anchors(
    task: str,
    preset: str = "quick",
    runs: Path | None = None,
    options: Mapping[str, str] | None = None,
    device: str = "auto",
    force: bool = False,
    workers: int = 0,
    observe: Observe | None = None,
) -> Path:
    """Measure the anchors of a task under a preset, unless they are there; returns the file.

    `workers` processes play episodes at the same time, all but those of the scripted policy; the numbers are the same."""
    path = anchors_path(check_task(task).id, preset, runs, options)
    config = resolved(task, preset, options)
    env = config.env.spec(task)
    identity = digest_of([env.to_dict(), config.part("model")["model"], SEARCH[preset]])
    if path.is_file() and not force and read_json(path).get("identity") == identity:
        return path
    found = {"schema": 1, "identity": identity, "task": env.task, "preset": preset, "env": env.to_dict()}
    candidates, tries, finalists, episodes, random_episodes, untrained_episodes = SEARCH[preset]
    unseen = replace(env, observation="state")
    with env_pool(unseen, workers) as pool, closing(make_env(unseen)) as blind:
        stage = blind if pool is None else pool
        found["random"] = summary(play_random(stage, action_size(blind), random_episodes))
        found["constant"] = best_constant(stage, action_size(blind), candidates, tries, finalists, episodes)
        found |= play_scripted(blind, episodes)
    untrained = play_untrained(domain_of(env), config, untrained_episodes, choose_device(device), workers)
    found["untrained"] = summary(untrained)
    found |= {"versions": packages(), "commit": git_state(), "machine": machine()}
    write_json(path, found)
    return path


def summary(records: list[Record]) -> dict[str, Any]:
    return {"returns": [r["return"] for r in records], "successes": [r["success"] for r in records]}


def play_random(stage: TaskEnv | EnvPool, size: int, episodes: int) -> list[Record]:
    """Uniform random actions, a new one every env step."""
    draws = [partial(uniform_action, generator(index, "random policy"), size) for index in range(episodes)]
    return records(play_all(stage, [(draw, episode_seed("anchor", 0, index)) for index, draw in enumerate(draws)]))


def records(played: list[tuple[Record, list[float]]]) -> list[Record]:
    return [record for record, _ in played]


def uniform_action(rng: np.random.Generator, size: int, _: Observation) -> np.ndarray:
    return rng.uniform(-1, 1, size).astype(np.float32)


def action_size(env: TaskEnv) -> int:
    return env.simulator.action_size


def play_scripted(env: TaskEnv, episodes: int) -> dict[str, Any]:
    """The suite's scripted policy, where it has one."""
    policy = scripted_policy(env.env_spec)
    if policy is None:
        return {}
    played = [play(env, lambda _: policy(env), episode_seed("anchor", 4, index)) for index in range(episodes)]
    return {"scripted": summary(records(played))}


def best_constant(
    stage: TaskEnv | EnvPool, size: int, candidates: int, tries: int, finalists: int, episodes: int
) -> dict[str, Any]:
    """The constant action that does best: searched on some episodes, judged on others."""
    actions = constant_candidates(size, candidates)
    scores = [mean_return(found) for found in play_constants(stage, actions, 1, tries)]
    best = sorted(range(len(actions)), key=lambda index: -scores[index])[:finalists]
    finals = play_constants(stage, [actions[index] for index in best], 2, episodes)
    number = max(range(len(best)), key=lambda number: mean_return(finals[number]))
    return summary(finals[number]) | {"action": actions[best[number]].tolist(), "candidates": len(actions)}


def play_constants(stage: TaskEnv | EnvPool, actions: list[np.ndarray], stream: int, episodes: int) -> list[list[Record]]:
    """For each action the records of its episodes, which begin alike for all actions."""
    seeds = [episode_seed("anchor", stream, index) for index in range(episodes)]
    played = records(play_all(stage, [(partial(always, action), seed) for action in actions for seed in seeds]))
    return [played[start : start + episodes] for start in range(0, len(played), episodes)]


def always(action: np.ndarray, _: Observation) -> np.ndarray:
    return action


def constant_candidates(size: int, count: int) -> list[np.ndarray]:
    """Corners and faces {-1, 0, 1}^A in a shuffled order for at most half of them, the rest uniform."""
    rng = generator(0, "constant candidates", size)
    grid = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=min(size, 6))), np.float32)
    grid = np.pad(grid, ((0, 0), (0, size - grid.shape[1])))
    chosen = rng.permutation(len(grid))[: count // 2]
    uniform = rng.uniform(-1, 1, (count - len(chosen), size)).astype(np.float32)
    return [*grid[chosen], *uniform]


def play_untrained(domain: Domain, config: Config, episodes: int, device: str, workers: int = 0) -> list[Record]:
    """Freshly initialised agents in deterministic mode, another one for every episode."""
    spec = AgentSpec.of(domain, config)
    agents = (DreamerAgent(config, spec, seed=index, device=device) for index in range(episodes))
    with evaluator(domain.env, spec.reward_scale, config.behaviour.discount, min(workers, episodes)) as judge:
        return judge.episodes((agent, episode_seed("anchor", 3, index)) for index, agent in enumerate(agents))
