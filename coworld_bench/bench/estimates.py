"""About how long a job takes: from finished results of the store where there are any, else from a table."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median

from coworld_bench.bench.job import Job
from coworld_bench.config import resolve
from coworld_bench.files import read_json

# Seconds on one of two shared CPU cores. A method that is not listed counts as `train`.
SECONDS: dict[str, dict[str, float]] = {
    "smoke": {"collect": 15, "source": 15, "anchors": 15, "train": 15},
    "quick": {
        "collect": 300, "source": 150, "anchors": 80, "train": 290, "dv2_finetune": 265, "coworld": 365, "bc": 145,
        "drq_bc": 190, "cql": 215, "curl": 275, "lompo": 250, "lompo_finetune": 345, "dv2_finetune_ewc": 265, "r3m": 1300,
    },
}  # fmt: skip


def estimate_job(kind: str, preset: str) -> float | None:
    """Seconds for a dataset, a source agent or anchors; None where nothing was measured."""
    return SECONDS.get(preset, {}).get(kind)


def estimate_train(method: str, preset: str, runs: Path, updates: int | None = None) -> float | None:
    """Seconds for a run of `updates` (default: the preset's): in proportion to the median of the store's finished ones of
    this method and preset, else to the table's."""
    usual = preset_seconds(method, preset, runs)
    if usual is None or updates is None:
        return usual
    return usual * updates / resolve(preset, "").budget.updates


def preset_seconds(method: str, preset: str, runs: Path) -> float | None:
    seconds = [wall for path in runs.glob(f"{method}--*/result.json") if (wall := _wall_s(path, preset)) is not None]
    known = SECONDS.get(preset, {})
    return median(seconds) if seconds else known.get(method, known.get("train"))


def _wall_s(result: Path, preset: str) -> float | None:
    """What a finished run of this preset with the preset's own budget took; None for others and for a damaged file."""
    with suppress(ValueError, KeyError, TypeError, OSError):
        stored = read_json(result)
        if stored["preset"] == preset and not any(key.startswith("budget.") for key in stored.get("options", {})):
            return float(stored["time"]["wall_s"])
    return None


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
    return f"about {seconds / 3600:.1f} h"
