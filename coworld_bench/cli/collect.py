"""`collect`: make a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Device, Force, Json, Options, Preset, Quality, show
from coworld_bench.cli.watching import watching
from coworld_bench.config import parse_options
from coworld_bench.errors import OK, SOME_FAILED
from coworld_bench.stopping import begin, stop_on_signals


def collect(
    task: Annotated[str, typer.Argument(help="suite/name, such as metaworld/button_press.")],
    quality: Quality = "medium-replay",
    preset: Preset = "quick",
    seed: Annotated[int | None, typer.Option(help="[default: the task's recipe]")] = None,
    format: Annotated[str, typer.Option(help="zarr, or a format of `data convert`.")] = "zarr",
    out: Annotated[
        Path | None, typer.Option(help="The dataset's or export's folder; for minari that of its datasets.")
    ] = None,
    data: Data = None,
    runs: Annotated[Path | None, typer.Option(help="As `run` has it; a collection writes no results.")] = None,
    device: Device = "auto",
    reference_return: Annotated[
        float | None, typer.Option(help="The return that counts as 1; needed for a task without a known one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted collection.")] = False,
    force: Force = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Environment processes that act together; above 1 each number makes its own dataset."),
    ] = None,
    json: Json = False,
    option: Options = None,
) -> int:
    """Collect a dataset: an online agent's experience up to a share of the task's reference return."""
    with stop_on_signals() as stop, watching(f"collect {task}", quiet=json) as observe:
        from coworld_bench.collecting import collect as collect_dataset  # takes seconds, in which it may be told to stop

        begin(stop)
        made = collect_dataset(
            task, quality, preset=preset, seed=seed, data=data, out=out, format=format, device=device,
            reference_return=reference_return, options=parse_options(option or []), resume=resume, force=force,
            workers=workers, observe=observe, stop=stop,
        )  # fmt: skip
    fired = "" if made.fired else (
        "\nThe stop rule did not fire before the budget of env steps ended: the dataset is kept and marked so. "
        "Give it more with -o online.env_steps=N --force."
    )  # fmt: skip
    text = f"{made.dataset_id}: {made.episodes} episodes, mean return {made.return_mean:.4g}\n{made.folder}{fired}"
    show(text, {"schema": 1, **vars(made)}, json)
    return OK if made.fired else SOME_FAILED
