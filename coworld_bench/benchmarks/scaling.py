"""A store that grows: how long its commands take, and what memory. The results are made up, and their commit says so."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from coworld_bench.benchmarks.reporting import write_results
from coworld_bench.errors import UsageError

COUNTS = [10, 1_000, 100_000]
TABLE2_SEED = 60  # runs of table2 per seed
COMMAND = """
import json, sys
from coworld_bench.cli import main
from coworld_bench.costs import Meter
meter = Meter("cpu")
code = main(sys.argv[2:])
json.dump(meter.read() | {"code": code}, open(sys.argv[1], "w"))
"""


def measure(sizes: list[str] | None = None) -> dict[str, Any]:
    """A row per number of results and command. `sizes`: the numbers. Raises UsageError for what is no number."""
    for text in sizes or ():
        if not text.isdigit() or not int(text):
            raise UsageError(f"bench scale takes numbers of results, as 10,1000; got {text!r}")
    rows = [row for count in map(int, sizes or COUNTS) for row in measure_count(count)]
    notes = [
        "Made-up results of all shipped plans, with as many seeds as it takes. Each command is a process of its own, once.",
        "cpu_s counts child processes; peak_mb is the command's own process, its imports and simulators included.",
        "plan: `run table2 --dry-run` beside that store. plan of as many runs: table2 with as many seeds as it takes, "
        "beside an empty store. merge: into an empty folder, every file synced; merge again: all of it is there.",
    ]
    return {"rows": rows, "notes": notes}


def measure_count(results: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        began = time.perf_counter()
        write_results(home / "runs", results)
        rows = [{"results": results, "command": "(make them up)", "wall_s": round(time.perf_counter() - began, 1)}]
        rows += [{"results": results, "command": name, **timed(words)} for name, words in commands(home, results).items()]
    return rows


def commands(home: Path, results: int) -> dict[str, list[str]]:
    """What is measured of a store of so many results, by name; each finds what those before it left."""
    store, merged = str(home / "runs"), str(home / "merged")
    plan = ["run", "table2", "--dry-run", "--json", "--data", str(home / "data")]
    many = ["--preset", "quick", "--seeds", f"0-{min(1999, -(-results // TABLE2_SEED) - 1)}"]
    return {
        "plan": [*plan, "--runs", store],
        "plan of as many runs": [*plan, *many, "--runs", str(home / "nothing")],
        "status": ["status", "table2", "--runs", store],
        "report of one plan": ["report", "table2", "--preset", "quick", "--runs", store, "--out", str(home / "one")],
        "report of everything": ["report", "--all", "--runs", store, "--out", str(home / "all")],
        "store verify": ["store", "verify", store],
        "store merge": ["store", "merge", merged, store],
        "store merge, again": ["store", "merge", merged, store],
    }


def timed(words: list[str]) -> dict[str, Any]:
    """What a command took, and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        process = [sys.executable, "-c", COMMAND, str(told), *words]
        began = time.perf_counter()
        subprocess.run(process, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        wall = time.perf_counter() - began
        if not told.is_file():
            return {"wall_s": round(wall, 1), "code": "killed"}
        spent = json.loads(told.read_text())
    peak = round(spent["peak_memory_bytes"] / 1e6)
    return {"wall_s": round(wall, 1), "cpu_s": round(spent["cpu_s"], 1), "peak_mb": peak, "code": spent["code"]}
