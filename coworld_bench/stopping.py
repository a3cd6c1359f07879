"""Work that is asked to stop ends at a checkpoint: the same command goes on from there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coworld_bench.errors import STOPPED, UserError

Stop = Callable[[], bool]


class StoppedAtCheckpoint(UserError):
    """Raised where work ends early and is kept."""

    exit_code = STOPPED


def never() -> bool:
    return False


@contextmanager
def stop_on_signals(insisting: bool = True) -> Iterator[Stop]:
    """Inside, SIGTERM or Ctrl-C makes the given function true; a second Ctrl-C interrupts at once, unless it is not to be
    `insisting`. SIGTERM may come often: a cluster sends it to every process, which then hears of it from its parent too.
    Outside the main thread, which alone hears signals, it stays false."""
    if threading.current_thread() is not threading.main_thread():
        yield never
        return
    asked = interrupted = False

    def ask(number: int, _: object) -> None:
        nonlocal asked, interrupted
        if interrupted and number == signal.SIGINT and insisting:
            raise KeyboardInterrupt
        asked, interrupted = True, interrupted or number == signal.SIGINT

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin(stop: Stop) -> None:
    """Raises StoppedAtCheckpoint where work is to stop that has not begun."""
    if stop():
        raise StoppedAtCheckpoint("stopped before it began; give the same command again")


class Timer:
    """True once every so many minutes, counted from when it last was."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.last = 60 * minutes, time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last < self.seconds:
            return False
        self.reset()
        return True

    def reset(self) -> None:
        self.last = time.monotonic()
