"""One process per job, across all commands and machines that share a store: a lock of the kernel, which dies with its
holder, and a lease (leases.py), since many network folders keep locks to the machine that set them."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from coworld_bench.bench.grounds import LOCKS, Folder, Ground, unless_gone
from coworld_bench.bench.leases import Holder, Lease, leased, living, myself
from coworld_bench.bench.mirror import Listing, Mirror, OutOfReach, mirror_at, ours, plainly, read, say
from coworld_bench.data.lock import Busy, WriterLock
from coworld_bench.errors import UserError
from coworld_bench.files import digest_of

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a folder without them answers
ASK_S = 10.0  # between two questions to a bucket about the same work


@contextmanager
def claimed(home: Path, name: str, part: Path | None = None, whole: bool = True) -> Iterator[Lease]:
    """Held while this process makes `name` in `home`; what it makes is `part`, the folder of that name unless said. Long
    work asks the lease whether it still is held (`Lease.guarding`). Raises Busy, which names the holder, when another
    process makes it.

    Where `home` mirrors a bucket, the part is what lies there, `whole` or as far as reports read it, and goes there."""
    mirror, folder = mirror_at(home), locks_of(home)
    with ExitStack() as held:
        me = myself(folder)
        try:
            alone = held.enter_context(locked(folder, name, me))
            with plainly():
                lease = held.enter_context(leased(ground_of(home, mirror), name, me, alone))
        except Busy as busy:
            raise Busy(f"another process is making {name} in {home}: {busy}; wait for it to end or stop it") from busy
        if mirror is not None:
            held.enter_context(mirror.keeping((part or home / name).relative_to(home).as_posix(), lease, whole))
        yield lease


def holder(home: Path, name: str, part: Path | None = None) -> str | None:
    """Who is making `name` in `home`, in words; None where nobody is, or where a bucket does not answer. A cheap question,
    without a claim: by the time of the answer it may have ended or begun. Where `home` mirrors a bucket, what was made of
    the `part` there comes here."""
    mirror = mirror_at(home)
    if mirror is None:
        return who(Folder(locks_of(home)), home, name)
    asked = ASKED.get((home, name))
    if asked is None or time.monotonic() - asked[0] > ASK_S:
        asked = ASKED[home, name] = time.monotonic(), told(mirror, name, part or home / name)
    return asked[1]


ASKED: dict[tuple[Path, str], tuple[float, str | None]] = {}


def told(mirror: Mirror, name: str, path: Path) -> str | None:
    """`holder` of a mirror."""
    part = path.relative_to(mirror.home).as_posix()
    with suppress(OutOfReach), plainly():
        if found := who(mirror.ground, mirror.home, name):
            return found
        freshen(mirror, part, mirror.there(part))
    return None


def who(ground: Ground, home: Path, name: str) -> str | None:
    return living(ground, name, ground.numbers(name), myself(locks_of(home)))


def freshen(mirror: Mirror, part: str, there: Listing) -> None:
    """Fetch what reports read of a part, unless this machine is at work on it or has yet to send of it."""
    folder = locks_of(mirror.home)
    if not mirror.is_unsent(part) and mirror.differs(part, there):
        with suppress(Busy), locked(folder, claim_name(part), myself(folder)):
            mirror.fetch(part, there, read)


def share(home: Path, path: Path) -> None:
    """Where `home` mirrors a bucket, send a file of a run there that was written without a claim; a process of this machine
    that has claimed the run sends it itself. What cannot be sent is said."""
    mirror, name = mirror_at(home), path.parent.name
    if mirror is not None and path.is_file() and ours(path.relative_to(home).as_posix()):
        try:
            with locked(locks_of(home), name, myself(locks_of(home))):
                mirror.send_file(path)
        except Busy:
            pass
        except (UserError, OSError) as error:
            say(f"{path} is not in {mirror.remote.url}: {error}")


def text_of(path: Path) -> str:
    return unless_gone(lambda: path.read_text().strip(), "") or "a process of this machine"


def claim_name(part: str) -> str:
    """What the work on a part is claimed by."""
    return Path(part).name.removesuffix(".json")


def locks_of(home: Path) -> Path:
    folder = home / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ground_of(home: Path, mirror: Mirror | None) -> Ground:
    return Folder(locks_of(home)) if mirror is None else mirror.ground


@contextmanager
def locked(folder: Path, name: str, me: Holder) -> Iterator[bool]:
    """Hold the kernel's lock of this realm on some work; False where the folder knows no locks. Raises Busy, which says in
    a few words who holds it."""
    path = folder / f"{name}.{digest_of(me.realm)[:8]}.lock"
    try:
        lock = WriterLock(folder, path.name)
    except Busy as busy:
        raise Busy(living(Folder(folder), name, Folder(folder).numbers(name), me) or text_of(path)) from busy
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
