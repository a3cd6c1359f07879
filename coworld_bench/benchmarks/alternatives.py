"""This data layer beside what users have today: npz episodes in memory, Minari, and plain zarr-python.

The aims are the ratios that were expected when the layout was chosen; each is printed with what came out."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import STORE
from coworld_bench.data.memory import BatchStream, Memory

BATCH, LENGTH = 50, 50
MANY = 4000  # episodes, of which the released loader makes a list for every sequence
SLOW_ROUNDS = 5  # of what takes seconds
RAW = 64 * 64 * 3  # bytes of a picture

Draw = Callable[[], Any]
Row = dict[str, Any]


def compare(dataset: Dataset, released: Callable[..., Draw], repeats: int) -> list[Row]:
    """Rows on sampling, filling and size, with the aims; `released(episodes, batch, length)` draws as the released code."""
    episodes = list(dataset)
    with TemporaryDirectory() as folder, minari_home(Path(folder) / "minari"):
        home = Path(folder)
        formats = write_minari(episodes, dataset)
        write_npz(episodes, home / "npz")
        return [
            *sampling(dataset, episodes, formats, released, repeats),
            *filling(dataset, home / "npz", formats),
            *sizes(dataset, home / "npz", home / "minari"),
        ]


def sampling(
    dataset: Dataset, episodes: list[Episode], formats: Mapping[str, str], released: Callable[..., Draw], repeats: int
) -> list[Row]:
    """Frames per CPU second of batches of 50 windows of 50 rows."""
    many = [episodes[number % len(episodes)] for number in range(MANY)]
    ram, packed = dataset.load("ram"), dataset.load("packed")
    quick: dict[str, Draw] = {
        "npz in memory, as released": released(episodes, BATCH, LENGTH),
        f"the same, {MANY} episodes": released(many, BATCH, LENGTH),
        "this code, ram": BatchStream(ram, 0, BATCH, LENGTH).next,
        "this code, packed": BatchStream(packed, 0, BATCH, LENGTH).next,
    }
    slow: dict[str, Draw] = {"zarr-python, the same files": partial(plain_zarr, dataset, np.random.default_rng(0))}
    slow |= {name: partial(from_minari, id) for name, id in formats.items() if "JPEG" not in name}
    spent = rounds(quick, repeats) | rounds(slow, SLOW_ROUNDS)
    rate = {arm: BATCH * LENGTH / seconds for arm, seconds in spent.items()}
    first, many_released, ram_rate, packed_rate = (rate[arm] for arm in quick)
    rows = [measured("sampling", arm, round(value), "frames / CPU s", value / first) for arm, value in rate.items()]
    rows += [
        aim("ram over npz in memory", ram_rate / first, 1.7),
        aim(f"ram over npz in memory, {MANY} episodes", ram_rate / many_released, 5),
        aim("packed over npz in memory", packed_rate / first, 0.45),
        aim(f"packed over npz in memory, {MANY} episodes", packed_rate / many_released, 1.7),
        aim("packed over zarr-python", packed_rate / rate["zarr-python, the same files"], 12),
    ]
    for name, of_ram, of_packed in (("Minari hdf5", 600, 150), ("Minari arrow", 65, 15)):
        if name in rate:
            rows += [aim(f"ram over {name}", ram_rate / rate[name], of_ram)]
            rows += [aim(f"packed over {name}", packed_rate / rate[name], of_packed)]
    return rows


def filling(dataset: Dataset, npz: Path, formats: Mapping[str, str]) -> list[Row]:
    """CPU seconds until everything is in memory, and until the first batch."""
    arms: dict[str, Draw] = {
        "npz in memory, as released": partial(read_npz, npz),
        "this code, ram": lambda: open_dataset(dataset.folder).load("ram"),
        "this code, packed": lambda: first_batch(open_dataset(dataset.folder).load("packed")),
    }
    if "Minari hdf5" in formats:
        arms["Minari hdf5"] = partial(all_of_minari, formats["Minari hdf5"])
    spent = rounds(arms, SLOW_ROUNDS)
    released, ram, packed = (spent[arm] for arm in list(arms)[:3])
    said = {arm: "until the first batch" if arm.endswith("packed") else "filling memory" for arm in arms}
    rows = [measured(said[arm], arm, round(seconds, 3), "CPU s", released / seconds) for arm, seconds in spent.items()]
    rows += [
        aim("filling memory, over npz", released / ram, 6),
        aim("first batch, packed over npz", released / packed, 100),
    ]
    if "Minari hdf5" in spent:
        rows.append(aim("filling memory, over Minari hdf5", spent["Minari hdf5"] / ram, 15))
    return rows


def sizes(dataset: Dataset, npz: Path, minari: Path) -> list[Row]:
    """Bytes of a picture on disk."""
    ours = bytes_below(dataset.folder / STORE / "frames/image/c") / dataset.rows
    found = {"raw": float(RAW), "npz": bytes_below(npz) / dataset.rows, "this code": ours}
    for folder in sorted(path for path in minari.glob("bench/*") if path.is_dir()):
        found[NAMES[folder.name]] = bytes_below(folder) / dataset.rows
    rows = [measured("size", arm, round(value), "bytes / picture", RAW / value) for arm, value in found.items()]
    rows.append(aim("size beside npz", ours / found["npz"], 1.35, at_most=True))
    rows.append(aim("size beside raw", ours / RAW, 1 / 8, at_most=True))
    if "Minari hdf5, JPEG (lossy, its default)" in found:
        lossy = ours / found["Minari hdf5, JPEG (lossy, its default)"]
        rows.append(aim("size beside Minari's lossy JPEG", lossy, 0.9, at_most=True))
    return rows


def rounds(arms: Mapping[str, Draw], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each arm, the arms taking turns."""
    spent: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(repeats):
        for arm, draw in arms.items():
            began = time.process_time()
            draw()
            spent[arm].append(time.process_time() - began)
    return {arm: statistics.median(times) for arm, times in spent.items()}


