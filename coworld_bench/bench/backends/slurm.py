"""Attempts as jobs of a Slurm cluster. The driver may end, or be killed: its jobs stay in the queue, and the same command
takes those that still wait or work as its own."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from coworld_bench.bench.backends import Attempt, Ended
from coworld_bench.bench.backends.local import order
from coworld_bench.bench.backends.slurm_queue import GRACE_S, MOST, NEVER, OVER, Queue, make_parameters
from coworld_bench.bench.backends.slurm_task import Task, progress_in
from coworld_bench.bench.child import Ending, Limits
from coworld_bench.bench.job import Job
from coworld_bench.bench.status import status_path
from coworld_bench.errors import INTERRUPTED, LOCKED, NOT_USABLE, OK, SOME_FAILED, NotUsable, UsageError
from coworld_bench.files import atomic, digest_of

FOLDER = ".slurm"  # in a store: one folder for each command that submits
LOOK_S, LOOK_EACH_S = 2.0, 0.01  # between two looks at what tasks wrote, and for each task besides
ASK_S, ASK_SOON_S = 30.0, 4.0  # between two questions to Slurm
BUSY_S = 60.0  # until a job that another process is at goes into the queue again
OLD_S = 7 * 86400.0  # after which what a command left behind is removed
LOG_LINES = 5


class Submitting(Protocol):
    """A queue of tasks; see Queue, which is Slurm's."""

    folder: Path

    def submit(self, tasks: Sequence[Task]) -> list[str]: ...

    def states(self) -> dict[str, str] | None: ...

    def stop(self, tasks: Sequence[str]) -> None: ...

    def cancel(self, tasks: Sequence[str]) -> None: ...


def make_slurm(store: Path, device: str, jobs: int | None, limits: Limits, given: Mapping[str, str]) -> Slurm:
    """Raises UsageError or NotUsable where nothing can be submitted."""
    limits = replace(limits, grace_s=GRACE_S)
    folder = store.resolve() / FOLDER / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    return Slurm(Queue(folder, make_parameters(given, limits, device), jobs or MOST), jobs, limits)


