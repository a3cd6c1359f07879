"""The pictures of `bench growth` and `bench collect`: how cost grows, with its limit drawn in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from coworld_bench.reporting.figures.style import GREY, LINES, our_style, save

SIZE = 3.4, 2.5  # inches
NAMES = {"batch": "sequences in a batch", "length": "rows of a sequence", "width": "units (deter, hidden, heads)"}


def draw(kind: str, rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """The figures of a benchmark's rows; none for kinds without any."""
    if kind == "growth":
        axes = [axis for axis in NAMES if any(row["axis"] == axis for row in rows)]
        return [path for axis in axes for path in draw_axis(axis, rows, folder)] + draw_memory(rows, folder)
    return draw_collecting(rows, folder) if kind == "collect" else []


def draw_axis(axis: str, rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    points = [row for row in rows if row["axis"] == axis]
    values = [row["value"] for row in points]
    series = {"measured": [row["updates_per_cpu_s"] for row in points]}
    limit = {"arithmetic alone": [row["limit"] for row in points]}
    return chart(f"growth-{axis}", NAMES[axis], "updates per CPU-second", values, series, limit, folder)


def draw_memory(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    points = [row for row in rows if row["axis"] == "episodes"]
    values, kinds = [row["value"] for row in points], {"decoded": "memory_mb", "packed on disk": "packed_mb"}
    series = {label: [row[name] for row in points] for label, name in kinds.items()}
    limit = {"the pixels themselves": [row["pixels_mb"] for row in points]}
    return chart("growth-memory", "episodes of 251 rows", "MB", values, series, limit, folder)


def draw_collecting(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    works = list(dict.fromkeys(row["work"] for row in rows))
    values = sorted({row["processes"] for row in rows})
    series = {
        work: [
            next(row["env_steps_per_s"] for row in rows if row["work"] == work and row["processes"] == count)
            for count in values
        ]
        for work in works
    }
    cores = len(os.sched_getaffinity(0))
    limit = {
        f"{work}: one process, times cores": [line[0] * min(count, cores) for count in values]
        for work, line in series.items()
    }
    return chart("growth-collecting", "environment processes", "env steps per second", values, series, limit, folder)


def chart(
    name: str,
    x: str,
    y: str,
    values: list[int],
    series: dict[str, list[float]],
    limits: dict[str, list[float]],
    folder: Path,
) -> list[Path]:
    """Lines over `values`, both axes logarithmic; limits are dashed."""
    with our_style():
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for colour, (label, line) in zip(LINES, series.items(), strict=False):
            axes.plot(values, line, color=colour, marker="o", markersize=3, linewidth=1.4, label=label)
        for style, (label, line) in zip(("--", ":"), limits.items(), strict=False):
            axes.plot(values, line, color=GREY, linestyle=style, linewidth=1.1, label=label)
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        figure.legend(loc="outside lower center", fontsize=6.5, ncols=2, columnspacing=1.2)
        return save(figure, folder, name)[0]
