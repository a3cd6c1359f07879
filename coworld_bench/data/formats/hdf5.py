"""Flat HDF5 files, one array a column and all episodes behind each other: written row by row, and read without trust."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.formats.guards import EPISODE_BYTES, plausible, refused
from coworld_bench.errors import named

if TYPE_CHECKING:
    import h5py

DATA = "data.hdf5"
GZIP = {"compression": "gzip", "compression_opts": 4}
PICTURES, NUMBERS = 16, 1024  # rows of a chunk: a window of pictures costs little more than itself


def write_rows(path: Path, parts: Iterator[Mapping[str, np.ndarray]]) -> None:
    """Write arrays of any number of rows behind each other; each part has the same columns."""
    import h5py

    with h5py.File(path, "w", track_order=True) as file:
        for part in parts:
            for name, array in part.items():
                if array.shape[1:] != (0,):  # a state of size 0
                    append(file, name, array)


def append(file: h5py.File, name: str, array: np.ndarray) -> None:
    if name not in file:
        chunk = PICTURES if array.ndim == 4 else NUMBERS
        shapes: dict[str, Any] = {"maxshape": (None, *array.shape[1:]), "chunks": (chunk, *array.shape[1:])}
        file.create_dataset(name, (0, *array.shape[1:]), array.dtype, **shapes, **GZIP)
    column = file[name]
    column.resize(len(column) + len(array), 0)
    column[-len(array) :] = array


def files(path: Path) -> list[Path]:
    """The file that is named, or those of the folder, in order of name. Raises DatasetError where there are none."""
    found = sorted(path.glob("*.hdf5")) if path.is_dir() else [path] if path.is_file() else []
    if not found:
        raise refused(path, "there are no hdf5 files")
    return found


def home(path: Path) -> Path:
    """The folder of such files."""
    return path if path.is_dir() else path.parent


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, to read. Raises DatasetError for all that HDF5 finds wrong with it."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise refused(path, f"it is damaged ({named(error)})") from error


def group(parent: h5py.Group, name: str, where: Path) -> h5py.Group:
    """A group of a file. Raises DatasetError where it is missing, something else, or a link."""
    import h5py

    found = member(parent, name, where)
    if not isinstance(found, h5py.Group):
        raise refused(where, f"{name} is no group")
    return found


def column(parent: h5py.Group, name: str, where: Path) -> h5py.Dataset:
    """An array of a file, not read yet; `name` may be a path.

    Raises DatasetError where it is missing, lies somewhere else, was not written whole, or claims more than there is."""
    import h5py

    *groups, last = name.split("/")
    for part in groups:
        parent = group(parent, part, where)
    found = member(parent, last, where)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise refused(where, f"{name} is no array")
    if found.is_virtual or found.external:
        raise refused(where, f"{name} lies in another file")
    plausible(where, name, found.shape, found.dtype, where.stat().st_size)
    if found.chunks is None:
        whole = found.id.get_storage_size() == found.nbytes
    else:
        plausible(where, f"a chunk of {name}", found.chunks, found.dtype, EPISODE_BYTES)
        pairs = zip(found.shape, found.chunks, strict=True)
        whole = found.id.get_num_chunks() == math.prod(math.ceil(rows / chunk) for rows, chunk in pairs)
    if not whole:
        raise refused(where, f"{name} was not written whole")
    return found


def member(parent: h5py.Group, name: str, where: Path) -> Any:
    """What a group holds by this name, itself and not by a link to somewhere else."""
    import h5py

    link = parent.get(name, getlink=True)
    if link is None:
        raise refused(where, f"it has no {name}; it has {', '.join(sorted(parent)) or 'nothing'}")
    if not isinstance(link, h5py.HardLink):
        raise refused(where, f"{name} is a link to another place")
    return parent[name]


def has(parent: h5py.Group, name: str) -> bool:
    """Whether the path is there, link or not, looked at without following any."""
    import h5py

    *groups, last = name.split("/")
    for part in groups:
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink) or not isinstance(parent[part], h5py.Group):
            return part in parent
        parent = parent[part]
    return parent.get(last, getlink=True) is not None


def spans(where: Path, first: np.ndarray, last: np.ndarray) -> Iterator[slice]:
    """The rows of every episode, from the marks of first and last rows, bool [N] each.

    Raises DatasetError where the marks do not take turns, or rows belong to no episode."""
    starts, ends = np.flatnonzero(first), np.flatnonzero(last)
    if len(starts) != len(ends) or not len(starts) or starts[0] != 0 or ends[-1] != len(first) - 1:
        raise refused(where, f"it does not end where an episode does ({len(starts)} begin, {len(ends)} end)")
    wrong = np.flatnonzero((ends < starts) | (np.append(starts[1:], len(first)) != ends + 1))
    if len(wrong):
        raise refused(where, f"episode {wrong[0]} does not begin where the one before it ends")
    return (slice(int(start), int(end) + 1) for start, end in zip(starts, ends, strict=True))
