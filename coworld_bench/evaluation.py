"""The one evaluator: every method, every table, the collector and the anchors. During a run it alone opens the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from coworld_bench.envs import TaskEnv, make_env
from coworld_bench.envs.base import Observation
from coworld_bench.envs.pool import EnvPool, env_pool
from coworld_bench.methods import Policy
from coworld_bench.seeding import episode_seed, torch_seed
from coworld_bench.tasks import EnvSpec

PROTOCOL = 1  # raised when the meaning of a score changes (not of a diagnostic); protocols never share a table
Record = dict[str, Any]
Act = Callable[[Observation], np.ndarray]
Play = tuple[Act, int]  # what acts, and the reset seed of its episode


class Visit(NamedTuple):
    """An episode that was looked at: its record, some of its pictures, uint8 [N, H, W, 3], and at which env step each was
    seen, int [N]; at env step 0 nothing was done yet."""

    record: Record
    env_steps: np.ndarray
    pictures: np.ndarray


class Evaluator:
    """Plays deterministic episodes of a policy in one environment: in this process one by one, or in those of `pool` at
    the same time, with the same records."""

    def __init__(
        self, env: EnvSpec, reward_scale: float = 1.0, discount: float = 0.99, pool: EnvPool | None = None
    ) -> None:
        self.spec, self.reward_scale, self.discount, self.pool = env, reward_scale, discount, pool
        self._env: TaskEnv | None = None

    @property
    def env(self) -> TaskEnv:
        if self._env is None:
            self._env = make_env(self.spec)
        return self._env

    @property
    def pool_cpu_s(self) -> float:
        """CPU seconds spent in other processes."""
        return 0.0 if self.pool is None else self.pool.cpu_s

    def checkpoint(self, policy: Policy, seed: int, index: int, episodes: int, stream: str = "evaluate") -> list[Record]:
        """The episodes of checkpoint `index` of run seed `seed`: the same resets for every method of that seed."""
        return self.episodes((policy, episode_seed(stream, seed, index * episodes + i)) for i in range(episodes))

    def episode(self, policy: Policy, seed: int) -> Record:
        """One episode: return (all frames, unscaled), length in env steps, success, and the critic against the truth."""
        return self.episodes([(policy, seed)])[0]

    def episodes(self, asked: Iterable[tuple[Policy, int]]) -> list[Record]:
        """An episode of each policy from its seed; a policy is taken from `asked` when its episode begins."""
        claims: list[tuple[list[float | None], bool]] = []

        def plays() -> Iterator[Play]:
            for policy, seed in asked:
                claims.append(([], getattr(policy, "value_counts_arrival", True)))
                yield acting(policy, seed, claims[-1][0]), seed

        played = play_all(self.env if self.pool is None else self.pool, plays())
        return [
            record | self._overestimation(values, rewards, arrival)
            for (values, arrival), (record, rewards) in zip(claims, played, strict=True)
        ]

    def visit(self, policy: Policy, seed: int, count: int) -> Visit:
        """An episode of the policy with pictures that are evenly spaced, `count` or as many as there are decisions."""
        met, act = [], acting(policy, seed, [])

        def watch(observation: Observation) -> np.ndarray:
            met.append(observation["image"].copy())
            return act(observation)

        ((record, _),) = play_all(self.env if self.pool is None else self.pool, [(watch, seed)])
        env_steps = evenly(len(met), count)
        return Visit(record, env_steps, np.stack([met[step] for step in env_steps]))

    def _overestimation(self, values: list[float | None], rewards: list[float], arrival: bool = True) -> Record:
        """Predicted against realised value, in scaled reward units: at row 0, and the mean over the rows whose
        discounted tail is less than 1 % cut off by the end of the episode (row 0 alone where there is none).

        With `arrival` a critic's value of a row counts the reward received on arriving at it (row 0 has none); without, as
        with a Q function, it begins with the reward of the decision made there."""
        known = [value for value in values if value is not None]
        if not known:
            return {}
        counted = [0.0, *rewards] if arrival else rewards
        realised = discounted(np.array(counted) * self.reward_scale, self.discount)
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
def evaluator(env: EnvSpec, reward_scale: float = 1.0, discount: float = 0.99, workers: int = 0) -> Iterator[Evaluator]:
    """An evaluator with `workers` environment processes (0 or 1: none), closed at the end."""
    with env_pool(env, workers) as pool, closing(Evaluator(env, reward_scale, discount, pool)) as made:
        yield made


def acting(policy: Policy, seed: int, values: list[float | None]) -> Act:
    """The policy on an episode, with the random stream of its seed; what its critic says of each row goes to `values`.

    It sees one picture at a time, whatever is played beside it: a larger batch rounds otherwise (1e-7 a decision)."""
    generator = torch.Generator(policy.device).manual_seed(torch_seed(seed, "evaluation"))
    carry, sense = policy.initial(), getattr(policy, "sense", None)

    def act(observation: Observation) -> np.ndarray:
        nonlocal carry
        if sense is not None:
            carry = sense(observation["state"][None], carry)
        action, carry = policy.act(observation["image"][None], carry, generator)
        values.append(policy.value(carry))
        return action[0]

    return act


def play_all(stage: TaskEnv | EnvPool, plays: Iterable[Play]) -> list[tuple[Record, list[float]]]:
    """Episodes in one environment after each other, or in a pool's at the same time: records and rewards, in order."""
    return play_together(stage, plays) if isinstance(stage, EnvPool) else [play(stage, *each) for each in plays]


