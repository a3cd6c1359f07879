"""`data stats`: numbers that describe a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coworld_bench.cli.common import Data, Json, show
from coworld_bench.cli.data.show import Name

SPARKS = "▁▂▃▄▅▆▇█"


def stats_(name: Name, data: Data = None, json: Json = False) -> None:
    """Say how good the episodes of a dataset are, what was done in them, and what its pictures cost."""
    from coworld_bench.data.dataset import open_dataset
    from coworld_bench.data.stats import statistics

    dataset = open_dataset(name, data)
    numbers = statistics(dataset)
    document = {"schema": 1, "dataset": dataset.id, "fingerprint": dataset.fingerprint, "statistics": numbers}
    show("\n".join(lines(numbers)), document, json)


def lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    """A line a subject; those that have parts of their own, a line a part."""
    for subject, found in numbers.items():
        parts: Mapping[str, Any] = {"": found}
        if subject == "actions":
            parts = {str(number): row for number, row in enumerate(found)}
        elif isinstance(found, Mapping) and all(isinstance(part, Mapping) for part in found.values()):
            parts = found
        yield from (
            f"{f'{subject} {name}'.strip():30}  {in_line(part)}" for name, part in parts.items() if part is not None
        )


def in_line(found: Any) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {in_line(value)}" for name, value in found.items() if name != "histogram") + drawn(found)
    return " ".join(map(str, found)) if isinstance(found, list) else str(found)


def drawn(found: Mapping[str, Any]) -> str:
    """The histogram, where there is one."""
    if "histogram" not in found:
        return ""
    counts = found["histogram"]["counts"]
    return "  " + "".join(SPARKS[min(7, 8 * count // max(1, *counts))] if count else " " for count in counts)
