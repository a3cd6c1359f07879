"""Where jobs' processes run. A backend starts attempts and tells how they end; everything else is the executor's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from coworld_bench.bench.child import Ending
from coworld_bench.bench.job import Job


class Attempt(Protocol):
    """A process at a job, somewhere."""

    def news(self) -> Iterable[Mapping[str, Any]]:
        """The progress since the last call."""

    def ending(self) -> Ending | None:
        """None while it runs."""

    def stop(self) -> None:
        """Ask it to stop at a checkpoint."""

    def close(self) -> None:
        """End it, if it has not ended, and let go of what it held."""


class Backend(Protocol):
    """Starts attempts. Used by one thread."""

    grace_s: float  # what attempts that were asked to stop are given
    where: str  # in words; empty for this machine

    def room(self) -> int:
        """How many attempts can be started now."""

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> Sequence[Attempt]:
        """Begin an attempt at each of these jobs, at most `room`; `numbers` says which attempt at its job each is. One that
        cannot begin has ended, and its `ending` tells why."""

    def wait(self, seconds: float) -> None:
        """Return when an attempt that is not closed has news or ends, or after so long."""

    def close(self) -> None:
        """End every attempt that is left, and let go of everything."""


class Ended:
    """An attempt that has ended already."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def news(self) -> Iterable[Mapping[str, Any]]:
        return ()

    def ending(self) -> Ending:
        return self._ending

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
