"""What becomes of a plan whose processes are killed: its driver, one of its runs, or all of them as in a power cut.

Every kill is SIGKILL to real processes of `coworld-bench run` at a random moment; then the same command is given again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coworld_bench.files import read_json, write_text

SEED = 0
SEEDS, METHODS = 2, ("offline_dv2", "drq_bc", "dv2_finetune", "coworld")
PLAN = f"""
title = "A small plan, to be killed"
quality = "medium-replay"
methods = {list(METHODS)}
seeds = {{ smoke = {list(range(SEEDS))} }}
options.smoke = {{ "compute.checkpoint_minutes" = 0.002, "budget.updates" = 60, "evaluation.early_every" = 20 }}
[[cells]]
target = "toy/point"
source = "toy/point_mirrored"
"""
PAUSE = 0.4  # the longest time between two kills, in lengths of the undisturbed plan
VICTIMS = "driver", "a run", "all"


def measure(repeats: int = 100) -> dict[str, Any]:
    """`repeats` kills: a row per kind of victim, kills and those that met work; of all: plans, and whether their tables are
    equal."""
    rng, seen = random.Random(SEED), Counter[str]()
    with TemporaryDirectory() as folder:
        home = Path(folder)
        plan = home / "killed.toml"
        write_text(plan, PLAN)
        began = time.perf_counter()
        undisturbed = finished(plan, home / "undisturbed")
        length = time.perf_counter() - began
        plans = unequal = 0
        while sum(seen[victim] for victim in VICTIMS) < repeats:
            plans += 1
            disturb(plan, home / f"killed{plans}", length, repeats, rng, seen)
            unequal += differences(undisturbed, finished(plan, home / f"killed{plans}"))
    rows = [{"killed": victim, "kills": seen[victim], "met a run at work": seen[f"{victim} at work"]} for victim in VICTIMS]
    runs = len(undisturbed) - 1
    notes = [
        f"A plan of {runs} runs ({len(METHODS)} methods × {SEEDS} seeds on toy/point, source agents and dataset included), "
        f"two at a time, {length:.0f} s undisturbed; kills at random moments, {PAUSE * length / 2:.0f} s apart on average, "
        f"until {repeats} were done.",
        f"{plans} plans were brought to their end so: {unequal} results or tables differ from the undisturbed plan's. "
        "Compared: the table as CSV, byte by byte, and every result but its times and cost.",
    ]
    return {"rows": rows, "notes": notes}


def disturb(plan: Path, home: Path, length: float, kills: int, rng: random.Random, seen: Counter[str]) -> None:
    """Begin a plan and kill of it, again and again, until it ends or there were enough kills."""
    driver = begin(plan, home)
    while sum(seen[victim] for victim in VICTIMS) < kills:
        try:
            driver.wait(rng.uniform(0, length * PAUSE))
            return
        except subprocess.TimeoutExpired:
            victim = rng.choice(VICTIMS)
            kill(driver, victim, rng, seen)
        if victim != "a run":  # which the driver itself begins again
            driver = begin(plan, home)
    driver.wait()


def kill(driver: subprocess.Popen[bytes], victim: str, rng: random.Random, seen: Counter[str]) -> None:
    """Kill the driver, one of its children, or all."""
    children = children_of(driver.pid)
    chosen = {"driver": [driver.pid], "a run": rng.sample(children, min(1, len(children))), "all": [driver.pid, *children]}
    seen[victim] += 1
    seen[f"{victim} at work"] += bool(children)
    for pid in chosen[victim]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if victim != "a run":
        driver.wait()


def children_of(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def begin(plan: Path, home: Path) -> subprocess.Popen[bytes]:
    words = ["run", str(plan), "--preset", "smoke", "--jobs", "2", "--json"]
    places = ["--runs", str(home / "runs"), "--data", str(home / "data")]
    command = [sys.executable, "-m", "coworld_bench.cli", *words, *places]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def finished(plan: Path, home: Path) -> dict[str, Any]:
    """Bring the plan to its end: its table, and each result less its times."""
    code = begin(plan, home).wait()
    assert code == 0, f"the plan ended with {code}"
    results = {path.parent.name: read_json(path) for path in sorted(home.glob("runs/*/result.json"))}
    timeless = {
        run: {key: value for key, value in result.items() if key not in ("time", "cost")} for run, result in results.items()
    }
    (path,) = home.glob("runs/report/*/killed-smoke.csv")
    table = path.read_bytes()
    assert all(f",{SEEDS}," in line for line in table.decode().splitlines()[1 : 1 + len(METHODS)]), table.decode()
    return {"table": table, **timeless}


def differences(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in {*one, *other})
