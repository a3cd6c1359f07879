"""The RSSM's pass over a batch alone: posterior and prior of every row and their KL, forward and backward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from coworld_bench.benchmarks.released import ReleasedUpdate, checked_distributions
from coworld_bench.benchmarks.training import ACTION, SEED, SIZES, configured
from coworld_bench.devices import prepare_cpu
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.errors import unknown

Pass = Callable[[], None]


def measure(sizes: list[str] | None = None, repeats: int = 15) -> dict[str, Any]:
    """A row per size and arm: CPU milliseconds (medians, arms taking turns), ratio to the released structure."""
    prepare_cpu()
    rows = [row for size in sizes or ["XS", "S", "P"] for row in measure_size(size, repeats)]
    notes = [
        "Projections, recurrence, posterior, prior and balanced KL of a batch of embeddings, forward and backward.",
        f"Medians of {repeats} rounds in which the arms take turns, one thread; ratio: released over this.",
    ]
    return {"rows": rows, "notes": notes}


def measure_size(size: str, repeats: int) -> list[dict[str, Any]]:
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    passes = {arm: made for arm in ("released", "plain", "fast") if (made := make_pass(size, arm)) is not None}
    spent: dict[str, list[float]] = {arm: [] for arm in passes}
    for _ in range(repeats + 1):
        for arm, run in passes.items():
            began = time.process_time()
            run()
            spent[arm].append(1e3 * (time.process_time() - began))
    medians = {arm: statistics.median(times[1:]) for arm, times in spent.items()}
    first = next(iter(medians.values()))
    return [
        {"size": size, "arm": arm, "cpu_ms": round(median, 1), "ratio": round(first / median, 2)}
        for arm, median in medians.items()
    ]


def make_pass(size: str, arm: str) -> Pass | None:
    """One pass as `arm` does it; None where the arm does not exist at this size."""
    config = configured(size, arm)
    agent = DreamerAgent(config, AgentSpec(ACTION, ACTION, 1.0), SEED)
    rssm, rows = agent.model.rssm, (config.batch.length, config.batch.size)
    generator = torch.Generator().manual_seed(SEED)
    embed = torch.randn(*rows, agent.model.encoder.size, generator=generator).requires_grad_()
    action = torch.rand(*rows, ACTION, generator=generator)
    if arm == "released":
        if config.model.latent != "gaussian" or config.model.encoder != "cnn":
            return None
        return partial(released_pass, ReleasedUpdate(agent, None), embed.transpose(0, 1), action.transpose(0, 1))
    observe = rssm.observe if arm == "plain" else rssm.observe_fast

    def run() -> None:
        noise = rssm.draw(agent.generator, *rows)
        state, statistic = observe(embed, action, noise, rssm.initial(config.batch.size))
        kl = rssm.kl_loss(statistic, state.deter, config.model.kl_balance, config.model.free_nats, None)
        (kl + state.feature.mean()).backward()

    return run


def released_pass(released: ReleasedUpdate, embed: torch.Tensor, action: torch.Tensor) -> None:
    with checked_distributions():
        posts, priors = released.observe(embed, action)
        (released.kl(posts, priors) + posts["stoch"].mean() + posts["deter"].mean()).backward()
