"""How the cost of an update grows with batch, sequence length and width, and memory with the dataset."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from coworld_bench.benchmarks.counting import peak_gflops
from coworld_bench.benchmarks.training import ACTION, SEED, coworld_update, random_batch
from coworld_bench.config import override, resolve
from coworld_bench.devices import prepare_cpu
from coworld_bench.dreamer import AgentSpec, DreamerAgent

AXES: dict[str, list[dict[str, str]]] = {
    "batch": [{"batch.size": str(size), "behaviour.starts": str(4 * size)} for size in (4, 8, 16, 32, 64)],
    "length": [{"batch.length": str(rows), "behaviour.starts": str(4 * rows)} for rows in (4, 8, 16, 32, 64)],
    "width": [{f"model.{name}": str(units) for name in ("deter", "hidden", "units")} for units in (32, 64, 128, 256, 512)],
}
EPISODES = (20, 80, 320)  # of 251 rows


def measure(repeats: int = 5) -> dict[str, Any]:
    """Rows of axis and value: updates per CPU-second, the rate that the arithmetic alone allows, or resident memory."""
    prepare_cpu()
    rows, peak = [], peak_gflops()
    for axis, points in AXES.items():
        rows += [grown(axis, int(next(iter(options.values()))), options, repeats, peak) for options in points]
    for episodes in EPISODES:
        pixels = episodes * 251 * 64 * 64 * 3 / 2**20
        rows.append({"axis": "episodes", "value": episodes, "memory_mb": memory_of(episodes), "pixels_mb": round(pixels)})
    notes = [
        "Preset quick, one value changed at a time; batch and length also change how many states imagination starts from.",
        f"limit: updates per second if all arithmetic ran at the {peak:.0f} GFLOP per CPU second of a large product.",
        f"Medians of {repeats} updates. Memory: resident, of a process that holds the dataset and has drawn 20 batches.",
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


def memory_of(episodes: int) -> int:
    """Resident MB of a fresh process with a dataset of so many episodes in memory."""
    code = f"from coworld_bench.benchmarks.growth import hold; print(hold({episodes}))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def hold(episodes: int) -> int:
    from coworld_bench.benchmarks.data import ROWS, random_episode
    from coworld_bench.benchmarks.training import resident_mb
    from coworld_bench.data.memory import BatchStream, EpisodeMemory

    memory = EpisodeMemory(episodes * ROWS).extend(random_episode(seed) for seed in range(episodes))
    stream = BatchStream(memory, 0, 16, 16)
    for _ in range(20):
        stream.next()
    return resident_mb("VmRSS")
