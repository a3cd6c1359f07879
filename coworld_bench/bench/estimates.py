"""What a job takes: from what finished ones took where there are any, else from a table, else predicted from counts.

seconds     finished jobs of this store -> the checkout's committed results -> SECONDS -> `predictions`
memory      the largest of those        -> `predictions`
disk        what it will leave, counted
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from coworld_bench.bench import predictions
from coworld_bench.bench.job import Forecast, Job
from coworld_bench.bench.predictions import Machine, Work, this_machine
from coworld_bench.collecting import COSTS, CollectSpec
from coworld_bench.config import resolve
from coworld_bench.costs import PEAKS
from coworld_bench.files import read_json
from coworld_bench.paths import shipped
from coworld_bench.run_spec import PlannedRun
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import EnvSpec

# Seconds on one of two shared CPU cores. A method that is not listed counts as `train`.
SECONDS: dict[str, dict[str, float]] = {
    "smoke": {"collect": 15, "source": 15, "anchors": 15, "train": 15},
    "quick": {
        "collect": 300, "source": 150, "anchors": 80, "train": 290, "dv2_finetune": 265, "coworld": 365, "bc": 145,
        "drq_bc": 190, "cql": 215, "curl": 275, "lompo": 250, "lompo_finetune": 345, "dv2_finetune_ewc": 265, "r3m": 1300,
    },
}  # fmt: skip
HERE, COMMITTED, TABLE, PREDICTED = "measured here", "measured for the committed results", "measured once", "predicted"
ENOUGH, MOST = 25, 200  # files that make an estimate, and that are opened in search of them
Tells = Callable[[dict[str, Any]], float | None]  # seconds of a finished job for each of its units; None: it counts not


@dataclass(frozen=True)
class Measured:
    """What finished jobs took: the median of their seconds for each unit, update or env step; the most of their memory."""

    seconds_a_unit: float
    memory_bytes: int | None
    gpu_bytes: int | None
    origin: str


class Estimates:
    """Of the jobs that share a store. Each of its results is read once at most, and of many alike only some."""

    def __init__(self, runs: Path, data: Path, device: str = "cpu", machine: Machine | None = None) -> None:
        self.runs, self.data, self.on_gpu = runs, data, device == "cuda"
        self.machine = machine or this_machine(device)
        self._known: dict[tuple[str, ...], Measured | None] = {}

    def run(self, planned: PlannedRun, rows: int | None = None) -> Forecast:
        """Of a run on a dataset of so many rows; None: of one that is still to be collected."""
        method, preset, updates = planned.method, planned.spec.preset, predictions.total_updates(planned)
        rows = planned.config.online.env_steps if rows is None else rows
        names = dict.fromkeys([method.name.replace(":", "-"), method.family])
        found = next(filter(None, (self.of_runs(name, preset) for name in names)), None)
        usual = self.table(preset, "train", method.family)
        if usual is not None:
            usual *= planned.config.budget.updates / resolve(preset, "").budget.updates
        disk, memory = predictions.disk_of_run(planned, rows), predictions.memory_of_run(planned, rows)
        return self.forecast(predictions.work_of_run(planned), updates, usual, found, disk, memory)

    def source(self, spec: SourceSpec) -> Forecast:
        steps = spec.config.online.source_env_steps
        found = self.known(("source", spec.preset), lambda: self.of_sources(spec.preset))
        disk, memory = predictions.disk_of_source(spec), predictions.memory_of_agent(spec.preset, steps)
        usual = self.table(spec.preset, "source")
        return self.forecast(predictions.work_of_source(spec), steps, usual, found, disk, memory)

    def collection(self, spec: CollectSpec) -> Forecast:
        steps = spec.config.online.env_steps
        found = self.known(("collect", spec.preset), lambda: self.of_datasets(spec.preset))
        disk, memory = predictions.disk_of_collection(spec), predictions.memory_of_agent(spec.preset, steps)
        usual = self.table(spec.preset, "collect")
        return self.forecast(predictions.work_of_collection(spec), steps, usual, found, disk, memory)

    def anchors(self, env: EnvSpec, preset: str) -> Forecast:
        work, memory = predictions.work_of_anchors(env, preset), predictions.memory_of_agent(preset, 0)
        return self.forecast(work, 1, self.table(preset, "anchors"), None, 0, memory)

    def forecast(
        self, work: Work, units: int, usual: float | None, found: Measured | None, disk: int, memory: tuple[int, int]
    ) -> Forecast:
        """`usual` are the table's seconds, `memory` the counted bytes on the host and on a GPU."""
        drawing_s, (host, gpu), host_origin, gpu_origin = None, memory, PREDICTED, PREDICTED
        if found is not None:
            seconds, origin = found.seconds_a_unit * units, found.origin
            host, host_origin = (found.memory_bytes, origin) if found.memory_bytes else (host, host_origin)
            gpu, gpu_origin = (found.gpu_bytes, origin) if found.gpu_bytes else (gpu, gpu_origin)
        elif usual is not None:
            seconds, origin = usual, TABLE
        else:
            drawing_s = work.drawing_s
            seconds, origin = work.update_s(self.machine) + drawing_s, f"{PREDICTED} for {self.machine.name}"
        return Forecast(seconds, origin, drawing_s, disk, host, host_origin, gpu, gpu_origin)

    def table(self, preset: str, kind: str, method: str = "") -> float | None:
        """Seconds on a CPU; None on a GPU, and under a preset that was never measured."""
        known = {} if self.on_gpu else SECONDS.get(preset, {})
        return known.get(method, known.get(kind))

    def known(self, key: tuple[str, ...], find: Callable[[], Measured | None]) -> Measured | None:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]

    def of_runs(self, method: str, preset: str) -> Measured | None:
        """What finished runs of a method took, this store's before the committed ones."""

        def tells(result: dict[str, Any]) -> float | None:
            changed = any(key.startswith("budget.") for key in result.get("options", {}))
            if result["preset"] != preset or changed or self.on_gpu == result.get("device", "cpu").startswith("cpu"):
                return None
            return float(result["time"]["wall_s"]) / result["evaluations"][-1]["updates"]

        def find() -> Measured | None:
            here = [path / "result.json" for path in self.names_here.get(method, ())]
            return measured(here, tells, HERE) or measured(committed().get(method, []), tells, COMMITTED)

        return self.known(("train", method, preset), find)

    @cached_property
    def names_here(self) -> dict[str, list[Path]]:
        """The folders of this store's runs, by method; the store is listed once."""
        found: dict[str, list[Path]] = {}
        with suppress(OSError):
            for name in sorted(os.listdir(self.runs)):
                if "--" in name and not name.startswith("."):
                    found.setdefault(name.partition("--")[0], []).append(self.runs / name)
        return found

    def of_sources(self, preset: str) -> Measured | None:
        def tells(card: dict[str, Any]) -> float | None:
            return float(card["time"]["wall_s"]) / card["env_steps"] if self.counts(card, preset) else None

        return measured(sorted((self.data / "sources").glob(f"*-{preset}-*/source.json")), tells, HERE)

    def of_datasets(self, preset: str) -> Measured | None:
        def tells(made: dict[str, Any]) -> float | None:
            return float(made["time"]["wall_s"]) / made["env_steps"] if self.counts(made, preset) else None

        return measured(sorted((self.data / COSTS).glob("*.json")), tells, HERE)

    def counts(self, made: dict[str, Any], preset: str) -> bool:
        """Whether an agent was made under the preset, on such a device as here."""
        return made["preset"] == preset and self.on_gpu == (made["time"]["gpu_s"] > 0)


