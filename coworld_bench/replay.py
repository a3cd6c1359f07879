"""Pure functions of tensors, replayed as CUDA graphs: one launch for the thousands of small kernels of an update.

What is captured must not depend on Python values that change: they come in as tensors. Random numbers come from generators
that the graph knows, so that a replay draws new ones. On a CPU, or when not wanted, a call is just a call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

WARM_UP = 3  # eager calls on a side stream before capturing: cuBLAS, Adam's state and autograd's buffers settle


class Replay:
    """The graphs of one agent; `generator` is the stream its captured functions draw from."""

    def __init__(self, device: torch.device, generator: torch.Generator, wanted: bool = True) -> None:
        self.generator, self.on = generator, wanted and device.type == "cuda"
        self._recorded: dict[Hashable, Recorded] = {}

    def __call__(self, key: Hashable, function: Callable[..., Any], *inputs: Any) -> Any:
        """`function(*inputs)`; inputs and outputs are nested tuples and dicts of tensors (or None), of fixed shapes."""
        if not self.on:
            return function(*inputs)
        if key not in self._recorded:
            self._recorded[key] = Recorded(function, self.generator)
        return self._recorded[key](*inputs)


class Recorded:
    """One function: a few calls as they are, then captured, then replayed."""

    def __init__(self, function: Callable[..., Any], generator: torch.Generator) -> None:
        self.function, self.generator, self.calls = function, generator, 0
        self.stream = torch.cuda.Stream()
        self.graph: Any = None

    def __call__(self, *inputs: Any) -> Any:
        if self.graph is None and self.calls < WARM_UP:
            self.calls += 1
            return self._eagerly(inputs)
        leaves, shape = tree_flatten(inputs)
        if self.graph is None:
            self._capture(leaves, shape)
        for mine, given in zip(self.leaves, leaves, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return tree_unflatten([kept(leaf) for leaf in self.results], self.results_shape)

    def _eagerly(self, inputs: tuple[Any, ...]) -> Any:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            results = self.function(*inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return results

    def _capture(self, leaves: list[Any], shape: Any) -> None:
        self.leaves = [kept(leaf) for leaf in leaves]
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        torch.cuda.synchronize()
        with torch.cuda.graph(self.graph, stream=self.stream):
            results = self.function(*tree_unflatten(self.leaves, shape))
        self.results, self.results_shape = tree_flatten(results)


def kept(leaf: Any) -> Any:
    """A copy that the next replay leaves alone."""
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
