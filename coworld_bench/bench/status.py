"""A job's status file: what its process is at, for everybody who can read the store."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coworld_bench.bench.processes import is_gone, whoami
from coworld_bench.costs import peak_memory
from coworld_bench.errors import INTERRUPTED, OK, SOME_FAILED, UserError
from coworld_bench.stopping import Stop

Observe = Callable[[dict[str, Any]], None]
BEAT_S, LISTEN_S = 10.0, 1.0
LOST_S = 90.0  # without a beat; BEAT_S, and the 60 s that an NFS client may show the time of a file late, and some
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
            **whoami(),
            "attempt": attempt(),
            "began": now(),
            "progress": progress_of_before(path),
        }
        self._mine = False
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def observe(self, progress: dict[str, Any]) -> None:
        """Take the latest progress along in the next beat, with the last of what only some of it tells."""
        self.document["progress"] = {**self.document["progress"], **progress}

    def beat(self) -> None:
        """Write the file as of now, unless it is that of another process at this job: then this one waits for it. A full
        disk or a lost folder is no reason to end the work."""
        with suppress(OSError), self._lock:
            if not self._mine and is_beating(self.path):
                return
            self._mine = True
            document = self.document | {"beat": now(), "peak_memory_bytes": peak_memory()}
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            partial.write_text(json.dumps(document, sort_keys=True) + "\n")
            partial.replace(self.path)

    def end(self, code: int, said: str = "") -> None:
        """The last beat: the exit code, and what went wrong in a sentence."""
        self._ended.set()
        self.document |= {"state": "ended", "code": code} | ({"error": said} if said else {})
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
    except BaseException as error:
        status.end(code_of(error), str(error) if isinstance(error, UserError) else type(error).__name__)
        raise
    finally:
        status._ended.set()


@contextmanager
def telling(log: Path, job: str, observe: Observe | None, stop: Stop) -> Iterator[tuple[Observe, Stop]]:
    """For a run that no driver began: `observe` and `stop` that also write its status file and hear who asks it to stop."""
    stop_path(log).unlink(missing_ok=True)
    with keeping_status(status_path(log), {"kind": "train", "job": job}) as status:

        def tell(progress: dict[str, Any]) -> None:
            status.observe(progress)
            if observe is not None:
                observe(progress)

        yield tell, lambda: stop() or status.asked_to_stop
        status.end(OK)


def code_of(error: BaseException) -> int:
    if isinstance(error, UserError):
        return error.exit_code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else SOME_FAILED


def read_status(path: Path) -> dict[str, Any]:
    """What a file tells of a process; empty where there is none, or none of ours."""
    with suppress(OSError, ValueError):
        told = json.loads(path.read_text())
        if isinstance(told, dict):
            return told
    return {}


def age_s(path: Path, now_there: float | None = None) -> float:
    """Seconds since a file was written, by the clock of its folder; infinite where there is none."""
    try:
        written = path.stat().st_mtime
    except OSError:
        return float("inf")
    return (clock_of(path.parent) if now_there is None else now_there) - written


def clock_of(folder: Path) -> float:
    """The time at a folder, which another machine may keep: that of a file made there, else this machine's."""
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as made:
        os.utime(made.name)
        return os.fstat(made.fileno()).st_mtime
    return time.time()


def progress_of_before(path: Path) -> dict[str, Any]:
    """What an earlier attempt told last, unless it came to its end: this one goes on from there."""
    told = read_status(path)
    return dict(told.get("progress") or {}) if told.get("code") != OK else {}


def is_beating(path: Path) -> bool:
    """Whether another process writes this status file."""
    told = read_status(path)
    return told.get("state") == "running" and told.get("pid") != os.getpid() and is_there(told, path)


def is_there(told: Mapping[str, Any], path: Path, now_there: float | None = None) -> bool:
    """Whether the process that wrote this into `path` gave a sign of life of late."""
    return not is_gone(told) and age_s(path, now_there) <= LOST_S


def attempt() -> int:
    """Which of its job's processes this is, from 1."""
    return int(os.environ.get(ATTEMPT, "1"))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
