"""Shared by all tests: small settings, synthetic episodes, one thread."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from coworld_bench.config import Config, override, resolve
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import EpisodeMemory

signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs start with Ctrl-C ignored


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is one process's work, and the one that takes longest comes first, so that nobody waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_plans.py")


@pytest.fixture
def tiny() -> Config:
    """The smoke preset on `toy`, at its smallest."""
    return override(resolve("smoke", "toy"), {"batch.size": "3", "batch.length": "6"})


def striped_episode(seed: int, rows: int = 20, action: int = 2) -> Episode:
    """An episode whose pictures, rewards and actions depend on each other: a bright column moves with the action."""
    rng = np.random.default_rng(seed)
    moves = rng.uniform(-1, 1, (rows, action)).astype(np.float32)
    moves[0] = 0
    place = np.clip(32 + np.cumsum(8 * moves[:, 0]), 0, 63).astype(int)
    image = np.full((rows, 64, 64, 3), 20, np.uint8)
    for row, column in enumerate(place):
        image[row, :, max(0, column - 3) : column + 4] = 220
    reward = (place / 63).astype(np.float32)
    reward[0] = 0
    state = np.stack([place, moves[:, 0]], -1).astype(np.float32)
    return Episode(image, state, moves, reward, np.zeros(rows, np.uint8), meta={"seed": seed})


@pytest.fixture
def memory() -> EpisodeMemory:
    filled = EpisodeMemory()
    for seed in range(4):
        filled.append(striped_episode(seed))
    return filled
