"""The transfer matrix: source × target, CoWorld's return over Offline DV2's, and what the paper's numbers give beside it.

A ratio is decided where the 95 % interval of the difference of the two means, over seeds, leaves out 0 (Welch). Others are
hatched: their colour claims nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from coworld_bench.plans import Cell, Plan
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.contrasts import contrast
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.sheet import Sheet
from coworld_bench.reporting.figures.style import (
    COLUMN,
    GREY,
    HATCH,
    ON_DARK,
    ON_LIGHT,
    PALE,
    SMALL,
    TEXT,
    our_style,
    save,
)
from coworld_bench.reporting.layout import Picture, Table
from coworld_bench.reporting.published import read_published
from coworld_bench.reporting.selection import Measurement, Selection, select
from coworld_bench.reporting.tables.measured import SHORTCUT_MARK, References, shortcut
from coworld_bench.tasks import find_task

ABOVE, BELOW, MANY = "coworld", "offline_dv2", "coworld_multi"
MULTI = "multi"  # the source of a method that chooses among many, here and in the published files
COLOURS = colormaps["PuOr"]  # orange below 1, purple above: told apart without red and green
LEAST, MOST = 1.0, 3.0  # the colour scale ends between a factor of 2 and a factor of 8
OF_TABLE_2 = "figures.csv", "table02.csv"
COORDINATES = "source", "target", "mean"  # of a published number
CELL_WIDTH, CELL_HEIGHT, WIDEST = 0.42, 0.36, 0.75  # inches
NOTHING, UNDECIDED = "////", "\\\\\\\\"  # hatches
BLANK: dict[str, Any] = {"facecolor": PALE, "edgecolor": HATCH}
HATCHES = {
    "undecided: the 95 % interval of the difference includes 0": UNDECIDED,
    "no number": NOTHING,
}


@dataclass(frozen=True)
class Ratio:
    """Mean over seeds of one method by that of the other; None where a mean is missing or the lower one not positive."""

    source: str  # a task, or MULTI
    target: str
    value: float | None
    above: Measurement
    below: Measurement

    @property
    def seeds(self) -> str:
        """`n=3`, or `n=3/1` where the two means rest on different numbers of seeds."""
        above, below = len(self.above.runs), len(self.below.runs)
        return f"n={above}" if above == below else f"n={above}/{below}"

    @property
    def difference(self) -> tuple[float, float] | None:
        """95 % interval of the difference of the two means; None where one has less than two seeds."""
        above, below = self.above.summary, self.below.summary
        found = contrast([(1, above), (-1, below)]) if above and below else None
        return None if found is None or found.low is None or found.high is None else (found.low, found.high)

    @property
    def decided(self) -> bool:
        """Whether that interval leaves out 0."""
        return self.difference is not None and not self.difference[0] <= 0 <= self.difference[1]

    @property
    def failed(self) -> bool:
        return bool(self.above.failed or self.below.failed)


@dataclass(frozen=True)
class Square:
    """A cell of a matrix as it is drawn: its number, what stands below it, and whether it claims nothing."""

    value: float | None
    below: str = ""
    undecided: bool = False
    word: str = ""


Matrix = Mapping[tuple[str, str], Square]  # by source and target


def all_pairs(plan: Plan) -> Plan:
    """The plan with every source of it paired with every target of it: the store may hold pairs no table asks for."""
    plain = [cell for cell in plan.cells if cell.plain]
    targets = list(dict.fromkeys(cell.target for cell in plain))
    used = {cell.source for cell in plain if cell.source}
    sources = [*filter(used.__contains__, targets), *sorted(used.difference(targets))]
    cells = tuple(Cell(target, source) for source in sources for target in targets if source != target)
    return replace(plan, cells=cells, methods=(BELOW, ABOVE), panels={})


def matrix_of(given: Selection) -> tuple[Selection, list[Ratio]]:
    """The pairs of a plan, of all that its store holds, and their ratios."""
    plan = all_pairs(given.plan)
    runs = given.store.runs[given.store.runs["method"].isin(plan.methods)]
    selection = select(replace(given.store, runs=runs), plan, given.preset, given.asked)
    return selection, [*ratios(selection), *multi_ratios(given, selection)]


def ratios(selection: Selection) -> list[Ratio]:
    """One per pair of source and target."""
    return [
        ratio(str(cell.source), cell, selection.measurements[ABOVE, cell], selection.measurements[BELOW, cell])
        for cell in selection.plan.cells
    ]


def multi_ratios(given: Selection, pairs: Selection) -> list[Ratio]:
    """One per target for the method with many sources, where the plan has it or it was run."""
    if MANY not in given.labels:
        return []
    found = []
    for target in dict.fromkeys(cell.target for cell in pairs.plan.cells):
        cells = [cell for cell in given.plan.cells if cell.target == target and cell.plain]
        best = max(cells, key=lambda cell: len(given.measurements[MANY, cell].runs))
        below = next(pairs.measurements[BELOW, cell] for cell in pairs.plan.cells if cell.target == target)
        found.append(ratio(MULTI, best, given.measurements[MANY, best], below))
    return found


def ratio(source: str, cell: Cell, above: Measurement, below: Measurement) -> Ratio:
    value = None
    if above.summary and below.summary and below.summary.mean > 0:
        value = above.summary.mean / below.summary.mean
    return Ratio(source, cell.target, value, above, below)


def drawn(given: Selection, folder: Path, name: str) -> Drawn | None:
    """The matrix of a plan; None for a plan without sources."""
    selection, found = matrix_of(given)
    if not found:
        return None
    printed = published_ratios(given.plan, found)
    title = f"CoWorld / Offline DV2 · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(found, title, unfit_targets(selection), printed), folder, name)
    known, above, decided = counted(found)
    pairs = f"{known} of {len(selection.plan.cells)} pairs measured, {above} above 1, {decided} decided"
    alt = f"Heatmap of return ratios, source by target; {pairs}."
    if printed:
        alt += " Beside it the ratios that follow from the paper's table 2."
    return Drawn(Picture(name, f"Transfer matrix · {title}", alt, svg), tuple(paths), ratio_table(found, title))


def counted(found: Sequence[Ratio]) -> tuple[int, int, int]:
    """Of the pairs with one source: how many have a ratio, how many of these are above 1, and how many are decided."""
    known = [entry for entry in found if entry.value is not None and entry.source != MULTI]
    above = [entry for entry in known if entry.value is not None and entry.value > 1]
    return len(known), len(above), sum(entry.decided for entry in known)


def published_ratios(plan: Plan, found: Sequence[Ratio]) -> dict[tuple[str, str], float]:
    """What follows from the paper's table 2, by source and target, on these axes; nothing for a plan that does not
    belong to that table or to the paper's figures."""
    if plan.published not in OF_TABLE_2:
        return {}
    sources, targets = ({entry.source for entry in found} | {MULTI}, {entry.target for entry in found})
    rows = figure_rows()
    rows = rows[rows["metric"].eq("ratio_derived") & rows["source"].isin(sources) & rows["target"].isin(targets)]
    return {(source, target): value for source, target, value in zip(*(rows[key] for key in COORDINATES), strict=True)}


