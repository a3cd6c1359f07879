"""Where leases lie: a folder, or a bucket."""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from coworld_bench.data.remote import Absent, Remote, time_of
from coworld_bench.errors import NotUsable

T = TypeVar("T")
LOCKS = ".locks"  # of a store


class Ground(Protocol):
    """Where leases lie. Its methods raise OSError or UserError where it cannot be reached."""

    def numbers(self, name: str) -> list[int]:
        """Of all leases of this work, ascending."""
        ...

    def create(self, name: str, number: int, content: bytes) -> bool:
        """Whether there was no such lease; of several that create it at the same time, one hears True."""
        ...

    def read(self, name: str, number: int) -> bytes:
        """Empty where there is none."""
        ...

    def age_s(self, name: str, number: int) -> float:
        """Seconds since it was created or refreshed; infinite where there is none."""
        ...

    def refresh(self, name: str, number: int, content: bytes) -> bool:
        """Whether it was still there."""
        ...

    def remove(self, name: str, number: int) -> None: ...


class Folder:
    """Leases in a folder, on any file system that creates files exclusively."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self, name: str) -> list[int]:
        start = f"{name}.lease."
        with os.scandir(self.folder) as entries:
            ends = [entry.name[len(start) :] for entry in entries if entry.name.startswith(start)]
        return sorted(int(end) for end in ends if end.isdigit())

    def create(self, name: str, number: int, content: bytes) -> bool:
        try:
            handle = os.open(self._path(name, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.EPERM):  # the latter is SFTP's word for it
                return False
            raise
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return True

    def read(self, name: str, number: int) -> bytes:
        return unless_gone(lambda: self._path(name, number).read_bytes(), b"")

    def age_s(self, name: str, number: int) -> float:
        def refreshed() -> float:
            with self._path(name, number).open("rb") as lease:  # opening it makes an NFS client ask for its time
                return os.fstat(lease.fileno()).st_mtime

        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".clock-") as clock:
            os.utime(clock.name)
            return os.fstat(clock.fileno()).st_mtime - unless_gone(refreshed, float("-inf"))

    def refresh(self, name: str, number: int, content: bytes) -> bool:
        def touch() -> bool:
            os.utime(self._path(name, number))
            return True

        return unless_gone(touch, False)

    def remove(self, name: str, number: int) -> None:
        self._path(name, number).unlink(missing_ok=True)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.lease.{number}"


def unless_gone(look: Callable[[], T], otherwise: T) -> T:
    """What `look` finds at a file; `otherwise` where that is gone."""
    try:
        return look()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return otherwise
        raise


class Bucket:
    """Leases in a store that creates objects on the condition that there are none."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def numbers(self, name: str) -> list[int]:
        return sorted(int(key) for key in self.remote.listing(f"{LOCKS}/{name}") if key.isdigit())

    def create(self, name: str, number: int, content: bytes) -> bool:
        if not self.remote.create(self._key(name, number), content):
            return False
        if self.remote.create(self._key(name, number), content):
            raise NotUsable(
                f"{self.remote.url} overwrites what is to be created where there is nothing (If-None-Match), so machines "
                "that share it could do one run twice; use a store that knows it, such as S3, or a shared folder"
            )
        return True

    def read(self, name: str, number: int) -> bytes:
        try:
            return self.remote.head(self._key(name, number), 2**12)
        except Absent:
            return b""

    def age_s(self, name: str, number: int) -> float:
        clock = f"clock-{uuid.uuid4().hex}"
        self.remote.write(f"{LOCKS}/{name}/{clock}", b"")
        try:
            found = self.remote.listing(f"{LOCKS}/{name}")
        finally:
            self.remote.remove(f"{LOCKS}/{name}/{clock}")
        return time_of(found[clock]) - time_of(found[str(number)]) if str(number) in found else float("inf")

    def refresh(self, name: str, number: int, content: bytes) -> bool:
        self.remote.write(self._key(name, number), content)
        return True

    def remove(self, name: str, number: int) -> None:
        self.remote.remove(self._key(name, number))

    def _key(self, name: str, number: int) -> str:
        return f"{LOCKS}/{name}/{number}"