class Slurm:
    """Attempts that are ready together are one array. At most `jobs` run at a time."""

    where = "as jobs of a Slurm cluster"

    def __init__(self, queue: Submitting, jobs: int | None, limits: Limits) -> None:
        self.queue, self.jobs, self.limits = queue, jobs, limits
        self.grace_s = limits.grace_s + 3 * LOOK_S + ASK_SOON_S
        self.open: dict[str, Submitted] = {}  # by their ids in the queue
        self.left: dict[str, tuple[str, Path]] = {}  # by their tickets: what earlier commands have in the queue, and where
        self.busy_until: dict[str, float] = {}
        self.to_stop: list[str] = []
        self.taken_any = self.stopping = False
        self._look_at = self._ask_at = 0.0
        self._find_left()

    def room(self) -> int:
        """With `jobs`: at first many, an array that runs so many at a time; later no more than that in the queue."""
        if self.jobs is None or not self.open:
            return MOST - len(self.open)
        return max(0, self.jobs - len(self.open))

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> list[Attempt]:
        now = time.monotonic()
        self._forget_ended(jobs)
        attempts: dict[str, Attempt] = {}
        fresh: list[tuple[Job, Task]] = []
        for job, number in zip(jobs, numbers, strict=True):
            if now < self.busy_until.get(job.key, 0.0):
                attempts[job.key] = Ended(Ending(LOCKED, "", 0.0))
            elif ticket_of(job) in self.left:
                attempts[job.key] = self._follow(job, *self.left.pop(ticket_of(job)))
            else:
                fresh.append((job, Task(order(job, number), self.limits)))
        if fresh:
            attempts |= self._submit(fresh)
        return [attempts[job.key] for job in jobs]

    def _forget_ended(self, jobs: Sequence[Job]) -> None:
        """Of what earlier commands had in the queue for these jobs, what is no longer there."""
        tickets = {ticket_of(job) for job in jobs} & set(self.left)
        states = self.queue.states() if tickets else {}
        if states is not None:
            self.left = {key: left for key, left in self.left.items() if key not in tickets or is_there(left[0], states)}

    def _submit(self, fresh: Sequence[tuple[Job, Task]]) -> dict[str, Attempt]:
        """Put tasks into the queue. Raises UsageError where Slurm takes none from the first."""
        try:
            ids = self.queue.submit([task for _, task in fresh])
        except UsageError as error:
            if not self.taken_any:
                raise
            lost = Ending(-signal.SIGKILL, f"lost: {error}", 0.0, "lost")
            return {job.key: Ended(lost) for job, _ in fresh}
        self.taken_any = True
        return {job.key: self._follow(job, task, self.queue.folder) for (job, _), task in zip(fresh, ids, strict=True)}

    def _follow(self, job: Job, task: str, folder: Path) -> Submitted:
        with atomic(folder / f"{ticket_of(job)}.ticket") as file:
            file.write(task.encode())
        self.open[task] = Submitted(job, task, folder, self)
        return self.open[task]

    def wait(self, seconds: float) -> None:
        if self.to_stop:
            self.queue.stop(self.to_stop)
            self.to_stop, self.stopping, self._ask_at = [], True, 0.0
        time.sleep(seconds)
        if time.monotonic() >= self._look_at:
            self._look()
            self._look_at = time.monotonic() + LOOK_S + LOOK_EACH_S * len(self.open)

    def _look(self) -> None:
        """At what the tasks wrote; now and then also at what Slurm says of those that wrote no end."""
        written = {folder: names_in(folder) for folder in {attempt.folder for attempt in self.open.values()}}
        for attempt in self.open.values():
            attempt.look(written[attempt.folder])
        if time.monotonic() < self._ask_at or all(attempt.ending() for attempt in self.open.values()):
            return
        states = self.queue.states()
        gone = 0
        if states is not None:
            gone = sum(attempt.judge(states.get(attempt.task, "")) for attempt in self.open.values())
        self._ask_at = time.monotonic() + (ASK_SOON_S if gone or self.stopping else ASK_S)

    def close(self) -> None:
        """End every attempt that is left, and leave nothing of them in the store."""
        if self.open:
            self.queue.cancel(list(self.open))
        for attempt in list(self.open.values()):
            attempt.close()
        shutil.rmtree(self.queue.folder, ignore_errors=True)
        self._remove_abandoned()
        with suppress(OSError):
            self.queue.folder.parent.rmdir()

    def _find_left(self) -> None:
        """What earlier commands have in the queue. Raises NotUsable where Slurm does not say."""
        tickets = tickets_in(self.queue.folder.parent)
        states = self.queue.states()
        if states is None:
            raise NotUsable("Slurm does not answer: squeue fails")
        for path, task in tickets.items():
            if is_there(task, states):
                self.left[path.stem] = task, path.parent
            elif is_abandoned(path.parent):
                path.unlink(missing_ok=True)
        self._remove_abandoned()

    def _remove_abandoned(self) -> None:
        """What commands left behind that are gone, as are their tasks."""
        for folder in self.queue.folder.parent.glob("*"):
            if is_abandoned(folder) and not any(folder.glob("*.ticket")):
                shutil.rmtree(folder, ignore_errors=True)


