"""The one environment class: action repeat, horizon, success, sparse reward, noise, background, observations.

What differs between suites is a `Simulator`, which knows frames and nothing of decisions.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Dict

from coworld_bench.envs.background import Background
from coworld_bench.envs.noise import ActionNoise
from coworld_bench.errors import UsageError
from coworld_bench.tasks import SPARSE_REWARD, EnvSpec

Observation = dict[str, np.ndarray]


class Simulator(Protocol):
    """One task of one suite, frame by frame."""

    action_size: int
    has_success: bool

    def reset(self, seed: int) -> None:
        """Begin an episode that depends on the seed alone."""

    def act(self, action: np.ndarray) -> tuple[float, bool]:
        """Simulate one frame; returns its reward and whether the task is achieved in it."""

    def state(self) -> np.ndarray:
        """The low-dimensional state, float32 [n]."""

    def image(self) -> np.ndarray:
        """The current picture, uint8 [S, S, 3]."""

    def sky(self) -> np.ndarray:
        """Where the current picture shows nothing but background, bool [S, S]."""

    def close(self) -> None:
        """Free what is held; may be called again."""


class TaskEnv(gymnasium.Env[Any, np.ndarray]):
    """A task as a gymnasium environment. Never terminates; is truncated after `env_spec.env_steps` decisions.

    `reset(seed=)` fixes the whole episode, pixels included, on a used environment as on a fresh one. `info["success"]`
    says whether the task was achieved in any frame of the decision; it is absent where the task defines no success."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, spec: EnvSpec, simulator: Simulator, render_mode: str | None = None) -> None:
        if spec.sparse and not simulator.has_success:
            simulator.close()
            raise UsageError(f"sparse=True needs a task with a success signal; {spec.task} has none")
        self.env_spec, self.simulator, self.render_mode = spec, simulator, render_mode
        self.has_success = simulator.has_success
        self._noise = ActionNoise(spec.action_noise) if spec.action_noise else None
        self._background = Background(spec.background, spec.image_size) if spec.background else None
        self._image: np.ndarray | None = None
        self._left = 0  # decisions until the horizon
        self._succeeded = False
        self.action_space = Box(-1.0, 1.0, (simulator.action_size,), np.float32)
        self.observation_space = self._spaces()

    def _spaces(self) -> Dict:
        self.simulator.reset(0)
        spaces: dict[str, gymnasium.Space[Any]] = {}
        if self.env_spec.observation == "image":
            size = self.env_spec.image_size
            spaces["image"] = Box(0, 255, (size, size, 3), np.uint8)
        spaces["state"] = Box(-np.inf, np.inf, self.simulator.state().shape, np.float32)
        return Dict(spaces)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        episode = int(self.np_random.integers(2**31)) if seed is None else seed % 2**32
        self.simulator.reset(episode)
        if self._noise:
            self._noise.reset(episode)
        if self._background:
            self._background.reset(episode)
        self._left, self._succeeded = self.env_spec.env_steps, False
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._left <= 0:
            raise ResetNeeded(f"{self.env_spec.task}: the episode has not begun or is over; call reset()")
        reward, success = self._decide(self._executed(action))
        self._left -= 1
        if self.env_spec.sparse:
            reward = SPARSE_REWARD if success and not self._succeeded else 0.0
        self._succeeded = self._succeeded or success
        info = {"success": success} if self.has_success else {}
        return self._observe(), reward, False, self._left == 0, info

    def _executed(self, action: np.ndarray) -> np.ndarray:
        """What the simulator gets: the commanded action, with its noise, clipped to [-1, 1]."""
        action = np.asarray(action, np.float32)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise InvalidAction(f"{self.env_spec.task}: want {self.action_space.shape} finite numbers; got {action}")
        noisy = self._noise.apply(action) if self._noise else action
        return np.clip(noisy, -1.0, 1.0)

    def _decide(self, action: np.ndarray) -> tuple[float, bool]:
        frames = [self.simulator.act(action) for _ in range(self.env_spec.action_repeat)]
        return float(sum(reward for reward, _ in frames)), any(success for _, success in frames)

    def _observe(self) -> Observation:
        observation = {"state": self.simulator.state()}
        if self.env_spec.observation == "image":
            image = self.simulator.image()
            self._image = self._background.behind(image, self.simulator.sky()) if self._background else image
            observation["image"] = self._image
        return observation

    def render(self) -> np.ndarray:
        """The picture of the last observation, uint8 [S, S, 3]."""
        if self.env_spec.observation != "image":
            raise UsageError("render() needs observation='image'; an environment with 'state' draws nothing")
        if self._image is None:
            raise ResetNeeded("render() shows the last observation; call reset() first")
        return self._image.copy()

    def close(self) -> None:
        self._left = 0
        self.simulator.close()
