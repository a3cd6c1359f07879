"""`data show`: the card of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from coworld_bench.cli.common import Data, Json, show

Name = Annotated[
    str, typer.Argument(metavar="DATASET", help="suite/task/quality, with a preset and -vN, or a folder; @RULE for a part.")
]


def show_(name: Name, data: Data = None, json: Json = False) -> None:
    """Show what a dataset is, how it was made, and what says so."""
    from coworld_bench.data.card import facts, told
    from coworld_bench.data.dataset import open_dataset

    found = facts(open_dataset(name, data))
    show(text_of(told(found)), {"schema": 1, "dataset": found}, json)


def text_of(words: Mapping[str, str]) -> str:
    width = max(map(len, words))
    return "\n".join(f"{fact.ljust(width)}  {value}" for fact, value in words.items())
