"""Return against updates: a panel per cell, a colour and dashes per method, thin lines for seeds, anchors across.

A plan may split its rows into named groups of panels. Where it pairs targets with several sources, a panel is a target
with a line per source, as in the paper's figure 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.sheet import Sheet, say, short_ticks
from coworld_bench.reporting.figures.style import COLUMN, FAINT, GREY, KINDS, LINES, TEXT, our_style, save
from coworld_bench.reporting.layout import Picture
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.measured import ANCHORS, DATASET, beside
from coworld_bench.tasks import find_task

DASHES = {
    ANCHORS["random"]: (0, (1, 2)),
    ANCHORS["constant"]: (0, (5, 2)),
    DATASET: (0, (5, 2, 1, 2)),
}
STROKES: tuple[Any, ...] = ("-", (0, (2.5, 0.9)), (0, (0.9, 0.9)))  # of a method's mean; the next where colours begin again
SEEDS_UP_TO = 5  # lines: of more, the seeds would hide each other
MATRIX = 3  # sources of one target, from which on they share its panel
Seeds = list[dict[int, float]]  # of each run, its return by updates


@dataclass(frozen=True)
class Look:
    """How the runs of a method on a cell are drawn."""

    label: str
    colour: str
    stroke: Any = "-"
    width: float = 1.5
    seeds: bool = True
    layer: float = 3

    @property
    def handle(self) -> Line2D:
        return Line2D([], [], color=self.colour, linestyle=self.stroke, linewidth=self.width)


@dataclass(frozen=True)
class Panel:
    """What stands in one panel: lines by label, and the cell whose anchors and dataset lie across."""

    title: str
    cell: Cell
    lines: Mapping[str, Measurement]

    @property
    def finished(self) -> dict[str, Measurement]:
        return {label: found for label, found in self.lines.items() if len(found.runs)}


def drawn(selection: Selection, folder: Path, name: str) -> Drawn:
    """The curves of every cell; those without any say so."""
    panels = panels_of(selection)
    known = {label for panel in panels for label in panel.lines}
    labels = [label for label in labels_of(selection) if label in known]
    some = len({label for panel in panels for label in panel.finished}) <= SEEDS_UP_TO
    title = f"Return against updates{'' if some else ', means over seeds'} · {selection.circumstances}"
    return picture(selection, panels, looks_of(labels, seeds=some), title, "", folder, name)


def highlight(
    selection: Selection, methods: tuple[str, ...], folder: Path, name: str, kinds: tuple[str, ...] = KINDS
) -> Drawn | None:
    """Draw these methods in colour with all seeds, on the cells they have, and the others' means behind them in grey; None
    where none of these finished."""
    chosen = selection.only(methods)
    others = {
        label: Look("other methods", FAINT, width=0.9, seeds=False, layer=1.5) for label in names_of(selection).values()
    }
    who = f"{next(iter(chosen.labels.values()))}: r" if len(chosen.labels) == 1 else "R"
    title = f"{who}eturn against updates · {chosen.circumstances}"
    named = [name for row, name in names_of(selection).items() if row in chosen.labels]
    looks = others | looks_of(named)
    behind = ", other methods in grey" * (len(with_results(selection)) > len(with_results(chosen)))
    panels = [panel for panel in by_cell(selection) if set(named) & set(panel.finished)]
    return picture(selection, panels, looks, title, behind, folder, name, kinds) if panels else None


def with_results(selection: Selection) -> tuple[str, ...]:
    """The methods that finished on any cell, in the plan's order."""
    return tuple(dict.fromkeys(method for (method, _), found in selection.measurements.items() if len(found.runs)))


def panels_of(selection: Selection) -> list[Panel]:
    """By group and cell where the plan has groups, by target where it is a matrix, else by cell."""
    plan = selection.plan
    if plan.panels:
        groups = {group: selection.only(rows) for group, rows in plan.panels.items()}
        return [
            replace(panel, title=f"{group}, {panel.title}" if len(plan.cells) > 1 else f"{group} · {panel.title}")
            for group, rows in groups.items()
            for panel in by_cell(rows)
        ]
    return by_target(selection) if is_matrix(plan) else by_cell(selection)


