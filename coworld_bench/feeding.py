"""From episodes in memory to batches on the device: the same numbers by three ways, the fastest that the device allows.

On a CPU a batch is gathered where it is used. On CUDA the episodes themselves lie on the device where they fit, and a batch
is a gather there; where they do not, or lie packed on disk, the next batch is gathered into pinned memory and copied while
this one is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from coworld_bench.data.memory import Batch, BatchStream, Memory

IMAGE = ("image",)  # what agents see of a row; those that see states have `state`, or both
SHARE = 0.5  # of the device's free memory that episodes may take
PIXELS = 3 * 64 * 64  # bytes of a row that is still to come


class Drawn(NamedTuple):
    """A batch on the device, time first: image uint8 [T, B, H, W, 3], action [T, B, A], reward [T, B], state [T, B, S]; of
    image and state what was asked for."""

    image: Tensor | None
    action: Tensor
    reward: Tensor
    state: Tensor | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Drawn:
        return cls(parts.get("image"), parts["action"], parts["reward"], parts.get("state"))


def on_device(batch: Batch, device: torch.device, pinned: bool = False, seen: tuple[str, ...] = IMAGE) -> Drawn:
    """A batch that was gathered on the host; from pinned memory the host does not wait for the copy."""
    assert batch.image is not None or "image" not in seen, "these agents learn from pictures"
    parts = {name: torch.from_numpy(getattr(batch, name)) for name in (*seen, "action", "reward")}
    if pinned:
        parts = {name: part.pin_memory() for name, part in parts.items()}
    return Drawn.of({name: part.to(device, non_blocking=pinned).transpose(0, 1) for name, part in parts.items()})


class Feed(Protocol):
    def next(self) -> Drawn:
        """The stream's next batch."""


def feed(batches: BatchStream, device: torch.device, rows: int = 0, seen: tuple[str, ...] = IMAGE) -> Feed:
    """What brings the batches of a stream to a device, with what is `seen` of a row; `rows` is how far its memory may
    grow."""
    if device.type == "cpu":
        return Gathered(batches, device, seen)
    if batches.memory.packed:
        return Ahead(batches, device, seen)
    free, _ = torch.cuda.mem_get_info(device)
    bytes_a_row = PIXELS * ("image" in seen) if batches.memory.rows == 0 else batches.memory.row_bytes
    fits = bytes_a_row * max(rows, batches.memory.rows) <= SHARE * free
    return Resident(batches, device, seen) if fits else Ahead(batches, device, seen)


class Gathered:
    """Gathers on the host when asked: the oracle of the other two."""

    def __init__(self, batches: BatchStream, device: torch.device, seen: tuple[str, ...] = IMAGE) -> None:
        self.batches, self.device, self.seen = batches, device, seen

    def next(self) -> Drawn:
        drawn = self._gather(self.batches.k)
        self.batches.k += 1
        return drawn

    def _gather(self, k: int) -> Drawn:
        return on_device(self.batches.at(k), self.device, seen=self.seen)


class Resident:
    """Keeps all episodes on the device and sends up only which rows a batch takes, and the episodes that are new."""

    def __init__(self, batches: BatchStream, device: torch.device, seen: tuple[str, ...] = IMAGE) -> None:
        self.batches, self.device, self.names = batches, device, (*seen, "action", "reward")
        self._memory: Memory | None = None
        self._kept: dict[str, Tensor] = {}
        self._rows = 0

    def next(self) -> Drawn:
        picked = np.ascontiguousarray(self.batches.rows(self.batches.k).T)  # [T, B]
        self.batches.k += 1
        kept, rows = self._caught_up(), torch.from_numpy(picked).to(self.device, non_blocking=True)
        return Drawn.of({name: array[rows] for name, array in kept.items()})

    def _caught_up(self) -> dict[str, Tensor]:
        """The episodes on the device by name, those included that came since."""
        memory = self.batches.memory
        if memory is not self._memory:
            self._memory, self._kept, self._rows = memory, {}, 0
        arrays = {name: borrowed(memory.array(name)) for name in self.names}
        if not self._kept or memory.rows > len(self._kept["reward"]):
            capacity = max(memory.rows, self._rows * 3 // 2)
            grown = {
                name: torch.empty((capacity, *array.shape[1:]), dtype=array.dtype, device=self.device)
                for name, array in arrays.items()
            }
            for name, old in self._kept.items():
                grown[name][: self._rows] = old[: self._rows]
            self._kept = grown
        for name, array in self._kept.items():
            array[self._rows : memory.rows] = arrays[name][self._rows :].to(self.device)
        self._rows = memory.rows
        return self._kept


def borrowed(array: np.ndarray) -> Tensor:
    """A tensor over an array's memory, to be read alone: torch warns of pictures that are mapped to be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class Ahead(Gathered):
    """Gathers the next batch in a thread while the device is at work; drawn anew where the memory has grown since."""

    def __init__(self, batches: BatchStream, device: torch.device, seen: tuple[str, ...] = IMAGE) -> None:
        super().__init__(batches, device, seen)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._coming: tuple[tuple[int, int, int], Future[Drawn]] | None = None
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def next(self) -> Drawn:
        drawn = self._take(self.batches.k)
        self.batches.k += 1
        self._coming = self._what(self.batches.k), self._thread.submit(self._fetch, self.batches.k)
        return self._handed_over(drawn)

    def _what(self, k: int) -> tuple[int, int, int]:
        """Names batch `k` of the memory as it is."""
        return k, id(self.batches.memory), self.batches.memory.rows

    def _take(self, k: int) -> Drawn:
        if self._coming is not None:
            what, future = self._coming
            drawn = future.result()
            if what == self._what(k):
                return drawn
        return self._fetch(k)

    def _fetch(self, k: int) -> Drawn:
        if self._side is None:
            return self._gather(k)
        with torch.cuda.stream(self._side):
            return on_device(self.batches.at(k), self.device, pinned=True, seen=self.seen)

    def _handed_over(self, drawn: Drawn) -> Drawn:
        """The learner's stream waits for the copy, and the copy's memory for the learner's stream."""
        if self._side is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._side)
            for part in drawn:
                if part is not None:
                    part.record_stream(stream)
        return drawn
