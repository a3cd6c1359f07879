"""One attempt at a job, followed on the machine where it runs: for backends whose attempts are tasks of somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from coworld_bench.bench.child import NO_LIMITS, Child, Ending, Limits, Order, memory_of_sessions, wait_for
from coworld_bench.errors import SOME_FAILED, about_file
from coworld_bench.stopping import Stop, never

LOOK_S = 1.0  # between two looks at what it takes
POLL_S = 0.5  # the most until a request to stop is heard

Observe = Callable[[Mapping[str, Any]], None]


def unheard(progress: Mapping[str, Any]) -> None:
    pass


def supervise(
    order: Order,
    limits: Limits = NO_LIMITS,
    slot: Mapping[str, str] | None = None,
    observe: Observe = unheard,
    stop: Stop = never,
) -> Ending:
    """Run a job's process here until it ends, held to its limits, and say how it ended; `slot` is added to its environment.

    `observe` is told its progress. When `stop` becomes true (see `stopping.stop_on_signals`) it is asked to stop at a
    checkpoint, and killed where it does not in `limits.grace_s`. Whatever is raised here, nothing of it is left."""
    try:
        child = Child(order, limits, slot or {})
    except OSError as error:
        return Ending(SOME_FAILED, f"error: its process cannot begin: {about_file(error)}", 0.0)
    with closing(child):
        return follow(child, observe, stop)


def follow(child: Child, observe: Observe, stop: Stop) -> Ending:
    """How it ended, told its progress until then."""
    asked, look_at = False, 0.0
    while True:
        ending = child.ending()  # before reading, so that nothing is missed
        for progress in child.news():
            observe(progress)
        if ending is not None:
            return ending
        if stop() and not asked:
            asked = True
            child.stop()
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + LOOK_S
            child.hold_to_limits(memory_of(child))
        wait_for([child], POLL_S)


def memory_of(child: Child) -> int | None:
    """Bytes that it and its own children take; None where no limit asks."""
    return None if child.limits.memory_bytes is None else memory_of_sessions().get(child.process.pid)
