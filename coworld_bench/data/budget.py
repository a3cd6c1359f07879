"""How much memory the decoded datasets of one process may take together."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable

from coworld_bench.devices import free_memory
from coworld_bench.errors import UsageError

SHARE = 0.5  # of the free memory
LIMIT, PROCESSES = "COWORLD_BENCH_MEMORY", "COWORLD_BENCH_PROCESSES"
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?|(\d+(?:\.\d+)?)%", re.IGNORECASE)
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Budget:
    """Bytes for decoded rows, shared by all datasets of a process: what one holds, the next no longer has.

    The whole is half of what the host would have free if none were held; $COWORLD_BENCH_MEMORY sets it, as `8G` or `25%`
    of that. Where `run` has N processes at work, each has the N-th part of the share ($COWORLD_BENCH_PROCESSES, which it
    sets); a size is each process's own."""

    def __init__(self, free: Callable[[], int] = free_memory) -> None:
        self._free, self._held = free, 0

    @property
    def held(self) -> int:
        """Bytes of the memories that are alive."""
        return self._held

    @property
    def total(self) -> int:
        """All that may be held. Raises UsageError for a limit that is none."""
        limit = limited(os.environ.get(LIMIT) or f"{100 * SHARE:g}%")
        if isinstance(limit, int):
            return limit
        return int(limit * (self._free() + self._held) / max(1, int(os.environ.get(PROCESSES) or 1)))

    @property
    def left(self) -> int:
        return max(0, self.total - self._held)

    def hold(self, memory: object, size: int) -> None:
        """Count `size` bytes for as long as `memory` is alive."""
        self._held += size
        weakref.finalize(memory, self._release, size)

    def _release(self, size: int) -> None:
        self._held -= size


def limited(text: str) -> int | float:
    """`8G` as bytes, `25%` as a share of the free memory. Raises UsageError for anything else."""
    match = SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not 0 <= float(match[3]) <= 100):
        raise UsageError(f"{LIMIT} is a size such as 8G, or a share of the free memory such as 25%; got {text!r}")
    return float(match[3]) / 100 if match[3] else int(float(match[1]) * UNITS[match[2].upper()])


BUDGET = Budget()
