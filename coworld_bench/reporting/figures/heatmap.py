"""The transfer matrix: source × target, CoWorld's return over Offline DV2's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coworld_bench.plans import Cell, Plan
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.style import GREY, HATCH, ON_DARK, ON_LIGHT, PALE, entitle, our_style, save
from coworld_bench.reporting.layout import Picture, Table
from coworld_bench.reporting.selection import Measurement, Selection, select
from coworld_bench.reporting.tables.measured import SHORTCUT_MARK, References, shortcut
from coworld_bench.tasks import find_task

ABOVE, BELOW = "coworld", "offline_dv2"
COLOURS = colormaps["PuOr"]  # orange below 1, purple above: told apart without red and green
LEAST, MOST = 1.0, 3.0  # the colour scale ends between a factor of 2 and a factor of 8


@dataclass(frozen=True)
class Ratio:
    """Mean over seeds of one method by that of the other; None where a mean is missing or the lower one not positive."""

    source: str
    target: str
    value: float | None
    above: Measurement
    below: Measurement

    @property
    def seeds(self) -> str:
        """`n=3`, or `n=3/1` where the two means rest on different numbers of seeds."""
        above, below = len(self.above.runs), len(self.below.runs)
        return f"n={above}" if above == below else f"n={above}/{below}"


def all_pairs(plan: Plan) -> Plan:
    """The plan with every source of it paired with every target of it: the store may hold pairs no table asks for."""
    plain = [cell for cell in plan.cells if cell.plain]
    targets = list(dict.fromkeys(cell.target for cell in plain))
    used = {cell.source for cell in plain if cell.source}
    sources = [*filter(used.__contains__, targets), *sorted(used.difference(targets))]
    cells = tuple(Cell(target, source) for source in sources for target in targets if source != target)
    return replace(plan, cells=cells, methods=(BELOW, ABOVE))


def ratios(selection: Selection) -> list[Ratio]:
    """One per pair of source and target."""
    return [
        ratio(cell, selection.measurements[ABOVE, cell], selection.measurements[BELOW, cell])
        for cell in selection.plan.cells
    ]


def ratio(cell: Cell, above: Measurement, below: Measurement) -> Ratio:
    value = None
    if above.summary and below.summary and below.summary.mean > 0:
        value = above.summary.mean / below.summary.mean
    assert cell.source is not None, cell
    return Ratio(cell.source, cell.target, value, above, below)


def drawn(given: Selection, folder: Path, name: str) -> Drawn | None:
    """The matrix of a plan; None for a plan without sources."""
    pairs = all_pairs(given.plan)
    if not pairs.cells:
        return None
    selection = select(given.store, pairs, given.preset, given.asked)
    found = ratios(selection)
    title = f"CoWorld / Offline DV2 · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(found, title, unfit_targets(selection)), folder, name)
    known = sum(entry.value is not None for entry in found)
    alt = f"Heatmap of return ratios, source by target; {known} of {len(found)} pairs measured."
    return Drawn(Picture(name, f"Transfer matrix · {title}", alt, svg), tuple(paths), ratio_table(found, title))


def unfit_targets(selection: Selection, references: References = reference_return) -> set[str]:
    """Targets where a constant action gets half of the reference or more: their columns can carry no claim."""
    found = [shortcut(selection, cell, references) for cell in selection.plan.cells]
    return {entry.cell.target for entry in found if entry and entry.unfit}


def ratio_table(found: list[Ratio], title: str) -> Table:
    """The numbers of the matrix, unrounded."""
    columns = ("source", "target", "ratio", "coworld_mean", "coworld_seeds", "offline_dv2_mean", "offline_dv2_seeds")
    rows = tuple(
        (
            entry.source,
            entry.target,
            "" if entry.value is None else f"{entry.value:.6g}",
            *mean_and_seeds(entry.above),
            *mean_and_seeds(entry.below),
        )
        for entry in found
    )
    return Table("heatmap", title, columns, rows)


def mean_and_seeds(found: Measurement) -> tuple[str, str]:
    return ("" if found.summary is None else f"{found.summary.mean:.6g}", str(len(found.runs)))


def draw(found: list[Ratio], title: str, unfit: set[str]) -> Figure:
    """Sources down, targets across; hatched where nothing is known, a dash where source and target are one task."""
    sources, targets = axes_of(found)
    known = [abs(log2(entry.value)) for entry in found if entry.value is not None and entry.value > 0]
    limit = min(MOST, max(LEAST, *known)) if known else LEAST
    figure = Figure(figsize=(max(3.4, 1.6 + 0.8 * len(targets)), 1.7 + 0.55 * len(sources)), layout="constrained")
    axes = figure.add_subplot()
    by_pair = {(entry.source, entry.target): entry for entry in found}
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            draw_cell(axes, column, row, by_pair.get((source, target)), limit)
    label(axes, sources, targets, unfit)
    entitle(figure, title)
    draw_scale(figure, axes, limit)
    return figure


def axes_of(found: list[Ratio]) -> tuple[list[str], list[str]]:
    """Sources and targets, the targets that are sources too in the sources' order."""
    sources = list(dict.fromkeys(entry.source for entry in found))
    targets = list(dict.fromkeys(entry.target for entry in found))
    both = [source for source in sources if source in targets]
    return sources, both + [target for target in targets if target not in both]


