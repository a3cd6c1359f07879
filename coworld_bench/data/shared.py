"""Decoded pictures in one file that all processes of a host map: they are decoded once and held once.

    <folder>/<fingerprint>-<rows>x<H>x<W>x<C>.frames    a page of JSON (fingerprint, shape, CRC32C); uint8 [N, H, W, C]

The file takes its name when it is whole. It is compared with its header and its checksum whenever it is opened, and one
that does not fit is never read. Nothing removes it: in /dev/shm it is memory until `rm` or a restart of the machine."""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from coworld_bench.data.lock import WriterLock
from coworld_bench.data.stored import StoredMemory
from coworld_bench.errors import NotUsable, about_file
from coworld_bench.files import atomic

if TYPE_CHECKING:
    from coworld_bench.data.dataset import Dataset

HEADER = 4096  # bytes; a page, so that pictures begin at one
PART = 1 << 20  # bytes that are compared at a time
SHM = Path("/dev/shm")
SPARE = 64 << 20  # bytes that stay free where pictures are put
FORMAT = "coworld-bench/frames-1"


@dataclass(frozen=True)
class Frames:
    """Which pictures: those of a dataset, by its fingerprint, as uint8 `shape` [N, H, W, C]."""

    fingerprint: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> Frames:
        return cls(dataset.fingerprint, (dataset.rows, *dataset.card["image"]))

    @property
    def name(self) -> str:
        return f"{self.fingerprint[:32]}-{'x'.join(map(str, self.shape))}.frames"

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return HEADER + math.prod(self.shape)

    def header(self, checksum: int) -> bytes:
        said = {"format": FORMAT, "fingerprint": self.fingerprint, "shape": list(self.shape), "crc32c": checksum}
        return json.dumps(said, sort_keys=True).encode().ljust(HEADER)


class MappedMemory(StoredMemory):
    """Draws what an `EpisodeMemory` of the same episodes draws, from pictures that other processes map too.

    `path` is the file; the array of pictures cannot be written to."""

    def __init__(
        self, path: Path, pictures: np.ndarray, starts: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> None:
        """As `StoredMemory`, with the pictures of all rows without padding."""
        super().__init__(starts, lengths, columns)
        assert len(pictures) == self.rows, (len(pictures), self.rows)
        self.path = path
        self._arrays["image"] = pictures


def places(dataset: Dataset) -> list[Path]:
    """Where pictures may lie, the best first: $COWORLD_BENCH_CACHE, else memory, else beside the dataset."""
    if chosen := os.environ.get("COWORLD_BENCH_CACHE"):
        return [Path(chosen).expanduser()]
    memory = [SHM / f"coworld-bench-{os.getuid()}"] if os.access(SHM, os.W_OK) else []
    return [*(folder for folder in memory if own(folder)), dataset.folder.parent / ".cache"]


def own(folder: Path) -> bool:
    """Whether nobody else can have put files into a folder that all may make."""
    if not os.path.lexists(folder):
        return True
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def shared_file(dataset: Dataset) -> Path | None:
    """The file of a dataset's pictures on this host, where it is whole as far as its size tells."""
    wanted = Frames.of(dataset)
    found = [folder / wanted.name for folder in places(dataset)]
    return next((path for path in found if path.is_file() and path.stat().st_size == wanted.size), None)


def share(dataset: Dataset, room_in_memory: int) -> tuple[Path, np.ndarray]:
    """The pictures of a dataset, all rows without padding: read-only uint8 [N, H, W, C]; made where there are none.

    One process makes them and the others wait for it. `room_in_memory` is what may be taken of /dev/shm. Raises NotUsable
    where there is no room or no right to write, DatasetError for what is damaged on disk."""
    wanted = Frames.of(dataset)
    if (found := opened(dataset, wanted)) is not None:
        return found
    with writing(places(dataset)[0], wanted):
        if (found := opened(dataset, wanted)) is not None:  # by the process that we waited for
            return found
        path = roomy(places(dataset), wanted, room_in_memory) / wanted.name
        with telling(wanted):
            write(path, wanted, dataset)
        pictures = mapped(path, wanted)
        assert pictures is not None, f"{path} was written now and does not fit its checksum"
        return path, pictures


@contextmanager
def writing(folder: Path, wanted: Frames) -> Iterator[None]:
    """Inside, this process alone makes these pictures; what killed ones left half made is removed."""
    with telling(wanted):
        lock = WriterLock(folder, f"{wanted.name}.lock", wait=True)
        for partial in folder.glob(f".{wanted.name}.*.partial"):
            partial.unlink()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def telling(wanted: Frames) -> Iterator[None]:
    """The system's refusal in a sentence."""
    try:
        yield
    except OSError as error:
        raise NotUsable(
            f"the {wanted.size / 1e6:.0f} MB of shared pictures cannot be kept: {about_file(error)}; set "
            "COWORLD_BENCH_CACHE to a folder with room, or give -o compute.memory=packed"
        ) from error


def roomy(folders: list[Path], wanted: Frames, room_in_memory: int) -> Path:
    """The first folder with room for the pictures; the last is taken as it is."""
    for folder in folders[:-1]:
        if wanted.size <= min(room_in_memory, shutil.disk_usage(folder).free - SPARE):
            return folder
    return folders[-1]


def write(path: Path, wanted: Frames, dataset: Dataset) -> None:
    """Decode every episode, compared with its digest, into the file."""
    checksum = 0
    with atomic(path) as file:
        file.write(bytes(HEADER))
        for episode in dataset:
            assert episode.image is not None
            content = episode.image.tobytes()
            checksum = google_crc32c.extend(checksum, content)
            file.write(content)
        file.seek(0)
        file.write(wanted.header(checksum))


def opened(dataset: Dataset, wanted: Frames) -> tuple[Path, np.ndarray] | None:
    """The pictures where they are and are whole."""
    for folder in places(dataset):
        if (pictures := mapped(folder / wanted.name, wanted)) is not None:
            return folder / wanted.name, pictures
    return None


def mapped(path: Path, wanted: Frames) -> np.ndarray | None:
    """The pictures of a file, every byte compared; None where it is missing or not what it should be."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != wanted.size:
                return None
            said = read_header(file.read(HEADER))
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return None
    checksum = said.pop("crc32c", None)
    if said != {"format": FORMAT, "fingerprint": wanted.fingerprint, "shape": list(wanted.shape)}:
        return None
    found = 0
    for first in range(HEADER, wanted.size, PART):
        found = google_crc32c.extend(found, content[first : first + PART])
    return np.frombuffer(content, np.uint8, offset=HEADER).reshape(wanted.shape) if found == checksum else None


def read_header(page: bytes) -> dict[str, Any]:
    """What the first page says; nothing where it is not one of ours."""
    try:
        said = json.loads(page)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
