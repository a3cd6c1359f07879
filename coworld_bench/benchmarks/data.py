"""How long a batch takes to draw: this code's contiguous memory beside the released code's dictionary of episodes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.devices import prepare_cpu

SHAPES = ((16, 16), (50, 50))  # batch, length
ROWS, ACTION = 251, 4


def measure(episodes: int = 60, repeats: int = 31) -> dict[str, Any]:
    """A row per batch shape and arm: CPU milliseconds per batch (medians, arms taking turns), and ratio to the released."""
    prepare_cpu()
    made = [random_episode(seed) for seed in range(episodes)]
    memory, dictionary = EpisodeMemory().extend(made), as_dictionary(made)
    rows = []
    for batch, length in SHAPES:
        stream, source = BatchStream(memory, 0, batch, length), np.ones((batch, length, 64, 64, 3), np.uint8)
        copied = np.empty_like(source)
        arms: dict[str, Callable[[], Any]] = {
            "released, floats on the host": partial(released_floats, dictionary, batch, length),
            "released, sampling alone": partial(released_batch, dictionary, batch, length),
            "this code": stream.next,
            "copying the pixels, the floor": partial(np.copyto, copied, source),
        }
        spent: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(repeats):
            for arm, draw in arms.items():
                began = time.process_time()
                draw()
                spent[arm].append(1e3 * (time.process_time() - began))
        medians = {arm: statistics.median(times) for arm, times in spent.items()}
        first = next(iter(medians.values()))
        rows += [
            {"batch": f"{batch} x {length}", "arm": arm, "cpu_ms": round(median, 2), "ratio": round(first / median, 1)}
            for arm, median in medians.items()
        ]
    notes = [
        f"{episodes} episodes of {ROWS} rows, 64 x 64 pixels; medians of {repeats} rounds in which the arms take turns.",
        "released: episodes in a dictionary, one drawn and cut per sequence, as the released loader does; written anew.",
        "this code sends uint8 to the device, where they become floats.",
    ]
    return {"rows": rows, "notes": notes}


def random_episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (ROWS, 64, 64, 3), np.uint8)
    state, action = np.zeros((ROWS, 4), np.float32), rng.uniform(-1, 1, (ROWS, ACTION)).astype(np.float32)
    action[0] = 0
    reward, success = rng.uniform(0, 1, ROWS).astype(np.float32), np.zeros(ROWS, np.uint8)
    reward[0] = 0
    return Episode(image, state, action, reward, success, terminal=False, meta={})


def as_dictionary(episodes: list[Episode]) -> dict[str, dict[str, np.ndarray]]:
    names = ("image", "action", "reward")
    return {f"{index:04d}": {name: getattr(episode, name) for name in names} for index, episode in enumerate(episodes)}


def released_batch(episodes: dict[str, dict[str, np.ndarray]], batch: int, length: int) -> dict[str, np.ndarray]:
    sequences = []
    for _ in range(batch):
        episode = episodes[random.choice(list(episodes))]
        first = random.randrange(len(episode["reward"]) - length + 1)
        sequences.append({name: array[first : first + length] for name, array in episode.items()})
    return {name: np.stack([sequence[name] for sequence in sequences]) for name in sequences[0]}


def released_floats(episodes: dict[str, dict[str, np.ndarray]], batch: int, length: int) -> torch.Tensor:
    return torch.Tensor(released_batch(episodes, batch, length)["image"]) / 255.0 - 0.5
