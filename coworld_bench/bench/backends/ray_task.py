"""What runs on the nodes of a Ray cluster: one process of Ray's supervises one of ours."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from typing import Any

import coworld_bench
from coworld_bench.bench.backends.supervising import supervise
from coworld_bench.bench.child import Ending, Limits, Order
from coworld_bench.data.budget import PROCESSES
from coworld_bench.devices import GPU_SHARE, THREADS
from coworld_bench.errors import NOT_USABLE
from coworld_bench.stopping import stop_on_signals

CPU, GPU, MEMORY = "CPU", "GPU", "memory"  # as Ray names them
PRECISION = 10_000  # of Ray's shares


@dataclass(frozen=True)
class Share:
    """What an attempt gets of its node: one CPU, so many GPUs (a part of one, or none), bytes of memory where asked."""

    gpus: float = 0.0
    memory: int | None = None

    def options(self) -> dict[str, Any]:
        """The same in Ray's words."""
        return {"num_cpus": 1, "num_gpus": int(self.gpus * PRECISION) / PRECISION, "memory": self.memory}

    def times(self, has: Mapping[str, float]) -> int:
        """How many attempts a node has room for that has so much of each."""
        counts = [has.get(CPU, 0.0)]
        counts += [has.get(GPU, 0.0) / self.gpus] if self.gpus else []
        counts += [has.get(MEMORY, 0.0) / self.memory] if self.memory else []
        return int(min(counts) + 1 / PRECISION)

    def __str__(self) -> str:
        gpus = [f"{self.gpus:.3g} GPU"] if self.gpus else []
        memory = [f"{self.memory / 10**9:.3g} GB of memory"] if self.memory else []
        return ", ".join(["1 CPU", *gpus, *memory])


@dataclass(frozen=True)
class Answer:
    """What a node has: its coworld-bench, and the folders that it does not see."""

    version: str
    unseen: tuple[str, ...]


def answer(beacons: Sequence[Path]) -> Answer:
    return Answer(coworld_bench.__version__, unseen(beacons))


def unseen(beacons: Sequence[Path]) -> tuple[str, ...]:
    """The folders whose beacons do not shine here."""
    return tuple(str(path.parent.parent if path.suffix else path) for path in beacons if not path.exists())


def attempt(
    order: Order, limits: Limits, share: Share, jobs: int | None, beacons: Sequence[Path]
) -> tuple[Ending, Mapping[str, Any]]:
    """Run a job's process on this node, with this node's Python: how it ended, and its last progress.

    Ray's request to cancel, or to end this process, makes it stop at a checkpoint."""
    dark = unseen(beacons)
    if dark:
        return Ending(NOT_USABLE, f"error: node {gethostname()} does not see {' and '.join(dark)}", 0.0, "lost"), {}
    last: deque[Mapping[str, Any]] = deque([{}], maxlen=1)
    with stop_on_signals(insisting=False) as stop, interrupts_unblocked():
        here = replace(order, argv=(sys.executable, *order.argv[1:]))
        ending = supervise(here, limits, environment(share, slots_here(share, jobs)), last.append, stop)
    return ending, last[0]


@contextmanager
def interrupts_unblocked() -> Iterator[None]:
    """Ray's processes have SIGINT blocked, which what they start would inherit."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def slots_here(share: Share, jobs: int | None) -> int:
    """How many attempts work on this node at a time, at most."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    times = max(1, sum(share.times(node["Resources"]) for node in ray.nodes() if node["NodeID"] == own))
    return min(times, jobs or times)


def environment(share: Share, slots: int) -> dict[str, str]:
    """What a process on this node gets besides; Ray has set which GPUs it sees."""
    if not share.gpus:
        own = dict.fromkeys(THREADS, "1") | {"CUDA_VISIBLE_DEVICES": ""}
    else:
        own = {GPU_SHARE: f"{share.gpus:.4f}"} if share.gpus < 1 else {}
    return own | {PROCESSES: str(slots)}
