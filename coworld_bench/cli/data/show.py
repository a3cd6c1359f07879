"""`data show`: the card of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from coworld_bench.cli.common import Data, Json, show

Name = Annotated[
    str, typer.Argument(metavar="DATASET", help="suite/task/quality, with a preset and -vN, or a folder; @RULE for a part.")
]


def show_(name: Name, data: Data = None, json: Json = False) -> None:
    """Show what a dataset is, how it was made, and what says so."""
    from coworld_bench.data.card import facts
    from coworld_bench.data.dataset import open_dataset

    found = facts(open_dataset(name, data))
    show(text_of(found), {"schema": 1, "dataset": found}, json)


def text_of(found: Mapping[str, Any]) -> str:
    """A line a fact; what is not known is left out."""
    told = {fact: WORDS.get(fact, in_words)(value) for fact, value in found.items() if value is not None and value != {}}
    width = max(map(len, told))
    return "\n".join(f"{fact.ljust(width)}  {value}" for fact, value in told.items())


def in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(part)}" for name, part in value.items() if part is not None)
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def of_evidence(point: Mapping[str, Any]) -> str:
    returns = ", ".join(f"{value:.0f}" for value in point["returns"])
    return (
        f"at {point['env_steps']} env steps and {point['updates']} updates, evaluation {point['evaluations']}: mean "
        f"{point['mean']:.1f} against the threshold {point['threshold']:.1f} (episodes {returns})"
    )


WORDS: dict[str, Callable[[Any], str]] = {
    "evidence": of_evidence,
    "return": lambda returns: f"mean {returns['mean']:.2f}, from {returns['min']:.2f} to {returns['max']:.2f}",
    "reference return": lambda reference: f"{reference['value']:g} ({reference['how']})",
    "normalised score": lambda score: f"{score} (the reference return is 100, a return of 0 is 0)",
    "bytes": lambda count: f"{count:,} ({count / 1e6:.1f} MB)",
}
