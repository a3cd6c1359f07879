"""Performance profiles: the fraction of runs above each normalised score, and beside them the IQM of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from coworld_bench.recipes import reference_return
from coworld_bench.reporting.aggregates import interval, performance_profile
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.curves import SEEDS_UP_TO, Look, looks_of
from coworld_bench.reporting.figures.style import FAINT, GREY, INK, entitle, our_style, save
from coworld_bench.reporting.layout import Picture, Table
from coworld_bench.reporting.normalised import Sample, sample, scales
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.tables.aggregates import LEAST, Estimate, estimates
from coworld_bench.reporting.tables.improvement import OURS, baseline_of
from coworld_bench.reporting.tables.measured import FEW_MARK, References

TAUS = 201  # scores at which a profile is drawn
REPS = 2_000  # of a band
COLUMNS = ("method", "cells", "runs", "tau", "fraction", "low95", "high95")


@dataclass(frozen=True)
class Profile:
    """A method's curve [T] with its band [T], where there are runs to resample, and its IQM."""

    label: str
    sample: Sample
    fraction: NDArray[Any]
    low: NDArray[Any] | None
    high: NDArray[Any] | None
    iqm: Estimate


def drawn(selection: Selection, folder: Path, name: str, references: References = reference_return) -> Drawn | None:
    """The profiles of every method that is complete on two cells; None where none is."""
    scale_of = scales(selection, references)
    found = {method: sample(selection, method, scale_of) for method in selection.methods}
    samples = {method: each for method, each in found.items() if each and each.sets >= LEAST}
    if not samples:
        return None
    taus = taus_of(samples)
    profiles = {method: profile(label_of(selection, method, each), each, taus) for method, each in samples.items()}
    title = f"Performance profiles and IQM · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(selection, profiles, taus, title), folder, name)
    alt = "Fraction of runs above each normalised score, and interquartile mean with its 95 % interval: " + ", ".join(
        f"{each.label} {each.iqm.text()}" for each in profiles.values()
    )
    return Drawn(Picture(name, title, f"{alt}.", svg), tuple(paths), numbers(profiles, taus, title))


def label_of(selection: Selection, method: str, found: Sample) -> str:
    """The method, with the number of its cells where it lacks some."""
    cells, all_cells = len(found.cells), len(selection.plan.cells)
    return selection.labels[method] + (f" ({cells} of {all_cells} cells)" if cells < all_cells else "")


def taus_of(samples: Mapping[str, Sample]) -> NDArray[np.float64]:
    """From the random policy to the reference, and on to the lowest and the highest run."""
    low = min(0.0, *(float(np.nanmin(each.scores)) for each in samples.values()))
    high = max(1.0, *(float(np.nanmax(each.scores)) for each in samples.values()))
    return np.linspace(np.floor(20 * low) / 20, np.ceil(20 * high) / 20, TAUS)


def profile(label: str, found: Sample, taus: NDArray[np.float64]) -> Profile:
    fraction, low, high = performance_profile(found.scores, taus), None, None
    if found.has_interval:
        low, high = interval(
            lambda scores, counts: performance_profile(scores, taus, counts),
            found.scores,
            shared=[found.shared],
            reps=REPS,
        )
    return Profile(label, found, fraction, low, high, estimates(found, ["IQM"])["IQM"])


def numbers(profiles: Mapping[str, Profile], taus: NDArray[np.float64], title: str) -> Table:
    """The curves, unrounded."""
    rows = []
    for each in profiles.values():
        ends = [[""] * len(taus) if end is None else [f"{value:.6g}" for value in end] for end in (each.low, each.high)]
        for tau, fraction, low, high in zip(taus, each.fraction, *ends, strict=True):
            counted = str(len(each.sample.cells)), str(each.sample.runs)
            rows.append((each.label, *counted, f"{tau:.6g}", f"{fraction:.6g}", low, high))
    return Table("profiles", title, COLUMNS, tuple(rows))


def draw(selection: Selection, profiles: Mapping[str, Profile], taus: NDArray[np.float64], title: str) -> Figure:
    looks = looks_of(selection.labels)
    wanted = profiles if len(profiles) <= SEEDS_UP_TO else (baseline_of(selection), OURS)
    banded = {method for method, each in profiles.items() if method in wanted and each.low is not None}
    figure = Figure(figsize=(7.5, max(3.0, 1.4 + 0.19 * len(profiles))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    draw_profiles(left, profiles, looks, taus, banded)
    draw_iqms(right, profiles, looks)
    entitle(figure, title)
    return figure


def draw_profiles(
    panel: Axes, profiles: Mapping[str, Profile], looks: Mapping[str, Look], taus: NDArray[np.float64], banded: set[str]
) -> None:
    """A line a method, with its band where it is wanted."""
    for method, each in profiles.items():
        look = looks[method]
        if method in banded and each.low is not None and each.high is not None:
            panel.fill_between(taus, each.low, each.high, step="post", color=look.colour, alpha=0.16, linewidth=0)
        panel.plot(taus, each.fraction, color=look.colour, linestyle=look.stroke, linewidth=1.5, drawstyle="steps-post")
    for end in (0.0, 1.0):
        panel.axvline(end, color=FAINT, linewidth=0.8, zorder=0)
    panel.set_xlim(taus[0], taus[-1])
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("normalised score τ   (0 random policy, 1 reference)", fontsize=7)
    panel.set_ylabel("fraction of runs with score > τ", fontsize=7)
    of = f", of {' and '.join(profiles[method].label for method in profiles if method in banded)}"
    if banded:
        panel.set_title("bands: 95 %" + of * (len(banded) < len(profiles)), fontsize=7, color=GREY)
    panel.tick_params(labelsize=6.5)


def draw_iqms(panel: Axes, profiles: Mapping[str, Profile], looks: Mapping[str, Look]) -> None:
    """A dot with whiskers a method, hollow where it lacks cells that another has; its line is the legend of both panels."""
    most = max(len(each.sample.cells) for each in profiles.values())
    for row, (method, each) in enumerate(profiles.items()):
        look, estimate = looks[method], each.iqm
        if estimate.low is not None and estimate.high is not None:
            panel.plot([estimate.low, estimate.high], [row, row], color=look.colour, linewidth=1.6)
        inside = look.colour if len(each.sample.cells) == most else "white"
        panel.plot(estimate.value, row, marker="o", markersize=4.5, color=look.colour, markerfacecolor=inside)
        legend_line(panel, row, look)
    panel.set_yticks(range(len(profiles)), [each.label + FEW_MARK * each.iqm.few for each in profiles.values()])
    panel.set_ylim(len(profiles) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0, pad=28, labelsize=6.5, labelcolor=INK)
    panel.tick_params(axis="x", labelsize=6.5)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.grid(axis="x", color=FAINT, linewidth=0.5)
    panel.set_axisbelow(True)
    hollow = any(len(each.sample.cells) < most for each in profiles.values())
    panel.set_xlabel("IQM of normalised scores, 95 % interval" + "\n(hollow: fewer cells)" * hollow, fontsize=7)


def legend_line(panel: Axes, row: int, look: Look) -> None:
    """A piece of the method's line between its name and the panel."""
    points: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
    line: Any = {"arrowstyle": "-", "color": look.colour, "linestyle": look.stroke, "linewidth": 1.6, "capstyle": "butt"}
    panel.annotate("", (0, row), (-25, 0), arrowprops={**line, "shrinkA": 0, "shrinkB": 3}, **points)
