"""From episodes in memory to batches on the device: the same numbers by three ways, the fastest that the device allows.

On a CPU a batch is gathered where it is used. On CUDA the episodes themselves lie on the device where they fit, and a batch
is a gather there; where they do not, or lie packed on disk, the next batch is gathered into pinned memory and copied while
this one is used.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from coworld_bench.data.memory import Batch, BatchStream, Memory

SHARE = 0.5  # of the device's free memory that episodes may take
PIXELS = 3 * 64 * 64  # bytes of a row that is still to come


class Drawn(NamedTuple):
    """A batch on the device, time first: image uint8 [T, B, H, W, 3], action [T, B, A], reward [T, B]."""

    image: Tensor
    action: Tensor
    reward: Tensor


def on_device(batch: Batch, device: torch.device, pinned: bool = False) -> Drawn:
    """A batch that was gathered on the host; from pinned memory the host does not wait for the copy."""
    assert batch.image is not None, "these agents learn from pictures"
    parts = [torch.from_numpy(part) for part in (batch.image, batch.action, batch.reward)]
    if pinned:
        parts = [part.pin_memory() for part in parts]
    return Drawn(*(part.to(device, non_blocking=pinned).transpose(0, 1) for part in parts))


class Feed(Protocol):
    def next(self) -> Drawn:
        """The stream's next batch."""


def feed(batches: BatchStream, device: torch.device, rows: int = 0) -> Feed:
    """What brings the batches of a stream to a device; `rows` is how far its memory may grow."""
    if device.type == "cpu":
        return Gathered(batches, device)
    if batches.memory.packed:
        return Ahead(batches, device)
    free, _ = torch.cuda.mem_get_info(device)
    bytes_a_row = PIXELS if batches.memory.rows == 0 else batches.memory.row_bytes
    fits = bytes_a_row * max(rows, batches.memory.rows) <= SHARE * free
    return Resident(batches, device) if fits else Ahead(batches, device)


class Gathered:
    """Gathers on the host when asked: the oracle of the other two."""

    def __init__(self, batches: BatchStream, device: torch.device) -> None:
        self.batches, self.device = batches, device

    def next(self) -> Drawn:
        drawn = self._gather(self.batches.k)
        self.batches.k += 1
        return drawn

    def _gather(self, k: int) -> Drawn:
        return on_device(self.batches.at(k), self.device)


class Resident:
    """Keeps all episodes on the device and sends up only which rows a batch takes, and the episodes that are new."""

    def __init__(self, batches: BatchStream, device: torch.device) -> None:
        self.batches, self.device = batches, device
        self._memory: Memory | None = None
        self._kept: Drawn | None = None
        self._rows = 0

    def next(self) -> Drawn:
        starts, offsets = self.batches.starts(self.batches.k)
        self.batches.k += 1
        kept = self._caught_up()
        start, first = (torch.from_numpy(rows).to(self.device, non_blocking=True) for rows in (starts, starts - offsets))
        steps = torch.arange(-self.batches.lead, self.batches.length, device=self.device)
        rows = torch.maximum(start + steps[:, None], first)  # [T, B], none before its episode's first
        return Drawn(*(array[rows] for array in kept))

    def _caught_up(self) -> Drawn:
        """The episodes on the device, those included that came since."""
        memory = self.batches.memory
        if memory is not self._memory:
            self._memory, self._kept, self._rows = memory, None, 0
        arrays = [torch.from_numpy(memory.array(name)) for name in Drawn._fields]
        if self._kept is None or memory.rows > len(self._kept.reward):
            capacity = memory.rows if self._kept is None else max(memory.rows, self._rows * 3 // 2)
            grown = Drawn(*(torch.empty((capacity, *a.shape[1:]), dtype=a.dtype, device=self.device) for a in arrays))
            for new, old in zip(grown, self._kept or (), strict=self._kept is not None):
                new[: self._rows] = old[: self._rows]
            self._kept = grown
        for array, source in zip(self._kept, arrays, strict=True):
            array[self._rows : memory.rows] = source[self._rows :].to(self.device)
        self._rows = memory.rows
        return self._kept


class Ahead(Gathered):
    """Gathers the next batch in a thread while the device is at work; drawn anew where the memory has grown since."""

    def __init__(self, batches: BatchStream, device: torch.device) -> None:
        super().__init__(batches, device)
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
            return on_device(self.batches.at(k), self.device, pinned=True)

    def _handed_over(self, drawn: Drawn) -> Drawn:
        """The learner's stream waits for the copy, and the copy's memory for the learner's stream."""
        if self._side is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._side)
            for part in drawn:
                part.record_stream(stream)
        return drawn