def measured(what: str, arm: str, value: float, unit: str, ratio: float) -> Row:
    return {"what": what, "arm": arm, "measured": value, "unit": unit, "ratio": round(ratio, 3)}


def aim(what: str, ratio: float, wanted: float, at_most: bool = False) -> Row:
    """A row that says whether an aim is met."""
    met = ratio <= wanted if at_most else ratio >= wanted
    words = f"{'at most' if at_most else 'at least'} {wanted:g}"
    return {"what": "aim", "arm": what, "ratio": round(ratio, 3), "aim": words, "met": "yes" if met else "no"}


# What is compared with

NAMES = {
    "hdf5-v0": "Minari hdf5",
    "arrow-v0": "Minari arrow",
    "jpeg-v0": "Minari hdf5, JPEG (lossy, its default)",
}


@contextmanager
def minari_home(folder: Path) -> Iterator[None]:
    """Minari keeps its datasets in `folder` meanwhile."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    folder.mkdir(parents=True)
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before


def write_minari(episodes: list[Episode], dataset: Dataset) -> dict[str, str]:
    """The pictures by Minari's own writer, by what it is called here: its id. Without pyarrow there is no arrow."""
    kinds: dict[str, dict[str, Any]] = {
        "hdf5-v0": {"jpeg_encoding": False},
        "jpeg-v0": {"jpeg_encoding": True},
    }
    if find_spec("pyarrow"):
        kinds["arrow-v0"] = {"jpeg_encoding": False, "data_format": "arrow"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody is named as the author
        for name, options in kinds.items():
            write_by_minari(f"bench/{name}", episodes, options)
    return {NAMES[name]: f"bench/{name}" for name in kinds}


def write_by_minari(name: str, episodes: list[Episode], options: Mapping[str, Any]) -> None:
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    buffers = [
        EpisodeBuffer(
            id=number, observations=list(pictures_of(episode)), actions=list(episode.action[1:]),
            rewards=episode.reward[1:].tolist(), terminations=[False] * episode.env_steps,
            truncations=[False] * (episode.env_steps - 1) + [True],
        )
        for number, episode in enumerate(episodes)
    ]  # fmt: skip
    shape = pictures_of(episodes[0]).shape[1:]
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=Box(0, 255, shape, np.uint8),
        action_space=Box(-1, 1, episodes[0].action.shape[1:], np.float32), **options,
    )  # fmt: skip


def from_minari(name: str) -> list[np.ndarray]:
    """A batch by Minari's API, which gives whole episodes."""
    import minari

    rng, windows, dataset = np.random.default_rng(), [], minari.load_dataset(name)
    for _ in range(BATCH):
        (episode,) = dataset.sample_episodes(1)
        start = int(rng.integers(len(episode.observations) - LENGTH + 1))
        windows.append(np.asarray(episode.observations[start : start + LENGTH]))
    return windows


def all_of_minari(name: str) -> list[np.ndarray]:
    import minari

    return [np.asarray(episode.observations) for episode in minari.load_dataset(name).iterate_episodes()]


def plain_zarr(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """A batch of our files by zarr-python."""
    import zarr

    images = zarr.open_array(dataset.folder / STORE / "frames/image", mode="r")
    starts = rng.integers(0, images.shape[0] - LENGTH, BATCH)
    return np.stack([np.asarray(images[start : start + LENGTH]) for start in starts])


def write_npz(episodes: list[Episode], folder: Path) -> None:
    folder.mkdir()
    for number, episode in enumerate(episodes):
        np.savez_compressed(
            folder / f"{number}.npz", image=pictures_of(episode), action=episode.action, reward=episode.reward
        )


def read_npz(folder: Path) -> list[dict[str, np.ndarray]]:
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found.append({name: file[name] for name in file})
    return found


def first_batch(memory: Memory) -> Any:
    return BatchStream(memory, 0, BATCH, LENGTH).next()


def pictures_of(episode: Episode) -> np.ndarray:
    assert episode.image is not None, "the alternatives are compared on pictures"
    return episode.image


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
