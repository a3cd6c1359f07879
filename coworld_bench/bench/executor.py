"""The local executor: one subprocess per job, in a process group of its own, with its stderr in a file; or none at all.

What counts is the store on disk: a job is done when what it makes is there, whoever made it. The child writes progress
as JSON lines to its stdout and ends with an exit code of `errors`; STOPPED says that another process is at this job.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from coworld_bench.bench.worker import perform
from coworld_bench.errors import INTERRUPTED, OK, STOPPED, UserError

State = Literal["done", "finished before", "failed", "not started", "interrupted"]
POLL_S, BUSY_S, ERROR_LINES = 0.2, 2.0, 20


@dataclass(frozen=True)
class Job:
    """Something to make. `finished` says whether it is there; `log` is the child's stderr; `again` makes it anew. `check`
    raises UsageError where it cannot be made, before anything is."""

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


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `note`: the last lines of its stderr, or what it waited for in vain."""

    state: State
    note: str = ""
    seconds: float = 0.0
    code: int = OK

    @property
    def good(self) -> bool:
        return self.state in ("done", "finished before")


class Watch(Protocol):
    """Told what happens, in the order in which it happens."""

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None: ...

    def ended(self, job: Job, outcome: Outcome) -> None: ...


class Child:
    """A job's process."""

    def __init__(self, job: Job, slot: Mapping[str, str]) -> None:
        self.job, self.slot, self.began = job, slot, time.monotonic()
        self.log = job.log()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stderr:
            self.log_start = stderr.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                job.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **slot},
                start_new_session=True,  # Ctrl-C is ours to hand on
            )
        assert self.process.stdout is not None
        self.pipe = self.process.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self._torn = b""

    def news(self) -> Iterator[Mapping[str, Any]]:
        """The progress written since the last call; what is no JSON object is left out."""
        chunk = self.pipe.read()
        *lines, self._torn = (self._torn + (chunk or b"")).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

    def outcome(self) -> Outcome | None:
        """None while it runs, or when another process turned out to be at the job."""
        code = self.process.poll()
        if code is None or self.busy:
            return None
        seconds = time.monotonic() - self.began
        if code in self.job.accepts and self.job.finished():
            return Outcome("done", seconds=seconds, code=code)
        return Outcome("failed", self._error(code), seconds, code)

    @property
    def busy(self) -> bool:
        return self.process.poll() == STOPPED

    def _error(self, code: int) -> str:
        with self.log.open("rb") as stderr:
            stderr.seek(self.log_start)
            lines = stderr.read().decode(errors="replace").strip().splitlines()[-ERROR_LINES:]
        if code < 0:
            lines.append(f"killed by {signal.Signals(-code).name}")
        return "\n".join(lines) or f"ended with code {code} and said nothing"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.process.wait()
        self.pipe.close()


class Executor:
    """Runs jobs whose needs are there, as many at a time as there are slots; a slot is what it adds to the environment."""

    def __init__(self, slots: Sequence[Mapping[str, str]], watch: Watch, grace_s: float = 10.0) -> None:
        assert slots, slots
        self.free, self.watch, self.grace_s = list(slots), watch, grace_s
        self.waiting: dict[str, Job] = {}
        self.children: list[Child] = []
        self.outcomes: dict[str, Outcome] = {}
        self.not_before: dict[str, float] = {}
        self.interrupted = False

    def run(self, jobs: Iterable[Job]) -> dict[str, Outcome]:
        """Every job's outcome. A need that is none of `jobs` counts as there. Ctrl-C ends it early: see `interrupted`."""
        self.waiting = {job.key: job for job in jobs}
        try:
            with sigterm_as_interrupt():
                while self.waiting or self.children:
                    self._turn()
        except KeyboardInterrupt:
            self.interrupted = True
            self._stop()
        finally:
            self._kill()
        return self.outcomes

    def _turn(self) -> None:
        for job in list(self.waiting.values()):
            self._consider(job)
        if self.children:
            select.select([child.pipe for child in self.children], [], [], POLL_S)
        elif self.waiting:
            time.sleep(POLL_S)
        for child in list(self.children):
            self._follow(child)

    def _consider(self, job: Job) -> None:
        """Start a waiting job, or end it without a start, or leave it waiting."""
        pending = {*self.waiting, *(child.job.key for child in self.children)}
        lacking = [need for need in job.needs if need in self.outcomes and not self.outcomes[need].good]
        if lacking:
            self._end(job, Outcome("not started", lacking[0]))
        elif self.free and not pending.intersection(job.needs) and time.monotonic() >= self.not_before.get(job.key, 0):
            self._start(job)

    def _start(self, job: Job) -> None:
        try:
            if not job.again and job.finished():
                self._end(job, Outcome("finished before"))
                return
            if job.key not in self.not_before:
                self.watch.started(job)
            self._launch(job)
        except UserError as error:
            self._end(job, Outcome("failed", f"error: {error}", code=error.exit_code))

    def _launch(self, job: Job) -> None:
        self.children.append(Child(job, self.free.pop(0)))
        del self.waiting[job.key]

    def _wait(self, job: Job) -> None:
        """Try again later, when whoever is at the job may have made it."""
        self.waiting[job.key] = job
        self.not_before[job.key] = time.monotonic() + BUSY_S

    def _follow(self, child: Child) -> None:
        ended = child.process.poll() is not None  # before reading, so that nothing is missed
        for progress in child.news():
            self.watch.progressed(child.job, progress)
        if not ended:
            time.sleep(0.01)  # a closed pipe is always readable
            return
        self._release(child)
        outcome = child.outcome()
        if outcome is not None:
            self._end(child.job, outcome)
        else:
            self._wait(child.job)

    def _end(self, job: Job, outcome: Outcome) -> None:
        self.waiting.pop(job.key, None)
        self.outcomes[job.key] = outcome
        self.watch.ended(job, outcome)

    def _release(self, child: Child) -> None:
        child.close()
        self.children.remove(child)
        self.free.append(child.slot)

    def _stop(self) -> None:
        """Ask the children to stop; what is running or waiting is `interrupted`."""
        for child in self.children:
            child.signal(signal.SIGINT)
        deadline = time.monotonic() + self.grace_s
        try:
            for child in self.children:
                child.process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        for child in self.children:
            outcome = child.outcome()
            done = outcome is not None and outcome.good
            self._end(child.job, outcome if done and outcome else Outcome("interrupted", code=INTERRUPTED))
        for job in list(self.waiting.values()):
            self._end(job, Outcome("interrupted", code=INTERRUPTED))

    def _kill(self) -> None:
        """Nobody outlives the executor."""
        for child in list(self.children):
            child.signal(signal.SIGKILL)
            self._release(child)


class Here(Executor):
    """Does jobs one after the other in this process: for debuggers, and where starting a process costs more than its work.

    What would end a job's process ends this one."""

    def __init__(self, watch: Watch) -> None:
        super().__init__([{}], watch)

    def _launch(self, job: Job) -> None:
        began = time.monotonic()
        code, said = perform(json.loads(job.argv[-1]), lambda progress: self.watch.progressed(job, progress))
        if code == STOPPED:
            self._wait(job)
            return
        done = code in job.accepts and job.finished()
        self._end(job, Outcome("done" if done else "failed", said, time.monotonic() - began, code))


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
