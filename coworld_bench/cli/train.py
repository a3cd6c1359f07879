"""`train`: one run."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import (
    Data,
    Device,
    Force,
    Json,
    Options,
    Part,
    Preset,
    Runs,
    SourceOptions,
    Track,
    Weights,
    Workers,
    of_weights,
    show,
)
from coworld_bench.cli.watching import watching
from coworld_bench.config import parse_options
from coworld_bench.stopping import begin, stop_on_signals


def train(
    method: Annotated[str, typer.Argument(help="A method's name (`list methods`) or the file of your own.")],
    target: Annotated[str, typer.Option(help="The offline task, suite/name.")],
    source: Annotated[list[str] | None, typer.Option(help="An online source task; again for each further one.")] = None,
    seed: int = 0,
    preset: Preset = "quick",
    quality: Part = "medium-replay",
    runs: Runs = None,
    data: Data = None,
    device: Device = "auto",
    force: Force = False,
    workers: Workers = 0,
    track: Track = None,
    weights: Weights = None,
    json: Json = False,
    option: Options = None,
    source_option: SourceOptions = None,
) -> None:
    """Do one run, or go on with it; its source agent is trained first where it is missing.

    With -o online.workers=N that acts in N processes together, and is another one for each N above 1."""
    options = parse_options(option or []) | of_weights(weights, method)
    of_source = parse_options(source_option or [])
    with stop_on_signals() as stop, watching(f"train {method}", quiet=json) as observe:
        from coworld_bench.api import train as train_run  # takes seconds, in which it may be told to stop

        begin(stop)
        result = train_run(
            method, target, source, seed=seed, preset=preset, quality=quality, options=options, source_options=of_source,
            data=data, runs=runs, device=device, force=force, workers=workers, observe=observe,
            stop=stop, track=track,
        )  # fmt: skip
    score = result["score"]
    text = (
        f"{result['run']}: {score['mean']:.4g} ({score['rule']}: {score['checkpoints']} checkpoints, "
        f"{score['episodes']} episodes; preset {result['preset']}, 1 seed)"
    )
    show(text, result, json)
