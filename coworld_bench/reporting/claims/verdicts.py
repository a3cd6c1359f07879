"""Verdicts, and how those on parts make one on the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coworld_bench.reporting.contrasts import Contrast


class Verdict(StrEnum):
    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


HOLDS, CONTRADICTED, UNDECIDED = Verdict


@dataclass(frozen=True)
class Outcome:
    """A verdict on a part of a claim, in words; `detail` is what is told beside the part's name. `clear` says whether
    intervals give it too, where means decide."""

    verdict: Verdict
    words: str = ""
    clear: bool = True
    detail: str = ""

    @property
    def means_only(self) -> bool:
        return self.verdict != UNDECIDED and not self.clear

    @property
    def text(self) -> str:
        return f"{self.verdict}{' (means only)' * self.means_only}"


@dataclass(frozen=True)
class Finding(Outcome):
    """The verdict on a whole claim. `words` counts its cells where there are several; `evidence` tells of each."""

    evidence: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.words, *self.evidence)))


def signed(found: Contrast, by_means: bool, words: str = "") -> Outcome:
    """Whether a contrast is above 0: by its interval; where means decide by its value, clear if the interval agrees."""
    strict = UNDECIDED
    if found.low is not None and found.high is not None:
        strict = HOLDS if found.low > 0 else CONTRADICTED if found.high < 0 else UNDECIDED
    if not by_means:
        return Outcome(strict, words)
    verdict = HOLDS if found.value > 0 else CONTRADICTED if found.value < 0 else UNDECIDED
    return Outcome(verdict, words, verdict == strict)


def combined(outcomes: Sequence[Outcome], rule: Callable[[list[Verdict]], Verdict]) -> tuple[Verdict, bool]:
    """The verdict of a rule, and whether it is the same when only clear verdicts count."""
    verdict = rule([found.verdict for found in outcomes])
    return verdict, verdict == rule([found.verdict if found.clear else UNDECIDED for found in outcomes])


def at_least(needed: int, verdicts: list[Verdict]) -> Verdict:
    """Whether so many hold: they do, they cannot any more, or neither is known."""
    if verdicts.count(HOLDS) >= needed:
        return HOLDS
    return CONTRADICTED if len(verdicts) - verdicts.count(CONTRADICTED) < needed else UNDECIDED


def every(verdicts: list[Verdict]) -> Verdict:
    """Whether all hold; one that is contradicted contradicts."""
    return at_least(len(verdicts), verdicts)


def has_rank(rank: int, verdicts: list[Verdict]) -> Verdict:
    """Whether something has this rank, by verdicts on its being above each rival: rank - 1 are above, all others below."""
    above, below = verdicts.count(CONTRADICTED), verdicts.count(HOLDS)
    if above > rank - 1 or below > len(verdicts) - rank + 1:
        return CONTRADICTED
    return HOLDS if above + below == len(verdicts) else UNDECIDED
