"""Which device to compute on, and how much memory the host has left."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from coworld_bench.errors import NotUsable, unknown

GPU_SHARE = "COWORLD_BENCH_GPU_SHARE"  # in a process's environment: its part of a GPU, 0 to 1
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GPU_SPARE = 0.95  # of a share; the rest is for what CUDA itself takes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def choose_device(name: str = "auto") -> str:
    """`cpu` or `cuda`, made ready; `auto` takes CUDA where there is one.

    Raises NotUsable when CUDA is asked for and missing."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise NotUsable("--device cuda was asked for, but PyTorch finds no CUDA device; use --device cpu")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        share = os.environ.get(GPU_SHARE)
        if share:
            torch.cuda.set_per_process_memory_fraction(GPU_SPARE * float(share))
        torch.set_float32_matmul_precision("high")  # TF32 in what stays float32: the recurrences
        return "cuda"
    prepare_cpu()
    return "cpu"


def prepare_cpu() -> None:
    """One thread, unless OMP_NUM_THREADS says otherwise: runs share a machine as processes, and sums keep their order."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    keep_freed_memory()


def describe_device(device: str) -> str:
    """The device in words, for a result."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} thread(s)"


def keep_freed_memory() -> None:
    """Let glibc keep large blocks it frees: image batches are allocated anew every update, and each fresh page costs."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # glibc's largest
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that a process may still take: what the machine has, or its control groups leave where that is less."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return max(0, min([available, *left_to_groups(root)]))


def left_to_groups(root: Path) -> Iterator[int]:
    """What each control group that holds this process leaves it, versions 1 and 2; page cache it could drop is left."""
    own = root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        inner = top / path.strip("/")
        for group in (inner, *inner.parents):
            limit, used, stat = (group / name for name in (*names, "memory.stat"))
            if limit.is_file() and used.is_file() and (text := limit.read_text().strip()) != "max":
                yield int(text) - int(used.read_text()) + cached(stat)
            if group == top:
                break


def cached(stat: Path) -> int:
    """Bytes of files that a control group could drop."""
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))
