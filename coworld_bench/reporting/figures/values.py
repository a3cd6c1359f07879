"""Does a critic tell the truth: value predicted minus realised by method, a panel per cell and one of their mean (the
paper's figure 5b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.sheet import Sheet, in_thousands, width_of
from coworld_bench.reporting.figures.style import COLUMN, GREY, INK, LINES, PALE, SMALL, TEXT, our_style, save
from coworld_bench.reporting.layout import Picture, Table
from coworld_bench.reporting.published import figure_facts
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import Summary, summarise

MEAN = "mean over cells"
ROW = 0.155  # inches from method to method
BLUE, ORANGE = LINES[0], LINES[1]
AXIS = "Across: value predicted − realised"
UNITS = (
    "Values are discounted, in the reward units that a method trains on, at the first row of an episode: right of the line "
    "the critic promises more than comes true. Intervals are Student's t over seeds; an arrow ends one that leaves its "
    "panel. The mean is over the seeds that finished in every cell."
)
Gaps = dict[int, float]  # predicted minus realised, by seed


@dataclass(frozen=True)
class Row:
    """A method in one panel: what its seeds gave, and words where they gave nothing."""

    label: str
    gaps: Gaps
    words: str = ""

    @property
    def summary(self) -> Summary | None:
        return summarise(list(self.gaps.values())) if self.gaps else None


Panel = tuple[str, list[Row]]  # with its title


def drawn(selection: Selection, folder: Path, name: str) -> Drawn:
    """The gaps of every method with a critic, with their numbers as a table."""
    title = f"Value predicted minus realised · {selection.circumstances}"
    panels = panels_of(selection)
    with our_style():
        paths, svg = save(draw(panels, title, facts_of(selection)), folder, name)
    return Drawn(Picture(name, title, in_words(panels), svg), tuple(paths), gap_table(panels, title))


def panels_of(selection: Selection) -> list[Panel]:
    """The rows of each cell, and where there are several cells of their mean."""
    methods = with_critic(selection)
    cells = selection.plan.cells
    panels: list[Panel] = [
        (cell.code, [row_of(selection.labels[method], selection.measurements[method, cell]) for method in methods])
        for cell in cells
    ]
    if len(cells) > 1:
        panels.append((MEAN, [mean_row(place, [rows for _, rows in panels]) for place in range(len(methods))]))
    return panels


def with_critic(selection: Selection) -> list[str]:
    """The methods that told values, and those of the plan of which nothing finished: they may have a critic."""
    told = {method: False for method in selection.methods}
    silent = dict(told)
    for (method, _), found in selection.measurements.items():
        told[method] |= bool(found.runs["value_predicted"].notna().any())
        silent[method] |= bool(len(found.runs))
    return [
        method for method in selection.methods if told[method] or (method in selection.plan.methods and not silent[method])
    ]


def row_of(label: str, found: Measurement) -> Row:
    gaps = gaps_of(found.runs)
    if gaps:
        return Row(label, gaps)
    return Row(label, {}, "not finished" if found.unfinished else "failed" if found.failed else "not measured")


def gaps_of(runs: pd.DataFrame) -> Gaps:
    known = runs[runs["value_predicted"].notna() & runs["value_realised"].notna()]
    differences = known["value_predicted"].astype(float) - known["value_realised"].astype(float)
    return {int(seed): float(gap) for seed, gap in zip(known["seed"], differences, strict=True)}


def mean_row(place: int, cells: Sequence[Sequence[Row]]) -> Row:
    """The mean over cells by seed; words where a cell has none of a method's seeds."""
    rows = [rows[place] for rows in cells]
    label, known = rows[0].label, [row for row in rows if row.gaps]
    if not known:
        return Row(label, {}, "not measured")
    if len(known) < len(rows):
        return Row(label, {}, f"{len(known)} of {len(rows)} cells")
    seeds = sorted(set.intersection(*(set(row.gaps) for row in rows)))
    return Row(label, {seed: fmean(row.gaps[seed] for row in rows) for seed in seeds}, "" if seeds else "no shared seed")


def in_words(panels: Sequence[Panel]) -> str:
    """The figure for those who do not see it: the mean panel, or the only one."""
    name, rows = panels[-1]
    told = [f"{row.label} {row.summary.mean:+.3g}" for row in rows if row.summary]
    silent = [row.label for row in rows if not row.summary]
    parts = [f"Value predicted minus realised, {name}: {', '.join(told)}."] if told else []
    return " ".join([*parts, *([f"Without a number there: {', '.join(silent)}."] if silent else [])])


def gap_table(panels: Sequence[Panel], title: str) -> Table:
    """The numbers of the figure, unrounded."""
    columns = ("cell", "method", "seeds", "gap_mean", "gap_low95", "gap_high95", "gap_by_seed")
    rows = [(code, row.label, *numbers_of(row)) for code, rows in panels for row in rows]
    return Table("values", title, columns, tuple(rows))


