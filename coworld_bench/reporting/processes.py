"""Independent pieces of work in several processes, with what one process would make."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
work_of_children: Callable[[int], Any] | None = None  # what forked processes find here, without pickling


def in_processes(work: Callable[[int], T], count: int) -> list[T]:
    """`work(0)` to `work(count - 1)`, in order; in forked processes where there are processors for them.

    A process with threads must not fork: there, and where there is little to do, all of it is done here."""
    workers = min(len(os.sched_getaffinity(0)), count)
    if workers < 2 or threading.active_count() > 1 or multiprocessing.current_process().daemon:
        return [work(number) for number in range(count)]
    global work_of_children
    work_of_children = work
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
            return list(pool.map(do, range(count)))
    finally:
        work_of_children = None


def do(number: int) -> Any:
    assert work_of_children is not None
    return work_of_children(number)
