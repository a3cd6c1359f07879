"""A snapshot of a store in words, and as one JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from coworld_bench.bench.board import latest
from coworld_bench.bench.drivers import Driver
from coworld_bench.bench.overview import WORDS, Overview
from coworld_bench.bench.snapshot import Snapshot
from coworld_bench.bench.standing import STATES, Standing
from coworld_bench.cli.common import table

FEW = 12  # lines of a kind
SILENT_S = 30.0  # from which on silence is worth a word: a process beats every 10 s


def text(snapshot: Snapshot) -> str:
    """For people: whole plans first, who drives them last."""
    parts = [plan_text(plan, snapshot) for plan in snapshot.plans]
    parts += [others_text(snapshot), at_work_text(snapshot.at_work), trouble_text(snapshot.trouble)]
    parts += [drivers_text(snapshot.drivers)]
    told = "\n\n".join(part for part in parts if part)
    return told or f"nothing was begun in {snapshot.store}; `coworld-bench run` begins a plan"


def plan_text(plan: Overview, snapshot: Snapshot) -> str:
    total = plan.counts.total()
    counted = ", ".join(f"{plan.counts[word]} {word}" for word in WORDS if plan.counts[word])
    header = ["", *(cell.code for cell in plan.plan.cells)]
    rows = [[plan.label(row), *(plan.spots[row, cell].words for cell in plan.plan.cells)] for row in plan.rows]
    return "\n".join([f"{plan.title}: {total} runs: {counted}", table(rows, header), ending_text(plan, snapshot)])


def ending_text(plan: Overview, snapshot: Snapshot) -> str:
    spent = f"so far {hours_text(plan.begun)}"
    if not plan.drivers and not plan.counts["running"]:
        return f"{spent}; nobody is at work on it" if not plan.is_over else spent
    left = snapshot.left_s(plan)
    about = "nobody knows how long the rest takes" if left is None else f"about {span(left)} left"
    return f"{about}, {plan.width} at a time; {spent}"


def others_text(snapshot: Snapshot) -> str:
    """Plans that nobody is at work on, a line each."""
    rows = [
        [plan.title, f"{plan.counts['done']}/{plan.counts.total()}", *trouble_counts(plan.counts), hours_text(plan.begun)]
        for plan in snapshot.others
    ]
    lines = [table(rows, ["plan", "done", "failed", "unfinished", "so far"])] if rows else []
    if snapshot.strays:
        lines.append(
            f"{strays_text(snapshot.strays)} of no shipped plan, or with options: `status FILE.toml` or `-o …` tells"
        )
    return "\n".join(lines)


def strays_text(runs: Sequence[Standing]) -> str:
    """`3 other runs (2 done, 1 failed)`."""
    counts = Counter(found.state for found in runs)
    counted = ", ".join(f"{counts[word]} {word}" for word in STATES if counts[word])
    return f"{len(runs)} other run{'s' * (len(runs) > 1)} ({counted})"


def trouble_counts(counts: Counter[str]) -> list[str]:
    unfinished = counts["stopped"] + counts["interrupted"] + counts["lost"]
    return [str(counts["failed"] or ""), str(unfinished or "")]


def at_work_text(jobs: Sequence[Standing]) -> str:
    rows = [
        [
            found.words,
            f"{found.share:.0%}",
            latest(found.progress),
            str(found.status.get("host", "")),
            str(found.status.get("attempt", "")),
            f"silent for {span(found.silent_s)}" if found.silent_s > SILENT_S else "",
            found.name,
        ]
        for found in jobs
    ]
    return listed(rows, ["at work", "", "last", "on", "attempt", "", "`coworld-bench logs …`"])


def trouble_text(jobs: Sequence[Standing]) -> str:
    rows = [[found.state, found.words, reason(found), found.name] for found in jobs]
    return listed(rows, ["", "what", "why", "`coworld-bench logs …`"])


def reason(found: Standing) -> str:
    """Why a job is not done, in a line."""
    if found.error:
        return shortened(found.error.splitlines()[-1])
    if found.state == "lost" and found.silent_s <= SILENT_S:
        return f"its process on {found.status.get('host')} is gone"
    if found.state == "lost":
        return f"no sign of life from {found.status.get('host')} for {span(found.silent_s)}"
    return f"at {found.share:.0%}"


def drivers_text(drivers: Sequence[Driver]) -> str:
    rows = [
        [
            f"{driver.name} (preset {driver.preset})",
            driver.place,
            str(driver.told.get("executor", "")),
            str("" if driver.width is None else driver.width),
            f"{driver.jobs.get('done', 0) + driver.jobs.get('finished before', 0)} of {driver.jobs.get('total', '?')} jobs",
            str(driver.told.get("began", "")),
            "asked to stop" if driver.asked_to_stop else "",
        ]
        for driver in drivers
    ]
    return listed(rows, ["driver", "on", "executor", "at a time", "done", "since", ""])


def listed(rows: list[list[str]], header: list[str]) -> str:
    if not rows:
        return ""
    more = [f"… and {len(rows) - FEW} more; --json tells all"] if len(rows) > FEW else []
    return "\n".join([table(rows[:FEW], header), *more])


def shortened(line: str, most: int = 80) -> str:
    return line if len(line) <= most else f"{line[: most - 1]}…"


def hours_text(jobs: Iterable[Standing]) -> str:
    """`12.3 CPU h, 4.0 GPU h`, over all that was begun."""
    spent = hours(jobs)
    gpu = f", {spent['gpu_h']:.3g} GPU h" if spent["gpu_h"] else ""
    return f"{spent['cpu_h']:.3g} CPU h{gpu}"


def hours(jobs: Iterable[Standing]) -> dict[str, float]:
    """Hours of wall time, processors and GPUs, as far as jobs have told of them."""
    each = [found.spent for found in jobs]
    wall = sum(spent.get("wall_s", 0.0) for spent in each)
    cpu = sum(spent.get("cpu_s", 0.0) for spent in each)
    gpu = sum(spent.get("gpu_s", 0.0) for spent in each)
    return {"wall_h": round(wall / 3600, 4), "cpu_h": round(cpu / 3600, 4), "gpu_h": round(gpu / 3600, 4)}


def span(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The same for programs, and all of it."""
    return {
        "schema": 1,
        "runs": str(snapshot.store),
        "plans": [plan_document(plan, snapshot) for plan in (*snapshot.plans, *snapshot.others)],
        "at_work": [job_document(found) for found in snapshot.at_work],
        "trouble": [job_document(found) for found in snapshot.trouble],
        "drivers": [dict(driver.told) | {"asked_to_stop": driver.asked_to_stop} for driver in snapshot.drivers],
        "other_runs": len(snapshot.strays),
        "is_over": snapshot.is_over,
    }


