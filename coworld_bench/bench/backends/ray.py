"""Attempts as tasks of a Ray cluster, which finds a node for each; Ray repeats nothing, since the executor does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from coworld_bench.bench.backends.local import order
from coworld_bench.bench.backends.ray_cluster import (
    Beacons,
    check_nodes,
    check_room,
    connect,
    import_ray,
    nodes,
    resources,
    share_of,
    words,
)
from coworld_bench.bench.backends.ray_task import attempt
from coworld_bench.bench.child import Ending, Limits
from coworld_bench.bench.job import Job
from coworld_bench.bench.status import status_path
from coworld_bench.errors import OUT_OF_MEMORY, SOME_FAILED, STOPPED, NotUsable, about_fault

NODES_S, NEWS_S = 2.0, 2.0  # between two looks at the cluster, and at a status file
LOST_S = 600.0  # without a node that has room, a cluster counts as lost
SLACK_S = 5.0  # until a request to stop has reached a node and its answer is here


class Ray:
    """A Ray task per attempt, on the cluster at `address` or one of its own; `folders` are those that all nodes must see.

    As many at a time as the nodes have room for, or `jobs`; Ray queues what has none yet."""

    def __init__(
        self,
        folders: Sequence[Path],
        limits: Limits,
        device: str = "auto",
        per_gpu: int | None = None,
        jobs: int | None = None,
        address: str | None = None,
    ) -> None:
        self.ray = import_ray()
        self.limits, self.jobs, self.grace_s = limits, jobs, limits.grace_s + SLACK_S
        self.attempts: dict[Any, RayAttempt] = {}
        self.beacons, self.own = Beacons(folders), not self.ray.is_initialized()
        try:
            if self.own:
                connect(address, jobs)
            self.share = share_of(device, per_gpu, limits.memory_bytes, nodes())
            self._look(check=True)
        except BaseException:
            self.close()
            raise
        self.task = self.ray.remote(max_retries=0, max_calls=0, scheduling_strategy="SPREAD", **self.share.options())(
            attempt
        )
        self.where = f"on a Ray cluster of {words(nodes())}"

    def _look(self, check: bool = False) -> None:
        """Count what the nodes that are alive now have room for."""
        found = nodes()
        if check:
            check_room(self.share, found)
            check_nodes([node for node in found if self.share.times(node.has)], self.beacons)
        self.looked, self.slots = time.monotonic(), sum(self.share.times(node.has) for node in found)
        if self.slots or check:
            self.had_room = self.looked
        elif self.looked - self.had_room > LOST_S:
            have = "; ".join(resources(node.has) for node in found) or "nothing"
            raise NotUsable(
                f"no node of the Ray cluster has had room for {self.share} for {LOST_S / 60:.0f} min; it has {have}"
            )

    def room(self) -> int:
        if time.monotonic() - self.looked > NODES_S:
            self._look()
        return (self.slots if self.jobs is None else self.jobs) - len(self.attempts)

    def start(self, jobs: Sequence[Job], numbers: Sequence[int]) -> list[RayAttempt]:
        return [self._begin(job, number) for job, number in zip(jobs, numbers, strict=True)]

    def _begin(self, job: Job, number: int) -> RayAttempt:
        asked = order(job, number)
        reference = self.task.options(name=job.key).remote(asked, self.limits, self.share, self.jobs, self.beacons.paths)
        self.attempts[reference] = RayAttempt(self, reference, status_path(asked.log))
        return self.attempts[reference]

    def wait(self, seconds: float) -> None:
        running = [reference for reference, one in self.attempts.items() if one.ended is None]
        if len(running) == len(self.attempts) > 0:
            self.ray.wait(running, timeout=seconds)
        ended, _ = self.ray.wait(running, num_returns=len(running), timeout=0) if running else ([], [])
        for reference in ended:
            self.attempts[reference].take()

    def close(self) -> None:
        for one in list(self.attempts.values()):
            one.close()
        self.beacons.close()
        if self.own:
            self.ray.shutdown()


class RayAttempt:
    """A task. Its progress is read from the status file of its job, since both machines see that."""

    def __init__(self, owner: Ray, reference: Any, status: Path) -> None:
        self.owner, self.ray, self.reference, self.status = owner, owner.ray, reference, status
        self.began = self.read_at = time.monotonic()
        self.version = version(status)
        self.last: Mapping[str, Any] = {}
        self.ended: Ending | None = None

    def take(self) -> None:
        """Fetch how it ended, which is known."""
        seconds = time.monotonic() - self.began
        try:
            self.ended, self.last = self.ray.get(self.reference)
        except self.ray.exceptions.RayError as error:
            self.ended = ending_of(error, seconds)

    def ending(self) -> Ending | None:
        return self.ended

    def news(self) -> Iterable[Mapping[str, Any]]:
        if self.ended is not None:
            return [self.last] if self.last else []
        if time.monotonic() - self.read_at < NEWS_S:
            return []
        self.read_at = time.monotonic()
        return self._written()

    def _written(self) -> list[Mapping[str, Any]]:
        """The progress in the status file, if that is of this attempt and new."""
        now = version(self.status)
        if now == self.version:
            return []
        self.version = now
        with suppress(OSError, ValueError):
            progress = json.loads(self.status.read_text())["progress"]
            return [progress] if progress else []
        return []

    def stop(self) -> None:
        self.ray.cancel(self.reference)

    def close(self) -> None:
        if self.ended is None:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(self.reference, force=True)
        self.owner.attempts.pop(self.reference, None)


def version(path: Path) -> int:
    """Of a file that is replaced whole; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def ending_of(error: Exception, seconds: float) -> Ending:
    """How an attempt ended whose task did not come to its end."""
    from ray import exceptions

    if isinstance(error, exceptions.TaskCancelledError):
        return Ending(STOPPED, "stopped before it began", seconds)
    if isinstance(error, exceptions.OutOfMemoryError):
        return Ending(OUT_OF_MEMORY, "killed by Ray: its node was about to run out of memory", seconds, "memory")
    if isinstance(error, exceptions.RayTaskError):
        return Ending(SOME_FAILED, f"error: {about_fault(error.cause)}", seconds)
    if isinstance(error, exceptions.WorkerCrashedError):
        return Ending(SOME_FAILED, "lost: Ray's process that supervised it was killed", seconds, "lost")
    if isinstance(error, exceptions.NodeDiedError):
        return Ending(SOME_FAILED, "lost with its node", seconds, "lost")
    return Ending(SOME_FAILED, f"lost: {str(error).splitlines()[0]}", seconds, "lost")
