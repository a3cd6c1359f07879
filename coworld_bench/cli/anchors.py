"""`anchors`: what scores must be seen beside."""

from __future__ import annotations

from typing import Annotated

import typer

from coworld_bench.cli.common import Device, Force, Json, Options, Preset, Runs, Workers, show, table
from coworld_bench.config import parse_options


def anchors(
    task: Annotated[str, typer.Argument(help="suite/name.")],
    preset: Preset = "quick",
    runs: Runs = None,
    device: Device = "auto",
    force: Force = False,
    workers: Workers = 0,
    json: Json = False,
    option: Options = None,
) -> None:
    """Measure a random policy, the best constant action and untrained agents on a task."""
    from coworld_bench.anchors import measure_anchors
    from coworld_bench.files import read_json

    path = measure_anchors(task, preset, runs, parse_options(option or []), device, force, workers)
    found = read_json(path)
    rows = []
    for kind in ("random", "constant", "untrained"):
        returns = found[kind]["returns"]
        rows.append([kind, f"{sum(returns) / len(returns):.4g}", str(len(returns))])
    show(f"{table(rows, ['policy', 'mean return', 'episodes'])}\n{path}", found, json)
