"""Return against updates: a panel per cell, a colour and dashes per method, thin lines for seeds, anchors across."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_bench.plans import Cell
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.style import FAINT, GREY, KINDS, LINES, entitle, our_style, save
from coworld_bench.reporting.layout import Picture
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.measured import ANCHORS, DATASET, beside

DASHES = {
    ANCHORS["random"]: (0, (1, 2)),
    ANCHORS["constant"]: (0, (5, 2)),
    DATASET: (0, (5, 2, 1, 2)),
}
STROKES: tuple[Any, ...] = ("-", (0, (2.5, 0.9)), (0, (0.9, 0.9)))  # of a method's mean; the next where colours begin again
SEEDS_UP_TO = 5  # methods: of more, the seeds would hide each other


@dataclass(frozen=True)
class Look:
    """How the runs of a method on a cell are drawn."""

    label: str
    colour: str
    stroke: Any = "-"
    width: float = 1.6
    seeds: bool = True
    layer: float = 3


def drawn(selection: Selection, folder: Path, name: str) -> Drawn | None:
    """Draw the curves of every cell that has one; None where nothing finished."""
    methods = with_results(selection)
    looks = looks_of(selection.labels, seeds=len(methods) <= SEEDS_UP_TO)
    what = "Return against updates" + ", means over seeds" * (len(methods) > SEEDS_UP_TO)
    title = f"{what} · {selection.circumstances}"
    return picture(selection, methods, looks, title, "", folder, name)


def highlight(
    selection: Selection, methods: tuple[str, ...], folder: Path, name: str, kinds: tuple[str, ...] = KINDS
) -> Drawn | None:
    """Draw these methods in colour with all seeds, on the cells they have, and the others' means behind them in grey; None
    where none of these finished."""
    chosen = selection.only(methods)
    others = {method: Look("other methods", FAINT, width=0.9, seeds=False, layer=1.5) for method in selection.methods}
    who = f"{next(iter(chosen.labels.values()))}: r" if len(chosen.labels) == 1 else "R"
    title = f"{who}eturn against updates · {chosen.circumstances}"
    looks = looks_of(chosen.labels) | {method: look for method, look in others.items() if method not in chosen.labels}
    behind = ", other methods in grey" * (len(with_results(selection)) > len(with_results(chosen)))
    return picture(selection, with_results(chosen), looks, title, behind, folder, name, kinds)


def with_results(selection: Selection) -> tuple[str, ...]:
    """The methods that finished on any cell, in the plan's order."""
    return tuple(dict.fromkeys(method for (method, _), found in selection.measurements.items() if len(found.runs)))


def looks_of(labels: Mapping[str, str], seeds: bool = True) -> dict[str, Look]:
    """A look for each method, by its place."""
    return {
        method: Look(label, LINES[place % len(LINES)], STROKES[place // len(LINES) % len(STROKES)], seeds=seeds)
        for place, (method, label) in enumerate(labels.items())
    }


def picture(
    selection: Selection,
    methods: tuple[str, ...],
    looks: Mapping[str, Look],
    title: str,
    behind: str,
    folder: Path,
    name: str,
    kinds: tuple[str, ...] = KINDS,
) -> Drawn | None:
    """The written figure of the cells on which any of `methods` finished; None where there is none."""
    cells = [cell for cell in selection.plan.cells if any(len(found.runs) for found in of_cell(selection, methods, cell))]
    if not cells:
        return None
    with our_style():
        paths, svg = save(draw(selection, cells, looks, title), folder, name, kinds)
    labels = ", ".join(selection.labels[method] for method in methods)
    alt = f"Learning curves on {', '.join(cell.code for cell in cells)}: {labels}{behind}."
    return Drawn(Picture(name, title, alt, svg), tuple(paths))


def of_cell(selection: Selection, methods: tuple[str, ...], cell: Cell) -> list[Measurement]:
    return [selection.measurements[method, cell] for method in methods]


def draw(selection: Selection, cells: list[Cell], looks: Mapping[str, Look], title: str) -> Figure:
    across = min(3, len(cells))
    down = ceil(len(cells) / across)
    crowded = not any(look.seeds for look in looks.values())
    figure = Figure(figsize=size_of(across, down, crowded), layout="constrained")
    panels = [figure.add_subplot(down, across, place + 1) for place in range(len(cells))]
    for place, (panel, cell) in enumerate(zip(panels, cells, strict=True)):
        draw_cell(panel, selection, cell, looks)
        panel.set_ylabel("return" if place % across == 0 else "", fontsize=7)
        panel.set_xlabel("updates" if place + across >= len(cells) else "", fontsize=7)
    entitle(figure, title)
    explain(figure, [*(look.label for look in looks.values()), *DASHES])
    return figure


def size_of(across: int, down: int, crowded: bool) -> tuple[float, float]:
    """Inches, with two lines of legend; taller panels where there are many methods."""
    if across == 1:
        return 4.6, 3.8 if crowded else 3.3
    return 2.5 * across, 0.9 + (2.3 if crowded else 1.9) * down


def explain(figure: Figure, order: list[str]) -> None:
    """One legend for all panels, below them, in as many columns as fit and with the room it takes."""
    found: dict[str, Artist] = {}
    for panel in figure.axes:
        found |= {text: handle for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    handles = {text: found[text] for text in order if text in found}
    widest = 0.45 + 0.048 * max(map(len, handles))  # inches, at the size of its text
    across = min(4 if len(handles) > 9 else 3, int(figure.get_figwidth() / widest))
    lines = ceil(len(handles) / across)
    figure.set_figheight(figure.get_figheight() + 0.13 * max(0, lines - 2))
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=across, fontsize=6.5, handlelength=2.6
    )


def draw_cell(panel: Axes, selection: Selection, cell: Cell, looks: Mapping[str, Look]) -> None:
    for method, look in looks.items():
        runs = selection.measurements[method, cell].runs["run"]
        draw_method(panel, selection.store.curves[selection.store.curves["run"].isin(runs)], look)
    for name, summary in beside(selection, cell).items():
        if summary is not None and name in DASHES:
            panel.axhline(summary.mean, color=GREY, linewidth=1, linestyle=DASHES[name], label=name, zorder=1)
    panel.set_title(cell.code)
    panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
    panel.tick_params(labelsize=6.5)


def draw_method(panel: Axes, lines: pd.DataFrame, look: Look) -> None:
    """Every seed thin where they are wanted, the mean over seeds bold at the updates where all of them were evaluated."""
    if lines.empty:
        return
    by_run = seeds_of(lines)
    mean = mean_of_seeds(lines)
    if look.seeds and by_run.shape[1] > 1:
        for run in by_run:
            seed = by_run[run].dropna()
            panel.plot(seed.index, seed.values, color=look.colour, linewidth=0.6, alpha=0.45, zorder=look.layer - 1)
    panel.plot(
        mean.index, mean.values, color=look.colour, linewidth=look.width, linestyle=look.stroke, label=look.label,
        zorder=look.layer,
    )  # fmt: skip


def seeds_of(lines: pd.DataFrame) -> pd.DataFrame:
    """Return by updates, a column a run."""
    return lines.pivot(index="updates", columns="run", values="return").sort_index()


def mean_of_seeds(lines: pd.DataFrame) -> pd.Series:
    """The mean over runs by updates, where all of them were evaluated."""
    return seeds_of(lines).dropna().mean(axis=1)