def figure_rows() -> pd.DataFrame:
    rows = read_published("figures.csv")
    return rows[rows["table"] == "figure03-left"]


def unfit_targets(selection: Selection, references: References = reference_return) -> set[str]:
    """Targets where a constant action gets half of the reference or more: their columns can carry no claim."""
    cells = {cell.target: cell for cell in selection.plan.cells}.values()
    found = [shortcut(selection, cell, references) for cell in cells]
    return {entry.cell.target for entry in found if entry and entry.unfit}


def ratio_table(found: list[Ratio], title: str) -> Table:
    """The numbers of the matrix, unrounded."""
    columns = (
        "source", "target", "ratio", "coworld_mean", "coworld_seeds", "offline_dv2_mean", "offline_dv2_seeds",
        "difference_low95", "difference_high95", "decided",
    )  # fmt: skip
    rows = tuple(
        (
            entry.source,
            entry.target,
            "" if entry.value is None else f"{entry.value:.6g}",
            *mean_and_seeds(entry.above),
            *mean_and_seeds(entry.below),
            *(f"{end:.6g}" for end in entry.difference or ()),
            *("",) * (0 if entry.difference else 2),
            "" if entry.value is None else ("yes" if entry.decided else "no"),
        )
        for entry in found
    )
    return Table("heatmap", title, columns, rows)


def mean_and_seeds(found: Measurement) -> tuple[str, str]:
    return ("" if found.summary is None else f"{found.summary.mean:.6g}", str(len(found.runs)))


