"""A report as one JSON document, for programs: every cell with its seeds, unrounded."""

from __future__ import annotations

import json
from math import isnan
from typing import Any

import pandas as pd

from coworld_bench.plans import Cell
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.measured import beside, spread_columns
from coworld_bench.reporting.tables.side_by_side import published_for, published_returns

SCHEMA = 1


def document(selection: Selection) -> str:
    plan = selection.plan
    content = {
        "schema": SCHEMA,
        "plan": plan.name,
        "title": plan.title,
        "quality": plan.quality,
        "preset": selection.preset,
        "options": dict(selection.options),
        "notes": list(selection.notes),
        "cells": [cell_document(selection, cell) for cell in plan.cells],
    }
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def cell_document(selection: Selection, cell: Cell) -> dict[str, Any]:
    """One column of the table: what was measured, what it must be seen beside, and what the paper prints."""
    found, rows = beside(selection, cell), published_returns(selection)
    return {
        "code": cell.code,
        "target": cell.target,
        "source": cell.source,
        "label": cell.label,
        "beside": {name: spread_columns(summary) for name, summary in found.items() if summary is not None},
        "rows": [
            row_document(label, selection.measurements[method, cell], rows) for method, label in selection.labels.items()
        ],
    }


def row_document(label: str, found: Measurement, rows: pd.DataFrame | None) -> dict[str, Any]:
    printed = None if rows is None else published_for(rows, label, found.cell)
    return {
        "method": found.method,
        "label": label,
        **spread_columns(found.summary),
        "scores": {str(seed): score for seed, score in found.scores.items()},
        "runs": list(found.runs["run"]),
        "episodes": found.episodes,
        "learnt_from": list(found.sources),
        "planned": len(found.planned),
        "failed": list(found.failed),
        "unfinished": list(found.unfinished),
        "published": None if printed is None else {"mean": printed[0], "std": None if isnan(printed[1]) else printed[1]},
    }
