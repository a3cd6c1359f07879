"""Where a collector puts finished episodes: one npz file each, and a journal line that makes it count.

A file takes its name only when it is whole, and its line follows; so a collector killed at any moment leaves whole
episodes, and at most one file without a line, which the next writer removes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.episode import Episode
from coworld_bench.data.lock import WriterLock
from coworld_bench.errors import DatasetError
from coworld_bench.files import append_line, atomic, canonical, read_lines, sha256_file, sync


class Staging:
    """The episodes of a collection that is going on, in the order they were finished."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Open or make the folder and become its writer, or only read what is there.

        Raises UserError when it has a writer already, DatasetError when its journal has lost lines."""
        self.folder = Path(folder)
        self._lock = None if read_only else WriterLock(self.folder)
        self._journal = self.folder / "journal.jsonl"
        self._lines: list[dict[str, Any]] = read_lines(self._journal)
        numbers = [line["index"] for line in self._lines]
        if numbers != list(range(len(numbers))):
            raise DatasetError(f"{self._journal} has lost lines; collect again with --force")
        if self._lock:
            self._remove_uncounted()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def rows(self) -> int:
        return sum(line["rows"] for line in self._lines)

    @property
    def returns(self) -> list[float]:
        """The sum of rewards of every episode."""
        return [line["return"] for line in self._lines]

    @property
    def metas(self) -> list[dict[str, Any]]:
        return [line["meta"] for line in self._lines]

    def add(self, episode: Episode) -> None:
        """Write an episode; when this returns it survives a power cut."""
        assert self._lock, f"{self.folder} was opened to read"
        index = len(self)
        content = packed(episode)
        line = {
            "index": index, "file": f"{index:06d}-{episode.rows}.npz", "sha256": hashlib.sha256(content).hexdigest(),
            "digest": episode.digest, "rows": episode.rows, "return": episode.ret, "terminal": episode.terminal,
            "meta": episode.meta,
        }  # fmt: skip
        canonical(line)  # metadata that is not plain data is refused before anything is written
        with atomic(self.folder / str(line["file"])) as file:
            file.write(content)
        append_line(self._journal, line)
        sync(self._journal)
        self._lines.append(line)

    def __iter__(self) -> Iterator[Episode]:
        """The episodes in order, each compared with its journal line. Raises DatasetError for one that differs."""
        return (self._read(line) for line in list(self._lines))

    def episodes(self) -> list[Episode]:
        """All episodes, verified."""
        return list(self)

    def truncate(self, count: int) -> None:
        """Drop all episodes but the first `count`; they were finished after the checkpoint a collector resumes from."""
        assert self._lock and 0 <= count <= len(self), (self._lock, count, len(self))
        kept = self._lines[:count]
        with atomic(self._journal) as file:
            file.write(b"".join(canonical(line) + b"\n" for line in kept))
        self._lines = kept
        self._remove_uncounted()

    def close(self) -> None:
        """Let another writer in."""
        if self._lock:
            self._lock.release()
        self._lock = None

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, line: dict[str, Any]) -> Episode:
        path = self.folder / line["file"]
        if not path.is_file() or sha256_file(path) != line["sha256"]:
            fault = "damaged" if path.is_file() else "missing"
            raise DatasetError(f"the collected episode {path} is {fault}; collect again with --force")
        with np.load(path) as file:
            arrays = dict(file)
        return Episode(arrays.pop("image", None), **arrays, terminal=line["terminal"], meta=line["meta"])

    def _remove_uncounted(self) -> None:
        counted = {line["file"] for line in self._lines}
        for path in [*self.folder.glob("*.npz"), *self.folder.glob(".*.partial")]:
            if path.name not in counted:
                path.unlink()


def packed(episode: Episode) -> bytes:
    """The compressed npz of an episode's arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(episode.arrays())
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
