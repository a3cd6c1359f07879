"""What an executor takes for itself: many jobs that do nothing but make their product, and many that need no process."""

from __future__ import annotations

import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coworld_bench.bench.backends import Backend, Ended
from coworld_bench.bench.backends.local import Local
from coworld_bench.bench.child import NO_LIMITS, Ending
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.errors import OK

COUNTS = [10, 100, 1_000]
WITHOUT_PROCESSES = [1_000, 10_000, 100_000]
AT_ONCE = 8  # jobs that need no process
RUNS_PER_DATASET = 100
MAKE = "import sys; open(sys.argv[1], 'w').close()"
NO_SITE = (sys.executable, "-I", "-S", "-c", MAKE)

Seconds = tuple[float, float]  # wall, and CPU of this process and its children


def measure(counts: list[int] | None = None, repeats: int = 3) -> dict[str, Any]:
    """A row per executor and number of jobs: wall and CPU time, and wall time per job."""
    arms: dict[str, Callable[[Path, int], Seconds]] = {"bare subprocesses": bare, "local": local, "ray": on_ray}
    if find_spec("ray") is None:
        del arms["ray"]
    found: dict[tuple[str, int], list[Seconds]] = {}
    start_s = begin_ray() if "ray" in arms else 0.0
    for _ in range(repeats):
        for number in counts or COUNTS:
            for arm, work in arms.items():
                with TemporaryDirectory() as folder:
                    found.setdefault((arm, number), []).append(work(Path(folder), number))
        for number in WITHOUT_PROCESSES if counts is None else counts:
            found.setdefault(("no processes", number), []).append(without_processes(number))
    if "ray" in arms:
        end_ray()
    rows = [row(arm, number, seconds) for (arm, number), seconds in sorted(found.items())]
    notes = [
        "Jobs whose process does nothing but make a file (`python -I -S`), one at a time: what is more than a bare "
        f"subprocess takes is the executor's. Medians of {repeats} round(s) in which the arms take turns; CPU time is that "
        "of the driver and of the processes it started itself (with ray the jobs' are not among them).",
        f"no processes: {AT_ONCE} at a time through a backend whose attempts have ended when they begin, one job in "
        f"{RUNS_PER_DATASET} a dataset that the others need: the scheduling alone.",
        f"ray: a cluster of one CPU on this machine, up and warm before; its start took {start_s:.1f} s."
        if "ray" in arms
        else "Ray is not installed here.",
        *(growth(arm, rows) for arm in dict.fromkeys(row["executor"] for row in rows)),
    ]
    return {"rows": rows, "notes": notes}


def row(arm: str, number: int, seconds: Sequence[Seconds]) -> dict[str, Any]:
    wall, cpu = (statistics.median(values) for values in zip(*seconds, strict=True))
    return {
        "executor": arm,
        "jobs": number,
        "wall_s": round(wall, 4),
        "cpu_s": round(cpu, 4),
        "wall_ms_per_job": round(1e3 * wall / number, 3),
        "cpu_ms_per_job": round(1e3 * cpu / number, 3),
    }


def growth(arm: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """How the time of an executor grows over its last decade."""
    points = [(row["jobs"], row["wall_s"]) for row in rows if row["executor"] == arm]
    if len(points) < 2:
        return f"{arm}: one number of jobs says nothing about growth."
    (fewer, short), (more, long) = points[-2:]
    power = math.log(long / short) / math.log(more / fewer)
    marginal = 1e3 * (long - short) / (more - fewer)
    return (
        f"{arm}: from {fewer:,} to {more:,} jobs its time grows with the power {power:.2f} of their number; "
        f"{marginal:.2f} ms for each job more."
    )


def bare(folder: Path, number: int) -> Seconds:
    def work() -> None:
        for index in range(number):
            subprocess.run([*NO_SITE, str(folder / f"{index}.made")], check=True)

    return timed(work)


def local(folder: Path, number: int) -> Seconds:
    return through(Local([{}]), jobs(folder, number))


def on_ray(folder: Path, number: int) -> Seconds:
    from coworld_bench.bench.backends.ray import Ray

    return through(Ray([folder], NO_LIMITS, "cpu", jobs=1), jobs(folder, number))


def begin_ray() -> float:
    """A Ray that outlasts the backends on it, with its worker process at work; returns the seconds its start took."""
    from coworld_bench.bench.backends.ray_cluster import connect

    began = time.perf_counter()
    connect("local", 1)
    seconds = time.perf_counter() - began
    with TemporaryDirectory() as folder:
        on_ray(Path(folder), 2)
    return seconds


def end_ray() -> None:
    import ray

    ray.shutdown()


def jobs(folder: Path, number: int) -> list[Job]:
    return [job(folder, index) for index in range(number)]


def job(folder: Path, index: int) -> Job:
    product = folder / f"{index}.made"
    return Job("train", str(index), (*NO_SITE, str(product)), product.is_file, lambda: folder / f"{index}.log")


def without_processes(number: int) -> Seconds:
    with TemporaryDirectory() as folder:
        backend = Instant()
        return through(backend, [backend.job(Path(folder), index) for index in range(number)])


class Instant:
    """A backend that makes a job's product by remembering its name."""

    grace_s, where = 0.0, ""

    def __init__(self) -> None:
        self.made: set[str] = set()

    def job(self, folder: Path, index: int) -> Job:
        key, log = str(index), folder / f"{index}.log"
        first = index - index % RUNS_PER_DATASET
        needs = (str(first),) if index != first else ()
        return Job("train" if needs else "collect", key, (), lambda: key in self.made, lambda: log, needs)

    def room(self) -> int:
        return AT_ONCE

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> list[Ended]:
        self.made |= {job.key for job in jobs}
        return [Ended(Ending(OK, "", 0.0)) for _ in jobs]

    def wait(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


class Silent:
    """Told everything, says nothing."""

    def started(self, job: Job) -> None:
        pass

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        pass

    def repeated(self, job: Job, outcome: Outcome) -> None:
        pass

    def ended(self, job: Job, outcome: Outcome) -> None:
        assert outcome.state == "done", (job.key, outcome)


def through(backend: Backend, work: Iterable[Job]) -> Seconds:
    return timed(lambda: Executor(backend, Silent()).run(work))


def timed(work: Callable[[], Any]) -> Seconds:
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Of this process and of those of its children that have ended."""
    uses = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in uses)
