"""Datasets to and from D4RL's flat HDF5 files: a row for each decision.

    observations, next_observations  [N, ...]    what was seen before and after: pictures u1 [S, S, 3], else the state f4
    actions f4 [N, A], rewards f4 [N]
    terminals, timeouts  bool [N]                an episode ends where one is set: the task's end, or the time's
    infos/state, infos/next_state f4 [N, S]      beside pictures
    infos/success bool [N]                       after the decision

D4RL's `qlearning_dataset` takes row t+1 of observations for what follows row t, and passes over the rows with a timeout;
next_observations say what followed there too, without which the last picture of an episode would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import hdf5
from coworld_bench.data.formats.guards import fits_memory, flags, from_decisions, refused
from coworld_bench.data.formats.sidecar import export_folder, imported

NAME = "d4rl"
NEEDED = ("observations", "actions", "rewards", "terminals", "timeouts")
NEXT, STATE, NEXT_STATE, SUCCESS = "next_observations", "infos/state", "infos/next_state", "infos/success"
LOST = "the last decision of every episode, whose next observation is not in the file"


def export(dataset: Dataset, out: Path, force: bool = False) -> Path:
    """Write `data.hdf5` into `out` and return `out`."""
    has_success = dataset.card["has_success"]

    def write(folder: Path, episodes: Iterator[Episode]) -> None:
        hdf5.write_rows(folder / hdf5.DATA, (columns(episode, has_success) for episode in episodes))

    return export_folder(NAME, dataset, out, force, write)


def columns(episode: Episode, has_success: bool) -> dict[str, np.ndarray]:
    seen = episode.state if episode.image is None else episode.image
    last = np.arange(episode.env_steps) == episode.env_steps - 1
    parts = {
        "observations": seen[:-1], NEXT: seen[1:], "actions": episode.action[1:], "rewards": episode.reward[1:],
        "terminals": last & episode.terminal, "timeouts": last & (not episode.terminal),
    }  # fmt: skip
    if episode.image is not None:
        parts |= {STATE: episode.state[:-1], NEXT_STATE: episode.state[1:]}
    return parts | ({SUCCESS: episode.success[1:].astype(bool)} if has_success else {})


def read(path: Path) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a file, or of the files of a folder in order of name. Raises DatasetError for what is none.

    Without next_observations the last decision of every episode is left out, and the card says so."""
    files = hdf5.files(path)
    with hdf5.opened(files[0]) as file:
        left_out = [] if hdf5.has(file, NEXT) else [LOST]
        has_success = hdf5.has(file, SUCCESS)
    episodes = (episode for file in files for episode in read_file(file))
    return imported(NAME, hdf5.home(path), episodes, left_out, has_success=has_success)


def read_file(path: Path) -> Iterator[Episode]:
    with hdf5.opened(path) as file:
        optional = (NEXT, STATE, NEXT_STATE, SUCCESS)
        names = [*NEEDED, *(name for name in optional if hdf5.has(file, name))]
        found = {name: hdf5.column(file, name, path) for name in names}
        shapes = [array.shape for array in found.values()]
        if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
            raise refused(path, "its columns differ in their number of rows")
        rows = shapes[0][0]
        ends = flags(path, "terminals", found["terminals"][()], rows) | flags(path, "timeouts", found["timeouts"][()], rows)
        if rows:
            ends[-1] = True  # D4RL's own files may stop within an episode
        row_bytes = found["observations"].nbytes // max(rows, 1)
        for span in hdf5.spans(path, np.append(True, ends[:-1])[:rows], ends):
            fits_memory(path, span.stop - span.start, 2 * row_bytes)
            yield read_episode(path, {name: array[span] for name, array in found.items()})


def read_episode(path: Path, part: dict[str, np.ndarray]) -> Episode:
    seen = followed(path, "observations", part["observations"], part.get(NEXT))
    state = part.get(STATE)
    if state is not None:
        state = followed(path, STATE, state, part.get(NEXT_STATE))
        if len(state) != len(seen):
            raise refused(path, f"{NEXT_STATE} is missing beside {NEXT}")
    rewards = part["rewards"]
    known = {"action": part["actions"], "reward": rewards[:, 0] if rewards.shape[1:] == (1,) else rewards}
    arrays = known | ({"image": hwc(seen), "state": state} if seen.ndim == 4 else {"state": seen})
    if SUCCESS in part:
        arrays["success"] = part[SUCCESS]
    return from_decisions(path, arrays, terminal=bool(part["terminals"][-1]))


def followed(path: Path, name: str, before: np.ndarray, after: np.ndarray | None) -> np.ndarray:
    """Every observation once: [T+1, ...], or [T, ...] where what followed is not known."""
    if after is None:
        return before
    if after.shape != before.shape or after.dtype != before.dtype or not np.array_equal(before[1:], after[:-1]):
        raise refused(path, f"{name} and what follows them do not fit: a row is not what followed the row before")
    return np.concatenate([before, after[-1:]])


def hwc(image: np.ndarray) -> np.ndarray:
    """Pictures [T, S, S, 3], of either [T, S, S, 3] or [T, 3, S, S]."""
    channels_first = image.shape[1] == 3 and image.shape[3] != 3
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1)) if channels_first else image
