"""Functions of tensors compiled by torch.compile, which fuses their elementwise work into few kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

SHAPES = 64  # a function may be compiled for: sizes of networks and batches, times with and without gradients


@cache
def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled for the shapes it meets; the first call with each takes seconds."""
    import torch

    torch._dynamo.config.recompile_limit = SHAPES  # its 8 are fewer than one process may need, and more is an error
    return torch.compile(function, dynamic=False, fullgraph=True)


def made(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    """`function`, fused or as it is."""
    return fused(function) if compiled else function
