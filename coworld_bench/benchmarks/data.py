"""How fast and how large the data layer is, beside the released code's dictionary of episodes and other formats."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from coworld_bench.benchmarks.alternatives import MANY, SLOW_ROUNDS, aim, compare, measured, rounds
from coworld_bench.data.build import build
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import STORE
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.devices import prepare_cpu
from coworld_bench.tasks import EnvSpec

SHAPES = ((16, 16), (50, 50))  # batch, length
ROWS, ACTION = 251, 4
DRAWN = "drawn, so that they are decoded at the cost of Meta-World's; npz finds more in them to save than in real ones"
SIDE, SPECKS = 14, 70  # pixels: of what moves, and of those that are new in every picture; see `drawn_episode`


def measure(episodes: int = 60, repeats: int = 31, rows: int = 501, dataset: str | None = None) -> dict[str, Any]:
    """Rows: a batch with what a learner needs before it can use it, by CPU milliseconds; and the data layer beside npz,
    Minari and zarr-python, with the ratios that were aimed at. Medians, arms taking turns. The episodes are a dataset's, at
    most so many, or drawn."""
    prepare_cpu()
    made, pictures = chosen(dataset, episodes) if dataset else ([drawn_episode(n, rows) for n in range(episodes)], DRAWN)
    episodes, rows = len(made), max(episode.rows for episode in made)
    with TemporaryDirectory() as folder:
        kept = stored(made, Path(folder) / "dataset")
        found = [row for shape in SHAPES for row in batches(made, kept, *shape, repeats)]
        found += compare(kept, lambda given, *shape: partial(released_batch, as_dictionary(given), *shape), repeats)
        ratio = {row["arm"]: row["ratio"] for row in found if row["what"] == "batch 50 x 50"}
        found.append(aim("a batch, released with floats over packed", ratio["this code, packed on disk"], 20))
        found.append(aim("a batch, released with floats over ram", ratio["this code"], 20))
        picture_bytes = bytes_on_disk(kept) / kept.rows
    notes = [
        f"{episodes} episodes of {rows} rows, 64 x 64 pixels; medians of {repeats} rounds ({SLOW_ROUNDS} of what takes "
        "seconds) in which the arms take turns; one thread. Ratios are to the first arm, those of sizes to raw pixels.",
        "released: episodes in a dictionary, one drawn and cut per sequence, as the released loader does; written anew. "
        "With floats: as its training step makes them on the host; this code sends uint8 to the device.",
        f"Pictures: {pictures}; {picture_bytes:.0f} bytes each on disk.",
        "packed on disk: chunks are read from the page cache, checked and decoded as they are drawn. Neither its cost nor "
        "that of `ram` grows "
        f"with the number of episodes, so they were measured with {episodes} beside {MANY} of the released.",
        "Minari: by its own writer and its own API, which gives whole episodes; `arrow` where pyarrow is installed.",
    ]
    return {"rows": found, "notes": notes}


def chosen(name: str, count: int) -> tuple[list[Episode], str]:
    """The first episodes of a dataset, and what they are."""
    dataset = open_dataset(name)
    return list(islice(dataset, count)), f"of {dataset.id}, fingerprint {dataset.fingerprint[:8]}"


def batches(made: list[Episode], dataset: Dataset, batch: int, length: int, repeats: int) -> list[dict[str, Any]]:
    """CPU milliseconds of a batch by each arm, and its ratio to the first."""
    memory, packed, dictionary = EpisodeMemory().extend(made), dataset.load("packed"), as_dictionary(made)
    source = np.ones((batch, length, 64, 64, 3), np.uint8)
    arms: dict[str, Callable[[], Any]] = {
        "released, floats on the host": partial(released_floats, dictionary, batch, length),
        "released, sampling alone": partial(released_batch, dictionary, batch, length),
        "this code": BatchStream(memory, 0, batch, length).next,
        "this code, packed on disk": BatchStream(packed, 0, batch, length).next,
        "copying the pixels, the floor": partial(np.copyto, np.empty_like(source), source),
    }
    spent = rounds(arms, repeats)
    first = next(iter(spent.values()))
    what = f"batch {batch} x {length}"
    return [measured(what, arm, round(1e3 * seconds, 2), "CPU ms", first / seconds) for arm, seconds in spent.items()]


def drawn_episode(seed: int, rows: int = ROWS) -> Episode:
    """An episode whose pictures compress and decode as rendered ones do: the same grainy scene, a textured square that
    wanders over it, and a few pixels that change every time (1,420 bytes a picture; Meta-World's `fast` takes 1,400)."""
    scene, rng = np.random.default_rng(0), np.random.default_rng(seed)
    slope = np.linspace(60, 180, 64)[:, None, None] + [0, 10, 30] + scene.integers(-3, 4, (64, 64, 3))
    thing = scene.integers(0, 256, (SIDE, SIDE, 3))
    image = np.repeat(slope.astype(np.uint8)[None], rows, axis=0)
    places = np.clip(32 + np.cumsum(rng.integers(-2, 3, (rows, 2)), axis=0), 0, 64 - SIDE)
    for picture, (y, x) in zip(image, places, strict=True):
        picture[y : y + SIDE, x : x + SIDE] = thing
    specks = rng.integers(0, 64, (2, rows, SPECKS))
    image[np.arange(rows)[:, None], specks[0], specks[1]] = rng.integers(0, 256, (rows, SPECKS, 3))
    state, action = np.zeros((rows, 4), np.float32), rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32)
    action[0] = 0
    reward, success = rng.uniform(0, 1, rows).astype(np.float32), np.zeros(rows, np.uint8)
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
