"""Return against a setting that the arms of a plan change, one at a time (the paper's figure 6): a panel per setting and
cell. What the paper says of its own is a strip of its own, without an axis of returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from coworld_bench.config import read_value
from coworld_bench.plans import Cell
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.curves import state_of
from coworld_bench.reporting.figures.sheet import Sheet, in_thousands, say, width_of
from coworld_bench.reporting.figures.style import COLUMN, FAINT, HATCH, INK, LINES, PALE, SMALL, TEXT, our_style, save
from coworld_bench.reporting.layout import Picture, Table
from coworld_bench.reporting.published import format_published, published_rows, read_published, returns_of
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.tasks import find_task

BLUE, ORANGE, GREEN = LINES[:3]
WIDE = 10.0  # from this factor between the largest and the smallest value on, their axis is logarithmic
SIGNS = {"beta2": "β2", "alpha": "α", "eta": "η"}
FIGURE = "figure06"
NAMES = {"beta2": ("beta_2", "beta_2"), "k": ("k (", " k"), "alpha": ("alpha (", "alpha")}  # in figures.csv, in table08.csv
BANDS: tuple[tuple[Any, str], ...] = (("-", PALE), ((0, (5, 2)), FAINT), ((0, (1, 2)), HATCH))  # of other methods
STRIP = 0.52  # inches of what the paper says below a panel
IN_STRIPS = "shaded the range that it calls good, the diamond its own weight, in its units; its returns are an image"


@dataclass(frozen=True)
class Sweep:
    """What was measured of one setting on one cell: by value, and the value that the method has by itself."""

    option: str
    cell: Cell
    points: Mapping[float, Measurement]
    own: float | None

    @property
    def sign(self) -> str:
        return sign_of(self.option)

    @property
    def values(self) -> list[float]:
        return sorted(self.points)


@dataclass(frozen=True)
class Published:
    """What the paper says of a setting, in its own units: the weight it used, and the range it calls good."""

    own: float | None
    good: tuple[float, float] | None


def drawn(selection: Selection, folder: Path, name: str) -> Drawn | None:
    """The sweeps of a plan; None where no arm changes one number alone."""
    sweeps = sweeps_of(selection)
    if not sweeps:
        return None
    title = f"Return against {', '.join(dict.fromkeys(sweep.sign for sweep in sweeps))} · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(selection, sweeps, title), folder, name)
    return Drawn(Picture(name, title, in_words(sweeps), svg), tuple(paths), sweep_table(sweeps, title))


def sweeps_of(selection: Selection) -> list[Sweep]:
    """By setting, in the order of the plan's arms, and by cell; the method as it is stands among the values of each."""
    values = swept(selection)
    options = dict.fromkeys(option for option, _ in values.values())
    return [sweep_of(selection, option, cell, values) for option in options for cell in selection.plan.cells]


def swept(selection: Selection) -> dict[str, tuple[str, float]]:
    """The setting and the value of every arm that changes one number alone."""
    plan, found = selection.plan, {}
    for row in plan.arms:
        options = plan.arm(row).options_of(selection.preset)
        for option, text in options.items():
            value = read_value(text)
            if len(options) == 1 and isinstance(value, int | float) and not isinstance(value, bool):
                found[row] = option, float(value)
    return found


def sweep_of(selection: Selection, option: str, cell: Cell, values: Mapping[str, tuple[str, float]]) -> Sweep:
    rows = [row for row, (name, _) in values.items() if name == option]
    method = selection.plan.arm(rows[0]).method
    points = {values[row][1]: selection.measurements[row, cell] for row in rows}
    own = own_value(selection, option, method, cell, [row for row in values if row not in rows])
    if own is not None and method in selection.labels:
        points.setdefault(own, selection.measurements[method, cell])
    return Sweep(option, cell, points, own)


def own_value(selection: Selection, option: str, method: str, cell: Cell, others: Sequence[str]) -> float | None:
    """A setting as the runs of the method recorded it, or those of arms that change another; None where nothing ran."""
    for row in (method, *others):
        if (row, cell) not in selection.measurements or selection.plan.arm(row).method != method:
            continue
        recorded = [settings.get(option) for settings in selection.measurements[row, cell].runs["settings"]]
        known = [value for value in recorded if isinstance(value, int | float)]
        if known:
            return float(known[0])
    return None


def sign_of(option: str) -> str:
    last = option.rpartition(".")[2]
    return SIGNS.get(last, last)


def in_words(sweeps: Sequence[Sweep]) -> str:
    words = []
    for sweep in sweeps:
        means = [(value, found.summary) for value, found in sorted(sweep.points.items())]
        told = [f"{summary.mean:.4g} at {value:g}" for value, summary in means if summary]
        words.append(f"{sweep.sign} on {sweep.cell.code}: {', '.join(told) if told else 'not measured'}.")
    return f"Return by setting. {' '.join(words)}"


