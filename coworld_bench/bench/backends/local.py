"""Processes of this machine, or none at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

from coworld_bench.bench.backends import Attempt, Ended
from coworld_bench.bench.child import NO_LIMITS, Child, Ending, Limits, Order, memory_of_sessions, wait_for
from coworld_bench.bench.job import Job, Watch
from coworld_bench.bench.status import ATTEMPT, keeping_status, status_path
from coworld_bench.bench.worker import both, perform
from coworld_bench.devices import free_memory
from coworld_bench.errors import SOME_FAILED, about_file

LOOK_S = 1.0  # between two looks at what the children take
SPARE = 256 << 20  # bytes below which the machine is about to run out of memory


def order(job: Job, number: int) -> Order:
    """What starts a job's process, anywhere."""
    log = job.log().absolute()
    return Order((*job.argv, str(status_path(log))), log, {ATTEMPT: str(number)})


class Local:
    """A subprocess per attempt, as many at a time as there are slots; a slot is what it adds to the environment."""

    where = ""

    def __init__(self, slots: Sequence[Mapping[str, str]], limits: Limits = NO_LIMITS) -> None:
        assert slots, slots
        self.free, self.limits, self.grace_s = list(slots), limits, limits.grace_s
        self.children: list[LocalChild] = []
        self._look_at = 0.0

    def room(self) -> int:
        return len(self.free)

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> list[Attempt]:
        return [self._begin(order(job, number)) for job, number in zip(jobs, numbers, strict=True)]

    def _begin(self, asked: Order) -> Attempt:
        slot = self.free.pop(0)
        try:
            child = LocalChild(asked, self.limits, slot, self)
        except OSError as error:
            self.free.append(slot)
            return Ended(Ending(SOME_FAILED, f"error: its process cannot begin: {about_file(error)}", 0.0))
        self.children.append(child)
        return child

    def wait(self, seconds: float) -> None:
        wait_for(self.children, seconds)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            self._hold_to_limits()

    def _hold_to_limits(self) -> None:
        taken = memory_of_sessions()
        for child in self.children:
            child.hold_to_limits(taken.get(child.process.pid))
        if self.children and free_memory() < SPARE:
            greediest = max(self.children, key=lambda child: taken.get(child.process.pid, 0))
            greediest.kill("memory")

    def close(self) -> None:
        for child in list(self.children):
            child.close()


class LocalChild(Child):
    """A child that gives its slot back."""

    def __init__(self, asked: Order, limits: Limits, slot: Mapping[str, str], owner: Local) -> None:
        super().__init__(asked, limits, slot)
        self.owner = owner

    def close(self) -> None:
        super().close()
        self.owner.children.remove(self)
        self.owner.free.append(self.slot)


class Here:
    """Does jobs one after the other in this process: for debuggers, and where starting a process costs more than its work.

    What would end a job's process ends this one, and no limit holds."""

    grace_s, where = 0.0, ""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def room(self) -> int:
        return 1

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> list[Ended]:
        return [self._do(job) for job in jobs]

    def _do(self, job: Job) -> Ended:
        began, asked = time.monotonic(), json.loads(job.argv[-1])
        with keeping_status(status_path(job.log()), {"kind": job.kind, "job": job.key}) as status:
            observe = both(status.observe, partial(self.watch.progressed, job))
            code, said = perform(asked, observe, lambda: nullcontext(lambda: status.asked_to_stop))
            status.end(code, said)
        return Ended(Ending(code, said, time.monotonic() - began))

    def wait(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass
