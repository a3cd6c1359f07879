"""The executor: which job is begun when, what becomes of it, and which attempts are made again.

What counts is the store on disk: a job is done when what it makes is there, whoever made it. A job's process writes
progress as JSON lines and ends with an exit code of `errors`; LOCKED says that another process is at this job."""

from __future__ import annotations

import heapq
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from coworld_bench.bench.backends import Attempt, Backend
from coworld_bench.bench.board import fraction
from coworld_bench.bench.child import Ending
from coworld_bench.bench.job import Job, Outcome, Watch
from coworld_bench.bench.retrying import TWICE, Retries
from coworld_bench.bench.status import stop_path
from coworld_bench.errors import INTERRUPTED, LOCKED, STOPPED, UserError

POLL_S, BUSY_S = 0.2, 2.0


class Terminated(KeyboardInterrupt):
    """SIGTERM, or a request to stop: like Ctrl-C, but the command is to be given again."""


class Executor:
    """Runs jobs whose needs are there, as many at a time as the backend has room for."""

    def __init__(
        self,
        backend: Backend,
        watch: Watch,
        retries: Retries = TWICE,
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.backend, self.watch, self.retries, self.asked_to_stop = backend, watch, retries, asked_to_stop
        self.outcomes: dict[str, Outcome] = {}
        self.lacking: dict[str, set[str]] = {}  # of the jobs that wait for needs, which
        self.needed_by: dict[str, list[Job]] = {}
        self.ready: list[tuple[int, Job]] = []  # a heap: in the order in which they were asked for
        self.later: list[tuple[float, int, Job]] = []  # a heap: when to try again
        self.at_work: dict[str, tuple[Job, Attempt]] = {}
        self.history: dict[str, History] = {}
        self.ended_by: int | None = None

    @property
    def interrupted(self) -> bool:
        return self.ended_by is not None

    def run(self, jobs: Iterable[Job]) -> dict[str, Outcome]:
        """Every job's outcome. A need that is none of `jobs` counts as there. Ctrl-C, SIGTERM or a request to stop ends it
        early: `ended_by` is then the exit code that says so."""
        self._queue({job.key: job for job in jobs})
        try:
            with sigterm_as_interrupt():
                while self.ready or self.later or self.at_work:
                    self._turn()
        except KeyboardInterrupt as interrupt:
            self.ended_by = STOPPED if isinstance(interrupt, Terminated) else INTERRUPTED
            self._stop()
        finally:
            self.backend.close()
        return self.outcomes

    def _queue(self, jobs: dict[str, Job]) -> None:
        for place, job in enumerate(jobs.values()):
            self.history[job.key] = History(place)
            lacking = {need for need in job.needs if need in jobs}
            if not lacking:
                self._make_ready(job)
                continue
            self.lacking[job.key] = lacking
            for need in lacking:
                self.needed_by.setdefault(need, []).append(job)

    def _make_ready(self, job: Job) -> None:
        heapq.heappush(self.ready, (self.history[job.key].place, job))

    def _turn(self) -> None:
        if self.asked_to_stop():
            raise Terminated
        while self.later and self.later[0][0] <= time.monotonic():
            self._make_ready(heapq.heappop(self.later)[-1])
        self._begin()
        if self.at_work:
            self.backend.wait(POLL_S)
        elif self.later or self.ready:
            time.sleep(POLL_S)
        for job, attempt in list(self.at_work.values()):
            self._follow(job, attempt)

    def _begin(self) -> None:
        """Begin as many attempts as there is room for."""
        chosen: list[Job] = []
        while self.ready and len(chosen) < self.backend.room():
            _, job = heapq.heappop(self.ready)
            if self._is_to_do(job):
                chosen.append(job)
        if chosen:
            for job in chosen:
                self.history[job.key].attempts += 1
            attempts = self.backend.start(chosen, [self.history[job.key].attempts for job in chosen])
            self.at_work |= {job.key: (job, attempt) for job, attempt in zip(chosen, attempts, strict=True)}

    def _is_to_do(self, job: Job) -> bool:
        """Whether an attempt at a job is to be made; ends it where not."""
        try:
            if not made(job) and job.holder():
                self._later(job, BUSY_S)
                return False
            if made(job):  # or was, by one who is no longer at it
                self._end(job, Outcome("finished before"))
                return False
            stop_path(job.log()).unlink(missing_ok=True)
        except UserError as error:
            self._end(job, Outcome("failed", f"error: {error}", code=error.exit_code))
            return False
        except OSError:
            pass  # nobody can have asked it to stop there
        if not self.history[job.key].announced:
            self.history[job.key].announced = True
            self.watch.started(job)
        return True

    def _follow(self, job: Job, attempt: Attempt) -> None:
        ending = attempt.ending()  # before reading, so that nothing is missed
        for progress in attempt.news():
            self.history[job.key].reach(fraction(progress) or 0.0)
            self.watch.progressed(job, progress)
        if ending is None:
            return
        del self.at_work[job.key]
        attempt.close()
        if ending.code == LOCKED:
            self._wait(job)
        else:
            self._judge(job, ending)

    def _judge(self, job: Job, ending: Ending) -> None:
        """End a job, or let it be tried again."""
        history = self.history[job.key]
        outcome = history.outcome(job, ending)
        if not outcome.good and asked_alone(job):
            self._end(job, outcome_of_stop(outcome))
        elif outcome.good or not self.retries.worth(ending) or not history.may_repeat(self.retries.limit):
            self._end(job, outcome)
        else:
            self.watch.repeated(job, outcome)
            self._later(job, self.retries.pause_s(history.repetitions))

    def _wait(self, job: Job) -> None:
        """Try again later, when whoever is at the job may have made it; that was no attempt."""
        self.history[job.key].attempts -= 1
        self._later(job, BUSY_S)

    def _later(self, job: Job, seconds: float) -> None:
        heapq.heappush(self.later, (time.monotonic() + seconds, self.history[job.key].place, job))

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Tell of it, and of those that need it: they may begin now, or never."""
        self.outcomes[job.key] = outcome
        self.watch.ended(job, outcome)
        for other in self.needed_by.pop(job.key, ()):
            if other.key not in self.lacking:
                continue
            self.lacking[other.key].discard(job.key)
            if not outcome.good:
                del self.lacking[other.key]
                self._end(other, Outcome("not started", job.key))
            elif not self.lacking[other.key]:
                del self.lacking[other.key]
                self._make_ready(other)

    def _stop(self) -> None:
        """Ask the processes to stop; what is running or waiting is `interrupted`."""
        for _, attempt in self.at_work.values():
            attempt.stop()
        with suppress(KeyboardInterrupt):
            deadline = time.monotonic() + self.backend.grace_s
            while time.monotonic() < deadline and not all(attempt.ending() for _, attempt in self.at_work.values()):
                self.backend.wait(POLL_S)
                for _, attempt in self.at_work.values():
                    list(attempt.news())
        for job, attempt in self.at_work.values():
            ending = attempt.ending()
            outcome = self.history[job.key].outcome(job, ending) if ending else None
            self._end(job, outcome if outcome and outcome.good else self._interrupted)
        self.needed_by = {}
        for job in [*(job for _, job in self.ready), *(job for _, _, job in self.later)]:
            self._end(job, self._interrupted)
        for key in self.lacking:
            self.outcomes[key] = self._interrupted

    @property
    def _interrupted(self) -> Outcome:
        return Outcome("interrupted", code=self.ended_by or INTERRUPTED)


class History:
    """What happened to a job so far."""

    def __init__(self, place: int) -> None:
        self.place, self.announced = place, False
        self.attempts = self.repetitions = 0  # repetitions: since one last got further than all before
        self.reached, self.furthest, self.seconds = 0.0, 0.0, 0.0

    def reach(self, share: float) -> None:
        self.reached = max(self.reached, share)

    def may_repeat(self, limit: int) -> bool:
        """Count an attempt that is worth a repetition, and say whether there may be one."""
        if self.reached > self.furthest:
            self.furthest, self.repetitions = self.reached, 0
        self.repetitions += 1
        return self.repetitions <= limit

    def outcome(self, job: Job, ending: Ending) -> Outcome:
        self.seconds += ending.seconds
        done = ending.code in job.accepts and job.finished()
        note = "" if done else ending.said or f"ended with code {ending.code} and said nothing"
        return Outcome("done" if done else "failed", note, self.seconds, ending.code, self.attempts)


def made(job: Job) -> bool:
    return not job.again and job.finished()


def asked_alone(job: Job) -> bool:
    """Whether somebody asked this one job to stop."""
    with suppress(OSError):
        return stop_path(job.log()).exists()
    return False


def outcome_of_stop(outcome: Outcome) -> Outcome:
    return Outcome("stopped", "somebody asked it to stop", outcome.seconds, STOPPED, outcome.attempts)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
