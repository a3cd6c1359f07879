"""`data VERB`: what one does with datasets. One file a verb, no work in it."""

from __future__ import annotations

from collections.abc import Callable

import typer

from coworld_bench.cli.data import listing, pull, push, show, verify

VERBS: dict[str, Callable[..., int | None]] = {
    "list": listing.list_,
    "show": show.show_,
    "verify": verify.verify_,
    "push": push.push_,
    "pull": pull.pull_,
}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for name, verb in VERBS.items():
    app.command(name)(verb)