def by_cell(selection: Selection) -> list[Panel]:
    names = names_of(selection)
    return [
        Panel(cell.code, cell, {name: selection.measurements[row, cell] for row, name in names.items()})
        for cell in selection.plan.cells
    ]


def names_of(selection: Selection) -> dict[str, str]:
    """What the lines of a row are called; rows of one label are told apart."""
    often = Counter(selection.labels.values())
    return {row: f"{label} ({row})" if often[label] > 1 else label for row, label in selection.labels.items()}


def is_matrix(plan: Plan) -> bool:
    """Whether plain cells pair a target with many sources."""
    targets = [cell.target for cell in plan.cells if cell.plain and cell.source]
    return len(targets) == len(plan.cells) and any(targets.count(target) >= MATRIX for target in targets)


def by_target(selection: Selection) -> list[Panel]:
    """The plan's methods, a line for every source of one that has a source; what several cells share is one line."""
    plan = selection.plan
    chosen = selection.only(plan.methods)
    panels = []
    for target in dict.fromkeys(cell.target for cell in plan.cells):
        own = [cell for cell in plan.cells if cell.target == target]
        lines: dict[str, Measurement] = {}
        for row, cell in product(chosen.methods, own):
            label, found = line_label(chosen, row, cell), chosen.measurements[row, cell]
            lines[label] = found if len(found.runs) else lines.get(label, found)
        task = find_task(target)
        panels.append(Panel(f"{task.code}: {task.name.replace('_', ' ')}", own[0], lines))
    return panels


def labels_of(selection: Selection) -> list[str]:
    """What lines can be called, in the order of rows and of the plan's sources."""
    cells = selection.plan.cells
    names = ([names_of(selection)[row], *(line_label(selection, row, cell) for cell in cells)] for row in selection.methods)
    return list(dict.fromkeys(label for labels in names for label in labels))


def line_label(selection: Selection, row: str, cell: Cell) -> str:
    """`CoWorld from BP`; the method alone where its runs did not start from the cell's source."""
    label, runs = names_of(selection)[row], selection.measurements[row, cell].runs
    paired = cell.source is not None and (runs["source"] == cell.source).any()
    return f"{label} from {find_task(str(cell.source)).code}" if paired else label


