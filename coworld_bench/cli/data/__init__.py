"""`data VERB`: what one does with datasets. One file a verb, no work in it."""

from __future__ import annotations

from collections.abc import Callable

import typer

from coworld_bench.cli.data import bench, convert, listing, preview, pull, push, repair, show, split, stats, verify

VERBS: dict[str, Callable[..., int | None]] = {
    "list": listing.list_,
    "show": show.show_,
    "verify": verify.verify_,
    "repair": repair.repair_,
    "preview": preview.preview_,
    "stats": stats.stats_,
    "convert": convert.convert_,
    "split": split.split_,
    "push": push.push_,
    "pull": pull.pull_,
    "bench": bench.bench_,
}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for name, verb in VERBS.items():
    app.command(name)(verb)
