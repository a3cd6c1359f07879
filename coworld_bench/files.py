"""Writing files so that a half-written one cannot be mistaken for a whole one, and naming content by digest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

T = TypeVar("T")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of `path` for writing; on success it is synced and takes the name in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with named_in_errors(path), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """That a disk is full or a file too large is said of `path`; the system does not say of which file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            error.filename = error.filename or str(path)
        raise


def clear_partials(folder: Path) -> None:
    """Remove what killed writers have left in a folder whose one writer is this process."""
    for path in folder.glob(".*.partial"):
        if f".{os.getpid()}." not in path.name:
            clear_folder(path) if path.is_dir() else path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make the content of a file, or the renames inside a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make all of `folder` survive a power cut."""
    for path in [folder, *folder.rglob("*")]:
        sync(path)


@contextmanager
def named_when_whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder` to fill; on success it is synced and takes the name, in the place of what was
    there. After a failure nothing of it is left."""
    partial = folder.with_name(f".{folder.name}.partial")
    clear_folder(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_tree(partial)
        clear_folder(folder)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        clear_folder(partial)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def append_line(path: Path, value: Any) -> None:
    """Add one JSON line in a single write; a torn line left by a killed writer is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with named_in_errors(path), path.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        else:
            torn = False
        file.write(b"\n" * torn + json.dumps(value, sort_keys=True).encode() + b"\n")


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of a file; a torn line (its writer was killed) is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def try_folder(folder: Path) -> None:
    """Raises the OSError now, of this folder, that making it, or writing into it, would raise after hours of work;
    leaves nothing behind, so that any number of processes can try at a time."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    probe = there / f".{uuid4().hex}.partial"
    try:
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        error.filename = str(folder)
        raise


def clear_folder(folder: Path) -> None:
    """Remove a folder of the project's own with everything in it, so that no half of it is ever found under its name;
    nothing happens where there is none."""
    if folder.is_dir():
        rest = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        if rest.is_dir():
            shutil.rmtree(rest)
        folder.rename(rest)
        shutil.rmtree(rest)


def canonical(value: Any) -> bytes:
    """The bytes that stand for a JSON value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def while_unchanged(function: Callable[[Path], T]) -> Callable[[Path], T]:
    """A function of a large file that is asked for often: computed again only where the file has changed since."""

    @lru_cache(maxsize=16)
    def stamped(path: Path, size: int, changed_ns: int) -> T:
        return function(path)

    @wraps(function)
    def of_file(path: Path) -> T:
        found = path.stat()
        return stamped(path.resolve(), found.st_size, found.st_mtime_ns)

    return of_file
