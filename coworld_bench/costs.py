"""What a piece of work costs: time, processors, memory. Counted over all attempts where it is interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from typing import Any

OWN = Path("/proc/self")
SECONDS = "wall_s", "cpu_s", "gpu_s", "evaluation_s"
PEAKS = "peak_memory_bytes", "peak_gpu_bytes", "peak_gpu_reserved_bytes"
FORGET_PEAK = "5"  # of Linux's clear_refs: the largest resident memory so far is what it is now


class Meter:
    """Counts from when it is made. `spent` holds plain values: a checkpoint keeps them, `go_on` takes them up again.

    wall_s, cpu_s (child processes included), gpu_s (while a GPU was held), evaluation_s (which the owner adds to);
    attempts: this one, and those that left a checkpoint to go on from; peak_memory_bytes: the largest resident memory of
    the process alone; peak_gpu_bytes and peak_gpu_reserved_bytes: of PyTorch's tensors, and what its allocator held."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        self.spent: dict[str, float] = {**dict.fromkeys(SECONDS, 0.0), **dict.fromkeys(PEAKS, 0), "attempts": 1}
        forget_peaks(self.on_gpu)
        self.last = clocks()

    def go_on(self, stored: Mapping[str, float]) -> None:
        """Add what earlier attempts spent, in whose checkpoint some of it may be missing."""
        mine = self.read()
        earlier = {**dict.fromkeys(mine, 0), "attempts": 1, **stored}
        self.spent = {name: (max if name in PEAKS else sum)((mine[name], earlier[name])) for name in mine}

    def read(self) -> dict[str, float]:
        """`spent` as it is now."""
        now = clocks()
        wall_s, cpu_s = now[0] - self.last[0], now[1] - self.last[1]
        self.last = now
        self.spent["wall_s"] += wall_s
        self.spent["cpu_s"] += max(0.0, cpu_s)
        self.spent["gpu_s"] += wall_s if self.on_gpu else 0.0
        for name, peak in zip(PEAKS, peaks(self.on_gpu), strict=True):
            self.spent[name] = max(self.spent[name], peak)
        return self.spent

    def times(self) -> dict[str, float]:
        """The seconds, as a result tells them."""
        return {name: round(self.spent[name], 1) for name in SECONDS}

    def cost(self, updates: int) -> dict[str, Any]:
        """The rest, and `updates_per_s` of the time that no evaluation took."""
        training_s = self.spent["wall_s"] - self.spent["evaluation_s"]
        counted = {name: int(self.spent[name]) for name in ("attempts", *PEAKS)}
        return counted | {"updates_per_s": round(updates / training_s, 3) if training_s > 0 else None}


def clocks() -> tuple[float, float]:
    """Wall and processor seconds, of which only differences mean something."""
    ended = os.times()
    return time.perf_counter(), time.process_time() + children_cpu_s() + ended.children_user + ended.children_system


def children_cpu_s() -> float:
    """Processor seconds of the child processes that are at work."""
    return sum(processor_seconds(child.pid) for child in active_children())


def processor_seconds(pid: int | None) -> float:
    """Of another process, in user and system mode; 0 where it has ended."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peaks(on_gpu: bool) -> tuple[int, int, int]:
    """The largest memory so far, bytes: resident on the host, of tensors on the GPU, held there by the allocator."""
    if not on_gpu:
        return peak_memory(), 0, 0
    import torch

    return peak_memory(), torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def peak_memory() -> int:
    """The largest resident memory of this process so far, bytes; 0 where the system does not tell. `getrusage` would count
    what the parent had before this process began."""
    with suppress(OSError):
        for line in (OWN / "status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def forget_peaks(on_gpu: bool) -> None:
    """Count the largest memory from here: other work may have been done in this process."""
    with suppress(OSError):
        (OWN / "clear_refs").write_text(FORGET_PEAK)
    if on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()
