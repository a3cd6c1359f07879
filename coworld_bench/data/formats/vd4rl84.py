"""Datasets to and from V-D4RL's flat HDF5 files with pictures of 84 pixels, as its DrQ+BC, CQL and BC read them.

    observation u1 [N, 3, 84, 84], action f4 [N, A], reward f4 [N], discount f4 [N], step_type u1 [N]

in the row layout of `data.episode`; step_type is 0 in the first row of an episode, 2 in the last and 1 between, so that
lengths are real ones. State and success go as two more columns, which their loader reads and leaves alone. Pictures of
another size are resized as upstream does with OpenCV's INTER_CUBIC: all else is exact, and the card says `resized_from`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.config import usual_env
from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import hdf5
from coworld_bench.data.formats.guards import checked, fits_memory, flags, refused
from coworld_bench.data.formats.sidecar import export_folder, imported
from coworld_bench.data.layout import split_id
from coworld_bench.errors import UsageError
from coworld_bench.tasks import EnvSpec

NAME, SIDE = "vd4rl84", 84
FIRST, MIDDLE, LAST = 0, 1, 2  # of step_type
A = -0.75  # the parameter of OpenCV's cubic kernel; Pillow's is -0.5, and its pixels differ by up to 38 of 255
COLUMNS = ("action", "reward", "discount", "step_type", "observation")
EXTRAS = ("state", "success")


def export(dataset: Dataset, out: Path, force: bool = False) -> Path:
    """Write `data.hdf5` into `out` and return `out`. Raises UsageError where there are no pictures."""
    if not dataset.card["image"]:
        raise UsageError(f"{dataset.id} has no pictures, which {NAME} is made of")
    return export_folder(NAME, dataset, out, force, write, enlarged, card_of(dataset))


def card_of(dataset: Dataset) -> dict[str, Any]:
    """The card of the dataset with pictures of 84 pixels, which is another one."""
    card, side = dataset.card, dataset.card["image"][0]
    if side == SIDE:
        return dict(card)
    spec = EnvSpec(**{**card["env_spec"], "image_size": SIDE})
    name = split_id(dataset.id)
    name = name._replace(variant=spec.variant(usual_env(name.task, name.preset)))
    return card | {
        "dataset_id": f"{name.stem}-v{name.version or 0}", "env_spec": spec.to_dict(), "resized_from": side
    }  # fmt: skip


def enlarged(episode: Episode) -> Episode:
    assert episode.image is not None
    return episode if episode.image.shape[1] == SIDE else replace(episode, image=resized(episode.image))


def resized(image: np.ndarray) -> np.ndarray:
    """Pictures uint8 [T, S, S, 3] with 84 pixels a side, by OpenCV's cubic interpolation."""
    weights = cubic(image.shape[1], SIDE)
    pixels = image.transpose(0, 3, 1, 2).astype(np.float64)  # [T, S, S, 3] -> [T, 3, S, S]
    exact = np.rint(weights @ pixels @ weights.T)
    return np.clip(exact, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


@lru_cache(maxsize=4)
def cubic(source: int, target: int) -> np.ndarray:
    """What each of `source` pixels in a row gives to each of `target` pixels, [target, source]: Keys' cubic convolution at
    the pixels' centres, with the border repeated."""
    weights = np.zeros((target, source))
    for pixel in range(target):
        place = (pixel + 0.5) * source / target - 0.5
        for neighbour in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[pixel, min(max(neighbour, 0), source - 1)] += kernel(abs(place - neighbour))
    return weights


def kernel(x: float) -> float:
    if x <= 1:
        return (A + 2) * x**3 - (A + 3) * x**2 + 1
    return A * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def write(folder: Path, episodes: Iterator[Episode]) -> None:
    hdf5.write_rows(folder / hdf5.DATA, map(columns, episodes))


def columns(episode: Episode) -> dict[str, np.ndarray]:
    assert episode.image is not None
    step_type = np.full(episode.rows, MIDDLE, np.uint8)
    step_type[0], step_type[-1] = FIRST, LAST
    discount = np.ones(episode.rows, np.float32)
    discount[-1] = not episode.terminal
    known = {"action": episode.action, "reward": episode.reward, "discount": discount, "step_type": step_type}
    extra = {"state": episode.state, "success": episode.success}
    return {"observation": episode.image.transpose(0, 3, 1, 2), **known, **extra}


def read(path: Path) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a file, or of the files of a folder in order of name. Raises DatasetError for what is none."""
    files = hdf5.files(path)
    with hdf5.opened(files[0]) as file:
        left_out = sorted(set(file) - {*COLUMNS, *EXTRAS})
        has_success = "success" in file
    episodes = (episode for file in files for episode in read_file(file))
    return imported(NAME, hdf5.home(path), episodes, left_out, has_success=has_success)


def read_file(path: Path) -> Iterator[Episode]:
    with hdf5.opened(path) as file:
        names = [*COLUMNS, *(name for name in EXTRAS if hdf5.has(file, name))]
        found: Mapping[str, Any] = {name: hdf5.column(file, name, path) for name in names}
        rows = {array.shape[:1] for array in found.values()}
        if len(rows) != 1:
            raise refused(path, "its columns differ in their number of rows")
        step_type = found["step_type"][()]
        if step_type.ndim != 1 or not np.isin(step_type, (FIRST, MIDDLE, LAST)).all():
            raise refused(path, "step_type holds other values than 0, 1 and 2")
        pixels = found["observation"]
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (3, SIDE, SIDE):
            raise refused(path, f"observation must be uint8 [N, 3, {SIDE}, {SIDE}]; it is {pixels.dtype} {pixels.shape}")
        for span in hdf5.spans(path, step_type == FIRST, step_type == LAST):
            fits_memory(path, span.stop - span.start, 3 * SIDE * SIDE)
            yield read_episode(path, {name: array[span] for name, array in found.items()})


def read_episode(path: Path, part: dict[str, np.ndarray]) -> Episode:
    going_on = flags(path, "discount", part["discount"], len(part["reward"]))
    if not going_on[:-1].all():
        raise refused(path, "a discount is 0 inside an episode")
    image = part["observation"].transpose(0, 2, 3, 1)  # [T, 3, S, S] -> [T, S, S, 3]
    return checked(path, {**part, "image": np.ascontiguousarray(image)}, terminal=not going_on[-1])
