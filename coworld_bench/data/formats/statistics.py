"""What LeRobot keeps of every column, of an episode and of all: min, max, mean, std and count, exact over all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of one column; sums are in float64. Pictures are counted by pixel, in [0, 1], channel by channel."""

    rows: int
    values: int  # that went into each entry of the sums: more than rows for pictures
    low: np.ndarray
    high: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray) -> Moments:
        """Of a column [T], [T, K] or of pictures u1 [T, H, W, 3]."""
        if array.ndim == 4:
            counts = np.stack([np.bincount(array[..., channel].ravel(), minlength=256) for channel in range(3)])
            levels = np.arange(256) / 255
            found = [levels[np.flatnonzero(count)] for count in counts]
            ends = np.array([[levels[0], levels[-1]] for levels in found])
            total, squares = counts @ levels, counts @ levels**2
            return cls(len(array), array[..., 0].size, ends[:, 0], ends[:, 1], total, squares)
        rows = array.astype(np.float64).reshape(len(array), -1)
        return cls(len(rows), len(rows), rows.min(0), rows.max(0), rows.sum(0), (rows**2).sum(0))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows, self.values + other.values, np.minimum(self.low, other.low),
            np.maximum(self.high, other.high), self.total + other.total, self.squares + other.squares,
        )  # fmt: skip

    def to_dict(self, picture: bool) -> dict[str, Any]:
        """As LeRobot writes it: pictures as [3, 1, 1], all else as [K]."""
        mean = self.total / self.values
        std = np.sqrt(np.maximum(self.squares / self.values - mean**2, 0))
        known = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        shape = (3, 1, 1) if picture else (-1,)
        return {name: value.reshape(shape).tolist() for name, value in known.items()} | {"count": [self.rows]}


class Statistics:
    """Of all columns."""

    def __init__(self, columns: Mapping[str, np.ndarray] | None = None) -> None:
        self.pictures = {name for name, array in (columns or {}).items() if array.ndim == 4}
        self.moments = {name: Moments.of(array) for name, array in (columns or {}).items()}

    def __add__(self, other: Statistics) -> Statistics:
        """Of the rows of both; an empty one adds nothing."""
        joined = Statistics()
        joined.pictures = self.pictures | other.pictures
        joined.moments = {
            name: self.moments[name] + found if name in self.moments else found for name, found in other.moments.items()
        }
        return joined

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return {name: found.to_dict(name in self.pictures) for name, found in self.moments.items()}
