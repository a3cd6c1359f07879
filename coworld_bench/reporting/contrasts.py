"""Differences of means and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from coworld_bench.reporting.layout import number
from coworld_bench.reporting.stats import Summary, student_quantile


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds; sd (n - 1 in the denominator) is None where it is not known."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means, and its 95 % interval where every sd is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """`481 (-740 to 1702)`."""
        if self.low is None or self.high is None:
            return number(self.value)
        bounds = self.low, self.high
        like = max(map(abs, bounds))
        if any(bound != 0 and float(number(bound, like)) == 0 for bound in bounds):
            like = 0.0  # more decimals: on which side of 0 it lies decides
        return f"{number(self.value, like)} ({number(self.low, like)} to {number(self.high, like)})"


def contrast(terms: Iterable[tuple[float, Estimate | Summary]], shift: float = 0.0) -> Contrast:
    """`shift` + Σ weight · mean, with Welch's interval: se² = Σ weight² sd² / n, and Satterthwaite's degrees of freedom,
    se⁴ / Σ (weight² sd² / n)² / (n - 1)."""
    known = list(terms)
    value = shift + math.fsum(weight * found.mean for weight, found in known)
    if any(found.sd is None for _, found in known):
        return Contrast(value)
    parts = [(weight**2 * (found.sd or 0.0) ** 2 / found.n, found.n - 1) for weight, found in known]
    variance = math.fsum(part for part, _ in parts)
    if variance == 0:
        return Contrast(value, value, value)
    freedom = variance**2 / math.fsum(part**2 / free for part, free in parts)
    half = student_quantile(freedom) * math.sqrt(variance)
    return Contrast(value, value - half, value + half)
