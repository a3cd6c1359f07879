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
    from coworld_bench.anchors import anchors_path, measure_anchors
    from coworld_bench.bench.claims import claimed
    from coworld_bench.bench.opened import open_runs
    from coworld_bench.files import read_json

    store, options = open_runs(runs), parse_options(option or [])
    path = anchors_path(task, preset, store, options)
    with claimed(store, path.stem, path):
        measure_anchors(task, preset, store, options, device, force, workers)
    found = read_json(path)
    rows = []
    for kind in ("random", "constant", "untrained"):
        returns = found[kind]["returns"]
        rows.append([kind, f"{sum(returns) / len(returns):.4g}", str(len(returns))])
    show(f"{table(rows, ['policy', 'mean return', 'episodes'])}\n{path}", found, json)
