"""What a plan will cost, for people and as JSON: runs, hours, disk and memory, and where each number is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from coworld_bench.bench.estimates import words
from coworld_bench.bench.job import Job

EACH = 40  # jobs that are listed one by one
KINDS = {"collect": "datasets", "source": "source agents", "anchors": "anchors", "train": "runs"}
DRAWING = "of these {hours} of a processor drawing environments in software, which a GPU may shorten"


def costs(jobs: Sequence[Job]) -> dict[str, Any]:
    """What all jobs take together, and the largest of them; a number is None where a job's is not known."""
    known = [job.estimate_s for job in jobs]
    drawing = [job.forecast.drawing_s for job in jobs if job.forecast.drawing_s is not None]
    return {
        "jobs": {kind: count for kind in KINDS if (count := sum(job.kind == kind for job in jobs))},
        "seconds": None if None in known else sum(seconds for seconds in known if seconds is not None),
        "seconds_from": dict(Counter(job.forecast.origin or "nothing" for job in jobs)),
        "drawing_s": sum(drawing) if drawing else None,
        "disk_bytes": {kind: sum(job.forecast.disk_bytes for job in jobs if job.kind == kind) for kind in KINDS},
        "memory_bytes": largest((job.forecast.memory_bytes, job.forecast.memory_origin) for job in jobs),
        "gpu_memory_bytes": largest((job.forecast.gpu_bytes, job.forecast.gpu_origin) for job in jobs),
    }


def largest(told: Iterable[tuple[int | None, str]]) -> dict[str, Any] | None:
    """The most that one process takes, and where that is from."""
    found = max(((size, origin) for size, origin in told if size is not None), default=None)
    return None if found is None else {"largest": found[0], "from": found[1]}


def listing(jobs: Sequence[Job]) -> tuple[list[list[str]], list[str]]:
    """Rows and header of a table: the jobs one by one, or where they are many by kind and method."""
    if len(jobs) <= EACH:
        return each(jobs), ["job", "seconds", "from"]
    return grouped(jobs), ["kind", "method", "jobs", "hours each", "hours", "disk, GB", "from"]


def each(jobs: Sequence[Job]) -> list[list[str]]:
    return [[job.key, "?" if job.estimate_s is None else f"{job.estimate_s:.0f}", job.forecast.origin] for job in jobs]


def grouped(jobs: Sequence[Job]) -> list[list[str]]:
    """A row for each kind and method."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((KINDS[job.kind], str(job.identity.get("method", ""))), []).append(job)
    return [[kind, method, *group_cells(group)] for (kind, method), group in groups.items()]


def group_cells(group: list[Job]) -> list[str]:
    seconds = [job.estimate_s for job in group if job.estimate_s is not None]
    known = len(seconds) == len(group)
    total = sum(seconds) / 3600
    disk = sum(job.forecast.disk_bytes for job in group) / 1e9
    hours = [f"{total / len(group):,.2f}", f"{total:,.1f}"] if known else ["?", "?"]
    return [str(len(group)), *hours, f"{disk:,.2f}", ", ".join(dict.fromkeys(job.forecast.origin for job in group))]


def cost_lines(jobs: Sequence[Job], seconds: float | None) -> list[str]:
    """A line each for time, disk and memory; `seconds` is until all are done."""
    told = costs(jobs)
    lines = [f"time        {words(seconds)}; {hours(told['seconds'])} of processes ({origins(told['seconds_from'])})"]
    if told["drawing_s"]:
        lines.append(f"            {DRAWING.format(hours=hours(told['drawing_s']))}")
    disk = {KINDS[kind]: size for kind, size in told["disk_bytes"].items() if size}
    parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in disk.items())
    lines.append(f"disk        about {gigabytes(sum(disk.values()))}: {parts or 'nothing'}; counted")
    names = {"memory_bytes": "memory", "gpu_memory_bytes": "GPU memory"}
    for key, name in names.items():
        if told[key]:
            lines.append(f"{name:10}  at most about {gigabytes(told[key]['largest'])} a process; {told[key]['from']}")
    return lines


def origins(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return "".join(counts)
    return ", ".join(f"{count} {'job' if count == 1 else 'jobs'} {origin}" for origin, count in counts.items())


def hours(seconds: float | None) -> str:
    if seconds is None:
        return "unknown hours"
    return f"{seconds / 3600:,.1f} h" if seconds >= 360 else f"{seconds / 60:.1f} min"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
