"""What a user sees while jobs run: live bars on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from coworld_bench.bench.job import Job, Outcome

QUIET_S = 60.0  # between two plain lines about the same job


def fraction(progress: Mapping[str, Any]) -> float | None:
    """How much of a job is done, from its progress; None where that says nothing."""
    for name in ("updates", "env_steps", "bytes"):
        total = progress.get(f"{name}_total")
        if total:
            return min(1.0, progress[name] / total)
    return None


def latest(progress: Mapping[str, Any]) -> str:
    """The number to watch: the last evaluation, else the last episode's return."""
    if progress.get("evaluation") is not None:
        return f"evaluation {progress['evaluation']:.4g}"
    if progress.get("episode_return") is not None:
        return f"return {progress['episode_return']:.4g}"
    return ""


class PlainBoard:
    """A line when a job starts and ends, and now and then in between."""

    def __init__(self, total: int, console: Console) -> None:
        self.total, self.console, self.ended_count = total, console, 0
        self._spoke: dict[str, float] = {}

    def __enter__(self) -> PlainBoard:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def started(self, job: Job) -> None:
        self._spoke[job.key] = time.monotonic()
        self.say(f"started: {job.key}")

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        now, share = time.monotonic(), fraction(progress)
        if share is not None and now - self._spoke.get(job.key, 0.0) >= QUIET_S:
            self._spoke[job.key] = now
            self.say(f"{share:4.0%} of {job.key}  {latest(progress)}".rstrip())

    def repeated(self, job: Job, outcome: Outcome) -> None:
        self.say(f"again: {job.key}: {outcome.note.splitlines()[-1]}")

    def ended(self, job: Job, outcome: Outcome) -> None:
        if outcome.state == "interrupted":
            return
        self.ended_count += 1
        self.say(sentence(job, outcome))

    def say(self, text: str) -> None:
        """One line on stderr, whatever its length."""
        width = len(str(self.total))
        line = f"[{self.ended_count:{width}}/{self.total}] {text}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveBoard(PlainBoard):
    """The same on a terminal, with a bar for all and one for every job at work."""

    def __init__(self, total: int, console: Console) -> None:
        super().__init__(total, console)
        columns = ("{task.description}", BarColumn(bar_width=24), "{task.percentage:>3.0f}%", "{task.fields[news]}")
        drawn = [column if isinstance(column, BarColumn) else TextColumn(column) for column in columns]
        self.bars = Progress(*drawn, TimeElapsedColumn(), console=console)
        self.all = self.bars.add_task("all jobs", total=total, news="")
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> LiveBoard:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def started(self, job: Job) -> None:
        self.tasks[job.key] = self.bars.add_task(job.key, total=1.0, news="")

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        task = self.tasks[job.key]
        self.bars.update(task, completed=fraction(progress))
        if latest(progress):
            self.bars.update(task, news=latest(progress))

    def ended(self, job: Job, outcome: Outcome) -> None:
        if job.key in self.tasks:
            self.bars.remove_task(self.tasks.pop(job.key))
        self.bars.advance(self.all)
        super().ended(job, outcome)


def sentence(job: Job, outcome: Outcome) -> str:
    """What became of a job, on one line."""
    if outcome.state == "done":
        said = f"done: {job.key} in {outcome.seconds:.0f} s"
        return said if outcome.code == 0 else f"{said}, but its stop rule did not fire: the budget ended first"
    if outcome.state == "failed":
        return f"failed: {job.key}: {outcome.note.splitlines()[-1]}"
    if outcome.state == "not started":
        return f"not started: {job.key}: {outcome.note} failed"
    return f"{outcome.state}: {job.key}"


def board(total: int, quiet: bool = False) -> AbstractContextManager[PlainBoard]:
    """The board that fits stderr."""
    console = Console(stderr=True, quiet=quiet)
    made = LiveBoard(total, console) if console.is_terminal and not quiet else PlainBoard(total, console)
    return nullcontext(made) if quiet else made