def draw_cell(axes: Axes, column: int, row: int, entry: Ratio | None, limit: float) -> None:
    corner = column - 0.48, row - 0.46
    if entry is None or entry.value is None:
        failed = entry is not None and bool(entry.above.failed or entry.below.failed)
        hatch, word = (None, "–") if entry is None else ("////", "failed" if failed else "")
        axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=PALE, edgecolor=HATCH, hatch=hatch, linewidth=0))
        axes.text(column, row, word, ha="center", va="center", color=GREY, fontsize=7, backgroundcolor=PALE)
        return
    colour = colour_of(entry.value, limit)
    axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=colour, linewidth=0))
    ink = ON_LIGHT if luminance(colour) > 0.4 else ON_DARK
    axes.text(column, row - 0.1, f"{entry.value:.2f}", ha="center", va="center", color=ink, fontsize=9, weight="bold")
    axes.text(column, row + 0.24, entry.seeds, ha="center", va="center", color=ink, fontsize=6)


def colour_of(value: float, limit: float) -> tuple[float, float, float, float]:
    """The colour of a ratio: 1 in the middle, 2^±limit at the ends."""
    red, green, blue, alpha = COLOURS(0.5 + 0.5 * max(-1.0, min(1.0, log2(max(value, 1e-6)) / limit)))
    return float(red), float(green), float(blue), float(alpha)


def luminance(colour: tuple[float, float, float, float]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (ITU-R BT.709 weights, gamma taken as 2.2)."""
    return sum(weight * value**2.2 for weight, value in zip((0.2126, 0.7152, 0.0722), colour, strict=False))


def label(axes: Axes, sources: list[str], targets: list[str], unfit: set[str]) -> None:
    axes.set_xlim(-0.5, len(targets) - 0.5)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    axes.set_xticks(range(len(targets)), [tick(target, SHORTCUT_MARK * (target in unfit)) for target in targets])
    axes.set_yticks(range(len(sources)), [tick(source) for source in sources])
    axes.tick_params(length=0, labelsize=6.5)
    axes.set_xlabel("offline target" + f"   ({SHORTCUT_MARK} a constant action gets half or more: no claim)" * bool(unfit))
    axes.set_ylabel("source")
    axes.spines[:].set_visible(False)


def tick(task_id: str, mark: str = "") -> str:
    """Code and name of a task in short lines."""
    task = find_task(task_id)
    return f"{task.code} {mark}".strip() + "\n" + task.name.replace("_", "\n", 1).replace("_", " ")


def draw_scale(figure: Figure, axes: Axes, limit: float) -> None:
    """A colour bar labelled in ratios."""
    marks = [mark for mark in (-3, -2, -1, 0, 1, 2, 3) if abs(mark) <= limit]
    scale = ScalarMappable(Normalize(-limit, limit), COLOURS)
    bar = figure.colorbar(scale, ax=axes, ticks=marks, extend="both", shrink=0.8, aspect=16, pad=0.02)
    bar.ax.set_yticklabels(["1" if mark == 0 else f"{2.0**mark:g}" for mark in marks], fontsize=6.5)
    bar.outline.set_visible(False)
