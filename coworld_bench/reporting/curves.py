"""Return against updates: a panel per cell, a colour per method, thin lines for seeds, anchors across."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_bench.plans import Cell
from coworld_bench.reporting.figures import GREY, LINES, entitle, our_style, save
from coworld_bench.reporting.layout import Picture
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables import ANCHORS, DATASET, beside

DASHES = {
    ANCHORS["random"]: (0, (1, 2)),
    ANCHORS["constant"]: (0, (5, 2)),
    DATASET: (0, (5, 2, 1, 2)),
}


def curves(selection: Selection, folder: Path, name: str) -> tuple[Picture, list[Path]] | None:
    """Draw the curves of every cell that has one; None where nothing finished."""
    cells = [cell for cell in selection.plan.cells if any(len(found.runs) for found in of_cell(selection, cell))]
    if not cells:
        return None
    title = f"Return against updates · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(selection, cells, title), folder, name)
    alt = f"Learning curves on {', '.join(cell.code for cell in cells)}: {', '.join(selection.labels.values())}."
    return Picture(name, title, alt, svg), paths


def of_cell(selection: Selection, cell: Cell) -> list[Measurement]:
    return [selection.measurements[method, cell] for method in selection.methods]


def draw(selection: Selection, cells: list[Cell], title: str) -> Figure:
    across = min(3, len(cells))
    down = ceil(len(cells) / across)
    size = (4.6, 3.3) if across == 1 else (2.5 * across, 0.9 + 1.9 * down)
    figure = Figure(figsize=size, layout="constrained")
    panels = [figure.add_subplot(down, across, place + 1) for place in range(len(cells))]
    for place, (panel, cell) in enumerate(zip(panels, cells, strict=True)):
        draw_cell(panel, selection, cell)
        panel.set_ylabel("return" if place % across == 0 else "", fontsize=7)
        panel.set_xlabel("updates" if place + across >= len(cells) else "", fontsize=7)
    entitle(figure, title)
    handles: dict[str, Artist] = {}
    for panel in figure.axes:
        handles |= {text: handle for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=6.5)
    return figure


def draw_cell(panel: Axes, selection: Selection, cell: Cell) -> None:
    for place, (method, label) in enumerate(selection.labels.items()):
        runs = selection.measurements[method, cell].runs["run"]
        lines = selection.store.curves[selection.store.curves["run"].isin(runs)]
        draw_method(panel, lines, label, LINES[place % len(LINES)])
    for name, summary in beside(selection, cell).items():
        if summary is not None and name in DASHES:
            panel.axhline(summary.mean, color=GREY, linewidth=1, linestyle=DASHES[name], label=name, zorder=1)
    panel.set_title(cell.code)
    panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
    panel.tick_params(labelsize=6.5)


def draw_method(panel: Axes, lines: pd.DataFrame, label: str, colour: str) -> None:
    """Every seed thin, the mean over seeds bold at the updates where all of them were evaluated."""
    if lines.empty:
        return
    by_run = lines.pivot(index="updates", columns="run", values="return").sort_index()
    mean = by_run.dropna().mean(axis=1)
    if by_run.shape[1] > 1:
        for run in by_run:
            seed = by_run[run].dropna()
            panel.plot(seed.index, seed.values, color=colour, linewidth=0.6, alpha=0.45, zorder=2)
    panel.plot(mean.index, mean.values, color=colour, linewidth=1.6, label=label, zorder=3)