class Submitted:
    """An attempt in the queue."""

    def __init__(self, job: Job, task: str, folder: Path, owner: Slurm) -> None:
        self.job, self.task, self.folder, self.owner = job, task, folder, owner
        self.paths = paths_of(task, folder)
        self.status = status_path(job.log())
        self.written_ns = self._written()
        self.began: float | None = None
        self.unread: Mapping[str, Any] | None = None
        self.gone = ""  # as what Slurm last said that it ended, without an end of its own
        self._ending: Ending | None = None

    def news(self) -> Iterator[Mapping[str, Any]]:
        if self.unread:
            yield self.unread
        self.unread = None

    def ending(self) -> Ending | None:
        return self._ending

    def stop(self) -> None:
        self.owner.to_stop.append(self.task)

    def look(self, written: set[str]) -> None:
        """Read what it wrote since the last look."""
        if self._ending is None and self.paths.result_pickle.name in written:
            self._ending = self._result()
            if self._ending is not None and self._ending.code == LOCKED:
                self.owner.busy_until[self.job.key] = time.monotonic() + BUSY_S
        if self._written() != self.written_ns:
            self.written_ns, self.unread = self._written(), progress_in(self.status)
            self.began = self.began or time.monotonic()

    def _written(self) -> int:
        with suppress(OSError):
            return self.status.stat().st_mtime_ns
        return 0

    def _result(self) -> Ending | None:
        """What the task returned, or what was raised there; None where another command took that away."""
        try:
            how, value = pickle.loads(self.paths.result_pickle.read_bytes())
        except OSError:
            return None
        if how == "success":
            assert isinstance(value, Ending), value
            return value
        return Ending(SOME_FAILED, f"error: its Slurm job {self.task} failed: {value.strip().splitlines()[-1]}", 0.0)

    def judge(self, state: str) -> bool:
        """Whether Slurm says that it ended although it told no end; one that has been told so twice, has."""
        if self._ending is not None or (state and state not in OVER | NEVER):
            self.gone = ""
            return False
        if self.gone or self.owner.stopping:
            self._ending = self._without_result(state)
        self.gone = state or "forgotten by Slurm"
        return True

    def _without_result(self, state: str) -> Ending:
        seconds = time.monotonic() - self.began if self.began else 0.0
        name = f"Slurm job {self.task}"
        if state in NEVER:
            self.owner.queue.cancel([self.task])
            return Ending(NOT_USABLE, f"error: Slurm will never begin its job {self.task}: {state}; see --slurm", seconds)
        if self.job.finished() and not self.job.again:
            return Ending(OK, "", seconds)
        if state == "CANCELLED":
            return Ending(INTERRUPTED, f"cancelled: somebody took {name} out of the queue", seconds)
        ended = f"ended as {state}" if state else "is no longer known there"
        said = "\n".join([*self._log_lines(), f"lost: {name} {ended} and left no result"])
        return Ending(-signal.SIGKILL, said, seconds, "memory" if state == "OUT_OF_MEMORY" else "lost")

    def _log_lines(self) -> list[str]:
        with suppress(OSError):
            return self.paths.stderr.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
        return []

    def close(self) -> None:
        """Nothing of it is left in the store; what has not ended is cancelled with all others."""
        del self.owner.open[self.task]
        paths = self.paths
        mine = (paths.submitted_pickle, paths.result_pickle, paths.stdout, paths.stderr)
        for path in (*mine, self.folder / f"{ticket_of(self.job)}.ticket"):
            path.unlink(missing_ok=True)


def paths_of(task: str, folder: Path) -> Any:
    """Where submitit keeps the files of a task."""
    from submitit.core.utils import JobPaths

    return JobPaths(folder, task, 0)


def ticket_of(job: Job) -> str:
    """What names exactly this work, in the queue too."""
    return digest_of(list(job.argv))[:16]


def tickets_in(home: Path) -> dict[Path, str]:
    """What every command wrote down of its tasks: which is which in the queue."""
    found = {}
    for path in home.glob("*/*.ticket"):
        with suppress(OSError):
            found[path] = path.read_text()
    return found


def is_there(task: str, states: Mapping[str, str]) -> bool:
    """Whether a task waits or works, by what Slurm says of all."""
    return states.get(task, "COMPLETED") not in OVER


def is_abandoned(folder: Path) -> bool:
    """Whether the command that a folder is named by is gone; of another machine's, whether it is long ago."""
    host, _, pid = folder.name.rpartition("-")[0].rpartition("-")
    if host == socket.gethostname():
        return not Path(f"/proc/{pid}").exists()
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime > OLD_S
    return False


def names_in(folder: Path) -> set[str]:
    with suppress(OSError):
        folder.chmod(folder.stat().st_mode)  # a network folder then tells of what other machines wrote just now
        return set(os.listdir(folder))
    return set()
