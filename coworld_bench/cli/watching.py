"""Progress of one piece of work on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from coworld_bench.bench.board import fraction, latest

QUIET_S = 15.0  # between two plain lines

Observe = Callable[[Mapping[str, Any]], None]


def news(progress: Mapping[str, Any]) -> str:
    """The numbers worth a look: what was reached, of what is wanted, and how fast it goes."""
    parts = [progress.get("part", ""), latest(progress)]
    if progress.get("threshold") is not None:
        parts.append(f"stops at {progress['threshold']:.4g}")
    if progress.get("env_steps_per_s"):
        parts.append(f"{progress['env_steps_per_s']:.0f} env steps/s")
    return ", ".join(part for part in parts if part)


@contextmanager
def watching(title: str, quiet: bool = False) -> Iterator[Observe]:
    """What the work reports to."""
    console = Console(stderr=True, quiet=quiet)
    if console.is_terminal and not quiet:
        with bar(title, console) as observe:
            yield observe
    else:
        yield lines(title, console)


@contextmanager
def bar(title: str, console: Console) -> Iterator[Observe]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"))
    clocks = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[news]}"), *clocks, console=console) as drawn:
        task = drawn.add_task(title, total=1.0, news="")
        yield lambda progress: drawn.update(task, completed=fraction(progress), news=news(progress))


def lines(title: str, console: Console) -> Observe:
    """A line for every evaluation, and for other news when the last line is a while ago."""
    began, spoke = time.monotonic(), 0.0

    def observe(progress: Mapping[str, Any]) -> None:
        nonlocal spoke
        now = time.monotonic()
        if progress.get("evaluation") is None and now - spoke < QUIET_S:
            return
        spoke, share = now, fraction(progress) or 0.0
        left = f", at most {(now - began) * (1 - share) / share:.0f} s left" if 0 < share < 1 else ""
        console.print(f"{title}: {share:4.0%}  {news(progress)}{left}", markup=False, highlight=False, soft_wrap=True)

    return observe
