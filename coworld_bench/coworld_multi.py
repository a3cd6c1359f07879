"""CoWorld with several source agents (paper, appendix C and Eq. 12): the nearest one regularises the target.

At every target update, on its batch of target images and without gradient,

    d_i = KL[softmax(e_source_i(o)) ‖ softmax(e_target(o))],   i* = argmin_i d_i,

and stage A aligns with source i* alone, stage C is bounded by its critic. All the rest is CoWorld's, its budget too: a
source block trains one source, the one that was nearest most often in the target block before it. The paper says only
"continue the rest" there, so that this majority vote is ours, as are an average over past distances (`ema`, off) and the
record of every choice. The released code has no multi-source method.

A flat softmax is near to anything, an untrained encoder's above all: the entropy of each source's is logged beside d_i.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from coworld_bench.coworld import METHOD as COWORLD
from coworld_bench.coworld import CoWorld, CoWorldSettings
from coworld_bench.dreamer import Metrics, Seen
from coworld_bench.losses import align_states, softmax_entropy
from coworld_bench.methods import Job, Method


class CoWorldMultiSettings(CoWorldSettings):
    lowdim: Literal["state"] = "state"  # without stage A there would be nothing to choose by
    ema: float = Field(0.0, ge=0, lt=1)  # weight of past distances in those that are compared; 0: none, the paper's


class CoWorldMulti(CoWorld):
    """`nearest` and the distances are tensors that an update writes in place, so that the host need not read them."""

    settings: CoWorldMultiSettings

    def __init__(self, settings: CoWorldMultiSettings, job: Job) -> None:
        super().__init__(settings, job)
        self.names = [source.domain.task.id for source in job.sources]
        device, count = self.agent.device, len(self.sources)
        self.distance, self.compared, self.entropy = (torch.zeros(count, device=device) for _ in range(3))
        self.nearest = torch.zeros(1, dtype=torch.long, device=device)
        self.trace = torch.zeros(self.total, dtype=torch.int16, device=device)  # the nearest source of each target update
        self.trained: list[int] = []  # the source of each source block begun

    def train_target(self) -> Metrics:
        """Stages A and C with the source that is nearest on this batch."""
        metrics = super().train_target()
        self.trace[self.updates - 1] = self.nearest[0]
        return metrics | self.compared_metrics()

    def train_source(self) -> Metrics:
        """Stage B, for a whole source block with the source that was nearest most often in the block before."""
        if self.done == 0:
            self.trained.append(self.majority(self.block - 1))
            self.source = self.sources[self.trained[-1]]
        return super().train_source()

    def align_states(self, seen: Seen, _: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 12: β2 Σ_i ω_i KL[softmax(sg e_source_i(o)) ‖ softmax(e_target(o))], ω one-hot at the nearest source."""
        with torch.no_grad():
            embeds = torch.stack([source.agent.model.embed_seen(seen) for source in self.sources])  # [sources, T, B, E]
            self.choose(embeds, seen.embed)
        divergence = align_states(self.of_nearest(embeds), seen.embed, self.settings.align_reduction)
        return {"align": self.settings.beta2 * divergence}

    def choose(self, embeds: Tensor, embed: Tensor) -> None:
        """Measure every source on the batch and note which is nearest: [sources, T, B, E] against [T, B, E]."""
        distances = [align_states(source, embed, self.settings.align_reduction) for source in embeds]
        self.distance.copy_(torch.stack(distances))
        self.entropy.copy_(softmax_entropy(embeds).mean((1, 2)))
        # begins at zero: what is missing at first is missing for all
        self.compared.mul_(self.settings.ema).add_(self.distance, alpha=1 - self.settings.ema)
        self.nearest.copy_(self.compared.argmin(0, keepdim=True))

    def of_nearest(self, stacked: Tensor) -> Tensor:
        """The nearest source's part of [sources, ...]."""
        return stacked.index_select(0, self.nearest).squeeze(0)

    @torch.no_grad()
    def source_value(self, feature: Tensor) -> Tensor:
        """What the nearest source's critic says of target features: [H, N, F] -> [H, N]."""
        return self.of_nearest(torch.stack([source.agent.behaviour.value(feature) for source in self.sources]))

    def majority(self, block: int) -> int:
        """The source that was nearest most often in a target block; the one in training where the block is empty."""
        counts = self.choices(block)
        return counts.index(max(counts)) if any(counts) else (self.trained or [0])[-1]

    def choices(self, block: int) -> list[int]:
        """How often each source was nearest in a target block, as far as it has come."""
        blocks = [earlier.amount for earlier in self.blocks[: block + 1] if earlier.side == "target"]
        end = min(sum(blocks), self.updates)
        chosen = self.trace[sum(blocks[:-1]) : end].long()
        return list(map(int, chosen.bincount(minlength=len(self.sources)).tolist()))

    def compared_metrics(self) -> Metrics:
        """Distance, entropy and share of choices, by source."""
        share = torch.zeros_like(self.distance).index_fill_(0, self.nearest, 1.0)
        kinds = {"distance": self.distance.clone(), "entropy": self.entropy.clone(), "share": share}
        return {f"coworld/{kind}/{name}": by[i] for kind, by in kinds.items() for i, name in enumerate(self.names)}

    def report(self) -> dict[str, Any]:
        """What table 13 tells, the source chosen most often and its share of all target updates, and how it came about.

        `trace` has every choice in order, as run lengths: `0x12 1x3` is source 0 twelve times, then source 1."""
        trace = self.trace[: self.updates].tolist()
        share = {name: trace.count(number) / max(1, len(trace)) for number, name in enumerate(self.names)}
        targets = [block for block, part in enumerate(self.blocks) if part.side == "target"]
        return super().report() | {
            "chosen": max(share, key=lambda name: share[name]),
            "share": share,
            "choices_by_target_block": [dict(zip(self.names, self.choices(block), strict=True)) for block in targets],
            "trained_by_source_block": [self.names[number] for number in self.trained],
            "sources": self.names,
            "trace": run_lengths(trace),
        }

    def state_dict(self) -> dict[str, Any]:
        choice = {"compared": self.compared, "nearest": self.nearest, "trace": self.trace, "trained": self.trained}
        return super().state_dict() | {"choice": choice}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        choice = state["choice"]
        for name in ("compared", "nearest", "trace"):
            getattr(self, name).copy_(choice[name])
        self.trained = list(choice["trained"])
        self.source = self.sources[(self.trained or [0])[-1]]

    def source_states(self) -> dict[str, Any]:
        return {"sources": [source.state_dict() for source in self.sources]}

    def load_source_states(self, state: dict[str, Any]) -> None:
        for source, stored in zip(self.sources, state["sources"], strict=True):
            source.load_state_dict(stored)


def run_lengths(numbers: list[int]) -> str:
    """`[0, 0, 1]` as `0x2 1x1`."""
    return " ".join(f"{number}x{len(list(same))}" for number, same in groupby(numbers))


METHOD = Method(
    name="coworld_multi",
    label="CoWorld (Multi-Source)",
    learner=CoWorldMulti,
    settings=CoWorldMultiSettings,
    sources="many",
    lowdim_sources=True,
    own=COWORLD.own,
)
