"""RoboDesk, with its faults repaired here and its files left alone.

Repaired always: the retired `gym` it imports, Pillow's removed filter, the missing seed, velocities where positions
should be, the old step API. Kept under rewards="upstream", because published numbers contain it: the start positions
of the blocks are live views, so that no block ever seems to move. That touches dense rewards and success alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from coworld_bench.envs.mujoco_scene import MujocoScene
from coworld_bench.envs.rendering import FreeCamera, View, importing
from coworld_bench.errors import unknown
from coworld_bench.tasks import EnvSpec, find_task

CAMERA = FreeCamera(lookat=(0, 0.535, 1.1), distance=1.8, azimuth=90, elevation=-60)


class Desk(MujocoScene):
    """One task at the desk."""

    action_size = 5
    has_success = True
    view = View(camera=CAMERA, scenery=("floor",), draw_size=120, crop=(16.75, 25.0, 105.0, 88.75))

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self._task = find_task(spec.task).name
        self._desk = load(self._task)

    def physics(self) -> tuple[Any, Any]:
        return self._desk.physics.model.ptr, self._desk.physics.data.ptr

    def reset(self, seed: int) -> None:
        with numpy_seeded(seed):  # upstream draws from numpy's global stream
            self._desk.reset()
        if self.spec.rewards == "fixed":
            self._desk.original_pos = {name: place.copy() for name, place in self._desk.original_pos.items()}

    def act(self, action: np.ndarray) -> tuple[float, bool]:
        _, reward, _, _ = self._desk.step(action)
        return float(reward), bool(self._desk._get_task_reward(self._task, "success"))

    def state(self) -> np.ndarray:
        """Float32 [76]: joint positions (9) and velocities (9), end effector (3), objects' positions (29) and
        velocities (26)."""
        physics, joints = self._desk.physics, self._desk.num_joints
        positions, velocities = physics.data.qpos, physics.data.qvel
        hand = physics.named.data.site_xpos["end_effector"]
        parts = [positions[:joints], velocities[:joints], hand, positions[joints:], velocities[joints:]]
        return np.concatenate(parts).astype(np.float32)

    def close(self) -> None:
        super().close()
        if self._desk is not None:
            self._desk.physics_copy.free()
            self._desk.physics.free()
            self._desk = None


def load(task: str) -> Any:
    """RoboDesk's own environment of a task such as `push_green`, made to draw nothing by itself.

    Raises UsageError with the names that RoboDesk has."""
    desk = robodesk_class()()
    if task not in desk.all_tasks:
        raise unknown("task", f"robodesk/{task}", [f"robodesk/{known}" for known in desk.all_tasks])
    desk.task = task
    desk._get_obs = dict  # upstream's draws a picture with a filter that Pillow no longer has
    return desk


def robodesk_class() -> Any:
    """The class `RoboDesk`, imported with gymnasium in the place of the `gym` that it asks for."""
    with importing("robodesk", "pip install --no-deps robodesk==1.0.0"), gym_shim():
        from robodesk import RoboDesk
    return RoboDesk


@contextmanager
def gym_shim() -> Iterator[None]:
    """Let `import gym` give gymnasium's classes, and put everything back."""
    before = sys.modules.get("gym")
    shim: Any = ModuleType("gym")
    shim.Env, shim.spaces = gymnasium.Env, gymnasium.spaces
    sys.modules["gym"] = shim
    try:
        yield
    finally:
        if before is None:
            del sys.modules["gym"]
        else:
            sys.modules["gym"] = before


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global stream, and put it back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
