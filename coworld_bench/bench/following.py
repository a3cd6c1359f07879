"""What a job wrote: its error, its last metrics, the end of its log; and what it writes from here on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from coworld_bench.bench.drivers import drivers_at_work
from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.bench.status import stop_path

BLOCK = 1 << 16
LOOK_S = 1.0
Say = Callable[[str], None]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file, however long it is; none where there is no file."""
    found = b""
    with suppress(OSError), path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end and found.count(b"\n") <= count:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            found, end = file.read(end - begin) + found, begin
    lines = found.decode(errors="replace").splitlines()
    return lines[-count:] if count else []


def last_metrics(folder: Path) -> dict[str, Any]:
    """The newest line of a run's metrics, with the mean return of the evaluation beside it."""
    for line in reversed(last_lines(folder / "metrics.jsonl", 2)):
        with suppress(ValueError):
            return with_return(folder, json.loads(line))
    return {}


def with_return(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    returns = []
    for line in last_lines(folder / "eval.jsonl", 500):
        with suppress(ValueError, KeyError):
            episode = json.loads(line)
            if episode["updates"] == metrics.get("updates"):
                returns.append(float(episode["return"]))
    return dict(metrics) | ({"evaluation": fmean(returns)} if returns else {})


def follow(store: Path, job: Standing, say: Say) -> Standing:
    """Say what a job writes from now on, until it has ended and no driver is there to begin it again; how it ended."""
    reader, log, metrics = Reader(store), Growing(job.log), Growing(job.log.with_name("metrics.jsonl"))
    while True:
        now = reader.look(job.log) or job
        for line in log.lines():
            say(line)
        for line in metrics.lines() if job.is_run else ():
            with suppress(ValueError):
                say(evaluation_words(with_return(job.log.parent, json.loads(line))))
        if has_ended(store, now):
            return now
        time.sleep(LOOK_S)


def evaluation_words(metrics: Mapping[str, Any]) -> str:
    evaluation = f": evaluation {metrics['evaluation']:.4g}" if "evaluation" in metrics else ""
    return f"after {metrics.get('updates', '?')} updates{evaluation}"


def has_ended(store: Path, job: Standing) -> bool:
    """Whether nobody will write more: a job that was stopped alone, or failed, is left so by its driver."""
    if job.state == "running":
        return False
    return job.state in ("done", "failed") or stop_path(job.log).exists() or not drivers_at_work(store)


class Growing:
    """A file that others add lines to, or begin anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = path.stat().st_size if path.is_file() else 0
        self._torn = b""

    def lines(self) -> Iterator[str]:
        """The whole lines that came since the last call."""
        with suppress(OSError), self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._read:
                self._read, self._torn = 0, b""
            file.seek(self._read)
            content = file.read()
            self._read += len(content)
            *whole, self._torn = (self._torn + content).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
