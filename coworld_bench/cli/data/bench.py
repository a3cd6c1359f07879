"""`data bench`: the data layer beside what users have today."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.bench import bench as bench_anything
from coworld_bench.cli.common import Json


def bench_(
    name: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="Whose episodes.  [default: drawn ones]")] = None,
    episodes: Annotated[int | None, typer.Option(min=2, help="At most how many.  [default: 60]")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds of measurement.")] = None,
    out: Annotated[Path, typer.Option(help="Where the table is stored.")] = Path("reports/measured/bench"),
    json: Json = False,
) -> None:
    """Measure sampling, filling and size beside npz, Minari and zarr-python, as `bench data` does, and say which aims are
    met."""
    bench_anything("data", dataset=name, episodes=episodes, repeats=repeats, out=out, json=json)
