"""What a page tells of a cell of its measured table when it is opened: seeds, runs, curves. As JSON, no finer than is seen.

{
    "methods": {"coworld": "CoWorld"},
    "grids": [[0, 750, 1500]],                                          updates; runs share them
    "runs": [{"seed": 0, "grid": 0, "returns": [10, 1950, 2050], "facts": ["0", "2000", …]}],
    "facts": ["seed", "score", …],                                      what the facts of a run are called
    "columns": [{"lines": [["random policy", 350]], "runs": {"coworld": [0, 1]}}],
    "cells": {"coworld/0": {"title", "method", "column", "facts": [[name, words]], "command"}}
}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from coworld_bench.plans import Cell
from coworld_bench.reporting.layout import Table, number
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import FEW
from coworld_bench.reporting.tables.details import duration, last_line
from coworld_bench.reporting.tables.measured import ANCHORS, DATASET, beside, cell_text, share_text

LINES = ANCHORS["random"], ANCHORS["constant"], DATASET  # drawn across a curve, as the figure of curves has them
RUN_FACTS = ("seed", "score", "checkpoints", "dataset", "commit", "device", "wall time", "run")
OF_RUN = "run", "seed", "score", "checkpoints", "episodes", "fingerprint", "commit", "device", "wall_s"  # columns
DIGITS = 4


def openable(table: Table, selection: Selection) -> Table:
    """The measured table, with the cells that were begun open to their details."""
    places = {cell: place for place, cell in enumerate(selection.plan.cells)}
    rows = {method: place for place, method in enumerate(selection.methods)}
    opens = {
        (rows[method], 1 + places[cell]): key_of(method, places[cell])
        for (method, cell), found in selection.measurements.items()
        if found.started
    }
    return replace(table, opens=opens)


def key_of(method: str, column: int) -> str:
    return f"{method}/{column}"


def details(selection: Selection) -> dict[str, Any]:
    """What can be opened; empty where nothing was begun. See above for what is in it."""
    started = {key: found for key, found in selection.measurements.items() if found.started}
    if not started:
        return {}
    runs = {run["run"]: run for run in selection.finished[list(OF_RUN)].to_dict("records")}
    places = {run: place for place, run in enumerate(runs)}
    grids, written = with_curves(selection, runs)
    return {
        "methods": {method: selection.labels[method] for method, _ in started},
        "grids": grids,
        "runs": written,
        "facts": list(RUN_FACTS),
        "columns": [column(selection, cell, places) for cell in selection.plan.cells],
        "cells": {
            key_of(method, place): opened(selection, found, place)
            for place, cell in enumerate(selection.plan.cells)
            for method in selection.methods
            if (found := started.get((method, cell)))
        },
    }


def with_curves(selection: Selection, runs: Mapping[str, Any]) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """The updates at which runs were evaluated, each list of them once, and the runs with their curves."""
    curves = selection.store.curves
    rows = curves[curves["run"].isin(list(runs))]
    lines: dict[str, list[tuple[int, float]]] = {name: [] for name in runs}
    for name, updates, value in zip(rows["run"], rows["updates"], rows["return"], strict=True):
        lines[name].append((int(updates), value))
    grids: dict[tuple[int, ...], int] = {}
    written = []
    for name, run in runs.items():
        line = sorted(lines[name])
        grid = grids.setdefault(tuple(updates for updates, _ in line), len(grids))
        returns = [rounded(value) for _, value in line]
        written.append({"seed": int(run["seed"]), "grid": grid, "returns": returns, "facts": facts_of(run)})
    return [list(grid) for grid in grids], written


def facts_of(run: Mapping[str, Any]) -> list[str]:
    """In the order of RUN_FACTS."""
    return [
        str(run["seed"]),
        number(run["score"]),
        f"{run['checkpoints']:.0f} × {run['episodes'] / run['checkpoints']:.3g} episodes",
        run["fingerprint"][:10] or "—",
        run["commit"],
        run["device"] or "—",
        duration(run["wall_s"]),
        run["run"],
    ]


def column(selection: Selection, cell: Cell, places: Mapping[str, int]) -> dict[str, Any]:
    """What all cells of a column share: the returns they are seen beside, and the runs of every method."""
    below = beside(selection, cell)
    lines = [[name, rounded(found.mean)] for name in LINES if (found := below[name])]
    runs = {
        method: [places[run] for run in selection.measurements[method, cell].runs["run"]] for method in selection.methods
    }
    return {"lines": lines, "runs": {method: found for method, found in runs.items() if found}}


def opened(selection: Selection, found: Measurement, place: int) -> dict[str, Any]:
    label = selection.labels[found.method]
    return {
        "title": f"{label} on {found.cell.code}",
        "method": found.method,
        "column": place,
        "facts": [list(fact) for fact in told(selection, found)],
        "command": explaining(selection, found.method, place),
    }


def explaining(selection: Selection, method: str, place: int) -> str:
    """The command that tells all of a cell; where the files of its options lie is not for a page to say."""
    asked = "".join(f" -o {key}={value}" for key, value in selection.options.items() if key in (selection.asked or {}))
    return f"coworld-bench explain {selection.plan.name}:{method}:{1 + place} --preset {selection.preset}{asked}"


def told(selection: Selection, found: Measurement) -> Iterator[tuple[str, str]]:
    """What is known of the number, and what is missing in it."""
    cell, summary = found.cell, found.summary
    sources = sorted({source for source in found.runs["source"] if source})
    yield "target", cell.target
    if sources:
        yield "source", ", ".join(sources[0].split("+"))
    yield "preset", " · ".join([selection.preset, *(f"{key}={value}" for key, value in selection.options.items())])
    yield "mean ± std over seeds (seeds)", cell_text(found)
    if summary is not None:
        if summary.low is None:
            yield "95 % interval", "none from one seed"
        else:
            ends = f"{number(summary.low, summary.mean)} to {number(summary.high, summary.mean)}"
            few = "; wide, because little is known" * (summary.n <= FEW)
            yield "95 % interval", f"{ends} (Student t over {summary.n} seeds{few})"
        if found.runs["success"].notna().any():
            yield "success", share_text(found.runs["success"].mean())
    for seed in found.failed:
        yield f"seed {seed} failed", last_line(selection, found, seed)
    if found.unfinished:
        yield "not finished", f"seed {', '.join(map(str, found.unfinished))}"
    missing = sorted(set(found.planned) - {*found.scores, *found.failed, *found.unfinished})
    if missing:
        yield "not begun", f"seed {', '.join(map(str, missing))} of {len(found.planned)} planned"


def rounded(value: float) -> float | int | None:
    """No finer than a screen shows; None for what is no number, which JSON cannot say."""
    if not isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short
