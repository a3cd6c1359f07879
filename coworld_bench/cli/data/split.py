"""`data split`: names for parts of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coworld_bench.cli.common import Data, Json, show, table
from coworld_bench.cli.data.show import Name
from coworld_bench.errors import UsageError

if TYPE_CHECKING:
    from coworld_bench.data.dataset import Dataset


ENDS = ("mean", "min", "max")


def split_(
    name: Name,
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="holdout=0.2 (train, validation), return=4 (q1 to q4), success or noise.")
    ] = "",
    where: Annotated[str, typer.Option(metavar="RULE", help="One part, by a rule: first=0.5,success=1.")] = "",
    called: Annotated[
        str, typer.Option("--name", help="The part's name; with --by, what its parts' names begin with.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of --by holdout.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Give names anew that are others' already.")] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the parts of a dataset and keep their names: DATASET@NAME is then a dataset. No picture is read or copied.

    With --where alone nothing is kept, for DATASET@RULE is a dataset as it is."""
    from coworld_bench.data.dataset import open_dataset
    from coworld_bench.data.subsets import Rule, give_names, split_by

    if bool(by) == bool(where):
        raise UsageError("say how to split with --by, or which episodes with --where; one of the two")
    dataset = open_dataset(name, data)
    if by:
        rules = {f"{called}-{part}" if called else part: rule for part, rule in split_by(dataset, by, seed).items()}
    else:
        rules = {called: Rule.parse(where)}
    parts = [described(dataset.subset(rule), part) for part, rule in rules.items()]
    kept = give_names(dataset, rules, force) if by or called else None
    document = {"schema": 1, "dataset": dataset.id, "parts": parts, "file": None if kept is None else str(kept)}
    show(text_of(parts, str(kept or "")), document, json)


def described(part: Dataset, called: str) -> dict[str, Any]:
    returns = part.card["returns"]
    return {
        "name": called or None,
        "id": f"{part.card['subset']['of']}@{called}" if called else part.id,
        "rule": part.card["subset"]["rule"],
        "fingerprint": part.fingerprint,
        "episodes": part.episodes,
        "numbers": part.numbers.tolist(),
        "return": returns,
    }


def text_of(parts: list[dict[str, Any]], kept: str) -> str:
    """A line a part, then which episodes each has."""
    from coworld_bench.data.subsets import spans

    rows = [
        [part["name"] or "", str(part["episodes"]), *(f"{part['return'][end]:.1f}" for end in ENDS), part["rule"]]
        for part in parts
    ]
    numbers = [f"{part['name'] or 'episodes'}: {spans(part['numbers'])}" for part in parts]
    known = f"kept in {kept}; " if kept else ""
    told = table(rows, ["part", "episodes", "mean return", "from", "to", "rule"])
    return "\n".join([told, "", *numbers, "", f"{known}open as {parts[0]['id']}"])
