"""The one evaluator: every method, every table, the collector and the anchors. During a run it alone opens the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from coworld_bench.envs import TaskEnv, make_env
from coworld_bench.methods import Policy
from coworld_bench.seeding import episode_seed, torch_seed
from coworld_bench.tasks import EnvSpec

PROTOCOL = 1  # raised when the meaning of a score changes; results of different protocols never share a table
Record = dict[str, Any]


class Evaluator:
    """Plays deterministic episodes of a policy in one environment."""

    def __init__(self, env: EnvSpec, reward_scale: float = 1.0, discount: float = 0.99) -> None:
        self.spec, self.reward_scale, self.discount = env, reward_scale, discount
        self._env: TaskEnv | None = None

    @property
    def env(self) -> TaskEnv:
        if self._env is None:
            self._env = make_env(self.spec)
        return self._env

    def checkpoint(self, policy: Policy, seed: int, index: int, episodes: int, stream: str = "evaluate") -> list[Record]:
        """The episodes of checkpoint `index` of run seed `seed`: the same resets for every method of that seed."""
        return [self.episode(policy, episode_seed(stream, seed, index * episodes + i)) for i in range(episodes)]

    def episode(self, policy: Policy, seed: int) -> Record:
        """One episode: return (all frames, unscaled), length in env steps, success, and the critic against the truth."""
        generator = torch.Generator(policy.device).manual_seed(torch_seed(seed, "evaluation"))
        carry = policy.initial()
        values: list[float | None] = []

        def act(observation: dict[str, np.ndarray]) -> np.ndarray:
            nonlocal carry
            action, carry = policy.act(observation["image"][None], carry, generator)
            values.append(policy.value(carry))
            return action[0]

        record, rewards = play(self.env, act, seed)
        return record | self._overestimation(values, rewards)

    def _overestimation(self, values: list[float | None], rewards: list[float]) -> Record:
        """Predicted against realised value, in scaled reward units: at row 0, and the mean over the rows whose
        discounted tail is less than 1 % cut off by the end of the episode (row 0 alone where there is none).

        A critic's value of a row counts the reward received on arriving at it; row 0 has none."""
        known = [value for value in values if value is not None]
        if not known:
            return {}
        realised = discounted(np.array([0.0, *rewards]) * self.reward_scale, self.discount)
        rows = max(1, len(rewards) - math.ceil(math.log(0.01) / math.log(self.discount)))
        return {
            "value_predicted": float(known[0]),
            "value_realised": float(realised[0]),
            "value_predicted_mean": float(np.mean(known[:rows])),
            "value_realised_mean": float(np.mean(realised[:rows])),
        }

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


@contextmanager
def evaluator(env: EnvSpec, reward_scale: float = 1.0, discount: float = 0.99) -> Iterator[Evaluator]:
    made = Evaluator(env, reward_scale, discount)
    try:
        yield made
    finally:
        made.close()


def play(env: TaskEnv, act: Callable[[dict[str, np.ndarray]], np.ndarray], seed: int) -> tuple[Record, list[float]]:
    """One episode of any policy; returns its record and its rewards per env step."""
    observation, _ = env.reset(seed=seed)
    rewards: list[float] = []
    success: bool | None = None
    truncated = False
    while not truncated:
        observation, reward, _, truncated, info = env.step(act(observation))
        rewards.append(float(reward))
        if "success" in info:
            success = bool(success) or bool(info["success"])
    record = {"seed": seed, "return": float(np.sum(rewards)), "length": len(rewards), "success": success}
    return record, rewards


def discounted(rewards: np.ndarray, discount: float) -> np.ndarray:
    """G_t = Σ_{i>=t} γ^(i-t) r_i for every t: [T] -> [T]."""
    returns, following = np.zeros(len(rewards)), 0.0
    for row in reversed(range(len(rewards))):
        following = rewards[row] + discount * following
        returns[row] = following
    return returns


def mean_return(records: Iterable[Record]) -> float:
    return float(np.mean([record["return"] for record in records]))


def score(evaluations: list[Record], total: int) -> Record:
    """The number of a run: the mean over all checkpoints of the last half of training, never the last or the best."""
    late = [evaluation for evaluation in evaluations if evaluation["updates"] > total / 2]
    means = [mean_return(evaluation["episodes"]) for evaluation in late]
    wins = [record["success"] for evaluation in late for record in evaluation["episodes"]]
    return {
        "mean": float(np.mean(means)),
        "rule": "mean over the checkpoints of the last half of training",
        "checkpoints": len(late),
        "episodes": sum(len(evaluation["episodes"]) for evaluation in late),
        "sd_checkpoints": float(np.std(means)),
        "success": None if None in wins else float(np.mean(wins)),
    }
