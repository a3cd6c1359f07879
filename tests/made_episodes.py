"""Episodes and cards for the tests of the data layer: small, structured, every row different."""

from __future__ import annotations

from typing import Any

import numpy as np

from coworld_bench.data.episode import Episode, EpisodeBuilder

SIZE = 16
CURVE = {"env_steps": 100, "updates": 5, "mean": 1.5, "returns": [1.0, 2.0]}
DATASET = "toy/point/medium-replay-smoke-v0"


def picture(number: int, row: int) -> np.ndarray:
    """A square that moves over a gradient; its colour says which episode and row it is."""
    image = np.repeat(np.arange(SIZE, dtype=np.uint8)[:, None, None] * 9, SIZE, 1).repeat(3, 2)
    place = (3 * number + row) % (SIZE - 4)
    image[place : place + 4, place : place + 4] = (number, row % 256, row // 256)
    return image


def played(number: int, env_steps: int, pictures: bool = True, terminal: bool = False, **meta: Any) -> Episode:
    """Episode `number`: its state is (number, row), its actions and rewards follow from the row they were taken at."""

    def observation(row: int) -> dict[str, np.ndarray]:
        seen = {"state": np.array([number, row], np.float32)}
        return seen | {"image": picture(number, row)} if pictures else seen

    builder = EpisodeBuilder()
    builder.start(observation(0))
    for row in range(env_steps):
        action = np.array([np.sin(row), np.cos(row + number)], np.float32)
        builder.add(action, observation(row + 1), 0.25 * row + number, number % 2 == 1 and row > env_steps // 2)
    basic = {"seed": 2**31 + number, "env_steps": 100 * number, "updates": 20 * number, "noise": 0.1}
    policy = "random" if number == 0 else "agent"
    return builder.finish({**basic, "policy": policy, **meta}, terminal)


def several(**options: Any) -> list[Episode]:
    """Episodes whose ends fall before, on and after the end of a chunk."""
    return [played(number, env_steps, **options) for number, env_steps in enumerate([14, 15, 16, 40])]


def card(**changes: Any) -> dict[str, Any]:
    quality = {"label": "medium-replay", "rule": "a third of the reference", "reference": 9.0, "threshold": 3.0}
    return {
        "dataset_id": DATASET,
        "task": "toy/point",
        "env_spec": {"task": "toy/point", "image_size": SIZE},
        "preset": "smoke",
        "seed": 0,
        "quality": quality | {"fired": True, "curve": [CURVE]},
        "policy": {"algo": "DreamerV2", "config_digest": "0" * 64},
        "provenance": {"packages": {"mujoco": "3.3.0"}},
    } | changes


def assert_same(given: Episode, expected: Episode) -> None:
    """Every array bit by bit, and the metadata."""
    assert (given.image is None) == (expected.image is None)
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(getattr(given, name), array, err_msg=name)
        assert getattr(given, name).dtype == array.dtype
    assert (given.terminal, given.meta) == (expected.terminal, expected.meta)
