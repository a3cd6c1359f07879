"""Asking drivers and jobs to stop at a checkpoint, wherever they run: they share the store and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coworld_bench.bench.claims import share
from coworld_bench.bench.drivers import Driver, drivers_at_work
from coworld_bench.bench.finding import one_of
from coworld_bench.bench.opened import keep_fresh
from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.bench.status import stop_path
from coworld_bench.errors import UsageError
from coworld_bench.plans import list_plans

LOOK_S, TELL_S = 0.5, 15.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """A driver or a job that was asked to stop."""

    words: str
    place: str
    is_there: Callable[[], bool]


def ask_to_stop(store: Path, name: str | None, preset: str | None = None, everything: bool = False) -> list[Asked]:
    """Ask the drivers of a plan, one job, or with `everything` every driver and what runs without one. Raises UsageError
    where none of that is at work."""
    drivers = [driver for driver in drivers_at_work(store) if preset in (None, driver.preset)]
    if name is None:
        if not everything:
            raise UsageError(f"give a plan or a run, or --all; {at_work(drivers, store)}")
        return [*map(ask_driver, drivers), *lone_jobs(store, drivers)]
    names = {name, str(Path(name).expanduser().absolute())} if name.endswith(".toml") else {name}
    chosen = [driver for driver in drivers if names & names_of(driver)]
    if chosen:
        return [ask_driver(driver) for driver in chosen]
    if name.endswith(".toml") or name in list_plans():
        raise UsageError(f"nobody is at work on plan {name}; {at_work(drivers, store)}")
    try:
        return [ask_job(store, one_of(Reader(store).read(), name))]
    except UsageError as error:
        raise UsageError(f"{error}; {at_work(drivers, store)}") from error


def names_of(driver: Driver) -> set[str]:
    return {driver.name, driver.plan, Path(driver.plan).name}


def at_work(drivers: Sequence[Driver], store: Path) -> str:
    told = ", ".join(f"{driver.name} (preset {driver.preset}) on {driver.place}" for driver in drivers)
    return f"at work on {store}: {told or 'no driver'}"


def ask_driver(driver: Driver) -> Asked:
    driver.ask_to_stop()

    def is_there() -> bool:
        return any(other.path == driver.path for other in drivers_at_work(driver.path.parent.parent))

    return Asked(f"{driver.name} (preset {driver.preset})", driver.place, is_there)


def ask_job(store: Path, job: Standing) -> Asked:
    if job.state != "running":
        raise UsageError(f"{job.name} is not running but {job.state}; `coworld-bench status` shows what runs")
    if job.status.get("kind") == "anchors":
        raise UsageError(f"{job.words} has no checkpoint to stop at; stop the plan that it is of")
    stop_path(job.log).touch()
    share(store, stop_path(job.log))

    def is_there() -> bool:
        keep_fresh(store)
        now = Reader(store).look(job.log)
        return now is not None and now.state == "running"

    return Asked(job.words, str(job.status.get("host", "")), is_there)


def lone_jobs(store: Path, drivers: Sequence[Driver]) -> list[Asked]:
    """What runs where no driver is."""
    if drivers:
        return []
    running = [found for found in Reader(store).read() if found.state == "running"]
    return [ask_job(store, found) for found in running if found.status.get("kind") != "anchors"]


def wait_for(asked: Sequence[Asked], seconds: float, say: Say) -> list[Asked]:
    """Until all have stopped, or for so long; those that have not. Tells now and then whom it waits for."""
    began = told = time.monotonic()
    left = list(asked)
    while True:
        with suppress(OSError):
            left = [each for each in left if each.is_there()]
        now = time.monotonic()
        if not left or now - began >= seconds:
            return left
        if now - told >= TELL_S:
            told = now
            say(f"waiting for {', '.join(f'{each.words} on {each.place}' for each in left)}")
        time.sleep(LOOK_S)
