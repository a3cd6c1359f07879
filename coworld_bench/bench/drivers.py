"""Drivers: the processes that do a plan. Each tells in a file of the store that it is there, where it can be asked to stop.

STORE/.drivers/HOST-PID-….json   what it does, refreshed every BEAT_S; removed at its end
STORE/.drivers/HOST-PID-….stop   asks it to stop at a checkpoint
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coworld_bench.bench.processes import is_gone, is_of_here, whoami
from coworld_bench.bench.status import BEAT_S, LISTEN_S, LOST_S, age_s, clock_of, now, read_status

DRIVERS = ".drivers"
Counts = Callable[[], Mapping[str, int]]


class Registration:
    """This process as a driver. A thread keeps its file fresh, and hears when it is asked to stop."""

    def __init__(self, store: Path, about: Mapping[str, Any]) -> None:
        me = whoami()
        self.path = store / DRIVERS / f"{me['host']}-{me['pid']}-{uuid.uuid4().hex[:4]}.json"
        self.counts: Counts = dict
        self._about = {"schema": 1, "state": "running", **me, "began": now(), **about}
        self._told: Mapping[str, int] | None = None
        self._asked = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="driver", daemon=True)

    def begin(self) -> None:
        self.beat()
        self._thread.start()

    def asked_to_stop(self) -> bool:
        return self._asked

    def beat(self) -> None:
        """Write the file as of now; a store that cannot be written is no reason to end the work."""
        self._told = self.counts()
        document = json.dumps(self._about | {"beat": now(), "jobs": self._told}, sort_keys=True)
        partial = self.path.with_suffix(".partial")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(document + "\n")
            partial.replace(self.path)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        forget(self.path)

    def _follow(self) -> None:
        waited = BEAT_S
        while not self._ended.wait(LISTEN_S):
            self._asked = self._asked or stop_file(self.path).exists()
            waited -= LISTEN_S
            if waited <= 0 or self.counts() != self._told:
                self.beat()
                waited = BEAT_S


@contextmanager
def registered(store: Path, about: Mapping[str, Any]) -> Iterator[Registration]:
    """This process is known as a driver inside; those that were killed are forgotten."""
    for driver in read_drivers(store):
        if not driver.alive:
            forget(driver.path)
    registration = Registration(store, about)
    registration.begin()
    try:
        yield registration
    finally:
        registration.end()


def forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        stop_file(path).unlink(missing_ok=True)


def stop_file(path: Path) -> Path:
    """The file whose presence asks the driver of this registration to stop."""
    return path.with_suffix(".stop")


@dataclass(frozen=True)
class Driver:
    """A driver as its file tells of it. `alive`: whether it is there for sure, or was heard of late."""

    path: Path
    told: Mapping[str, Any]
    alive: bool

    @property
    def plan(self) -> str:
        """The name of its plan, or the path of the plan's file."""
        return str(self.told.get("plan", ""))

    @property
    def name(self) -> str:
        """Its plan's name."""
        return Path(self.plan).stem if self.plan.endswith(".toml") else self.plan

    @property
    def preset(self) -> str:
        return str(self.told.get("preset", ""))

    @property
    def jobs(self) -> Mapping[str, int]:
        """How many jobs are done, running, waiting, failed…"""
        return self.told.get("jobs") or {}

    @property
    def width(self) -> int | None:
        """Processes at a time; None where its executor decides."""
        return self.told.get("width")

    @property
    def place(self) -> str:
        return f"{self.told.get('host')} process {self.told.get('pid')}"

    @property
    def asked_to_stop(self) -> bool:
        return stop_file(self.path).exists()

    def ask_to_stop(self) -> None:
        stop_file(self.path).touch()


def read_drivers(store: Path) -> list[Driver]:
    """All that left a file in a store, oldest first."""
    found = [(path, read_status(path)) for path in (store / DRIVERS).glob("*.json")]
    found = [(path, told) for path, told in found if told]
    clock = clock_of(store / DRIVERS) if any(not is_of_here(told) for _, told in found) else None
    drivers = [Driver(path, told, is_alive(told, path, clock)) for path, told in found]
    return sorted(drivers, key=lambda driver: str(driver.told.get("began", "")))


def is_alive(told: Mapping[str, Any], path: Path, clock: float | None) -> bool:
    """A process that can be seen from here is there or not; another one gives signs of life."""
    return not is_gone(told) if is_of_here(told) else age_s(path, clock) <= LOST_S


def drivers_at_work(store: Path) -> list[Driver]:
    return [driver for driver in read_drivers(store) if driver.alive]