def looks_of(labels: Iterable[str], seeds: bool = True) -> dict[str, Look]:
    """A look for each label, by its place."""
    return {
        label: Look(label, LINES[place % len(LINES)], STROKES[place // len(LINES) % len(STROKES)], seeds=seeds)
        for place, label in enumerate(labels)
    }


def picture(
    selection: Selection,
    panels: Sequence[Panel],
    looks: Mapping[str, Look],
    title: str,
    behind: str,
    folder: Path,
    name: str,
    kinds: tuple[str, ...] = KINDS,
) -> Drawn:
    """The written figure of these panels."""
    with our_style():
        paths, svg = save(draw(selection, panels, looks, title), folder, name, kinds)
    return Drawn(Picture(name, title, in_words(panels, looks, behind), svg), tuple(paths))


def in_words(panels: Sequence[Panel], looks: Mapping[str, Look], behind: str) -> str:
    measured = [panel for panel in panels if panel.finished]
    found = {label for panel in measured for label in panel.finished}
    labels = ", ".join(label for label, look in looks.items() if label in found and look.label == label)
    missing = [panel.title for panel in panels if not panel.finished]
    parts = [f"Learning curves on {', '.join(panel.title for panel in measured)}: {labels}{behind}."] if measured else []
    return " ".join([*parts, *([f"Not measured: {', '.join(missing)}."] if missing else [])])


def draw(
    selection: Selection, panels: Sequence[Panel], looks: Mapping[str, Look], title: str, width: float | None = None
) -> Figure:
    """The figure, `width` inches wide: by default a column for one panel, the text for more."""
    width = width or (COLUMN if len(panels) == 1 else TEXT)
    across = [beside(selection, panel.cell) for panel in panels]
    sheet = Sheet(title, len(panels), width, 1.9, legend=legend_of(panels, looks, across))
    figure, places = sheet.open()
    curves = curves_of(selection, panels)
    for place, (axes, panel) in enumerate(zip(places, panels, strict=True)):
        draw_panel(axes, panel, looks, curves, across[place])
        axes.set_ylabel("return" if sheet.in_first_column(place) else "")
        axes.set_xlabel("updates" if sheet.in_last_row(place) else "")
    return figure


def legend_of(panels: Sequence[Panel], looks: Mapping[str, Look], across: Sequence[Mapping[str, Any]]) -> dict[str, Line2D]:
    """What occurs in any panel: methods in their order, then what lies across."""
    found = {label for panel in panels for label in panel.finished}
    shown = {looks[label].label: looks[label].handle for label in looks if label in found}
    drawn_across = [names for names, panel in zip(across, panels, strict=True) if panel.finished]
    lying = [name for name in DASHES if any(names.get(name) is not None for names in drawn_across)]
    return shown | {name: Line2D([], [], color=GREY, linewidth=1, linestyle=DASHES[name]) for name in lying}


def curves_of(selection: Selection, panels: Sequence[Panel]) -> dict[str, dict[int, float]]:
    """Return by updates of every run in the panels."""
    runs = {run for panel in panels for found in panel.finished.values() for run in found.runs["run"]}
    lines = selection.store.curves
    return dict(by_run(lines[lines["run"].isin(runs)]))


def by_run(lines: pd.DataFrame) -> Iterator[tuple[str, dict[int, float]]]:
    """Every run with its return by updates, in the order of both."""
    found: dict[str, dict[int, float]] = {}
    for run, updates, value in sorted(zip(lines["run"], lines["updates"], lines["return"], strict=True)):
        found.setdefault(run, {})[int(updates)] = float(value)
    yield from found.items()


def draw_panel(
    axes: Axes,
    panel: Panel,
    looks: Mapping[str, Look],
    curves: Mapping[str, dict[int, float]],
    across: Mapping[str, Any],
) -> None:
    axes.set_title(panel.title)
    for label, found in panel.finished.items():
        draw_method(axes, [curves[run] for run in found.runs["run"]], looks[label])
    if not panel.finished:
        say(axes, state_of(panel.lines.values()))
        return
    for name, dashes in DASHES.items():
        if (summary := across.get(name)) is not None:
            axes.axhline(summary.mean, color=GREY, linewidth=1, linestyle=dashes, zorder=1)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    short_ticks(axes)


def state_of(found: Iterable[Measurement]) -> str:
    """Why there is nothing to draw."""
    measurements = list(found)
    if any(entry.unfinished for entry in measurements):
        return "not finished"
    return "failed" if any(entry.failed for entry in measurements) else "not measured"


def draw_method(axes: Axes, seeds: Seeds, look: Look) -> None:
    """Every seed thin where they are wanted, the mean over seeds bold at the updates where all of them were evaluated."""
    if look.seeds and len(seeds) > 1:
        for seed in seeds:
            axes.plot(list(seed), list(seed.values()), color=look.colour, linewidth=0.6, alpha=0.45, zorder=look.layer - 1)
    mean = mean_of(seeds)
    axes.plot(
        list(mean), list(mean.values()), color=look.colour, linewidth=look.width, linestyle=look.stroke, zorder=look.layer
    )


def mean_of(seeds: Seeds) -> dict[int, float]:
    """The mean over runs by updates, where all of them were evaluated."""
    if not seeds:
        return {}
    shared = reduce(set.intersection, (set(seed) for seed in seeds))
    return {updates: sum(seed[updates] for seed in seeds) / len(seeds) for updates in sorted(shared)}


def mean_of_seeds(lines: pd.DataFrame) -> pd.Series:
    """The mean over the runs of a frame of curves, by updates."""
    return pd.Series(mean_of([curve for _, curve in by_run(lines)]), dtype=float)