def draw(
    found: Sequence[Ratio],
    title: str,
    unfit: set[str],
    printed: Mapping[tuple[str, str], float] | None = None,
    width: float | None = None,
) -> Figure:
    """Sources down, targets across; a dash where source and target are one task. The published matrix is a panel of its
    own in the same colours. `width` in inches, by default a column for one matrix and the text for two."""
    sources, targets = axes_of(found)
    if printed and MULTI not in sources and any(source == MULTI for source, _ in printed):
        sources.append(MULTI)
    known, above, decided = counted(found)
    measured = f"measured: {above} of {known} above 1, {decided} decided" if known else "measured: no pair"
    matrices: dict[str, Matrix] = {measured: measured_matrix(found)}
    if printed:
        matrices["published: derived from the paper's table 2"] = published_matrix(sources, targets, printed)
    limit = limit_of(found)
    sheet = sheet_of(title, matrices, sources, targets, unfit, width)
    figure, panels = sheet.open()
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        for (source, target), square in matrix.items():
            draw_square(panel, targets.index(target), row_of(sources, source), square, limit)
        marks = unfit if name == measured else set()
        label(panel, name, sources, targets, marks)
    draw_scale(figure, panels[-1], limit)
    return figure


def sheet_of(
    title: str, matrices: Mapping[str, Matrix], sources: list[str], targets: list[str], unfit: set[str], width: float | None
) -> Sheet:
    least = CELL_WIDTH * len(targets)
    height = CELL_HEIGHT * (row_of(sources, sources[-1]) + 1)
    width = width or max(TEXT if len(matrices) > 1 else COLUMN, least + 0.75)
    spare = max(0.0, width - 0.75 - WIDEST * len(targets)) if len(matrices) == 1 else 0.0
    return Sheet(
        title, len(matrices), width, height, least=least - 0.02, most=2, left=0.5 + spare / 2, right=0.13 + spare / 2,
        gap=0.6, foot=0.34, label=0.36, legend=legend_of(matrices),
        note=note_of(sources, targets, unfit, matrices),
    )  # fmt: skip


def legend_of(matrices: Mapping[str, Matrix]) -> dict[str, Artist]:
    """The hatches that occur."""
    squares = [square for matrix in matrices.values() for square in matrix.values()]
    used = {
        UNDECIDED: any(square.undecided for square in squares),
        NOTHING: any(square.value is None and not square.word for square in squares),
    }
    faces: dict[str, dict[str, Any]] = {
        UNDECIDED: {"facecolor": COLOURS(0.62), "edgecolor": to_rgba(ON_LIGHT, 0.45)},
        NOTHING: BLANK,
    }
    return {words: Patch(hatch=hatch * 2, linewidth=0, **faces[hatch]) for words, hatch in HATCHES.items() if used[hatch]}


def note_of(sources: list[str], targets: list[str], unfit: set[str], matrices: Mapping[str, Matrix]) -> str:
    """What the codes and signs mean."""
    tasks = {find_task(name) for name in (*sources, *targets) if name != MULTI}
    codes = " · ".join(f"{task.code} {task.name.replace('_', ' ')}" for task in sorted(tasks, key=lambda task: task.code))
    words = [f"{codes}."]
    if MULTI in sources:
        words.append("multi: CoWorld (Multi-Source).")
    if unfit:
        words.append(f"{SHORTCUT_MARK} a constant action gets half of the reference or more: no claim.")
    if any(square.undecided for matrix in matrices.values() for square in matrix.values()):
        words.append("Intervals: Welch's t over seeds; fewer than two seeds decide nothing.")
    if len(matrices) > 1:
        rows = figure_rows()
        count = rows.loc[rows["metric"] == "count_pairs_ratio_gt_1", "mean"].iloc[0]
        words.append(
            f"The paper's figure has {count:.0f} of 30 single-source pairs above 1; its ratios are an image, and those "
            "that table 2 gives have no interval."
        )
    return " ".join(words)


def measured_matrix(found: Sequence[Ratio]) -> Matrix:
    sources, targets = axes_of(found)
    squares = {(source, target): Square(None, word="–") for source in sources for target in targets}
    for entry in found:
        word = "failed" if entry.value is None and entry.failed else ""
        undecided = entry.value is not None and not entry.decided
        squares[entry.source, entry.target] = Square(entry.value, entry.seeds, undecided, word)
    return squares


def published_matrix(sources: list[str], targets: list[str], printed: Mapping[tuple[str, str], float]) -> Matrix:
    return {
        (source, target): Square(printed.get((source, target)), word="–" if source == target else "")
        for source in sources
        for target in targets
    }


