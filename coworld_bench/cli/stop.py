"""`stop`: ask what is at work to stop at a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Json, Runs, names_bucket, show
from coworld_bench.errors import OK, SOME_FAILED


def stop(
    name: Annotated[
        str | None, typer.Argument(metavar="[PLAN|RUN]", help="A plan at work, or a run as `status` names it.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Only drivers of this preset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is at work on the store.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until they have stopped.")] = 120.0,
    runs: Runs = None,
    json: Json = False,
) -> int:
    """Stop a plan or a run at a checkpoint, on whatever machine; the same `run` goes on from there."""
    from coworld_bench.bench.finding import open_store
    from coworld_bench.bench.steering import ask_to_stop, wait_for

    store = open_store(runs)
    if names_bucket(runs):
        typer.echo("in a bucket single runs hear it wherever they are, and drivers on this machine alone", err=True)
    asked = ask_to_stop(store, name, preset, everything)
    left = wait_for(asked, wait, lambda said: typer.echo(said, err=True))
    lines = [f"{'asked to stop' if each in left else 'stopped'}: {each.words} on {each.place}" for each in asked]
    document = {
        "schema": 1,
        "stopped": [each.words for each in asked if each not in left],
        "asked": [each.words for each in left],
    }
    show("\n".join(lines) or "nothing is at work", document, json)
    if left:
        typer.echo(
            f"{len(left)} still at work after {wait:g} s; they were asked, and stop at their next checkpoint", err=True
        )
    return SOME_FAILED if left else OK
