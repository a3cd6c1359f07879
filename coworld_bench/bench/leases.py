"""Who is at a piece of work, across machines that share a folder or a bucket and nothing else.

    NAME.lease.7   one holder, in JSON; refreshed every BEAT_S for as long as it works

A claimant looks at all leases of the work. Where every holder is dead it creates the one with the next number, which only
one claimant can, looks again, and withdraws unless the others are the same and still dead; then it removes them. So of two
that hold the work the later one has judged the other dead. One that was taken over although it was alive (its machine
slept, or was cut off) finds its lease gone, or one with a higher number, and stops.

Clocks of machines are never compared: how old a lease is, the folder or bucket tells by its own clock.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from coworld_bench.bench.grounds import Ground
from coworld_bench.bench.processes import machine, started
from coworld_bench.data.lock import Busy
from coworld_bench.errors import UserError
from coworld_bench.stopping import Stop, StoppedAtCheckpoint

BEAT_S = 20.0
LEASE_S = 120.0  # BEAT_S and the 60 s that an NFS client may show the time of a file late, and some
TRIES = 5


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease. `place` is the folder of locks as its machine sees it: two processes for which `realm`
    is the same exclude each other by a lock of the kernel, which dies with its holder."""

    host: str
    boot: str
    namespace: str
    place: str
    pid: int
    started: str
    token: str
    since: str

    @property
    def realm(self) -> tuple[str, ...]:
        return self.host, self.boot, self.namespace, self.place

    @property
    def words(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def alive(self) -> bool:
        """Of one that this process could signal: whether it is there."""
        return started(self.pid) == self.started


def place_of(folder: Path) -> str:
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"


def myself(folder: Path) -> Holder:
    """This process as a holder of what is locked in `folder`."""
    pid, since = os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(*machine(), place_of(folder), pid, started(pid), uuid.uuid4().hex, since)


def holder_in(content: bytes) -> Holder | None:
    """The holder that a lease tells of; None for one that is being written, or was when its writer was killed."""
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def living(ground: Ground, name: str, numbers: Iterable[int], me: Holder, locked: bool = False) -> str | None:
    """Who of the holders of these leases is alive, in words; None where nobody is. `locked`: this process has the kernel's
    lock, so that no other of its realm is at the work."""
    for number in numbers:
        found = holder_in(ground.read(name, number))
        if found is not None and found.realm == me.realm:
            alive = found.alive and not locked
        else:
            alive = ground.age_s(name, number) <= LEASE_S
        if alive:
            return found.words if found else "another process"
    return None


class Lease:
    """Work that this process holds. A thread keeps it fresh until `release`."""

    def __init__(self, ground: Ground, name: str, number: int, me: Holder) -> None:
        self.ground, self.name, self.number, self.me = ground, name, number, me
        self.lost = False
        self._seen = clock()
        self._looking = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease of {name}", daemon=True)
        self._thread.start()

    def guarding(self, stop: Stop) -> Stop:
        """`stop`, which also raises StoppedAtCheckpoint where another process has taken over: what the work has stored is
        that one's now, so nothing more is."""

        def asked() -> bool:
            if clock() - self._seen > LEASE_S:
                self.look()
            if self.lost:
                raise StoppedAtCheckpoint(f"another process took over {self.name} while this one was cut off")
            return stop()

        return asked

    def look(self) -> bool:
        """Refresh the lease; whether the work is still held, as far as is known."""
        with self._looking:
            with suppress(OSError, UserError):  # cut off: what became of the lease shows when that ends
                self.lost = self.lost or not (self._newest() and self.ground.refresh(*self._mine))
            self._seen = clock()
            return not self.lost

    def release(self) -> None:
        """Let others have the work; where they cannot be told they find out by waiting."""
        self._released.set()
        self._thread.join()
        with suppress(OSError, UserError):
            if self._newest():
                self.ground.remove(self.name, self.number)

    def _newest(self) -> bool:
        """Whether the lease is there, is ours and none came after it."""
        numbers = self.ground.numbers(self.name)
        return max(numbers, default=0) == self.number and holder_in(self.ground.read(self.name, self.number)) == self.me

    @property
    def _mine(self) -> tuple[str, int, bytes]:
        return self.name, self.number, content_of(self.me)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            self.look()


def clock() -> float:
    """Seconds, also those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def content_of(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


@contextmanager
def leased(ground: Ground, name: str, me: Holder, locked: bool) -> Iterator[Lease]:
    """Held while this process is at the work. Raises Busy, with the holder's words, where another is."""
    lease = Lease(ground, name, take(ground, name, me, locked), me)
    try:
        yield lease
    finally:
        lease.release()


def take(ground: Ground, name: str, me: Holder, locked: bool) -> int:
    """The number of this process's lease."""
    for _ in range(TRIES):
        found = ground.numbers(name)
        if alive := living(ground, name, found, me, locked):
            raise Busy(alive)
        number = max(found, default=0) + 1
        if not created(ground, name, number, me):
            continue
        if ground.numbers(name) == [*found, number] and not living(ground, name, found, me, locked):
            for dead in found:
                ground.remove(name, dead)
            return number
        ground.remove(name, number)
        time.sleep(random.uniform(0, 0.2))
    raise Busy("another process, which began at the same moment")


def created(ground: Ground, name: str, number: int, me: Holder) -> bool:
    """Whether the lease is this process's: also where the answer to a first attempt was lost on the way."""
    return ground.create(name, number, content_of(me)) or holder_in(ground.read(name, number)) == me
