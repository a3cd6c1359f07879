"""Noise on the executed action: a + w n with n ~ N(0, I), the same for the same reset seed (paper, table 10)."""

from __future__ import annotations

import numpy as np

from coworld_bench.seeding import generator


class ActionNoise:
    """The noise of one environment. What an agent commanded is what its caller stores."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self._rng = generator(0, "action noise")

    def reset(self, seed: int) -> None:
        self._rng = generator(seed, "action noise")

    def apply(self, action: np.ndarray) -> np.ndarray:
        """The action with its noise; not clipped."""
        return action + (self.scale * self._rng.standard_normal(action.shape)).astype(np.float32)
