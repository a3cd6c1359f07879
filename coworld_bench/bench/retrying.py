"""Which attempts are made again: one policy, wherever jobs run."""

from __future__ import annotations

from dataclasses import dataclass

from coworld_bench.bench.child import Ending
from coworld_bench.errors import OUT_OF_MEMORY, STOPPED

PAUSES_S = (1.0, 10.0, 60.0)  # before the first, second and every later repetition


@dataclass(frozen=True)
class Retries:
    """At most `limit` repetitions of an attempt that was killed, ran out of memory, stopped at a checkpoint or lost
    with its machine; not of one that ended with an error of its own, or that took too long: those would again.

    An attempt that got further than all before it does not count: a run that is preempted every hour still ends."""

    limit: int = 2
    pauses_s: tuple[float, ...] = PAUSES_S

    def worth(self, ending: Ending) -> bool:
        if ending.cause == "timeout":
            return False
        return ending.code < 0 or ending.code in (OUT_OF_MEMORY, STOPPED) or ending.cause != ""

    def pause_s(self, repetition: int) -> float:
        """Seconds before a repetition, counted from 1."""
        return self.pauses_s[min(repetition, len(self.pauses_s)) - 1]


TWICE = Retries()
