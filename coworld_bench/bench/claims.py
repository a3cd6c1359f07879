"""One process per job, across all commands that share a store: a lock beside the work, dropped when its holder ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coworld_bench.data.lock import Busy, WriterLock


@contextmanager
def claimed(home: Path, name: str) -> Iterator[None]:
    """Held while this process makes `name` in `home`. Raises Busy when another process makes it."""
    try:
        lock = WriterLock(home / ".locks", f"{name}.lock")
    except Busy as busy:
        raise Busy(f"another process is making {name} in {home}; wait for it to end or stop it") from busy
    try:
        yield
    finally:
        lock.release()
