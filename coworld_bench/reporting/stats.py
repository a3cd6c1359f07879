"""Statistics over seeds, which are the unit of replication: mean, std, Student-t interval, power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

FEW = 3  # below so many seeds a cell is marked


@dataclass(frozen=True)
class Summary:
    """What is known of a mean over seeds; sd (n - 1 in the denominator) and the 95 % interval need two of them."""

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def spread(self) -> float | None:
        """sd / mean, where that means something."""
        return self.sd / self.mean if self.sd is not None and self.mean > 0 else None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sd and Student-t 95 % interval of at least one value."""
    n = len(values)
    assert n, "no values to summarise"
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(mean, None, 1, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(mean, sd, n, mean - half, mean + half)


@cache
def student_quantile(freedom: float) -> float:
    """The t value that 2.5 % exceed."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


@cache
def detectable_effect(n: int) -> float:
    """The difference of two means, in sds, that a two-sided t test at 5 % finds in 80 % of cases with n seeds each."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    freedom, critical = 2 * n - 2, student_quantile(2 * n - 2)

    def lacking(effect: float) -> float:
        # The other tail is left out: here it is below 1e-4, and scipy gives NaN for it at large shifts.
        return float(nct.sf(critical, freedom, effect * math.sqrt(n / 2))) - 0.8

    normal = 2.8 / math.sqrt(n / 2)  # 1.96 + 0.84: the answer for many seeds, too small for few
    return float(brentq(lacking, 0.9 * normal, 3 * normal))


def detectable_difference(spread: float, n: int) -> float | None:
    """The relative difference between two methods that n seeds each can show; None for a single seed."""
    return detectable_effect(n) * spread if n > 1 else None


def seeds_needed(spread: float, difference: float) -> int:
    """Seeds per method that show a relative `difference` at this spread."""
    n = max(2, int(15.7 * (spread / difference) ** 2))  # 2 (1.96 + 0.84)²: the normal approximation, a little low
    while n < 1000 and detectable_effect(n) * spread > difference:
        n += 1
    return n
