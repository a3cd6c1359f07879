"""What a Slurm job does on its node: one attempt at a job of ours, which ends at a checkpoint before Slurm ends it.

Slurm sends its signals to every process of a job. USR2 warns of its time limit or of preemption: the attempt stops at a
checkpoint and the Slurm job goes back into the queue. TERM says that Slurm ends it: what becomes of it, Slurm tells whoever
asks. USR1 comes from the driver, which wants the attempt to stop, and to hear how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coworld_bench.bench.backends.supervising import supervise
from coworld_bench.bench.board import fraction
from coworld_bench.bench.child import Ending, Limits, Order
from coworld_bench.bench.status import ATTEMPT, read_status, status_path
from coworld_bench.data.budget import LIMIT, PROCESSES, SHARE
from coworld_bench.devices import THREADS
from coworld_bench.errors import INTERRUPTED, STOPPED

WARNED, ENDED, ASKED = signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1


@dataclass(frozen=True)
class Task:
    """An attempt, as submitit carries it to a node."""

    order: Order
    limits: Limits

    def __call__(self) -> Ending:
        before = furthest(self.order.log)
        with hearing(WARNED, ENDED, ASKED) as heard:
            ending = supervise(numbered(self.order), self.limits, slot(), stop=lambda: bool(heard))
        if not heard or not (ending.code < 0 or ending.code in (STOPPED, INTERRUPTED)):
            return ending  # of its own accord
        if WARNED in heard and furthest(self.order.log) > before:
            requeue()
        elif ENDED in heard and WARNED not in heard:
            sys.exit(STOPPED)
        return replace(ending, code=STOPPED)


@contextmanager
def hearing(*numbers: signal.Signals) -> Iterator[set[int]]:
    """The signals that came inside."""
    heard: set[int] = set()
    before = {number: signal.signal(number, lambda number, _: heard.add(number)) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def furthest(log: Path) -> float:
    """How far the last attempt at this job got, 0 to 1; less where it told nothing."""
    share = fraction(progress_in(status_path(log)))
    return -1.0 if share is None else share


def progress_in(status: Path) -> dict[str, Any]:
    """The last progress that a status file tells; empty where there is none."""
    return read_status(status).get("progress") or {}


def numbered(order: Order) -> Order:
    """The same where Slurm itself began it again, as a later attempt: that does not begin forced work anew."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    return replace(order, env={**order.env, ATTEMPT: str(int(order.env[ATTEMPT]) + restarts)})


def slot() -> dict[str, str]:
    """What the attempt adds to its environment: one thread without a GPU, as everywhere, and a part of the memory."""
    threads = {} if os.environ.get("CUDA_VISIBLE_DEVICES") else dict.fromkeys(THREADS, "1")
    return threads | memory_part()


def memory_part() -> dict[str, str]:
    """From the memory that the job was given, else from its part of the processors."""
    if LIMIT in os.environ:
        return {}
    if megabytes := int(os.environ.get("SLURM_MEM_PER_NODE") or 0):
        return {LIMIT: f"{int(megabytes * SHARE)}M"}
    own = int(os.environ.get("SLURM_CPUS_ON_NODE") or 1)
    return {PROCESSES: str(max(1, (os.cpu_count() or 1) // own))}


def requeue() -> None:
    """Put this job back into Slurm's queue, under its number. Returns where the site does not allow that."""
    import submitit

    with suppress(subprocess.SubprocessError, OSError):
        submitit.JobEnvironment()._requeue(0)
        sys.exit(STOPPED)
