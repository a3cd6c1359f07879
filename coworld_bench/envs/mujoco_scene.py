"""What the three MuJoCo suites share: a model and its data, drawn by one renderer that is made at the first frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from coworld_bench.envs.rendering import QUALITY, Renderer, View
from coworld_bench.tasks import EnvSpec, find_task


class MujocoScene:
    """The drawing half of a simulator; a suite adds reset, act and state."""

    view: View

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._renderer: Renderer | None = None

    def physics(self) -> tuple[Any, Any]:
        """The MjModel and the MjData that are alive now."""
        raise NotImplementedError

    def image(self) -> np.ndarray:
        return self._eye().image(self.physics()[1])

    def sky(self) -> np.ndarray:
        return self._eye().sky(self.physics()[1])

    def close(self) -> None:
        if self._renderer:
            self._renderer.close()
            self._renderer = None

    def _eye(self) -> Renderer:
        if self._renderer is None:
            quality = QUALITY[find_task(self.spec.task).suite, self.spec.profile]
            self._renderer = Renderer(self.physics()[0], self.view, quality, self.spec.image_size)
        return self._renderer
