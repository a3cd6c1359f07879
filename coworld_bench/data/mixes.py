"""Batches from several domains at once, each with its own weight, action size and reward scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coworld_bench.data.memory import Batch, Memory, stream
from coworld_bench.data.windows import Windows
from coworld_bench.errors import UsageError


@dataclass(frozen=True, eq=False)
class Element:
    """A domain of a mix. `weight` is its share of the windows, relative to the others'; rewards are multiplied by
    `reward_scale`."""

    memory: Memory
    weight: float = 1.0
    domain: str = ""
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise UsageError(f"the weight of a domain in a mix must be a number above 0; got {self.weight}")
        if not math.isfinite(self.reward_scale):
            raise UsageError(f"a reward scale must be a number; got {self.reward_scale}")


@dataclass(frozen=True, eq=False)
class MixedBatch(Batch):
    """A batch whose windows are of several domains, in the order of the mix's elements. Actions and states have zeros
    behind them up to the largest size, as agents pad them (`DreamerAgent.prepared`)."""

    domain: np.ndarray  # int64 [B], which element each window is of
    mask: np.ndarray  # bool [B, A_max], True for its domain's own action dimensions


class Mix:
    """Batches in which number k depends on the elements, the seed and k alone; resumable from `state_dict`.

    >>> mix = Mix([Element(source, 1, "source"), Element(target, 3, "target")], 0, 16, 50)  # doctest: +SKIP
    >>> mix.next().action.shape  # doctest: +SKIP
    (16, 50, 5)

    Of B windows an element with the share w has ⌊w B⌋ or ⌈w B⌉, w B on average; always the same where w B is whole."""

    def __init__(
        self,
        elements: Sequence[Element],
        seed: int,
        batch: int,
        length: int,
        k: int = 0,
        windows: Windows = "inside",
    ) -> None:
        """Raises UsageError for no element, and for pictures of several sizes."""
        if not elements:
            raise UsageError("a mix needs at least one domain")
        self.elements, self.seed, self.batch, self.length, self.k = tuple(elements), seed, batch, length, k
        self.windows = windows
        shown = [element for element in self.elements if element.memory.picture is not None]
        if len({element.memory.picture for element in shown}) > 1:
            sizes = ", ".join(f"{element.domain} {element.memory.picture}".strip() for element in shown)
            raise UsageError(f"the domains of a mix must have pictures of one size; got {sizes}")

    def counts(self, k: int) -> np.ndarray:
        """Windows of each element in batch `k`, int64 [elements]; systematic sampling (Madow 1949)."""
        weights = np.array([element.weight for element in self.elements])
        ends = np.round(self.batch * np.cumsum(weights) / weights.sum(), 9)
        places = np.floor(np.concatenate([[0.0], ends]) + stream(self.seed, k).random())
        return np.diff(places).astype(np.int64)

    def per_domain(self, k: int) -> list[Batch]:
        """Batch `k` as one batch per element, each with its own action size; one with no window is empty."""
        batches = []
        for part, (element, count) in enumerate(zip(self.elements, self.counts(k).tolist(), strict=True), start=1):
            rows = element.memory.pick(stream(self.seed, k, part), count, self.length, windows=self.windows)
            drawn = element.memory.gather(rows)
            np.multiply(drawn.reward, np.float32(element.reward_scale), out=drawn.reward)
            batches.append(drawn)
        return batches

    def at(self, k: int) -> MixedBatch:
        """Batch `k` with all domains side by side; what only some have, such as pictures, none has."""
        parts = self.per_domain(k)
        sizes = [part.action.shape[-1] for part in parts]
        counts = [len(part.reward) for part in parts]
        images = [part.image for part in parts if part.image is not None]
        return MixedBatch(
            image=np.concatenate(images) if len(images) == len(parts) else None,
            state=joined([part.state for part in parts]),
            action=joined([part.action for part in parts]),
            reward=np.concatenate([part.reward for part in parts]),
            is_first=np.concatenate([part.is_first for part in parts]),
            domain=np.repeat(np.arange(len(parts)), counts),
            mask=np.arange(max(sizes)) < np.repeat(sizes, counts)[:, None],
        )

    def next(self) -> MixedBatch:
        """Batch number `k`; afterwards `k` is one more."""
        drawn = self.at(self.k)
        self.k += 1
        return drawn

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.k = int(state["seed"]), int(state["k"])


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """[B_i, L, D_i] as [Σ B_i, L, D_max], with zeros behind those that are shorter."""
    widest = max(part.shape[-1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, widest - part.shape[-1]))) for part in parts])
