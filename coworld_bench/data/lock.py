"""One writer for a folder."""

from __future__ import annotations

import fcntl
import os
import socket
import weakref
from pathlib import Path

from coworld_bench.errors import LOCKED, UserError

LOCK = "writer.lock"


class Busy(UserError):
    """Another process is at it."""

    exit_code = LOCKED


class WriterLock:
    """Held by the one writer of a folder, until `release` or the end of its process.

    The kernel drops the lock of a dead process, so a lock file that a killed writer left behind stops nobody."""

    def __init__(self, folder: Path, name: str = LOCK, wait: bool = False) -> None:
        """Makes the folder where needed. Raises Busy when another writer holds it, or with `wait` waits for its end."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / name
        handle = locked(self.path, wait)
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._close = weakref.finalize(self, os.close, handle)

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Let another writer in; a second call does nothing."""
        if self._close.alive:
            self.path.unlink(missing_ok=True)
            self._close()


def locked(path: Path, wait: bool = False) -> int:
    """A handle of the locked file that `path` names now, made where there is none: a last holder may have removed the one
    we opened. Raises Busy when another holds it, unless we are to `wait`."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise Busy(f"{path.parent} is being written by {holder}; wait for it to end or stop it") from None
        except OSError:
            os.close(handle)
            raise
        if is_named(handle, path):
            return handle
        os.close(handle)


def is_named(handle: int, path: Path) -> bool:
    """Whether `path` is the file of this handle."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
