"""An episode in memory, and the one place where its row layout is drawn.

A decision a[t], taken at picture x[t], leads to picture x[t+1] and reward r[t]. N decisions make N+1 rows:

    row      0      1      2   ...  N
    image    x0     x1     x2       xN
    state    s0     s1     s2       sN
    action   0      a0     a1       aN-1   (the action that led to this row)
    reward   0      r0     r1       rN-1
    success  0      c0     c1       cN-1
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coworld_bench.files import canonical

TIMING = "row t holds what is observed at t, the action that led there and the reward on arriving; row 0 has neither"
FIELDS = {"state": np.float32, "action": np.float32, "reward": np.float32, "success": np.uint8}


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of N decisions: N+1 rows, as drawn above.

    image     uint8 [N+1, H, W, 3], or None when the observation is the state alone
    state     float32 [N+1, S]
    action    float32 [N+1, A], row 0 zero; the commanded action, in [-1, 1]
    reward    float32 [N+1], row 0 zero
    success   uint8 [N+1], all zero where the task has none
    terminal  whether the last row ends the task itself; False for a time limit
    meta      plain data: seed, env_steps, updates, policy ("random", "held", "agent"), noise
    """

    image: np.ndarray | None
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    success: np.ndarray
    terminal: bool = False
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in FIELDS.items():
            array = getattr(self, name)
            assert array.dtype == dtype and len(array) == self.rows, (name, array.dtype, array.shape, self.rows)
        assert self.rows >= 2, f"an episode has at least one decision; got {self.rows} rows"
        assert self.image is None or (self.image.dtype == np.uint8 and len(self.image) == self.rows), self.rows
        assert not self.action[0].any() and self.reward[0] == 0, "row 0 has no action and no reward"

    @property
    def rows(self) -> int:
        return len(self.reward)

    @property
    def env_steps(self) -> int:
        """Decisions taken: one fewer than rows."""
        return self.rows - 1

    @property
    def ret(self) -> float:
        """The undiscounted sum of rewards."""
        return float(self.reward.sum(dtype=np.float64))

    @property
    def succeeded(self) -> bool:
        return bool(self.success.any())

    @property
    def digest(self) -> str:
        """SHA-256 of the decoded content in hex: the same for every storage format."""
        return digest_arrays(self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """The row arrays by name; without `image` when there is none."""
        arrays = {} if self.image is None else {"image": self.image}
        return arrays | {name: getattr(self, name) for name in FIELDS}


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 in hex over names, shapes, types and little-endian bytes, in order of name."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(canonical([name, plain.dtype.str, list(plain.shape)]))
        digest.update(plain.data)
    return digest.hexdigest()


class EpisodeBuilder:
    """Collects the rows of one episode while it is played."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {}

    def start(self, observation: Mapping[str, np.ndarray]) -> None:
        """Row 0: the observation of `reset`."""
        self._rows = {name: [] for name in ("image", *FIELDS)}
        self._observe(observation)

    def add(
        self, action: np.ndarray, observation: Mapping[str, np.ndarray], reward: float, success: bool | None = None
    ) -> None:
        """A decision and what it led to; `success` is None where the task has none."""
        self._observe(observation)
        self._rows["action"].append(np.array(action, np.float32))
        self._rows["reward"].append(reward)
        self._rows["success"].append(bool(success))

    def finish(self, meta: Mapping[str, Any], terminal: bool = False) -> Episode:
        """The episode so far."""
        rows = self._rows
        first_action = np.zeros_like(rows["action"][0])
        return Episode(
            image=np.stack(rows["image"]) if rows["image"] else None,
            state=np.stack(rows["state"]),
            action=np.stack([first_action, *rows["action"]]),
            reward=np.array([0.0, *rows["reward"]], np.float32),
            success=np.array([False, *rows["success"]], np.uint8),
            terminal=terminal,
            meta={name: value.item() if isinstance(value, np.generic) else value for name, value in meta.items()},
        )

    def _observe(self, observation: Mapping[str, np.ndarray]) -> None:
        if "image" in observation:
            self._rows["image"].append(np.array(observation["image"], np.uint8))
        self._rows["state"].append(np.array(observation["state"], np.float32))
