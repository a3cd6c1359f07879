"""What the shipped plans cost under a preset on the GPUs that `predictions` knows: nothing here was measured on them.

A job that finished on a GPU, in this checkout's committed results, would take the prediction's place; `from` says which."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coworld_bench.bench.job import Job
from coworld_bench.bench.jobs import Place, plan_jobs, select
from coworld_bench.bench.predictions import GPUS, Machine
from coworld_bench.errors import UsageError
from coworld_bench.plans import list_plans, load_plan

KINDS = {"train": "runs", "collect": "datasets", "source": "source agents"}


def measure(sizes: list[str] | None = None) -> dict[str, Any]:
    """A row per plan and one for all of them together, then one per method: the longest of its runs. `sizes`: a preset."""
    if sizes and len(sizes) > 1:
        raise UsageError(f"bench plans takes one preset; got {', '.join(sizes)}")
    preset = (sizes or ["paper"])[0]
    by_machine = {name: jobs_of_plans(preset, machine) for name, machine in GPUS.items()}
    everything = {name: once(jobs for jobs in plans.values()) for name, plans in by_machine.items()}
    rows = [row(plan, {name: plans[plan] for name, plans in by_machine.items()}) for plan in list_plans()]
    rows.append(row("all plans", everything))
    methods = dict.fromkeys(str(job.identity["method"]) for job in runs_of(first(everything)))
    rows += [
        row(f"one run of {method}", {name: [longest(jobs, method)] for name, jobs in everything.items()})
        for method in methods
    ]
    notes = [
        f"Preset {preset}, every seed that a plan names; what several runs or plans share is made once.",
        *(f"{name} h: hours of updates on one {words(machine)}." for name, machine in GPUS.items()),
        "drawing h: processor hours of all environments, drawn by software on one core as `bench render` measured it; with "
        "a GPU's driver it is less, which was not measured. It stands beside the updates, one after the other in a run.",
        "disk, GPU memory: counted from `bench sizes`; of GPU memory the largest process, its episodes there included.",
        "r3m: without the features of its pictures, which are computed once.",
    ]
    return {"how": "Predicted", "rows": rows, "notes": notes}


def words(machine: Machine) -> str:
    return (
        f"{machine.name}, predicted: {1e6 * machine.launch_s:g} µs for each launch, inside a CUDA graph, and "
        f"{machine.flops / 1e12:g} TFLOP/s, half of what its maker prints for bfloat16"
    )


def jobs_of_plans(preset: str, machine: Machine) -> dict[str, list[Job]]:
    """Every plan's jobs, as if nothing were there yet."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder) / "data", Path(folder) / "runs", "cuda", machine=machine)
        return {name: plan_jobs(select(load_plan(name), preset), place) for name in list_plans()}


def once(plans: Iterable[Sequence[Job]]) -> list[Job]:
    """The jobs of all plans, each once: those that ask for the same work."""
    return list({job.argv: job for jobs in plans for job in jobs}.values())


def first(by_machine: dict[str, list[Job]]) -> list[Job]:
    return next(iter(by_machine.values()))


def runs_of(jobs: Iterable[Job]) -> list[Job]:
    return [job for job in jobs if job.kind == "train"]


def longest(jobs: Sequence[Job], method: str) -> Job:
    """The run of a method that takes most."""
    return max((job for job in runs_of(jobs) if job.identity["method"] == method), key=lambda job: job.estimate_s or 0.0)


def row(what: str, by_machine: dict[str, list[Job]]) -> dict[str, Any]:
    """Counts, hours on each machine, and what is the same on all of them."""
    jobs = first(by_machine)
    counts = {name: sum(job.kind == kind for job in jobs) for kind, name in KINDS.items()}
    drawing = sum(job.forecast.drawing_s or 0.0 for job in jobs)
    hours = {f"{name} h": round(update_s(found) / 3600, 2) for name, found in by_machine.items()}
    disk, memory = sum(job.forecast.disk_bytes for job in jobs), max(job.forecast.gpu_bytes or 0 for job in jobs)
    told = {"drawing h": round(drawing / 3600, 1), "disk GB": round(disk / 1e9, 1), "GPU memory GB": round(memory / 1e9, 1)}
    origins = dict.fromkeys(job.forecast.origin.partition(" for ")[0] for job in jobs)
    return {"what": what, **counts, **hours, **told, "from": ", ".join(origins)}


def update_s(jobs: Iterable[Job]) -> float:
    """Seconds of all jobs without what is told apart as drawing."""
    return sum((job.estimate_s or 0.0) - (job.forecast.drawing_s or 0.0) for job in jobs)
