"""`evaluate`: play a finished run again."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Device, Json, Runs, Weights, Workers, of_weights, show


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name in the store.")],
    episodes: int = 10,
    method: Annotated[str | None, typer.Option(help="The file of the run's method, if it is your own.")] = None,
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    workers: Workers = 0,
    weights: Weights = None,
    json: Json = False,
) -> None:
    """Play the final policy of a finished run for more episodes; its stored result stays as it is."""
    from coworld_bench.api import evaluate as evaluate_run

    found = evaluate_run(
        run, episodes=episodes, method=method, runs=runs, data=data, device=device, workers=workers,
        files=of_weights(weights),
    )  # fmt: skip
    success = "" if found["success"] is None else f", success {found['success']:.0%}"
    show(f"{found['run']}: {found['mean']:.4g} over {episodes} episodes{success}", found, json)