def measured(paths: Sequence[Path], tells: Tells, origin: str) -> Measured | None:
    """Of the first ENOUGH of these files that tell of what counts; None where there is none."""
    told = ((seconds, content) for content in contents(paths) if (seconds := asked(tells, content)) is not None)
    found = list(islice(told, ENOUGH))
    if not found:
        return None
    costs = [content.get("cost", {}) for _, content in found]
    memory, gpu = (max(cost.get(name, 0) for cost in costs) or None for name in PEAKS[:2])
    return Measured(median(seconds for seconds, _ in found), memory, gpu, origin)


def contents(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The JSON objects of MOST of the files, chosen evenly; what is damaged is left out."""
    for path in paths[:: max(1, len(paths) // MOST)]:
        with suppress(ValueError, OSError):
            yield read_json(path)


def asked(tells: Tells, content: dict[str, Any]) -> float | None:
    """What a file tells; None where it is too old to."""
    with suppress(KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError):
        return tells(content)
    return None


@cache
def committed() -> dict[str, list[Path]]:
    """The results that lie in the checkout, by method."""
    found: dict[str, list[Path]] = {}
    for path in sorted((shipped("reports") / "measured").glob("*/runs/*--*/result.json")):
        found.setdefault(path.parent.name.partition("--")[0], []).append(path)
    return found


def estimate_all(jobs: Iterable[Job], slots: int) -> float | None:
    """Seconds until all jobs are done: their sum over the slots, or the longest chain of needs if that is more."""
    ends: dict[str, float] = {}
    total = 0.0
    for job in jobs:  # in an order in which needs come first
        if job.estimate_s is None:
            return None
        total += job.estimate_s
        ends[job.key] = job.estimate_s + max((ends.get(need, 0.0) for need in job.needs), default=0.0)
    return max([total / max(slots, 1), *ends.values()])


def words(seconds: float | None) -> str:
    """`about 12 min`."""
    if seconds is None:
        return "nobody knows how long (this preset was never measured here)"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h" if seconds < 360_000 else f"about {seconds / 86400:,.0f} days"
