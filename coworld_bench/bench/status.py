"""A job's status file: what its process is at, for everybody who can read the store."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coworld_bench.costs import peak_memory

BEAT_S, LISTEN_S = 10.0, 1.0
ATTEMPT = "COWORLD_BENCH_ATTEMPT"  # in a job's environment: which of its processes this is


def status_path(log: Path) -> Path:
    """The status file of the job with this log: RUN/status.json, or logs/NAME.status.json."""
    return _beside(log, "status.json")


def stop_path(log: Path) -> Path:
    """The file whose presence asks that job to stop: RUN/stop, or logs/NAME.stop."""
    return _beside(log, "stop")


def _beside(log: Path, name: str) -> Path:
    return log.with_name(name) if log.name == "stderr.log" else log.with_name(f"{log.stem}.{name}")


class Status:
    """Writes a status file while work goes on, and hears whether it is to stop."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.stop_file = path, path.with_name(path.name.removesuffix("status.json") + "stop")
        self.asked_to_stop = False
        self.document = about | {
            "schema": 1,
            "state": "running",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "attempt": attempt(),
            "began": now(),
            "progress": {},
        }
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def observe(self, progress: dict[str, Any]) -> None:
        """Take the latest progress along in the next beat."""
        self.document["progress"] = progress

    def beat(self) -> None:
        """Write the file as of now. A full disk or a lost folder is no reason to end the work."""
        with suppress(OSError), self._lock:
            document = self.document | {"beat": now(), "peak_memory_bytes": peak_memory()}
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps(document, sort_keys=True) + "\n")
            partial.replace(self.path)

    def end(self, code: int) -> None:
        self._ended.set()
        self.document |= {"state": "ended", "code": code}
        self.beat()

    def follow(self) -> None:
        """Beat, and listen, until the end."""
        waited = BEAT_S
        while not self._ended.wait(LISTEN_S):
            self.asked_to_stop = self.asked_to_stop or self.stop_file.exists()
            waited -= LISTEN_S
            if waited <= 0:
                self.beat()
                waited = BEAT_S


@contextmanager
def keeping_status(path: Path, about: dict[str, Any]) -> Iterator[Status]:
    """A status file that is kept up to date inside; whoever leaves says how it `end`s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    status = Status(path, about)
    status.beat()
    threading.Thread(target=status.follow, name="status", daemon=True).start()
    try:
        yield status
    finally:
        status._ended.set()


def attempt() -> int:
    """Which of its job's processes this is, from 1."""
    return int(os.environ.get(ATTEMPT, "1"))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
