"""The figures of a report: a file each, with a function `drawn(selection, folder, stem)` that draws it or has no cause to.

A plan names its figures (`figures = ["curves"]`), `report --heatmap --curves --profiles` adds some. `style.py` is what
all share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from coworld_bench.files import write_text
from coworld_bench.reporting.formats.text import csv_text
from coworld_bench.reporting.layout import Picture, Table

if TYPE_CHECKING:
    from coworld_bench.reporting.selection import Selection


@dataclass(frozen=True)
class Drawn:
    """A figure, its files, the numbers in it where no table of the page has them, and tables that are shown with it."""

    picture: Picture
    files: tuple[Path, ...]
    numbers: Table | None = None
    tables: tuple[Table, ...] = ()


def draw(name: str, selection: Selection, folder: Path, stem: str) -> Drawn | None:
    """Draw one of `plans.FIGURES` into `folder`, with its numbers as CSV; None where the selection has nothing to draw.
    matplotlib is loaded here and not before."""
    maker = import_module(f"coworld_bench.reporting.figures.{name}")
    found: Drawn | None = maker.drawn(selection, folder, f"{stem}-{name}")
    if found is None or found.numbers is None:
        return found
    path = folder / f"{found.picture.name}.csv"
    write_text(path, csv_text(found.numbers))
    return replace(found, files=(*found.files, path))
