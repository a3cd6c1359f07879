"""`status`: what of a store is done, at work, failed and left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from coworld_bench.cli.common import Json, Options, Runs, show
from coworld_bench.config import parse_options
from coworld_bench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from coworld_bench.bench.snapshot import Snapshot

LOOK_S = 2.0


def status(
    plans: Annotated[
        list[str] | None, typer.Argument(metavar="[PLAN…]", help="Names or files.  [default: all that the store tells of]")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="[default: those at work, and those with results]")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again every 2 s, until all is done or Ctrl-C.")] = False,
    runs: Runs = None,
    json: Json = False,
    option: Options = None,
) -> None:
    """Show what of a plan is done, running, queued and failed, how long the rest takes and what it cost."""
    if json and watch:
        raise UsageError("--json is one document; it does not go with --watch")
    from coworld_bench.bench.finding import open_store
    from coworld_bench.bench.opened import keep_fresh
    from coworld_bench.bench.snapshot import take
    from coworld_bench.bench.standing import Reader
    from coworld_bench.cli.telling import document, text

    reader = Reader(open_store(runs))

    def look() -> Snapshot:
        keep_fresh(reader.store)
        return take(reader, plans or (), preset, parse_options(option) if option else None)

    if watch:
        keep_watching(look, text)
    else:
        now = look()
        show("" if json else text(now), document(now), json)


def keep_watching(look: Callable[[], Snapshot], text: Callable[[Snapshot], str]) -> None:
    """Show snapshots until one is the last, or Ctrl-C."""
    from rich.console import Console

    console = Console()
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            redraw(console, look, text)
        else:
            print_changes(look, text)


def redraw(console: Console, look: Callable[[], Snapshot], text: Callable[[Snapshot], str]) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, auto_refresh=False) as live:
        for now in every(LOOK_S, look):
            live.update(Text(text(now), no_wrap=True, overflow="ellipsis"), refresh=True)


def print_changes(look: Callable[[], Snapshot], text: Callable[[Snapshot], str]) -> None:
    shown = ""
    for now in every(LOOK_S, look):
        told = text(now)
        if told != shown:
            typer.echo(told + "\n")
            sys.stdout.flush()
        shown = told


def every(seconds: float, look: Callable[[], Snapshot]) -> Iterator[Snapshot]:
    """Snapshots, so many seconds apart; the last one is over."""
    while True:
        now = look()
        yield now
        if now.is_over:
            return
        time.sleep(seconds)
