"""A job's process on this machine, in a group of its own, with its stderr in a file; and the limits that it is held to."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from coworld_bench.bench.status import status_path

Cause = Literal["", "timeout", "memory", "silence", "lost"]
ERROR_LINES = 20
SILENT_S = 900.0  # without a beat in its status file a process counts as hung; Python itself no longer runs there
STEP_S = 5.0  # the most that one look counts as silence: this process may itself have been asleep
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Order:
    """What to start: its command, its log, and what it gets besides in its environment."""

    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What a job's processes may take: seconds of wall time an attempt, bytes of memory together; None: no limit. Asked to
    stop, a process has `grace_s` seconds until it is killed."""

    timeout_s: float | None = None
    memory_bytes: int | None = None
    grace_s: float = 25.0


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: its exit code (negative: the signal), the last lines of its stderr, seconds, and why it was
    ended from outside, if it was."""

    code: int
    said: str
    seconds: float
    cause: Cause = ""


class Child:
    """An attempt at a job on this machine."""

    def __init__(self, order: Order, limits: Limits, slot: Mapping[str, str]) -> None:
        self.log, self.limits, self.slot = order.log, limits, slot
        self.status = status_path(order.log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stderr:
            self.log_start = stderr.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                order.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **order.env, **slot},
                start_new_session=True,  # Ctrl-C is ours to hand on
            )
        assert self.process.stdout is not None
        self.pipe = self.process.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self.handle = os.pidfd_open(self.process.pid)
        self.cause: Cause = ""
        self.began = self.looked = time.monotonic()
        self.kill_at: float | None = None
        self.silent_s, self.beat_ns = 0.0, 0
        self._torn, self._heard_all = b"", False

    def news(self) -> Iterator[Mapping[str, Any]]:
        """The progress written since the last call; what is no JSON object is left out."""
        chunk = self.pipe.read()
        self._heard_all = chunk == b""
        *lines, self._torn = (self._torn + (chunk or b"")).split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

    def handles(self) -> list[int]:
        """File descriptors of which one can be read when there is news or the end."""
        return [self.handle] if self._heard_all else [self.handle, self.pipe.fileno()]

    def ending(self) -> Ending | None:
        """None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        return Ending(code, self._said(code), time.monotonic() - self.began, self.cause)

    def _said(self, code: int) -> str:
        lines: list[str] = []
        with suppress(OSError), self.log.open("rb") as stderr:  # its folder may have been removed
            stderr.seek(self.log_start)
            lines = stderr.read().decode(errors="replace").strip().splitlines()[-ERROR_LINES:]
        if self.cause:
            lines.append(self._reason)
        elif code < 0:
            lines.append(f"killed by {signal.Signals(-code).name}")
        return "\n".join(lines) or f"ended with code {code} and said nothing"

    @property
    def _reason(self) -> str:
        if self.cause == "timeout":
            return f"stopped after {self.limits.timeout_s:g} s, its --timeout; the same command goes on from its checkpoint"
        if self.cause == "silence":
            return f"killed: it gave no sign of life for {SILENT_S / 60:.0f} min"
        if self.limits.memory_bytes is not None:
            return f"killed: it took more than --memory, {self.limits.memory_bytes / 10**6:,.0f} MB"
        return "killed: the machine was about to run out of memory, and it took the most"

    def hold_to_limits(self, memory: int | None) -> None:
        """End it where it took too long, takes too much (`memory`: bytes of it and its own children, where they were
        counted) or gives no sign of life."""
        now = time.monotonic()
        self._listen(min(now - self.looked, STEP_S))
        self.looked = now
        limits = self.limits
        if self.kill_at is not None and now > self.kill_at:
            self.signal(signal.SIGKILL)
        elif self.cause:
            return
        elif limits.timeout_s is not None and now - self.began > limits.timeout_s:
            self.cause = "timeout"
            self.stop()
        elif None not in (memory, limits.memory_bytes) and memory > limits.memory_bytes:  # type: ignore[operator]
            self.kill("memory")
        elif self.silent_s > SILENT_S:
            self.kill("silence")

    def _listen(self, passed: float) -> None:
        """Count the seconds since the last beat; a process that never had a status file, or that somebody put to sleep, is
        not expected to have one."""
        with suppress(OSError):
            beat = self.status.stat().st_mtime_ns
            same = beat == self.beat_ns and state_of(self.process.pid) not in "Tt"
            self.silent_s = self.silent_s + passed if same else 0.0
            self.beat_ns = beat

    def stop(self) -> None:
        """Ask it to stop at a checkpoint; killed where it does not in time."""
        self.signal(signal.SIGINT)
        self.kill_at = time.monotonic() + self.limits.grace_s

    def kill(self, cause: Cause = "") -> None:
        self.cause = cause
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Nothing of it is left."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        os.close(self.handle)


def wait_for(children: Sequence[Child], seconds: float) -> None:
    """Until one has news or ends, or for so long."""
    handles = [handle for child in children for handle in child.handles()]
    if handles:
        select.select(handles, [], [], seconds)
    else:
        time.sleep(seconds)


def state_of(pid: int) -> str:
    """The letter that the kernel gives a process: R, S, D, T…; empty where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return " "


def memory_of_sessions() -> dict[int, int]:
    """Bytes of memory of their own that the processes of each session take together, by session; what they share, such as
    pages of files, counts for none."""
    taken: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError):
            session = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[3])
            _, resident, shared, *_ = map(int, Path(entry.path, "statm").read_text().split())
            taken[session] = taken.get(session, 0) + (resident - shared) * PAGE
    return taken
