"""How the cost of an update grows with batch, sequence length and width, and memory with the dataset."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coworld_bench.benchmarks.counting import peak_gflops
from coworld_bench.benchmarks.data import ROWS, drawn_episode, stored
from coworld_bench.benchmarks.training import ACTION, SEED, coworld_update, random_batch, resident_mb
from coworld_bench.config import override, resolve
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.memory import BatchStream
from coworld_bench.devices import prepare_cpu
from coworld_bench.dreamer import AgentSpec, DreamerAgent

AXES: dict[str, list[dict[str, str]]] = {
    "batch": [{"batch.size": str(size), "behaviour.starts": str(4 * size)} for size in (4, 8, 16, 32, 64)],
    "length": [{"batch.length": str(rows), "behaviour.starts": str(4 * rows)} for rows in (4, 8, 16, 32, 64)],
    "width": [{f"model.{name}": str(units) for name in ("deter", "hidden", "units")} for units in (32, 64, 128, 256, 512)],
}
EPISODES = (20, 80, 320)  # of ROWS rows


def measure(repeats: int = 5) -> dict[str, Any]:
    """Rows of axis and value: updates per CPU-second, the rate that the arithmetic alone allows, or resident memory."""
    prepare_cpu()
    rows, peak = [], peak_gflops()
    for axis, points in AXES.items():
        rows += [grown(axis, int(next(iter(options.values()))), options, repeats, peak) for options in points]
    rows += [remembered(episodes) for episodes in EPISODES]
    notes = [
        "Preset quick, one value changed at a time; batch and length also change how many states imagination starts from.",
        f"limit: updates per second if all arithmetic ran at the {peak:.0f} GFLOP per CPU second of a large product.",
        f"Medians of {repeats} updates. Memory: resident, of a process that holds the dataset and has drawn 20 batches; "
        "packed: its pictures stay compressed on disk.",
    ]
    return {"rows": rows, "notes": notes}


def grown(axis: str, value: int, options: dict[str, str], repeats: int, peak: float) -> dict[str, Any]:
    from torch.utils.flop_counter import FlopCounterMode

    config, spec = override(resolve("quick", "metaworld"), options), AgentSpec(ACTION, ACTION, 1.0)
    agent, source = DreamerAgent(config, spec, SEED), DreamerAgent(config, spec, SEED + 1)
    update, spent = coworld_update(agent, source, random_batch(config)), []
    with FlopCounterMode(display=False) as flops:
        update()
    for _ in range(repeats):
        began = time.process_time()
        update()
        spent.append(time.process_time() - began)
    rate, limit = 1 / statistics.median(spent), 1e9 * peak / flops.get_total_flops()
    return {"axis": axis, "value": value, "updates_per_cpu_s": round(rate, 2), "limit": round(limit, 1)}


def remembered(episodes: int) -> dict[str, Any]:
    """Memory of a dataset of so many episodes, decoded and packed, beside the size of its pixels."""
    row: dict[str, Any] = {"axis": "episodes", "value": episodes}
    with TemporaryDirectory() as home:
        folder = stored(map(drawn_episode, range(episodes)), Path(home) / "dataset").folder
        row |= {"memory_mb": memory_of(folder, "ram"), "packed_mb": memory_of(folder, "packed")}
    return row | {"pixels_mb": round(episodes * ROWS * 64 * 64 * 3 / 2**20)}


def memory_of(folder: Path, memory: str) -> int:
    """Resident MB of a fresh process that has drawn 20 batches of a dataset."""
    code = f"from coworld_bench.benchmarks.growth import hold; print(hold({str(folder)!r}, {memory!r}))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def hold(folder: str, memory: Any) -> int:
    stream = BatchStream(open_dataset(Path(folder)).load(memory), 0, 16, 16)
    for _ in range(20):
        stream.next()
    return resident_mb("VmRSS")
