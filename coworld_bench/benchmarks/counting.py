"""What an update asks of the machine, whatever the load: kernel launches, host synchronisations, arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

SYNCHRONISING = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.nonzero", "aten.equal", "aten.item")
WITHOUT_KERNEL = (  # views, and what only allocates
    "aten.view", "aten._unsafe_view", "aten._reshape_alias", "aten.t.", "aten.transpose", "aten.permute", "aten.expand",
    "aten.slice", "aten.select", "aten.split", "aten.chunk", "aten.unbind", "aten.unsqueeze", "aten.squeeze", "aten.detach",
    "aten.alias", "aten.as_strided", "aten.empty", "aten.new_empty", "aten.unfold", "aten.lift_fresh", "prim.",
    "aten.is_same_size", "aten._to_copy.default_noop",
)  # fmt: skip


class Counts(TorchDispatchMode):
    """Counts what is dispatched inside: `launches` of kernels and `synchronisations` of the host with the device."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.synchronisations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        name = str(function)
        if name.startswith(SYNCHRONISING):
            self.synchronisations += 1
        elif not name.startswith(WITHOUT_KERNEL):
            self.launches += 1
        return function(*arguments, **(keywords or {}))


def count(update: Callable[[], Any]) -> dict[str, float]:
    """Launches, synchronisations and TFLOP of one call."""
    with Counts() as counts:
        update()
    with FlopCounterMode(display=False) as flops:
        update()
    return {
        "launches": counts.launches,
        "synchronisations": counts.synchronisations,
        "tflop": round(flops.get_total_flops() / 1e12, 5),
    }


def peak_gflops(size: int = 1024, repeats: int = 9) -> float:
    """What one process reaches in an fp32 matrix product here, the fastest of `repeats`, GFLOP per CPU second."""
    import time

    left, right = torch.randn(size, size), torch.randn(size, size)
    left @ right
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        left @ right
        spent.append(time.process_time() - began)
    return 2 * size**3 / min(spent) / 1e9
