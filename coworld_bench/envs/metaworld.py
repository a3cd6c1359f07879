"""Meta-World: any of its tasks by name, with randomised objects, the v2 reward and the paper's camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from coworld_bench.envs.mujoco_scene import MujocoScene
from coworld_bench.envs.rendering import View, importing
from coworld_bench.errors import unknown
from coworld_bench.tasks import EnvSpec, find_task


class MetaWorld(MujocoScene):
    """One Meta-World task."""

    action_size = 4
    has_success = True
    # The `corner` camera's up axis points down; the released code stored the unflipped buffer, which is upright.
    view = View(camera="corner", upside_down=True)

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self._env = load(find_task(spec.task).name)

    def physics(self) -> tuple[Any, Any]:
        return self._env.model, self._env.data

    def reset(self, seed: int) -> None:
        self._env.seed(seed)  # upstream ignores reset(seed=)
        self.observation, _ = self._env.reset()

    def act(self, action: np.ndarray) -> tuple[float, bool]:
        self.observation, reward, _, _, info = self._env.step(action)
        return float(reward), bool(info["success"])

    def state(self) -> np.ndarray:
        """Float32 [39]: 18 numbers of this frame, the same of the frame before, the goal's place."""
        return self.observation.astype(np.float32)

    def close(self) -> None:
        super().close()
        self._env.close()


def load(name: str) -> Any:
    """Meta-World's own environment of a task such as `button_press`, with the goal visible and objects randomised.

    Raises UsageError with the names that Meta-World has."""
    with importing("metaworld", "pip install 'metaworld>=3.1.1,<3.2'"):
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    classes = {key.removesuffix("-v3").replace("-", "_"): made for key, made in ALL_V3_ENVIRONMENTS.items()}
    if name not in classes:
        raise unknown("task", f"metaworld/{name}", [f"metaworld/{known}" for known in classes])
    env = classes[name](reward_function_version="v2")
    env._partially_observable = False
    del env.sawyer_observation_space  # cached with the goal hidden
    env.observation_space = env.sawyer_observation_space
    env._set_task_called = True
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True  # otherwise numpy's global stream places the objects
    return env