def limit_of(found: Sequence[Ratio]) -> float:
    """Where the colours end, in powers of 2: at the furthest measured ratio, within limits."""
    known = [abs(log2(entry.value)) for entry in found if entry.value is not None and entry.value > 0]
    return min(MOST, max(LEAST, *known)) if known else LEAST


def axes_of(found: Sequence[Ratio]) -> tuple[list[str], list[str]]:
    """Sources and targets, the targets that are sources too in the sources' order."""
    sources = list(dict.fromkeys(entry.source for entry in found))
    targets = list(dict.fromkeys(entry.target for entry in found))
    both = [source for source in sources if source in targets]
    return sources, both + [target for target in targets if target not in both]


def row_of(sources: list[str], source: str) -> float:
    """Its place from the top; the row of many sources stands apart."""
    return sources.index(source) + 0.2 * (source == MULTI)


def draw_square(panel: Axes, column: float, row: float, square: Square, limit: float) -> None:
    corner = column - 0.48, row - 0.47
    if square.value is None:
        hatch = None if square.word else NOTHING
        panel.add_patch(Rectangle(corner, 0.96, 0.94, hatch=hatch, linewidth=0, **BLANK))
        if square.word:
            panel.text(column, row, square.word, ha="center", va="center", color=GREY, fontsize=SMALL)
        return
    colour = colour_of(square.value, limit)
    ink = ON_LIGHT if luminance(colour) > 0.4 else ON_DARK
    hatch = UNDECIDED if square.undecided else None
    panel.add_patch(Rectangle(corner, 0.96, 0.94, facecolor=colour, edgecolor=to_rgba(ink, 0.35), hatch=hatch, linewidth=0))
    behind = {"boxstyle": "square,pad=0.12", "facecolor": colour, "linewidth": 0} if hatch else None
    lines = [
        (row - 0.13 * bool(square.below), f"{square.value:.2f}", 7.5, "bold"),
        (row + 0.22, square.below, 6.0, "normal"),
    ]
    for height, text, size, weight in lines:
        if text:
            panel.text(column, height, text, ha="center", va="center", color=ink, fontsize=size, weight=weight, bbox=behind)


def colour_of(value: float, limit: float) -> tuple[float, float, float, float]:
    """The colour of a ratio: 1 in the middle, 2^±limit at the ends."""
    red, green, blue, alpha = COLOURS(0.5 + 0.5 * max(-1.0, min(1.0, log2(max(value, 1e-6)) / limit)))
    return float(red), float(green), float(blue), float(alpha)


def luminance(colour: tuple[float, float, float, float]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (ITU-R BT.709 weights, gamma taken as 2.2)."""
    return sum(weight * value**2.2 for weight, value in zip((0.2126, 0.7152, 0.0722), colour, strict=False))


def label(panel: Axes, title: str, sources: list[str], targets: list[str], unfit: set[str]) -> None:
    panel.set_title(title)
    panel.set_xlim(-0.5, len(targets) - 0.5)
    panel.set_ylim(row_of(sources, sources[-1]) + 0.5, -0.5)
    panel.set_xticks(range(len(targets)), [tick(target, SHORTCUT_MARK * (target in unfit)) for target in targets])
    panel.set_yticks([row_of(sources, source) for source in sources], [tick(source) for source in sources])
    panel.tick_params(length=0)
    panel.set_xlabel("offline target")
    panel.set_ylabel("source")
    panel.spines[:].set_visible(False)


def tick(source: str, mark: str = "") -> str:
    """The code of a task, and its mark."""
    return source if source == MULTI else f"{find_task(source).code} {mark}".strip()


def draw_scale(figure: Figure, above: Axes, limit: float) -> None:
    """A colour bar below the panels, labelled in ratios."""
    marks = [mark for mark in (-3, -2, -1, 0, 1, 2, 3) if abs(mark) <= limit]
    width, height = figure.get_size_inches()
    bottom = above.get_position().y0 - 0.5 / height
    long = min(2.4, width - 1)
    place = figure.add_axes((0.5 - long / 2 / width, bottom, long / width, 0.08 / height))
    scale = ScalarMappable(Normalize(-limit, limit), COLOURS)
    bar = figure.colorbar(scale, cax=place, ticks=marks, extend="both", orientation="horizontal")
    place.set_xticklabels(["1" if mark == 0 else f"{2.0**mark:g}" for mark in marks])
    bar.outline.set_visible(False)
