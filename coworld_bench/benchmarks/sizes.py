"""What a run of each method is made of, whatever machine does it: arithmetic and launches of its updates, bytes of its
checkpoint, memory of a process that does nothing else. Forecasts of cost are made from this table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from coworld_bench.benchmarks.counting import count
from coworld_bench.benchmarks.methods import KINDS, make_learner, shortened
from coworld_bench.benchmarks.training import resident_mb
from coworld_bench.checkpoints import encoded
from coworld_bench.config import PRESETS
from coworld_bench.devices import prepare_cpu
from coworld_bench.errors import unknown
from coworld_bench.methods import Learner, load_method, method_names
from coworld_bench.sources import pretrain_source

T = TypeVar("T")
EPISODES = 7  # of 51 rows: their 350 transitions are the length of no weight
TURNS = 2  # of a kind, of which the last is told: the first may also do what is done once


def measure(method: list[str] | None = None, sizes: list[str] | None = None) -> dict[str, Any]:
    """A row per preset, method and kind of turn; the last columns are the method's, and the same in its rows.

    Raises UsageError for a method or preset that does not exist, before anything is measured."""
    for preset in sizes or ():
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
    methods = [load_method(name).name for name in method or method_names()]
    rows = [row for preset in sizes or ["quick", "paper"] for name in methods for row in measure_method(name, preset)]
    notes = [
        "One update of each kind of turn that the method's schedule has, one source, on made-up pictures of a toy domain.",
        "launches: operations dispatched, uncompiled; tflop: their arithmetic; synchronisations: the host waits.",
        "checkpoint_mb: a learner's state, less what grows with the dataset, row_bytes for each of its rows; source_mb: a "
        "source agent on disk without its episodes; memory_mb: the most that a CPU process held, float32 (VmHWM).",
    ]
    return {"how": "Counted", "rows": rows, "notes": notes}


def measure_method(method: str, preset: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        source_mb = alone(make_sources, method, preset, Path(folder))
        turns, learner = alone(take_turns, method, preset, Path(folder))
    return [
        {"preset": preset, "method": method, "turn": turn, **counts, **learner, "source_mb": source_mb}
        for turn, counts in turns.items()
    ]


def alone(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` returns, done in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def make_sources(method: str, preset: str, folder: Path) -> float:
    """Leave the method's source agent in `folder`, and return its MB."""
    prepare_cpu()
    made = [
        pretrain_source(source, folder, "cpu") for source in shortened(method, preset, own(method), TURNS).source_specs()
    ]
    return round(sum((path / "agent.pt").stat().st_size for path in made) / 1e6, 2)


def take_turns(method: str, preset: str, folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The last turn of each kind counted, by its name; and what the learner takes on disk and in memory."""
    prepare_cpu()
    learner = make_learner(method, preset, own(method), TURNS, folder, EPISODES)
    found: dict[str, dict[str, float]] = {}
    while learner.updates < learner.total:
        kind, counts = counted_turn(learner)
        found[kind] = counts
    found.pop("", None)
    state = learner.state_dict()
    row_bytes = bytes_of_rows(state, EPISODES * 50)
    size = len(encoded(state)) - row_bytes * EPISODES * 50
    taken = {"checkpoint_mb": round(size / 1e6, 2), "row_bytes": row_bytes, "memory_mb": resident_mb("VmHWM")}
    return found, taken


def counted_turn(learner: Learner) -> tuple[str, dict[str, float]]:
    """What a turn did, and its counts for each update; the name is empty where it did no update."""
    before = learner.counts()
    counts = count(learner.turn)
    after = learner.counts()
    did = {name: after[key] - before[key] for key, name in KINDS.items() if after[key] > before[key]}
    updates = max(did.values(), default=1)
    each = {name: round(counts[name] / updates) for name in ("launches", "synchronisations")}
    return " + ".join(did), each | {"tflop": round(counts["tflop"] / updates, 5)}


def own(method: str) -> Mapping[str, str]:
    """Options without which it could not be made here: no weights are at hand."""
    family = load_method(method).family
    return {f"{family}.weights": "random"} if family == "r3m" else {}


def bytes_of_rows(state: Any, rows: int) -> int:
    """Bytes of each row of the dataset in a learner's state: in tensors with as many rows as there are transitions."""
    return sum(tensor.nbytes // rows for tensor in tensors(state) if tensor.ndim > 0 and len(tensor) == rows)


def tensors(state: Any) -> Iterator[Any]:
    if hasattr(state, "nbytes"):
        yield state
    for value in state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ():
        yield from tensors(value)
