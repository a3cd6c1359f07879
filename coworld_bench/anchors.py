"""What a number must be seen beside: a random policy, the best constant action, an untrained agent, a scripted policy.

All but the untrained agent look at no picture, so they are played without rendering. The constant action is searched:
candidates on a grid and at random, the best few played again on fresh episodes, the best of those reported; with no local
search, so it is a lower bound on what a constant can do. The scripted policy reads the simulator's state; reference
returns are made from it and from the best constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.config import Config, override, resolve
from coworld_bench.devices import choose_device
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.envs import TaskEnv, domain_of, make_env
from coworld_bench.envs.experts import scripted_policy
from coworld_bench.evaluation import Record, evaluator, mean_return, play
from coworld_bench.files import digest_of, read_json, write_json
from coworld_bench.paths import runs_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.seeding import episode_seed, generator
from coworld_bench.tasks import Domain, EnvSpec, find_task

Observe = Callable[[dict[str, Any]], None]
SEARCH = {  # candidates, episodes each, how many are played again, on how many episodes; random and untrained episodes
    "paper": (200, 3, 3, 20, 50, 10),
    "quick": (60, 2, 2, 12, 30, 8),
    "smoke": (4, 1, 1, 2, 2, 1),
}


def anchors_path(task: str, preset: str, runs: Path | None = None) -> Path:
    return runs_home(runs) / "anchors" / f"{find_task(task).id.replace('/', '-')}-{preset}.json"


def measure_anchors(
    task: str,
    preset: str = "quick",
    runs: Path | None = None,
    options: Mapping[str, str] | None = None,
    device: str = "auto",
    force: bool = False,
    observe: Observe | None = None,
) -> Path:
    """Measure the three anchors of a task under a preset, unless they are there; returns the file."""
    path = anchors_path(task, preset, runs)
    config = override(resolve(preset, find_task(task).suite), options or {})
    env = EnvSpec(task, action_repeat=config.env.action_repeat, profile=config.env.profile)
    identity = digest_of([env.to_dict(), config.model.to_dict(), SEARCH[preset]])
    if path.is_file() and not force and read_json(path).get("identity") == identity:
        return path
    found = {"schema": 1, "identity": identity, "task": env.task, "preset": preset, "env": env.to_dict()}
    candidates, tries, finalists, episodes, random_episodes, untrained_episodes = SEARCH[preset]
    blind = make_env(replace(env, observation="state"))
    try:
        found["random"] = summary(play_random(blind, random_episodes))
        found["constant"] = best_constant(blind, candidates, tries, finalists, episodes)
        found |= play_scripted(blind, episodes)
    finally:
        blind.close()
    found["untrained"] = summary(play_untrained(domain_of(env), config, untrained_episodes, choose_device(device)))
    found |= {"versions": packages(), "commit": git_state(), "machine": machine()}
    write_json(path, found)
    return path


def summary(records: list[Record]) -> dict[str, Any]:
    return {"returns": [r["return"] for r in records], "successes": [r["success"] for r in records]}


def play_random(env: TaskEnv, episodes: int) -> list[Record]:
    """Uniform random actions, a new one every env step."""
    records = []
    for index in range(episodes):
        draw = partial(uniform_action, generator(index, "random policy"), action_size(env))
        records.append(play(env, draw, episode_seed("anchor", 0, index))[0])
    return records


def uniform_action(rng: np.random.Generator, size: int, _: dict[str, np.ndarray]) -> np.ndarray:
    return rng.uniform(-1, 1, size).astype(np.float32)


def action_size(env: TaskEnv) -> int:
    return env.simulator.action_size


def play_scripted(env: TaskEnv, episodes: int) -> dict[str, Any]:
    """The suite's scripted policy, where it has one."""
    policy = scripted_policy(env.env_spec)
    if policy is None:
        return {}
    records = [play(env, lambda _: policy(env), episode_seed("anchor", 4, index))[0] for index in range(episodes)]
    return {"scripted": summary(records)}


def best_constant(env: TaskEnv, candidates: int, tries: int, finalists: int, episodes: int) -> dict[str, Any]:
    """The constant action that does best: searched on some episodes, judged on others."""
    actions = constant_candidates(action_size(env), candidates)
    scores = [mean_return(play_constant(env, action, 1, tries)) for action in actions]
    best = sorted(range(len(actions)), key=lambda index: -scores[index])[:finalists]
    judged = [(actions[index], play_constant(env, actions[index], 2, episodes)) for index in best]
    action, records = max(judged, key=lambda pair: mean_return(pair[1]))
    return summary(records) | {"action": action.tolist(), "candidates": len(actions)}


def play_constant(env: TaskEnv, action: np.ndarray, stream: int, episodes: int) -> list[Record]:
    return [play(env, lambda _: action, episode_seed("anchor", stream, index))[0] for index in range(episodes)]


def constant_candidates(size: int, count: int) -> list[np.ndarray]:
    """Corners and faces {-1, 0, 1}^A in a shuffled order for at most half of them, the rest uniform."""
    rng = generator(0, "constant candidates", size)
    grid = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=min(size, 6))), np.float32)
    grid = np.pad(grid, ((0, 0), (0, size - grid.shape[1])))
    chosen = rng.permutation(len(grid))[: count // 2]
    uniform = rng.uniform(-1, 1, (count - len(chosen), size)).astype(np.float32)
    return [*grid[chosen], *uniform]


def play_untrained(domain: Domain, config: Config, episodes: int, device: str) -> list[Record]:
    """Freshly initialised agents in deterministic mode, another one for every episode."""
    spec = AgentSpec.of(domain, config)
    records = []
    with evaluator(domain.env, spec.reward_scale, config.behaviour.discount) as judge:
        for index in range(episodes):
            agent = DreamerAgent(config, spec, seed=index, device=device)
            records.append(judge.episode(agent, episode_seed("anchor", 3, index)))
    return records