def numbers_of(row: Row) -> tuple[str, ...]:
    summary = row.summary
    if summary is None:
        return "0", "", "", "", ""
    ends = ("" if end is None else f"{end:.6g}" for end in (summary.low, summary.high))
    return str(summary.n), f"{summary.mean:.6g}", *ends, "; ".join(f"{seed}: {gap:.6g}" for seed, gap in row.gaps.items())


def facts_of(selection: Selection) -> str:
    """What the paper says of values, for a plan of its figure."""
    facts = figure_facts(selection.plan, "estimated_minus_true_value")
    return f"Published, in units of its own: {' '.join(facts)}" if facts else ""


def draw(panels: Sequence[Panel], title: str, facts: str = "", width: float | None = None) -> Figure:
    """Methods down, gaps across; the paper's words stand in a frame below. `width` in inches, by default a column for one
    panel and the text for more."""
    width = width or (COLUMN if len(panels) == 1 else TEXT)
    labels = [row.label for row in panels[0][1]]
    left = max((width_of(label, SMALL) for label in labels), default=0.3) + 0.1
    sheet = Sheet(
        title, len(panels), width, max(0.5, ROW * len(labels) + 0.1), left=left, gap=0.14, most=4, least=0.7, label=0.02,
        legend=legend(), note=f"{AXIS}. {UNITS}", box=facts,
    )  # fmt: skip
    figure, places = sheet.open()
    for place, (axes, (name, rows)) in enumerate(zip(places, panels, strict=True)):
        draw_panel(axes, name, rows)
        if sheet.in_first_column(place):
            axes.set_yticks(range(len(rows)), labels)
        else:
            axes.set_yticks([])
    return figure


def legend() -> dict[str, Line2D]:
    return {
        "mean over seeds, 95 % interval": Line2D([], [], color=BLUE, marker="D", markersize=4, linewidth=1.2),
        "seed": Line2D([], [], color=ORANGE, marker="o", markersize=3, linewidth=0),
        "the critic tells the truth": Line2D([], [], color=INK, linewidth=0.8),
    }


def draw_panel(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    axes.set_title(name, weight="bold" if name == MEAN else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=4)
    for place in range(1, len(rows), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=PALE, linewidth=0, zorder=0)
    low, high = limits(rows)
    axes.set_xlim(low, high)
    draw_rows(axes, {place: row for place, row in enumerate(rows) if row.gaps}, low, high)
    middle = blended_transform_factory(axes.transAxes, axes.transData)
    for place, row in enumerate(rows):
        if not row.gaps:
            axes.text(0.5, place, row.words, ha="center", va="center_baseline", fontsize=6, color=GREY, transform=middle)
    if any(row.gaps for row in rows):
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(in_thousands)
    else:
        axes.set_xticks([])


def limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Around 0 and every seed: intervals over few seeds may be far wider than what they are of."""
    gaps = [0.0, *(gap for row in rows for gap in row.gaps.values())]
    low, high = min(gaps), max(gaps)
    room = 0.3 * (high - low) or 1.0
    return low - room, high + room


def draw_rows(axes: Axes, rows: Mapping[int, Row], low: float, high: float) -> None:
    """The seeds of every row, and above them their mean with its interval, which an arrow ends where it leaves the panel.
    Few artists of many points: each costs a millisecond."""
    summaries = {place - 0.12: row.summary for place, row in rows.items() if row.summary}
    spans = {
        place: (summary.low, summary.high)
        for place, summary in summaries.items()
        if summary.low is not None and summary.high is not None
    }
    seeds = [(gap, place + 0.17) for place, row in rows.items() for gap in row.gaps.values()]
    axes.vlines(
        [0] * len(rows), [place - 0.5 for place in rows], [place + 0.5 for place in rows], INK, linewidth=0.8, zorder=1
    )
    axes.plot(*columns(seeds), "o", color=ORANGE, markersize=2.6, zorder=3)
    axes.plot(
        *columns([(summary.mean, place) for place, summary in summaries.items()]), "D", color=BLUE, markersize=3.4, zorder=4
    )
    ends = [(max(low, left), min(high, right)) for left, right in spans.values()]
    axes.hlines(list(spans), *columns(ends), BLUE, linewidth=1.2, zorder=2)
    for edge, marker, beyond in (
        (low, "<", [place for place, (left, _) in spans.items() if left < low]),
        (high, ">", [place for place, (_, right) in spans.items() if right > high]),
    ):
        if beyond:
            axes.plot([edge] * len(beyond), beyond, marker, color=BLUE, markersize=3, clip_on=False, zorder=4)


def columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in points], [second for _, second in points]
