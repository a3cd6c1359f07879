"""How long one update of CoWorld's target agent takes: this code, its plain oracle, and the code that was released."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coworld_bench.benchmarks import methods
from coworld_bench.benchmarks.counting import count, peak_gflops
from coworld_bench.benchmarks.peer import PeerUpdate, load
from coworld_bench.benchmarks.released import ReleasedUpdate
from coworld_bench.config import Config, override, resolve
from coworld_bench.data.memory import Batch
from coworld_bench.devices import prepare_cpu
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Metrics, Seen
from coworld_bench.errors import UsageError, unknown
from coworld_bench.losses import align_states, min_max_value

SIZES: dict[str, tuple[str, dict[str, str]]] = {  # preset, and what differs from it
    "quick": ("quick", {}),
    "XS": ("paper", {
        "batch.size": "8", "batch.length": "16", "model.deter": "64", "model.hidden": "64", "model.units": "64",
        "model.stoch": "16", "model.depth": "8",
    }),
    "S": ("paper", {"batch.size": "16", "batch.length": "32", "model.depth": "16", "model.units": "200"}),
    "P": ("paper", {}),
    "T8": ("paper", {
        "model.latent": "categorical", "model.stoch": "32", "model.classes": "32", "model.deter": "600",
        "model.hidden": "600",
    }),
}  # fmt: skip
ARMS: dict[str, dict[str, str]] = {
    "released": {"compute.plain": "true"},
    "plain": {"compute.plain": "true"},
    "fast": {},
    "bfloat16": {"compute.precision": "bfloat16"},
    "compiled": {"compute.compile": "true"},
    "peer": {},
}
ACTION, SEED = 4, 0
Update = Callable[[], Any]


def measure(
    sizes: list[str] | None = None,
    arms: list[str] | None = None,
    repeats: int = 9,
    peer: Path | None = None,
    method: list[str] | None = None,
) -> dict[str, Any]:
    """A row per size and arm: CPU and wall milliseconds (medians, arms taking turns), counts, memory, share of the peak.

    `peer` is the folder of a checkout of the released code, which becomes the arm of that name. With `method`, the turns
    of these methods instead (`methods.measure`)."""
    if method:
        if peer is not None:
            raise UsageError("--peer is the released CoWorld alone; leave out --method")
        asked_sizes, _ = asked(sizes or ["quick"], [], None)
        return methods.measure(method, {size: SIZES[size] for size in asked_sizes}, arms or ["plain", "fast"], repeats)
    sizes, arms = asked(sizes or ["quick", "XS"], arms or ["released", "plain", "fast"], peer)
    prepare_cpu()
    peak = peak_gflops()
    rows = [row for size in sizes for row in measure_size(size, arms, repeats, peak, peer)]
    notes = [
        "One update: world model with the source encoder's alignment, then actor and critic under the source critic.",
        "released: the released code's structure, written anew; it has Gaussian latents and convolutions only.",
        f"Medians of {repeats} rounds in which the arms take turns, one thread; ratio: the first arm's CPU time over this.",
        f"Peak: a 1,024-wide fp32 matrix product reaches {peak:.0f} GFLOP per CPU second here.",
        "Launches and synchronisations: operations dispatched that would be kernels on a GPU, or make the host wait;",
        "compiled: library kernels, and every loop nest that torch.compile wrote for this CPU (a GPU's code may differ).",
    ]
    if peer:
        notes.insert(2, "peer: an unmodified checkout of the released code, in float32, at the sizes that `released` has.")
    return {"rows": rows, "notes": notes}


def asked(sizes: list[str], arms: list[str], peer: Path | None) -> tuple[list[str], list[str]]:
    """The sizes and arms to measure. Raises UsageError for what does not exist, before anything is measured."""
    for kind, given, known in (("size", sizes, SIZES), ("arm", arms, ARMS)):
        for name in given:
            if name not in known:
                raise unknown(kind, name, known)
    if peer is None:
        if "peer" in arms:
            raise UsageError("the arm peer is a checkout of the released code; say where it lies with --peer PATH")
        return sizes, arms
    load(peer)
    return sizes, arms if "peer" in arms else [*arms, "peer"]


def measure_size(size: str, arms: list[str], repeats: int, peak: float, peer: Path | None) -> list[dict[str, Any]]:
    updates = {arm: made for arm in arms if (made := make_update(size, arm, peer)) is not None}
    if not updates:
        return []
    cpu: dict[str, list[float]] = {arm: [] for arm in updates}
    wall: dict[str, list[float]] = {arm: [] for arm in updates}
    for update in updates.values():
        update()
    for _ in range(repeats):
        for arm, update in updates.items():
            began = time.perf_counter(), time.process_time()
            update()
            cpu[arm].append(1e3 * (time.process_time() - began[1]))
            wall[arm].append(1e3 * (time.perf_counter() - began[0]))
    rows, first = [], statistics.median(cpu[next(iter(updates))])
    for arm, update in updates.items():
        spent, counts = statistics.median(cpu[arm]), count(update)
        row = {"size": size, "arm": arm, "cpu_ms": round(spent, 1), "wall_ms": round(statistics.median(wall[arm]), 1)}
        row |= {"ratio": round(first / spent, 2), **counts, "peak_memory_mb": peak_memory(size, arm, peer)}
        rows.append(row | {"share_of_peak": round(1e6 * counts["tflop"] / spent / peak, 3)})
    return rows


def make_update(size: str, arm: str, peer: Path | None = None) -> Update | None:
    """One update of the target agent as `arm` does it; None where the arm does not exist at this size."""
    config = configured(size, arm)
    batch = random_batch(config)
    if arm in ("released", "peer") and (config.model.latent != "gaussian" or config.model.encoder != "cnn"):
        return None
    if arm == "peer":
        assert peer is not None
        theirs = PeerUpdate(peer, config, ACTION)
        return lambda: theirs(batch)
    spec = AgentSpec(ACTION, ACTION, 1.0)
    agent, source = DreamerAgent(config, spec, SEED), DreamerAgent(config, spec, SEED + 1)
    if arm == "released":
        released = ReleasedUpdate(agent, source)
        return lambda: released(batch)
    return coworld_update(agent, source, batch)


def configured(size: str, arm: str) -> Config:
    preset, options = SIZES[size]
    return override(resolve(preset, "metaworld"), options | ARMS[arm])


def random_batch(config: Config) -> Batch:
    rng, shape = np.random.default_rng(SEED), (config.batch.size, config.batch.length)
    image = rng.integers(0, 256, (*shape, 64, 64, 3), np.uint8)
    action, reward = rng.uniform(-1, 1, (*shape, ACTION)), rng.uniform(0, 1, shape)
    state = np.zeros((*shape, 1), np.float32)
    return Batch(image, state, action.astype(np.float32), reward.astype(np.float32), np.zeros(shape, bool))


def coworld_update(agent: DreamerAgent, source: DreamerAgent, batch: Batch) -> Update:
    """CoWorld's target update on a batch, without the learner around it."""

    def align(seen: Seen, _: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            theirs = source.model.encode(seen.pixels, *seen.embed.shape[:2])
        return {"align": align_states(theirs, seen.embed)}

    def constrain(feature: Tensor, value: Tensor, weight: Tensor) -> tuple[dict[str, Tensor], Metrics]:
        with torch.no_grad():
            theirs = source.behaviour.value(feature)
        return {"constraint": (weight * min_max_value(value, theirs)).mean()}, {}

    def update() -> None:
        states, _ = agent.update_model(agent.rows(batch), align)
        agent.update_behaviour(states, terms=constrain)

    return update


def peak_memory(size: str, arm: str, peer: Path | None) -> int:
    """The largest resident memory, MB, of a process that does two updates and nothing else."""
    arguments = f"{SIZES[size]!r}, {arm!r}, {peer and str(peer)!r}"
    code = f"from coworld_bench.benchmarks.training import memory_of; print(memory_of({arguments}))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def memory_of(size: tuple[str, dict[str, str]], arm: str, peer: str | None) -> int:
    prepare_cpu()
    SIZES["asked"] = size
    update = make_update("asked", arm, Path(peer) if peer else None)
    assert update is not None
    for _ in range(2):
        update()
    return resident_mb("VmHWM")


def resident_mb(which: str) -> int:
    """`VmRSS`, resident now, or `VmHWM`, the most so far; getrusage would count what the parent had before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) // 1024