def plan_document(plan: Overview, snapshot: Snapshot) -> dict[str, Any]:
    left = snapshot.left_s(plan)
    return {
        "plan": plan.plan.name,
        "preset": plan.preset,
        "options": dict(plan.options),
        "runs": plan.counts.total(),
        "counts": {word: plan.counts[word] for word in WORDS},
        "left_s": None if left is None else round(left, 1),
        "at_a_time": plan.width,
        "spent": hours(plan.begun),
        "cells": [
            {
                "method": row,
                "column": cell.code,
                "target": cell.target,
                "source": cell.source,
                "seeds": {
                    str(seed): {"state": spot.state_of(seed)}
                    | ({} if found is None else {"run": found.name, "share": found.share})
                    for seed, found in spot.seeds.items()
                },
            }
            for (row, cell), spot in plan.spots.items()
        ],
    }


def job_document(found: Standing) -> dict[str, Any]:
    told = {
        name: found.status[name] for name in ("kind", "host", "pid", "attempt", "began", "beat") if name in found.status
    }
    return told | {
        "name": found.name,
        "job": found.words,
        "state": found.state,
        "share": found.share,
        "progress": dict(found.progress),
        "silent_s": round(found.silent_s, 1),
        "error": found.error,
        "spent": dict(found.spent),
        "log": str(found.log),
    }