def play(env: TaskEnv, act: Act, seed: int) -> tuple[Record, list[float]]:
    """One episode of any policy; returns its record and its rewards per env step."""
    playing = Playing(act, seed)
    observation, _ = env.reset(seed=seed)
    truncated = False
    while not truncated:
        observation, reward, _, truncated, info = env.step(act(observation))
        playing.add(float(reward), info.get("success"))
    return playing.record, playing.rewards


def play_together(pool: EnvPool, plays: Iterable[Play]) -> list[tuple[Record, list[float]]]:
    """The episodes of `play`: an environment begins the next one when its last is over, and acts when it is ready."""
    waiting = enumerate(plays)
    at_work: dict[int, tuple[int, Playing]] = {}
    played: dict[int, tuple[Record, list[float]]] = {}

    def begin(env: int) -> None:
        for number, (act, seed) in islice(waiting, 1):
            at_work[env] = number, Playing(act, seed)
            pool.reset(env, seed)

    for env in range(pool.count):
        begin(env)
    while at_work:
        for env in pool.ready():
            step, (number, playing) = pool.take(env), at_work[env]
            if step.reward is not None:
                playing.add(step.reward, step.success)
            if step.truncated:
                played[number] = playing.record, playing.rewards
                del at_work[env]
                begin(env)
            else:
                pool.step(env, playing.act(step.observation))
    return [played[number] for number in range(len(played))]


class Playing:
    """An episode while it is played: who acts, its rewards so far, and whether the task was achieved in it (None where
    it has no such signal)."""

    def __init__(self, act: Act, seed: int) -> None:
        self.act, self.seed = act, seed
        self.rewards: list[float] = []
        self.success: bool | None = None

    def add(self, reward: float, success: bool | None) -> None:
        self.rewards.append(reward)
        if success is not None:
            self.success = bool(self.success) or bool(success)

    @property
    def record(self) -> Record:
        total = float(np.sum(self.rewards))
        return {"seed": self.seed, "return": total, "length": len(self.rewards), "success": self.success}


def evenly(length: int, count: int) -> np.ndarray:
    """The first and the last of `length` places and those evenly between, `count` or as many as there are: int [N]."""
    return np.linspace(0, length - 1, min(count, length)).astype(int)


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
