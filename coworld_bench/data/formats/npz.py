"""Datasets to and from the authors' episode files, which are V-D4RL's at 64 pixels too: one npz an episode.

`{timestamp}-{id}-{rows}.npz` holds image, action, reward, discount, is_first, is_last and is_terminal in the row layout of
`data.episode`. Their loaders take the files in order of name, read the number of rows from the name, and cut every array
to a window of rows; so state and success, which are rows too, go as extra arrays, as the authors' own files have them.
DreamerV2 names a file by its decisions, one fewer than rows; both are read.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats.guards import checked, fits_memory, flags, plausible, refused
from coworld_bench.data.formats.sidecar import export_folder, imported
from coworld_bench.errors import named

NAME, START = "npz", datetime(2000, 1, 1)  # the time stamps count the episodes, so that names are the same every time
ROWS, MEMBER = re.compile(r"-(\d{1,9})\.npz"), re.compile(r"\w+\.npy", re.ASCII)
READ = {"image", "action", "reward", "discount", "is_first", "is_last", "is_terminal", "state", "success"}
MEMBERS = 64  # arrays of a file
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error)


def export(dataset: Dataset, out: Path, force: bool = False) -> Path:
    """Write a file an episode into `out` and return it."""
    return export_folder(NAME, dataset, out, force, write)


def write(folder: Path, episodes: Iterator[Episode]) -> None:
    for index, episode in enumerate(episodes):
        stamp = (START + timedelta(seconds=index)).strftime("%Y%m%dT%H%M%S")
        arrays = episode.arrays() | ends(episode)
        np.savez_compressed(folder / f"{stamp}-{episode.digest[:32]}-{episode.rows}.npz", **arrays)  # type: ignore[arg-type]


def ends(episode: Episode) -> dict[str, np.ndarray]:
    """Where the episode begins and ends, row by row."""
    first, last = np.zeros((2, episode.rows), bool)
    first[0], last[-1] = True, True
    terminal = last & episode.terminal
    return {"is_first": first, "is_last": last, "is_terminal": terminal, "discount": (~terminal).astype(np.float32)}


def read(path: Path) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a folder of such files, in order of name. Raises DatasetError for what is none."""
    files = sorted(path.glob("*.npz"))
    if not files:
        raise refused(path, "there are no npz files in it")
    names = set(members(files[0]))
    left_out = sorted(names - READ)
    return imported(NAME, path, map(read_file, files), left_out, has_success="success" in names)


def read_file(path: Path) -> Episode:
    """The episode of one file."""
    found = members(path)
    lacking = {"action", "reward"} - set(found)
    if lacking or not {"image", "state"} & set(found):
        raise refused(path, f"it lacks {', '.join(sorted(lacking)) or 'image'}; it has {', '.join(sorted(found))}")
    if {shape[:1] for shape, _ in found.values()} != {found["reward"][0][:1]} - {()}:
        raise refused(path, "its arrays differ in their number of rows")
    for shape, dtype in found.values():
        fits_memory(path, 1, math.prod(shape) * dtype.itemsize)
    arrays = load(path, READ & set(found))
    rows = len(arrays["reward"])
    match = ROWS.search(path.name)
    if match is None or int(match[1]) not in (rows, rows - 1):
        raise refused(path, f"its name should end in -{rows}.npz, for it has {rows} rows")
    return checked(path, arrays, read_end(path, arrays, rows))


def members(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """The shape and type of every array of a file, from their headers alone.

    Raises DatasetError for a file that is damaged, names that are no plain names, and sizes that cannot be."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MEMBERS or len({entry.filename for entry in entries}) < len(entries):
                raise refused(path, f"it has {len(entries)} arrays, or two of one name")
            return {entry.filename.removesuffix(".npy"): header(path, archive, entry) for entry in entries}
    except DAMAGED as error:
        raise refused(path, f"it is damaged ({named(error)})") from error


def header(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and type that an array claims, when its bytes can be what it claims."""
    if not MEMBER.fullmatch(entry.filename):
        raise refused(path, f"it names an array {entry.filename!r}, which is no plain name")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
        }.get(version)  # fmt: skip
        if read_header is None:
            raise refused(path, f"{entry.filename} is written in version {version} of numpy's format")
        shape, _, dtype = read_header(file)
        begin = file.tell()
    plausible(path, entry.filename, shape, dtype, entry.compress_size)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != entry.file_size - begin:
        raise refused(path, f"{entry.filename} claims {claimed:,} bytes and has {entry.file_size - begin:,}")
    return shape, dtype


def load(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in sorted(names)}
    except DAMAGED as error:
        raise refused(path, f"it is damaged ({named(error)})") from error


def read_end(path: Path, arrays: dict[str, np.ndarray], rows: int) -> bool:
    """Whether the last row is terminal. Raises DatasetError where the file is not one episode from first to last row."""
    found = {name: flags(path, name, arrays[name], rows) for name in arrays if name.startswith("is_")}
    if "discount" in arrays:
        found["discount of 0"] = ~flags(path, "discount", arrays["discount"], rows)
    inner = [name for name, rising in found.items() if rising[slice(1, None) if name == "is_first" else slice(-1)].any()]
    if inner:
        raise refused(path, f"{inner[0]} is set inside the episode; one file must be one episode")
    if not found.get("is_first", [True])[0] or not found.get("is_last", [True])[-1]:
        raise refused(path, "it is not an episode from its first row to its last")
    terminal = {bool(found[name][-1]) for name in ("is_terminal", "discount of 0") if name in found}
    if len(terminal) > 1:
        raise refused(path, "is_terminal and discount do not agree in the last row")
    return terminal == {True}