def sweep_table(sweeps: Sequence[Sweep], title: str) -> Table:
    """The numbers of the figure, unrounded."""
    columns = ("option", "target", "source", "value", "own", "seeds", "mean", "std", "score_by_seed")
    rows = []
    for sweep in sweeps:
        for value in sweep.values:
            found, summary = sweep.points[value], sweep.points[value].summary
            scores = "; ".join(f"{seed}: {score:.6g}" for seed, score in found.scores.items())
            mean = "" if summary is None else f"{summary.mean:.6g}"
            std = "" if summary is None or summary.sd is None else f"{summary.sd:.6g}"
            own = "yes" if value == sweep.own else "no"
            place = (sweep.option, sweep.cell.target, sweep.cell.source or "", f"{value:g}")
            rows.append((*place, own, str(len(found.runs)), mean, std, scores))
    return Table("sweeps", title, columns, tuple(rows))


def draw(selection: Selection, sweeps: Sequence[Sweep], title: str, width: float | None = None) -> Figure:
    """A panel per sweep, and below it a strip where the paper says something of its setting. `width` in inches, by default
    a column for one panel and the text for more."""
    width = width or (COLUMN if len(sweeps) == 1 else TEXT)
    beside = {sweep.cell: others(selection, sweep.cell) for sweep in sweeps}
    printed = {sweep.option: published_of(selection, sweep.option, sweep.cell) for sweep in sweeps}
    strips = any(printed.values())
    sheet = Sheet(
        title, len(sweeps), width, 1.6, least=0.95, foot=0.4 + STRIP * strips, label=0.02, legend=legend(selection, sweeps),
        box=words_of(selection),
    )  # fmt: skip
    figure, panels = sheet.open()
    several = len({sweep.cell for sweep in sweeps}) > 1
    for place, (axes, sweep) in enumerate(zip(panels, sweeps, strict=True)):
        draw_sweep(axes, sweep, beside[sweep.cell], sheet.panel_width)
        axes.set_title(f"{sweep.sign}, {sweep.cell.code}" if several else sweep.sign)
        axes.set_xlabel(sweep.option)
        axes.set_ylabel("return" if sheet.in_first_column(place) else "")
        if (said := printed[sweep.option]) is not None:
            draw_strip(figure, axes, sweep, said)
    return figure


def others(selection: Selection, cell: Cell) -> dict[str, Measurement]:
    """The plan's methods that no arm changes, by label."""
    return {selection.labels[row]: selection.measurements[row, cell] for row in unchanged(selection)}


def unchanged(selection: Selection) -> list[str]:
    changed = {arm.method for arm in selection.plan.arms.values()}
    return [row for row in selection.plan.methods if row not in changed and row not in selection.plan.arms]


def legend(selection: Selection, sweeps: Sequence[Sweep]) -> dict[str, Any]:
    methods = {selection.plan.arm(row).method for row in swept(selection)}
    names = ", ".join(selection.labels.get(method, method) for method in sorted(methods))
    entries: dict[str, Any] = {
        f"{names}: mean ± std over seeds": Line2D([], [], color=BLUE, marker="o", markersize=4, linewidth=1.4),
        "seed": Line2D([], [], color=ORANGE, marker="o", markersize=3, linewidth=0),
    }
    if any(sweep.own is not None for sweep in sweeps):
        entries["its own value"] = Line2D([], [], color=BLUE, marker="D", markersize=6, linewidth=0, markerfacecolor="none")
    for row, (dashes, shade) in zip(unchanged(selection), BANDS, strict=False):
        line = Line2D([], [], color=INK, linewidth=1, linestyle=dashes)
        entries[f"{selection.labels[row]}: mean ± std"] = (Patch(facecolor=shade, linewidth=0), line)
    return entries


def draw_sweep(axes: Axes, sweep: Sweep, beside: Mapping[str, Measurement], width: float) -> None:
    """The measured points, `width` inches for all of them."""
    scale_to(axes, [value for value in sweep.values], width)
    found = [(value, sweep.points[value]) for value in sweep.values if len(sweep.points[value].runs)]
    if not found and not any(len(other.runs) for other in beside.values()):
        say(axes, state_of(sweep.points.values()), ticks=True)
        return
    for other, (dashes, shade) in zip(beside.values(), BANDS, strict=False):
        draw_band(axes, other, dashes, shade)
    for value, measured in found:
        draw_point(axes, value, measured, value == sweep.own)
    axes.plot([value for value, _ in found], [mean_of(each) for _, each in found], color=BLUE, linewidth=1.4, zorder=3)
    if not found:
        say(axes, state_of(sweep.points.values()), ticks=True)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(in_thousands)


def mean_of(found: Measurement) -> float:
    assert found.summary is not None
    return found.summary.mean


def draw_band(axes: Axes, found: Measurement, dashes: Any, shade: str) -> None:
    summary = found.summary
    if summary is None:
        return
    if summary.sd is not None:
        axes.axhspan(summary.mean - summary.sd, summary.mean + summary.sd, color=shade, linewidth=0, zorder=0)
    axes.axhline(summary.mean, color=INK, linewidth=1, linestyle=dashes, zorder=1)


