"""How long a batch takes to draw: this code's memories beside the released code's dictionary of episodes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from coworld_bench.data.build import build
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import STORE
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.devices import prepare_cpu
from coworld_bench.tasks import EnvSpec

SHAPES = ((16, 16), (50, 50))  # batch, length
ROWS, ACTION = 251, 4
SIDE, SPECKS = 14, 70  # pixels: of what moves, and of those that are new in every picture; see `drawn_episode`


def measure(episodes: int = 60, repeats: int = 31) -> dict[str, Any]:
    """A row per batch shape and arm: CPU milliseconds per batch (medians, arms taking turns), and ratio to the released."""
    prepare_cpu()
    made = [drawn_episode(seed) for seed in range(episodes)]
    memory, dictionary, rows = EpisodeMemory().extend(made), as_dictionary(made), []
    with TemporaryDirectory() as folder:
        dataset = stored(made, Path(folder) / "dataset")
        packed, picture_bytes = dataset.load("packed"), bytes_on_disk(dataset) / dataset.rows
        for batch, length in SHAPES:
            source = np.ones((batch, length, 64, 64, 3), np.uint8)
            arms: dict[str, Callable[[], Any]] = {
                "released, floats on the host": partial(released_floats, dictionary, batch, length),
                "released, sampling alone": partial(released_batch, dictionary, batch, length),
                "this code": BatchStream(memory, 0, batch, length).next,
                "this code, packed on disk": BatchStream(packed, 0, batch, length).next,
                "copying the pixels, the floor": partial(np.copyto, np.empty_like(source), source),
            }
            rows += compared(f"{batch} x {length}", arms, repeats)
    notes = [
        f"{episodes} episodes of {ROWS} rows, 64 x 64 pixels; medians of {repeats} rounds in which the arms take turns.",
        "released: episodes in a dictionary, one drawn and cut per sequence, as the released loader does; written anew.",
        "this code sends uint8 to the device, where they become floats.",
        "packed on disk: chunks are read from the page cache, checked and decoded as they are drawn; the pictures are made "
        f"to cost what Meta-World's do, {picture_bytes:.0f} bytes each on disk.",
    ]
    return {"rows": rows, "notes": notes}


def compared(shape: str, arms: dict[str, Callable[[], Any]], repeats: int) -> list[dict[str, Any]]:
    """A row per arm, the arms taking turns; ratios are to the first."""
    spent: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(repeats):
        for arm, draw in arms.items():
            began = time.process_time()
            draw()
            spent[arm].append(1e3 * (time.process_time() - began))
    medians = {arm: statistics.median(times) for arm, times in spent.items()}
    first = next(iter(medians.values()))
    return [
        {"batch": shape, "arm": arm, "cpu_ms": round(median, 2), "ratio": round(first / median, 1)}
        for arm, median in medians.items()
    ]


def drawn_episode(seed: int) -> Episode:
    """An episode whose pictures compress and decode as rendered ones do: the same grainy scene, a textured square that
    wanders over it, and a few pixels that change every time (1,420 bytes a picture; Meta-World's `fast` takes 1,400)."""
    scene, rng = np.random.default_rng(0), np.random.default_rng(seed)
    slope = np.linspace(60, 180, 64)[:, None, None] + [0, 10, 30] + scene.integers(-3, 4, (64, 64, 3))
    thing = scene.integers(0, 256, (SIDE, SIDE, 3))
    image = np.repeat(slope.astype(np.uint8)[None], ROWS, axis=0)
    places = np.clip(32 + np.cumsum(rng.integers(-2, 3, (ROWS, 2)), axis=0), 0, 64 - SIDE)
    for picture, (y, x) in zip(image, places, strict=True):
        picture[y : y + SIDE, x : x + SIDE] = thing
    specks = rng.integers(0, 64, (2, ROWS, SPECKS))
    image[np.arange(ROWS)[:, None], specks[0], specks[1]] = rng.integers(0, 256, (ROWS, SPECKS, 3))
    state, action = np.zeros((ROWS, 4), np.float32), rng.uniform(-1, 1, (ROWS, ACTION)).astype(np.float32)
    action[0] = 0
    reward, success = rng.uniform(0, 1, ROWS).astype(np.float32), np.zeros(ROWS, np.uint8)
    reward[0] = 0
    return Episode(image, state, action, reward, success, terminal=False, meta={})


def stored(episodes: Iterable[Episode], folder: Path) -> Dataset:
    """The episodes as a dataset on disk."""
    card = {"dataset_id": "toy/point/drawn-v0", "env_spec": EnvSpec("toy/point").to_dict()}
    return open_dataset(build(episodes, folder, card))


def bytes_on_disk(dataset: Dataset) -> int:
    """Bytes of a dataset's pictures."""
    return sum(path.stat().st_size for path in (dataset.folder / STORE / "frames/image/c").rglob("*") if path.is_file())


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
