"""Whether episodes come out of their environment again: the same seed and actions, played now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode, EpisodeBuilder
from coworld_bench.provenance import packages

if TYPE_CHECKING:
    from coworld_bench.envs.base import TaskEnv

PSNR_BOUND = 30.0  # dB, where another renderer drew the dataset
REWARD_BOUND = 1e-3  # of the largest reward of a decision, where another version of the simulator moved it
SIMULATORS = ("mujoco", "metaworld", "dm_control", "robodesk")


@dataclass(frozen=True)
class Replayed:
    """An episode played again beside what is stored."""

    episode: int
    reward_error: float  # the largest difference of a reward, as a share of the episode's largest one
    same_success: bool
    psnr: float  # dB, of the picture that differs most; infinite where all are the same to the last bit


@dataclass(frozen=True)
class Demands:
    """What a replay must reach on this machine: the last bit, unless something that made the dataset is another one."""

    reward_error: float
    psnr: float
    because: str  # why it is less than the last bit

    def check(self, found: Replayed) -> str:
        """What was found, in words. Raises ValueError where it is not enough."""
        rewards = f"rewards differ by {found.reward_error:.2g} of the largest" if found.reward_error else "rewards the same"
        pictures = "pictures the same to the last bit" if math.isinf(found.psnr) else f"pictures {found.psnr:.1f} dB"
        said = f"{rewards}, {pictures}" + ("" if found.same_success else ", successes differ")
        if found.reward_error > self.reward_error or found.psnr < self.psnr or not found.same_success:
            bound = f"at least {self.psnr:g} dB" if self.because else "the last bit"
            raise ValueError(f"{said}; {bound} was asked for" + (f" ({self.because})" if self.because else ""))
        return said + (f" (at least {self.psnr:g} dB: {self.because})" if self.because else "")


def demands(dataset: Dataset) -> Demands:
    """Bit-exact under the same simulator and renderer; else bounds, and why."""
    made = dataset.card.get("provenance", {})
    then, now = made.get("packages"), packages()
    if then is None:
        return Demands(REWARD_BOUND, PSNR_BOUND, "it is not known what made it")
    resized = [f"its pictures were resized from {dataset.card['resized_from']}"] if dataset.card.get("resized_from") else []
    moved = [f"{name} {now[name]}, then {then[name]}" for name in SIMULATORS if name in then and now[name] != then[name]]
    drawn = resized + (drawn_by_another(made.get("gl")) if dataset.card["image"] else [])
    return Demands(REWARD_BOUND if moved else 0.0, PSNR_BOUND if moved or drawn else math.inf, "; ".join(moved + drawn))


def drawn_by_another(then: Mapping[str, str] | None) -> list[str]:
    """Why the pictures may differ: another renderer than the one that drew them."""
    from coworld_bench.envs import gl_info

    now = gl_info()
    if not then or dict(then) == now:
        return []
    return [f"drawn by {now['renderer']} {now['version']}, then by {then.get('renderer')} {then.get('version')}"]


def replayed(dataset: Dataset, count: int) -> list[Replayed]:
    """`count` episodes (all where there are fewer), spread evenly over the dataset, played again and compared.

    Raises NotUsable where the simulator or OpenGL is missing."""
    from coworld_bench.envs import make_env

    numbers = np.unique(np.linspace(0, dataset.episodes - 1, min(count, dataset.episodes)).round().astype(int))
    with closing(make_env(dataset.env_spec)) as env:
        return [compare(number, dataset.episode(number), env) for number in map(int, numbers)]


def compare(number: int, stored: Episode, env: TaskEnv) -> Replayed:
    again = play(stored, env)
    error = float(np.abs(again.reward - stored.reward).max())
    largest = max(float(np.abs(stored.reward).max()), 1e-12)
    psnr = math.inf if stored.image is None else worst_psnr(stored.image, again.image)
    return Replayed(number, error / largest, np.array_equal(again.success, stored.success), psnr)


def play(stored: Episode, env: TaskEnv) -> Episode:
    """The stored actions from the stored seed."""
    builder = EpisodeBuilder()
    builder.start(env.reset(seed=stored.meta["seed"])[0])
    for action in stored.action[1:]:
        observation, reward, _, _, info = env.step(action)
        builder.add(action, observation, float(reward), info.get("success"))
    return builder.finish({})


def worst_psnr(stored: np.ndarray, again: Any) -> float:
    """The peak signal-to-noise ratio in dB of the picture that differs most: uint8 [T, H, W, 3] each."""
    error = (stored.astype(np.float32) - again).reshape(len(stored), -1)
    worst = float((error**2).mean(1).max())
    return math.inf if worst == 0 else 10 * math.log10(255**2 / worst)
