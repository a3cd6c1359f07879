"""Which seed of a cell a figure shows that has room for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from coworld_bench.reporting.selection import Measurement

T = TypeVar("T")
COLUMNS = ["run", "seed", "score", "folder", "distances"]


@dataclass(frozen=True)
class OneSeed(Generic[T]):
    """A run, by COLUMNS of `Store.runs`, what is shown of it, and in words which seed that is."""

    run: dict[str, Any]
    shown: T
    words: str


def one_seed(found: Measurement, shown: Callable[[dict[str, Any]], T | None]) -> OneSeed[T] | None:
    """The seed with the median score (of two in the middle the lower), else the nearest in rank of which something is there
    to be shown; None where there is nothing of any."""
    if not len(found.runs):
        return None
    runs = found.runs[COLUMNS].sort_values(["score", "seed"], kind="stable").to_dict("records")
    middle = (len(runs) - 1) // 2
    for rank in sorted(range(len(runs)), key=lambda rank: (abs(rank - middle), rank)):
        content = shown(runs[rank])
        if content is not None:
            return OneSeed(runs[rank], content, seed_words(int(runs[rank]["seed"]), rank, middle, len(runs)))
    return None


def seed_words(seed: int, rank: int, middle: int, count: int) -> str:
    """`seed 1, median of 3`; `seed 0, rank 3 of 3 by score`, the highest first, where the median has nothing to show."""
    if count == 1:
        return f"seed {seed}, the only one"
    if rank != middle:
        return f"seed {seed}, rank {count - rank} of {count} by score"
    return f"seed {seed}, {'median' if count % 2 else 'lower median'} of {count}"


def lack(found: Measurement, unrecorded: str) -> str:
    """Why nothing is shown of a cell; `unrecorded` where seeds finished that have nothing to be shown."""
    if len(found.runs):
        return unrecorded
    return "not finished" if found.unfinished else "failed" if found.failed else "not measured"
