"""Reading the Zarr arrays of a dataset strictly: every checksum is compared, and nothing that is missing reads as zero.

zarr-python reads the same files; it fills what is missing with zeros, which a dataset must never do silently."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np

from coworld_bench.data.layout import CHUNK_ROWS, SHARD_ROWS
from coworld_bench.errors import DatasetError

CHECKSUM = 4  # bytes of a CRC32C
HOLE = 2**64 - 1  # what a shard's index says of a chunk that was not written
CHUNKS = SHARD_ROWS // CHUNK_ROWS  # of a shard
OPEN_SHARDS = 256  # files that a reader keeps open; a process may usually open 1024
Fetch = Callable[[Path], None]
SMALL, SHARDED = ["bytes", "zstd", "crc32c"], ["bytes", "blosc", "crc32c"]


class Damaged(DatasetError):
    """One file does not hold what it should: which file, which check, what was seen."""

    def __init__(self, path: Path | str, check: str, detail: str) -> None:
        super().__init__(
            f"{path} is damaged ({check}: {detail}); make the dataset again, fetch another copy, or save "
            "what is intact with: coworld-bench data repair DATASET"
        )
        self.path, self.check, self.detail = path, check, detail


@dataclass(frozen=True)
class Header:
    """What `zarr.json` says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]  # of the files: the shard where there are shards
    sharded: bool


