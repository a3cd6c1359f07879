"""Reading the Zarr arrays of a dataset strictly: every checksum is compared, and nothing that is missing reads as zero.

zarr-python reads the same files; it fills what is missing with zeros, which a dataset must never do silently."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np

from coworld_bench.data.layout import CHUNK_ROWS, SHARD_ROWS
from coworld_bench.errors import DatasetError

CHECKSUM = 4  # bytes of a CRC32C
HOLE = np.uint64(2**64 - 1)  # what a shard's index says of a chunk that was not written
SMALL, SHARDED = ["bytes", "zstd", "crc32c"], ["bytes", "blosc", "crc32c"]


class Damaged(DatasetError):
    """One file does not hold what it should: which file, which check, what was seen."""

    def __init__(self, path: Path, check: str, detail: str) -> None:
        super().__init__(f"{path} is damaged ({check}: {detail}); make the dataset again or fetch another copy")
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
        path = chunk_path(folder, index, len(header.shape))
        rows = array[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]
        body = numcodecs.Zstd().decode(checked(path, read_bytes(path), "chunk"))
        whole = np.frombuffer(body, header.dtype)
        if whole.size != math.prod(header.chunk):
            raise Damaged(path, "size", f"{whole.size} values instead of {math.prod(header.chunk)}")
        rows[:] = whole.reshape(header.chunk)[: len(rows)]
    return array


class ImageReader:
    """Reads pictures from a sharded array; keeps the shard it read last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.header = folder, read_header(folder)
        self._shard: tuple[int, memoryview, np.ndarray] | None = None

    def rows(self, start: int, count: int) -> np.ndarray:
        """uint8 [count, H, W, 3] from row `start`, which is the first row of a chunk."""
        assert start % CHUNK_ROWS == 0 and start + count <= self.header.shape[0], (start, count, self.header.shape)
        chunks = math.ceil(count / CHUNK_ROWS)
        decoded = np.empty((chunks * CHUNK_ROWS, *self.header.shape[1:]), np.uint8)
        for number in range(chunks):
            rows = decoded[number * CHUNK_ROWS : (number + 1) * CHUNK_ROWS]
            self._decode(start // CHUNK_ROWS + number, rows)
        return decoded[:count]

    def _decode(self, chunk: int, rows: np.ndarray) -> None:
        per_shard = SHARD_ROWS // CHUNK_ROWS
        path, content, index = self._open(chunk // per_shard)
        offset, length = index[chunk % per_shard]
        what = f"chunk {chunk % per_shard}"
        if offset == HOLE or offset + length > len(content):
            raise Damaged(path, "shard index", f"{what} is missing")
        body = checked(path, content[int(offset) : int(offset + length)], what)
        if int.from_bytes(body[4:8], "little") != rows.nbytes:  # Blosc's header: bytes 4 to 8, the size of the content
            raise Damaged(path, "size", f"{what} does not hold {len(rows)} pictures")
        numcodecs.blosc.decompress(body, rows)

    def _open(self, shard: int) -> tuple[Path, memoryview, np.ndarray]:
        path = chunk_path(self.folder, shard, len(self.header.shape))
        if self._shard is None or self._shard[0] != shard:
            content = memoryview(read_bytes(path))
            entries = SHARD_ROWS // CHUNK_ROWS
            index = checked(path, content[-(entries * 16 + CHECKSUM) :], "shard index")
            if len(index) != entries * 16:
                raise Damaged(path, "shard index", "cut short")
            self._shard = shard, content, np.frombuffer(index, "<u8").reshape(entries, 2)
        return path, *self._shard[1:]
