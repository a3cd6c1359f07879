"""Our numbers and the paper's, a column each, cell by cell: for orientation, since presets other than `paper` differ."""

from __future__ import annotations

from typing import Any

import pandas as pd

from coworld_bench.plans import Cell
from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.published import SOURCE, format_published, published_cell, published_rows, returns_of
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.tables.measured import cell_text

SINGLE_SOURCE = "CoWorld (Best-Source)"  # how table 2 calls the row of our `coworld`


def side_by_side(selection: Selection) -> Table | None:
    """A row per method and cell that was begun, with the measured and the published number; None where the paper prints no
    return for the plan, or nothing was begun."""
    rows = published_returns(selection)
    if rows is None:
        return None
    body = []
    for (method, cell), found in selection.measurements.items():
        if not found.started:
            continue
        label = selection.labels[method]
        body.append((label, cell.code, cell_text(found), format_published(published_for(rows, label, cell))))
    if not body:
        return None
    columns = ("method", "cell", f"measured, preset {selection.preset}", SOURCE)
    notes = ("Measured: mean ± std over seeds (seeds). Under another preset than `paper` a difference means nothing.",)
    return Table("beside", f"Measured beside published · {selection.circumstances}", columns, tuple(body), notes)


def published_returns(selection: Selection) -> pd.DataFrame | None:
    """The returns that the paper prints for a plan; None where it prints none."""
    rows = published_rows(selection.plan)
    found = None if rows is None else returns_of(rows)
    return None if found is None or found.empty else found


def published_for(rows: pd.DataFrame, label: str, cell: Cell, metric: str = "episode_return") -> tuple[float, float] | None:
    """Mean and std that the paper prints for a method of ours, whatever the table calls its row."""
    found = published_cell(rows, label, cell, metric)
    return found or (published_cell(rows, SINGLE_SOURCE, cell, metric) if label == "CoWorld" else None)


def with_published(selection: Selection, frame: pd.DataFrame) -> pd.DataFrame:
    """The tidy rows with the paper's numbers in columns of their own, empty where it has none."""
    rows = published_returns(selection)
    cells = {cell.code: cell for cell in selection.plan.cells}

    def numbers(row: Any) -> tuple[float, float] | None:
        return None if rows is None else published_for(rows, row["row"], cells[row["cell"]])

    found = [numbers(row) for _, row in frame.iterrows()]
    means = [pair[0] if pair else None for pair in found]
    return frame.assign(published_mean=means, published_std=[pair[1] if pair else None for pair in found])