def read_header(folder: Path) -> Header:
    """The shape, type and chunks of an array folder. Raises Damaged for anything that `build` does not write."""
    path = folder / "zarr.json"
    try:
        value = json.loads(read_bytes(path))
        codecs = value["codecs"]
        sharded = codecs[0]["name"] == "sharding_indexed"
        names = [codec["name"] for codec in (codecs[0]["configuration"]["codecs"] if sharded else codecs)]
        shape, chunk = tuple(value["shape"]), tuple(value["chunk_grid"]["configuration"]["chunk_shape"])
        dtype = np.dtype(value["data_type"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Damaged(path, "header", f"{type(error).__name__}: {error}") from error
    if names != (SHARDED if sharded else SMALL) or chunk[0] != SHARD_ROWS or chunk[1:] != shape[1:]:
        raise Damaged(path, "header", f"codecs {names} and chunks {chunk} are not those of this format")
    return Header(shape, dtype, chunk, sharded)


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises Damaged when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Damaged(path, "readable", error.strerror or str(error)) from error


def checked(path: Path, stored: bytes | memoryview, what: str) -> memoryview:
    """`stored` without its trailing CRC32C. Raises Damaged when that does not fit."""
    view = memoryview(stored)
    body, expected = view[:-CHECKSUM], int.from_bytes(view[-CHECKSUM:], "little")
    if len(view) < CHECKSUM or google_crc32c.value(bytes(body)) != expected:
        raise Damaged(path, "crc32c", what)
    return body


def chunk_path(folder: Path, index: int, axes: int) -> Path:
    """The file of chunk `index` along the first axis."""
    return folder.joinpath("c", str(index), *["0"] * (axes - 1))


def read_array(folder: Path) -> np.ndarray:
    """A whole array that is not sharded."""
    header = read_header(folder)
    array = np.empty(header.shape, header.dtype)
    for index in range(math.ceil(header.shape[0] / SHARD_ROWS)):
        rows = array[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]
        rows[:] = read_chunk(folder, header, index)[: len(rows)]
    return array


def read_chunk(folder: Path, header: Header, index: int) -> np.ndarray:
    """Chunk `index` of an array that is not sharded, with the rows behind the array's end. Raises Damaged."""
    path = chunk_path(folder, index, len(header.shape))
    body = numcodecs.Zstd().decode(checked(path, read_bytes(path), "chunk"))
    whole = np.frombuffer(body, header.dtype)
    if whole.size != math.prod(header.chunk):
        raise Damaged(path, "size", f"{whole.size} values instead of {math.prod(header.chunk)}")
    return whole.reshape(header.chunk)


class ImageReader:
    """Reads pictures from a sharded array: only the chunks that are asked for, each checked whenever it is decoded.

    `fetch` is called with the file of a shard before it is opened, for shards that may not be here yet."""

    def __init__(self, folder: Path, fetch: Fetch | None = None, header: Header | None = None) -> None:
        self.folder, self.header = folder, header or read_header(folder)
        self._shard = lru_cache(OPEN_SHARDS)(partial(open_shard, folder, len(self.header.shape), fetch=fetch))

    def rows(self, start: int, count: int) -> np.ndarray:
        """uint8 [count, H, W, 3] from row `start`. Raises Damaged for a chunk that does not fit its checksum."""
        return self.gather(np.arange(start, start + count))

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of `rows`: uint8 [*rows.shape, H, W, 3]. Runs of consecutive ones are decoded in place, but for the
        chunks at their ends."""
        picture, flat = self.header.shape[1:], rows.ravel()
        decoded = np.empty((len(flat), *picture), np.uint8)
        whole = np.empty((CHUNK_ROWS, *picture), np.uint8)
        cuts = [0, *(np.flatnonzero(np.diff(flat) != 1) + 1).tolist(), len(flat)] if len(flat) else []
        for first, end in pairwise(cuts):
            self._fill(decoded[first:end], int(flat[first]), whole)
        return decoded.reshape(*rows.shape, *picture)

    def _fill(self, rows: np.ndarray, start: int, whole: np.ndarray) -> None:
        """Decode the rows from `start` into `rows`; `whole` takes a chunk of which only a part is wanted."""
        end = start + len(rows)
        assert start >= 0 and end <= self.header.shape[0], (start, end, self.header.shape)
        for first in range(start - start % CHUNK_ROWS, end, CHUNK_ROWS):
            low, high = max(first, start), min(first + CHUNK_ROWS, end)
            wanted = rows[low - start : high - start]
            if len(wanted) == CHUNK_ROWS:
                self._decode(first // CHUNK_ROWS, wanted)
            else:
                self._decode(first // CHUNK_ROWS, whole)
                wanted[:] = whole[low - first : high - first]

    def _decode(self, chunk: int, rows: np.ndarray) -> None:
        shard, number = divmod(chunk, CHUNKS)
        self._shard(shard).decode(number, rows)


def open_shard(folder: Path, axes: int, number: int, fetch: Fetch | None = None) -> Shard:
    path = chunk_path(folder, number, axes)
    if fetch:
        fetch(path)
    return Shard(path)


class Shard:
    """An open file of pictures. It is read and not mapped: a file that is cut short is then an error, not a bus error,
    and compressed chunks never count as memory of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise Damaged(path, "readable", error.strerror or str(error)) from error
        weakref.finalize(self, os.close, self._file)
        self._size, entries = os.fstat(self._file).st_size, CHUNKS * 16
        index = checked(path, self._read(max(0, self._size - entries - CHECKSUM), entries + CHECKSUM), "shard index")
        if len(index) != entries:
            raise Damaged(path, "shard index", "cut short")
        self._index: list[list[int]] = np.frombuffer(index, "<u8").reshape(CHUNKS, 2).tolist()  # offset, length

    def decode(self, chunk: int, rows: np.ndarray) -> None:
        """Decode a chunk of the shard into `rows`. Raises Damaged when it is missing or not what was written."""
        offset, length = self._index[chunk]
        what = f"chunk {chunk}"
        if offset == HOLE or offset + length > self._size:
            raise Damaged(self.path, "shard index", f"{what} is missing")
        body = checked(self.path, self._read(offset, length), what)
        if int.from_bytes(body[4:8], "little") != rows.nbytes:  # Blosc's header: bytes 4 to 8, the size of the content
            raise Damaged(self.path, "size", f"{what} does not hold {len(rows)} pictures")
        numcodecs.blosc.decompress(body, rows)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise Damaged(self.path, "readable", error.strerror or str(error)) from error