def draw_point(axes: Axes, value: float, found: Measurement, own: bool) -> None:
    summary = found.summary
    assert summary is not None
    axes.plot([value] * len(found.runs), list(found.scores.values()), "o", color=ORANGE, markersize=2.6, zorder=6)
    axes.errorbar(value, summary.mean, summary.sd, color=BLUE, marker="o", markersize=4, linewidth=1.2, capsize=2, zorder=4)
    if own:
        axes.plot(value, summary.mean, "D", color=BLUE, markersize=8, markerfacecolor="none", zorder=5)


def scale_to(axes: Axes, values: Sequence[float], width: float) -> None:
    """An axis over these values, ticks at those whose labels fit; logarithmic where they lie far apart."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= WIDE:
        axes.set_xscale("log")
        room = (high / low) ** 0.08
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        axes.set_xlim(low - room, high + room)
    ticks = that_fit(axes, values, width)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


def that_fit(axes: Axes, values: Sequence[float], width: float) -> list[float]:
    """The values whose labels do not touch, from left to right."""
    taken, kept = -math.inf, []
    scale, limits = axes.xaxis.get_transform(), axes.get_xlim()
    left, right = (float(end) for end in scale.transform(list(limits)))
    for value in sorted(values):
        middle = (float(scale.transform([value])[0]) - left) / (right - left) * width
        half = width_of(f"{value:g}", SMALL) / 2 + 0.03
        if middle - half >= taken:
            taken = middle + half
            kept.append(value)
    return kept


def published_of(selection: Selection, option: str, cell: Cell) -> Published | None:
    """What the paper's figure says of a setting; None for a plan of another figure, and for a setting it does not have."""
    rows = figure_rows(selection)
    names = NAMES.get(option.rpartition(".")[2])
    if rows is None or names is None:
        return None
    rows = rows[rows["metric"].str.startswith(names[0])]
    ends = [rows.loc[rows["metric"].str.endswith(end), "mean"] for end in ("range_low", "range_high")]
    good = (float(ends[0].iloc[0]), float(ends[1].iloc[0])) if all(len(end) for end in ends) else None
    return Published(own_in_paper(names[1], find_task(cell.target).suite), good) if len(rows) else None


def figure_rows(selection: Selection) -> pd.DataFrame | None:
    rows = published_rows(selection.plan)
    return None if rows is None or not rows["table"].eq(FIGURE).all() else rows


def own_in_paper(ending: str, suite: str) -> float | None:
    """A weight as the paper's table 8 has it for a suite."""
    rows = read_published("table08.csv")
    fits = rows["metric"].str.endswith(ending) & rows["target"].str.split(",").map(lambda suites: suite in suites)
    return float(rows.loc[fits, "mean"].iloc[0]) if fits.any() else None


def words_of(selection: Selection) -> str:
    """What the paper's figure says, line by line."""
    rows = figure_rows(selection)
    if rows is None:
        return ""
    words = [
        f"{row['method']} {format_published((row['mean'], row['std']))}" for row in returns_of(rows).to_dict("records")
    ]
    for option in dict.fromkeys(option for option, _ in swept(selection).values()):
        own = rows[rows["metric"].str.startswith(NAMES.get(option.rpartition(".")[2], ("?",))[0])]
        said = published_of(selection, option, selection.plan.cells[0])
        if said is not None:
            between = f" from {said.good[0]:g} to {said.good[1]:g}" if said.good else ""
            words.append(f"{sign_of(option)}{between}: {own['note'].iloc[0]}")
    return f"Published ({IN_STRIPS}): {'; '.join(words)}."


def draw_strip(figure: Figure, above: Axes, sweep: Sweep, said: Published) -> None:
    """Below a panel: the range that the paper calls good and the weight it used, on an axis of their own."""
    height, place = figure.get_figheight(), above.get_position()
    strip = figure.add_axes((place.x0, place.y0 - (0.4 + STRIP - 0.22) / height, place.width, 0.12 / height))
    known = [value for value in (said.own, *(said.good or ())) if value is not None]
    log = above.get_xscale() == "log" and min(known) > 0
    strip.set_xscale("log" if log else "linear")
    strip.set_xlim(*(min(known) / 4, max(known) * 4) if log else (0, 1.25 * max(known)))
    strip.set_ylim(0, 1)
    if said.good:
        strip.axvspan(*said.good, color=GREEN, alpha=0.35, linewidth=0)
    if said.own is not None:
        strip.plot(said.own, 0.5, "D", color=INK, markersize=4)
    ticks = that_fit(strip, known, place.width * figure.get_figwidth())
    strip.xaxis.set_major_locator(FixedLocator(ticks))
    strip.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in ticks]))
    strip.xaxis.set_minor_locator(NullLocator())
    strip.set_yticks([])
    strip.set_title(f"published, {sweep.sign}", fontsize=SMALL, pad=2)
