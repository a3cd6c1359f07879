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
    """Inside, the first SIGTERM or Ctrl-C makes the given function true; the next one interrupts at once, unless it is not
    to be `insisting`. Outside the main thread, which alone hears signals, it stays false."""
    if threading.current_thread() is not threading.main_thread():
        yield never
        return
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked and insisting:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
