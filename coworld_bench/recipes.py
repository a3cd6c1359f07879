"""What `datasets/*.toml` says of a task: reference returns and how they were measured, and pinned collection recipes.

[window_close.reference.quick]          the return that counts as 1 under this preset; `any` stands for the others
value = 3583.0
how = "..."
[window_close.recipe.quick]             how `collect` makes the task's datasets
seed = 0
why = "..."
options = { "online.prefill_successes" = 2 }
"""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from pydantic import Field

from coworld_bench.config import Settings
from coworld_bench.errors import UsageError
from coworld_bench.paths import shipped
from coworld_bench.tasks import find_task


class Reference(Settings):
    """The return that medium-expert must reach, and a third of which is medium-replay's."""

    value: float
    how: str


class Recipe(Settings):
    """The seed and the settings a dataset of a task is made with."""

    seed: int = 0
    why: str = ""
    options: dict[str, Any] = Field(default_factory=dict)


@cache
def _table(suite: str) -> dict[str, Any]:
    path = shipped("datasets") / f"{suite}.toml"
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def _entry(task_id: str, kind: str, preset: str) -> dict[str, Any] | None:
    task = find_task(task_id)
    by_preset = _table(task.suite).get(task.name, {}).get(kind, {})
    return by_preset.get(preset, by_preset.get("any"))


def reference_return(task_id: str, preset: str) -> Reference | None:
    """The task's reference return under this preset, or None where none is known."""
    entry = _entry(task_id, "reference", preset)
    return Reference.model_validate(entry) if entry else None


def need_reference(task_id: str, preset: str) -> Reference:
    """The same; raises UsageError where none is known."""
    found = reference_return(task_id, preset)
    if found is None:
        raise UsageError(
            f"no reference return is known for {task_id} under preset {preset}; give one with --reference-return, "
            f"or add [{find_task(task_id).name}.reference.{preset}] to datasets/{find_task(task_id).suite}.toml"
        )
    return found


def recipe(task_id: str, preset: str) -> Recipe:
    """The task's pinned recipe under this preset; the preset's plain settings and seed 0 where none is pinned."""
    return Recipe.model_validate(_entry(task_id, "recipe", preset) or {})
