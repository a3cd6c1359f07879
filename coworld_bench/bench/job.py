"""Something to make, how that ended, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from coworld_bench.errors import OK

State = Literal["done", "finished before", "failed", "not started", "stopped", "interrupted"]


@dataclass(frozen=True)
class Forecast:
    """What a job will take, as far as is known, and where that is from: seconds of its process, of which `drawing_s` are a
    processor's at environments (told where predicted), bytes it leaves on disk, and the most it holds in memory."""

    seconds: float | None = None
    origin: str = ""
    drawing_s: float | None = None
    disk_bytes: int = 0
    memory_bytes: int | None = None
    memory_origin: str = ""
    gpu_bytes: int | None = None
    gpu_origin: str = ""


@dataclass(frozen=True)
class Job:
    """Something to make. `finished` says whether it is there; `log` is its process's stderr; `again` makes it anew. `check`
    raises UsageError where it cannot be made, before anything is. `spec` is that of a run, for whoever does it again.
    `holder` says in words who is making it now, wherever that is; None for nobody."""

    kind: str
    key: str
    argv: tuple[str, ...]
    finished: Callable[[], bool]
    log: Callable[[], Path]
    needs: tuple[str, ...] = ()
    estimate_s: float | None = None
    accepts: tuple[int, ...] = (OK,)
    again: bool = False
    check: Callable[[], None] = lambda: None
    identity: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    forecast: Forecast = Forecast()
    holder: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `note`: the last lines of its stderr, or what it waited for in vain; `attempts`: processes begun."""

    state: State
    note: str = ""
    seconds: float = 0.0
    code: int = OK
    attempts: int = 1

    @property
    def good(self) -> bool:
        return self.state in ("done", "finished before")


class Watch(Protocol):
    """Told what happens, in the order in which it happens."""

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None: ...

    def repeated(self, job: Job, outcome: Outcome) -> None: ...

    def ended(self, job: Job, outcome: Outcome) -> None: ...
