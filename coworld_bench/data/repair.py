"""What can be saved of a damaged dataset: the longest run of episodes from the first that still fit their digests.

A repaired dataset is built anew from them. Where nothing was lost it is the same dataset, with the same fingerprint; where
something was, it is another one, and its card says what it has lost.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.build import build, swap
from coworld_bench.data.chunks import Damaged, Header, ImageReader, read_bytes, read_chunk
from coworld_bench.data.dataset import open_dataset, read_manifest
from coworld_bench.data.episode import Episode
from coworld_bench.data.integrity import verify
from coworld_bench.data.layout import (
    EPISODE_TYPES,
    FRAME_TYPES,
    IS_TERMINAL,
    META_COLUMNS,
    SHARD_ROWS,
    STORE,
    slots,
)
from coworld_bench.data.lock import WriterLock
from coworld_bench.errors import DatasetError, UserError

NEEDED = ("length", "sha256")  # columns of the episodes without which nothing can be told from damage
DIGEST = 32  # bytes of a SHA-256
COMPUTED = ("start", "ret", "success", "ckpt", "split")  # that `build` works out again


@dataclass
class Repaired:
    """What became of a damaged dataset."""

    folder: Path
    damaged: Path | None  # where the damaged files are now; None where nothing was wrong
    faults: list[str]
    kept: int
    lost: int  # episodes
    forgotten: list[str] = field(default_factory=list)  # what is no longer known of the episodes that were kept
    fingerprint: str = ""
    before: str = ""  # the fingerprint before, where it is known


def repair(folder: Path | str) -> Repaired:
    """Build the dataset in `folder` anew from its intact episodes; the damaged files are kept beside it.

    Raises DatasetError where no episode can be saved, UserError where the damaged files of an earlier repair lie in the
    way or another process writes here."""
    folder = Path(folder).resolve()
    report = verify(folder)
    if report.ok:
        dataset = open_dataset(folder)
        return Repaired(folder, None, [], dataset.episodes, 0, [], dataset.fingerprint, dataset.fingerprint)
    aside, fresh = (folder.with_name(f".{folder.name}.{word}") for word in ("damaged", "repairing"))
    if aside.exists():
        raise UserError(f"{aside} has the damaged files of an earlier repair; remove or rename it first")
    faults = [f"{fault.file.removeprefix(f'{folder}/')} ({fault.check}: {fault.detail})" for fault in report.faults]
    with WriterLock(folder):
        remains = Remains(folder)
        kept = sum(1 for _ in remains.intact())
        if not kept:
            raise DatasetError(f"no episode of {folder} is intact, the first fault is {faults[0]}; make it again")
        found = Repaired(folder, aside, faults, kept, remains.count - kept, remains.forgotten, before=remains.fingerprint)
        shutil.rmtree(fresh, ignore_errors=True)
        build(islice(remains.intact(), kept), fresh, remains.card | loss(found))
        found.fingerprint = open_dataset(fresh, verify="full").fingerprint
    swap(folder, fresh, aside)
    return found


def loss(found: Repaired) -> dict[str, Any]:
    """What the card says of it; nothing where nothing was lost."""
    if not found.lost and not found.forgotten:
        return {}
    return {"repaired": {"from": found.before, "episodes_lost": found.lost, "forgotten": found.forgotten}}


class Remains:
    """The parts of a damaged dataset that can be read, whichever they are."""

    def __init__(self, folder: Path) -> None:
        """Raises DatasetError where it cannot be told which episodes there were."""
        self.folder, self.store = folder, folder / STORE
        manifest = self._manifest()
        self.attributes = self._attributes(manifest)
        if not manifest and not self.attributes:
            raise DatasetError(f"{folder} cannot be repaired: neither its manifest nor {STORE} says what it was")
        self.card = dict((manifest or self.attributes)["card"])
        self.fingerprint = manifest.get("fingerprint", "")
        self.count = int(self.card["episodes"])
        self.table = {
            name: self._column(f"episodes/{name}", dtype, self.count, DIGEST if name == "sha256" else None)
            for name, dtype in EPISODE_TYPES.items()
        }
        if missing := [name for name in NEEDED if len(self.table[name]) < self.count]:
            raise DatasetError(f"{folder} cannot be repaired: {missing[0]} of its episodes is lost; make it again")
        self.rows = [slots(int(length)) for length in self.table["length"]]
        self.starts = np.concatenate([[0], np.cumsum(self.rows)[:-1]]).astype(int)
        widths = {"action": self.card["action_size"], "state": self.card["state_size"]}
        self.frames = {
            name: self._column(f"frames/{name}", dtype, sum(self.rows), widths.get(name))
            for name, dtype in FRAME_TYPES.items()
        }
        self.images = self._images()

    @property
    def forgotten(self) -> list[str]:
        """Columns that say where an episode came from, and are lost for all of them."""
        lost = [name for name, array in self.table.items() if name not in COMPUTED and len(array) < self.count]
        return lost + ([] if self.attributes else ["the names of policies, and metadata without a column"])

    def intact(self) -> Iterator[Episode]:
        """Episodes from the first, up to one that is not what was collected."""
        for number in range(self.count):
            try:
                episode = self._episode(number)
            except (Damaged, AssertionError):
                return
            if bytes.fromhex(episode.digest) != self.table["sha256"][number].tobytes():
                return
            yield episode

    def _episode(self, number: int) -> Episode:
        start, length = int(self.starts[number]), int(self.table["length"][number])
        columns = {name: self.frames[name][start : start + length] for name in ("state", "action", "reward", "success")}
        flags = self.frames["flags"][start : start + length]
        image = self.images.rows(start, length) if self.images else None
        terminal = bool(len(flags) and flags[-1] & IS_TERMINAL)
        return Episode(image, **columns, terminal=terminal, meta=self._meta(number))

    def _meta(self, number: int) -> dict[str, Any]:
        known = {name: column for name, column in META_COLUMNS.items() if len(self.table[column]) == self.count}
        meta = {name: self.table[column][number].item() for name, column in known.items()}
        if "noise" in meta:
            meta["noise"] = float(str(self.table["noise"][number]))
        if self.attributes and len(self.table["policy"]) == self.count:
            meta["policy"] = self.attributes["policies"][self.table["policy"][number]]
        return meta | self.attributes.get("extras", {}).get(str(number), {})

    def _manifest(self) -> dict[str, Any]:
        """Empty where it is missing or damaged."""
        try:
            return read_manifest(self.folder)
        except DatasetError:
            return {}

    def _attributes(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Of the Zarr group; empty where they cannot be read, or the manifest says that they changed."""
        path = self.store / "zarr.json"
        try:
            content = read_bytes(path)
            expected = manifest["files"][path.relative_to(self.folder).as_posix()]["sha256"] if manifest else None
            if expected not in (None, hashlib.sha256(content).hexdigest()):
                return {}
            return dict(json.loads(content)["attributes"])
        except (Damaged, ValueError, KeyError, TypeError):
            return {}

    def _column(self, name: str, dtype: str, rows: int, width: int | None = None) -> np.ndarray:
        """The rows of an array up to the first chunk that is damaged; what its header says is not needed."""
        inner = () if width is None else (width,)
        header = Header((rows, *inner), np.dtype(dtype), (SHARD_ROWS, *inner), sharded=False)
        if width == 0:
            return np.zeros((rows, 0), header.dtype)
        found = np.zeros((0, *inner), header.dtype)
        for index in range(math.ceil(rows / SHARD_ROWS)):
            try:
                found = np.concatenate([found, read_chunk(self.store / name, header, index)])
            except (Damaged, ValueError, RuntimeError):
                break
        return found[:rows]

    def _images(self) -> ImageReader | None:
        picture = self.card["image"]
        if not picture:
            return None
        header = Header((sum(self.rows), *picture), np.dtype("u1"), (SHARD_ROWS, *picture), sharded=True)
        return ImageReader(self.store / "frames/image", header=header)
