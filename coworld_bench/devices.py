"""Which device to compute on."""

from __future__ import annotations

import ctypes
import sys

from coworld_bench.errors import NotUsable, unknown

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def choose_device(name: str = "auto") -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is one. Raises NotUsable when CUDA is asked for and missing."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise unknown("device", name, ("auto", "cpu", "cuda"))
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise NotUsable("--device cuda was asked for, but PyTorch finds no CUDA device; use --device cpu")
    return name


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
