"""`list`: what exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from coworld_bench.cli.common import Data, Json, Preset, show, table
from coworld_bench.errors import unknown

Rows = list[dict[str, Any]]


def list_(
    what: Annotated[str, typer.Argument(help="tasks, methods, plans, presets, datasets or settings.")] = "tasks",
    preset: Preset = "quick",
    data: Data = None,
    json: Json = False,
) -> None:
    """List tasks, methods, plans, presets, datasets or settings."""
    kinds: dict[str, Callable[[], Rows]] = {
        "tasks": tasks,
        "methods": methods,
        "plans": lambda: plans(preset),
        "presets": presets,
        "datasets": lambda: datasets(data),
        "settings": lambda: settings(preset),
    }
    if what not in kinds:
        raise unknown("list", what, kinds)
    rows = kinds[what]()
    cells = [[cell(value) for value in row.values()] for row in rows]
    text = table(cells, list(rows[0])) if rows else f"no {what}"
    show(text, {"schema": 1, what: rows}, json)


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def tasks() -> Rows:
    from coworld_bench.tasks import PAPER_TASKS

    found = PAPER_TASKS.values()
    return [{"task": t.id, "code": t.code, "frames": t.horizon, "action_repeat": t.action_repeat} for t in found]


def methods() -> Rows:
    from coworld_bench.methods import load_method, method_names

    loaded = [load_method(name) for name in method_names()]
    found = [each for method in loaded for each in (method, *map(method.variant, method.variants))]
    return [{"method": method.name, "label": method.label, "sources": method.sources} for method in found]


def plans(preset: str) -> Rows:
    from coworld_bench.bench.jobs import count_runs
    from coworld_bench.plans import list_plans, load_plan

    found = [load_plan(name) for name in list_plans()]
    return [
        {"plan": p.name, "cells": len(p.cells), "rows": len(p.methods), "runs": count_runs(p, preset), "title": p.title}
        for p in found
    ]


def presets() -> Rows:
    """The presets, then the world models that `-o model=NAME` puts into one."""
    from coworld_bench.config import PRESETS, WORLD_MODELS, resolve, world_model

    found = [resolve(name, "metaworld") for name in PRESETS]
    rows = [preset_row(c.preset, c.budget.updates, c.online.env_steps, c.model) for c in found]
    return rows + [preset_row(f"model={name}", None, None, world_model(name)) for name in WORLD_MODELS]


def preset_row(name: str, updates: int | None, env_steps: int | None, model: Any) -> dict[str, Any]:
    latent = f"{model.stoch}" if model.latent == "gaussian" else f"{model.stoch}x{model.classes}"
    return {
        "preset": name, "updates": updates, "collect_env_steps": env_steps, "encoder": model.encoder, "depth": model.depth,
        "latent": f"{model.latent} {latent}", "deter": model.deter, "units": model.units,
    }  # fmt: skip


def datasets(data: Any) -> Rows:
    from coworld_bench.data.dataset import list_datasets

    found = list_datasets(data)
    return [{"dataset": d["id"], **{k: v for k, v in d.items() if k not in ("id", "folder")}} for d in found]


def settings(preset: str) -> Rows:
    from coworld_bench.config import keys, resolve
    from coworld_bench.methods import load_method, method_names

    rows = rows_of(resolve(preset, "metaworld"), "", keys)
    for name in method_names():
        rows += rows_of(load_method(name).defaults(preset, "metaworld"), f"{name}.", keys)
    return rows


def rows_of(group: Any, prefix: str, keys: Callable[[Any], list[str]]) -> Rows:
    """Every setting of a group with its value."""
    rows = []
    for key in keys(group):
        value = group
        for part in key.split("."):
            value = getattr(value, part)
        rows.append({"setting": prefix + key, "value": value})
    return rows
