"""Naming a number of a table: `table2:cql:dc-bp`, `table2/coworld/window_close`, `my.toml:coworld:3`.

A plan, a row (a method's name or label) and a column (its number, its code, the target's code or name, `source-target`, or
the label that tells it from others), between colons or slashes. Case, spaces, hyphens and arrows make no difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from coworld_bench.errors import UsageError, unknown
from coworld_bench.plans import Cell, Plan
from coworld_bench.tasks import find_task

SEPARATORS = ":/"


@dataclass(frozen=True)
class Asked:
    """What a text names: a plan, perhaps a row, perhaps a column (its place from 1 on)."""

    row: str | None = None
    column: int | None = None


def plan_and_rest(text: str) -> tuple[str, str]:
    """The plan that a text begins with, as a name or the path of a TOML file, and what follows."""
    found = re.match(r"(.*?\.toml)(?:[:/](.*))?$", text) or re.match(r"([^:/]*)(?:[:/](.*))?$", text)
    assert found, text
    return found[1].strip(), (found[2] or "").strip(SEPARATORS + " ")


def find_cell(rest: str, plan: Plan, labels: Mapping[str, str]) -> Asked:
    """The row and the column that the rest of a text names, of rows by name with their labels.

    Raises UsageError, with the nearest names, for one that does not exist, and with all that fit where several do."""
    if not rest:
        return Asked()
    row, column = split_row(rest, plan, labels)
    return Asked(row, find_column(column, plan, row) if column else None)


def split_row(rest: str, plan: Plan, labels: Mapping[str, str]) -> tuple[str, str]:
    """The row that `rest` begins with, of several the one with the longest name, and what follows."""
    names = [(folded(name), row) for row, label in labels.items() for name in (row, label)]
    fits = [(length, row) for name, row in names if (length := begins(rest, name)) is not None]
    if not fits:
        known = {*labels, *labels.values()}
        raise unknown(
            f"row in plan {plan.name}:", re.split(f"[{SEPARATORS}]", rest)[0], known, f"coworld-bench explain {plan.name}"
        )
    length, row = max(fits)
    return row, rest[length:].strip(SEPARATORS + " ")


def begins(rest: str, name: str) -> int | None:
    """How many characters of `rest` are this folded name, at whose end it ends or a separator stands."""
    ends = [place for place, character in enumerate(rest) if character in SEPARATORS] + [len(rest)]
    return next((end for end in ends if folded(rest[:end]) == name), None)


def find_column(text: str, plan: Plan, row: str) -> int:
    """The place of the column that is meant."""
    if text.isdecimal():
        if not 1 <= int(text) <= len(plan.cells):
            raise UsageError(f"plan {plan.name} has columns 1 to {len(plan.cells)}; got {text}")
        return int(text)
    wanted = folded(text)
    places = [place for place, cell in enumerate(plan.cells, 1) if wanted in names_of(cell)]
    if not places:
        known = {name for cell in plan.cells for name in (cell.code, find_task(cell.target).name, cell.label) if name}
        raise unknown(f"column in plan {plan.name}:", text, known, f"coworld-bench explain {plan.name}")
    if len(places) > 1:
        fits = ", ".join(f"{place} ({plan.cells[place - 1].code})" for place in places)
        raise UsageError(
            f"{text!r} fits columns {fits} of plan {plan.name}; name one by its number: {plan.name}:{row}:{places[0]}"
        )
    return places[0]


def names_of(cell: Cell) -> set[str]:
    """All that a column may be called, folded."""
    target = find_task(cell.target)
    ends = [target.code, target.name, target.id]
    names = [*ends, cell.code]
    if cell.source:
        source = find_task(cell.source)
        names += [f"{begin}-{end}" for begin, end in zip((source.code, source.name, source.id), ends, strict=True)]
    return {folded(name) for name in names} | (
        {folded(f"{name} {cell.label}") for name in [*names, ""]} if cell.label else set()
    )


def folded(text: str) -> str:
    """A name without what does not tell names apart: `DC → BP` is `dc-bp`."""
    return re.sub(r"[^\w*./+:]+|_+", "-", text.casefold().replace("→", "-")).strip("-")
