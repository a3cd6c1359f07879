"""What every run and other job of a store is at, read from its files alone: nothing is written and no dataset opened.

done         its result is there
running      its process gave a sign of life of late
lost         it says that it runs, and gave none; or its process, of this machine, is gone
failed       it ended with an error, and is not begun again
stopped      it ended at a checkpoint
interrupted  it was begun, and no process tells of its end
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from coworld_bench.bench.board import fraction
from coworld_bench.bench.status import clock_of, is_there, read_status, status_path
from coworld_bench.errors import INTERRUPTED, LOCKED, OK, SOME_FAILED, STOPPED, UsageError
from coworld_bench.reporting.store import UNFINISHED, read_checked, run_folders, run_row

State = Literal["done", "running", "lost", "failed", "stopped", "interrupted"]
STATES: tuple[State, ...] = ("done", "running", "lost", "failed", "stopped", "interrupted")
IDENTITY = ("method", "target", "seed", "preset")
RESULT, FAILED_FILE, CONFIG, STATUS = "result.json", "failed.json", "config.json", "status.json"
LONG = ("evaluations", "diagnostics", "domains", "method_report")  # of a result, and of no use here
TAIL = 4096  # bytes at the end of a result that hold what it took: its keys are sorted
TIME = re.compile(r'"time": (\{[^{}]*\})')


@dataclass(frozen=True)
class Standing:
    """A job that was begun. `content` says which run it is; `status` what its process wrote last, `heard` when (a date of
    the folder's clock); `error` why it failed; `spent` the seconds that it took, by name, as far as they are known."""

    state: State
    log: Path
    content: Mapping[str, Any]
    status: Mapping[str, Any]
    changed: float
    silent_s: float = 0.0
    error: str = ""
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        return self.log.name == "stderr.log"

    @property
    def name(self) -> str:
        """A run's id; another job's log without its ending."""
        return self.log.parent.name if self.is_run else self.log.stem

    @cached_property
    def words(self) -> str:
        """The job as drivers name it."""
        return str(self.status.get("job") or words_of(self.content) or self.name)

    @property
    def progress(self) -> Mapping[str, Any]:
        return self.status.get("progress") or {}

    @property
    def share(self) -> float:
        """How much of it is done."""
        return 1.0 if self.state == "done" else fraction(self.progress) or 0.0

    @property
    def seconds(self) -> float:
        """Of wall time, over all attempts as far as they are known."""
        return self.spent.get("wall_s", 0.0)

    @cached_property
    def row(self) -> Any:
        """What reports choose runs by, and this."""
        return SimpleNamespace(**run_row(self.name, UNFINISHED, dict(self.content)), standing=self)


def words_of(content: Mapping[str, Any]) -> str:
    """A run that no process tells of, in the words that drivers have for it."""
    if not all(key in content for key in IDENTITY):
        return ""
    origin = f" from {', '.join(content['sources'])}" if content.get("sources") else ""
    changes = {**content.get("options", {}), **content.get("target_options", {})}
    detail = f" ({', '.join(f'{key}={value}' for key, value in changes.items())})" if changes else ""
    return f"train {content['method']} {content['target']}{origin} seed {content['seed']}{detail}"


class Reader:
    """Reads a store again and again; what was finished when it looked last it does not read again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._done: dict[Path, tuple[int, Standing]] = {}

    def read(self) -> list[Standing]:
        """Every run and other job that was begun, and is none of those that were never heard of."""
        clock = Clock(self.store)
        found = [*self._runs(clock), *self._others(clock)]
        return [standing for standing in found if standing is not None]

    def look(self, log: Path) -> Standing | None:
        """The job with this log."""
        clock = Clock(self.store)
        return self._run(log.parent, clock) if log.name == "stderr.log" else other(status_path(log), clock)

    def _runs(self, clock: Clock) -> Iterator[Standing | None]:
        for folder in run_folders(self.store):
            yield self._run(folder, clock)

    def _run(self, folder: Path, clock: Clock) -> Standing | None:
        files = stamps(folder)
        if RESULT not in files:
            return unfinished(folder, files, clock)
        if folder not in self._done or self._done[folder][0] != files[RESULT]:
            self._done[folder] = files[RESULT], finished(folder, files)
        return self._done[folder][1]

    def _others(self, clock: Clock) -> Iterator[Standing | None]:
        for path in sorted((self.store / "logs").glob(f"*.{STATUS}")):
            yield other(path, clock)


class Clock:
    """The time at a store, asked for where it matters."""

    def __init__(self, store: Path) -> None:
        self.store = store

    @cached_property
    def now(self) -> float:
        return clock_of(self.store)


def stamps(folder: Path) -> dict[str, int]:
    """When each file of a folder that tells of a run was written, in nanoseconds."""
    known = (RESULT, FAILED_FILE, CONFIG, STATUS)
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_mtime_ns for entry in entries if entry.name in known}
    return {}


def finished(folder: Path, files: Mapping[str, int]) -> Standing:
    """A run that has a result; failed where the result, or what says whose it is, is damaged."""
    log, changed = folder / "stderr.log", files[RESULT] / 1e9
    told = read_status(folder / STATUS) if STATUS in files else {}
    content: dict[str, Any] = {}
    try:
        content = read_checked(folder / (CONFIG if CONFIG in files else RESULT), *IDENTITY)
        content = {key: value for key, value in content.items() if key not in LONG}
        spent = time_in(folder / RESULT)
    except (UsageError, OSError) as error:
        return Standing("failed", log, content, told, changed, error=str(error))
    return Standing("done", log, content, told, changed, spent=spent)


def unfinished(folder: Path, files: Mapping[str, int], clock: Clock) -> Standing | None:
    """None for a folder that holds no run."""
    told = read_status(folder / STATUS) if STATUS in files else {}
    name = next((name for name in (CONFIG, FAILED_FILE) if name in files), None)
    if name is None and told.get("kind") != "train":
        return None
    error, content = "", {}
    try:
        content = read_checked(folder / name, *IDENTITY) if name else {}
        if FAILED_FILE in files:
            error = str(read_checked(folder / FAILED_FILE, "error")["error"])
    except (UsageError, OSError) as fault:
        error = str(fault)
    state = state_of(told, folder / STATUS, clock)
    if error and state != "running":
        state = "failed"
    error = error or str(told.get("error", "")) if state == "failed" else ""
    return standing(state, folder / "stderr.log", content, told, max(files.values()) / 1e9, clock, error)


def other(path: Path, clock: Clock) -> Standing | None:
    """A job that makes what runs need."""
    told = read_status(path)
    if not told:
        return None
    state = state_of(told, path, clock)
    with suppress(OSError):
        log = path.with_name(path.name.removesuffix(f".{STATUS}") + ".log")
        return standing(state, log, {}, told, path.stat().st_mtime, clock, told.get("error", ""))
    return None


def standing(
    state: State, log: Path, content: Mapping[str, Any], told: Mapping[str, Any], changed: float, clock: Clock, error: str
) -> Standing:
    with suppress(OSError):
        silent_s = clock.now - status_path(log).stat().st_mtime if state in ("running", "lost") else 0.0
        return Standing(state, log, content, told, changed, max(0.0, silent_s), error, spent_by(told))
    return Standing(state, log, content, told, changed, error=error, spent=spent_by(told))


def state_of(told: Mapping[str, Any], path: Path, clock: Clock) -> State:
    """From what its process wrote last."""
    if told.get("state") == "running":
        return "running" if is_there(told, path, clock.now) else "lost"
    code = told.get("code")
    if code == STOPPED:
        return "stopped"
    if told.get("kind") != "train" and (code == OK or (code == SOME_FAILED and "error" not in told)):
        return "done"  # a dataset whose stop rule did not fire ends with 1, and says nothing
    return "interrupted" if code in (None, OK, LOCKED, INTERRUPTED) else "failed"


def spent_by(told: Mapping[str, Any]) -> dict[str, float]:
    """The seconds that an unfinished job took: as it counted them at its last evaluation, else since its process began."""
    progress = told.get("progress") or {}
    counted = {name: float(progress[name]) for name in ("wall_s", "cpu_s", "gpu_s") if name in progress}
    if "wall_s" not in counted:
        with suppress(KeyError, ValueError):
            lasted = datetime.fromisoformat(told["beat"]) - datetime.fromisoformat(told["began"])
            counted["wall_s"] = lasted.total_seconds()
    return counted


def time_in(result: Path) -> dict[str, float]:
    """What a result says that it took. Its end is read first: the whole is long."""
    with result.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        found = TIME.findall(file.read().decode(errors="replace"))
    time = json.loads(found[-1]) if found else read_checked(result).get("time", {})
    return {name: float(value) for name, value in time.items() if name.endswith("_s")}
