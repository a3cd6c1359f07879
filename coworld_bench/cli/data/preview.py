"""`data preview`: what a dataset looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Json, numbers, show
from coworld_bench.cli.data.show import Name


def preview_(
    name: Name,
    episodes: Annotated[
        str | None, typer.Option(help="0,3 or 0-5.  [default: six, from the lowest return to the highest]")
    ] = None,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Pictures a second of the animation.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Folder.  [default: ./preview/DATASET]")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write a contact sheet (PNG), an animation (GIF) and a page (HTML, one file) of a dataset."""
    from coworld_bench.data.dataset import open_dataset
    from coworld_bench.data.page import write_preview

    dataset = open_dataset(name, data)
    files = write_preview(dataset, out or Path("preview") / dataset.id, numbers(episodes, "episodes"), fps)
    show("\n".join(map(str, files)), {"schema": 1, "dataset": dataset.id, "files": [str(path) for path in files]}, json)
