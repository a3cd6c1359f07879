"""Which device to compute on."""

from __future__ import annotations

import ctypes
import os
import sys

from coworld_bench.errors import NotUsable, unknown

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
