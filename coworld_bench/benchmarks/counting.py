"""What an update asks of the machine, whatever the load: kernel launches, host synchronisations, arithmetic."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

SYNCHRONISING = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.nonzero", "aten.equal", "aten.item")
WITHOUT_KERNEL = (  # views, and what only allocates
    "aten.view", "aten._unsafe_view", "aten._reshape_alias", "aten.t.", "aten.transpose", "aten.permute", "aten.expand",
    "aten.slice", "aten.select", "aten.split", "aten.chunk", "aten.unbind", "aten.unsqueeze", "aten.squeeze", "aten.detach",
    "aten.alias", "aten.as_strided", "aten.empty", "aten.new_empty", "aten.unfold", "aten.lift_fresh", "prim.",
    "aten.is_same_size", "aten._to_copy.default_noop", "profiler.",
)  # fmt: skip


class Counts(TorchDispatchMode):
    """Counts what is dispatched inside: `launches` of kernels, `synchronisations` of the host with the device, `flops`.

    Of compiled code, the library's kernels are dispatched; `generated_kernels` tells of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.synchronisations = self.flops = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled functions run compiled under this mode."""
        return True

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        name, keywords = str(function), keywords or {}
        if name.startswith(SYNCHRONISING):
            self.synchronisations += 1
        elif not name.startswith(WITHOUT_KERNEL):
            self.launches += 1
        result = function(*arguments, **keywords)
        if formula := flop_registry.get(function._overloadpacket):
            self.flops += formula(*arguments, **keywords, out_val=result)
        return result


@contextmanager
def generated_kernels(launched: Callable[[int], None]) -> Iterator[None]:
    """Tells `launched` of every call of a C++ kernel that torch.compile wrote for the CPU, with its number of loop nests.

    Such a kernel holds all that stands between two library calls, unrelated loops too. A GPU would launch about one kernel
    for each nest: fewer where tensors are joined, two where a large tensor is summed up."""
    cache = sys.modules.get("torch._inductor.codecache")  # not imported: nothing was compiled
    with ExitStack() as patches:
        for module in cache.PyCodeCache.modules if cache else ():
            for name, nests in loop_nests(Path(module.__file__).read_text()).items():
                patches.enter_context(patch.object(module, name, telling(getattr(module, name), launched, nests)))
        yield


def telling(kernel: Callable[..., Any], launched: Callable[[int], None], nests: int) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        launched(nests)
        return kernel(*arguments)

    return run


def loop_nests(source: str) -> dict[str, int]:
    """The C++ kernels in a module that inductor wrote, and how many loop nests follow one another in each."""
    kernels = re.findall(r"^(\w+) = async_compile\.cpp_pybinding\((.*?)^'''\)", source, re.MULTILINE | re.DOTALL)
    return {name: len(re.findall(r"^    \{$", body, re.MULTILINE)) for name, body in kernels}


def count(update: Callable[[], Any]) -> dict[str, float]:
    """Launches, synchronisations and TFLOP of one call; what it compiles was compiled by an earlier one."""
    nests: list[int] = []
    with generated_kernels(nests.append), Counts() as counts:
        update()
    return {
        "launches": counts.launches + sum(nests),
        "synchronisations": counts.synchronisations,
        "tflop": round(counts.flops / 1e12, 5),
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
