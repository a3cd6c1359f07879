"""From a claim and its numbers to a verdict with the evidence; the rules are told in `__init__.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from coworld_bench.plans import Cell
from coworld_bench.reporting.claims.kinds import Above, Chosen, Comparable, Gain, Gap, Kind, Rank, Value
from coworld_bench.reporting.claims.numbers import Lacking, Numbers
from coworld_bench.reporting.claims.statements import Claim
from coworld_bench.reporting.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    UNDECIDED,
    Finding,
    Outcome,
    at_least,
    combined,
    every,
    has_rank,
    signed,
)
from coworld_bench.reporting.contrasts import Contrast, contrast
from coworld_bench.reporting.layout import number
from coworld_bench.tasks import find_task


@dataclass(frozen=True)
class Place:
    """A cell, or several as their average."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Duel:
    """One method against another on a place: the difference, or why there is none."""

    outcome: Outcome
    difference: Contrast | None = None
    lack: Lacking | None = None


def judge(claim: Claim, numbers: Numbers) -> Finding:
    """The verdict on a claim by these numbers."""
    places = places_of(claim)
    outcomes = [judge_place(claim, place, numbers) for place in places]
    verdict, clear = combined(outcomes, partial(at_least, claim.needed))
    words = counted(outcomes, claim.needed) if len(places) > 1 else ""
    return Finding(verdict, words, clear, evidence=grouped(places, outcomes))


def places_of(claim: Claim) -> list[Place]:
    if claim.unit == "average" and len(claim.cells) > 1:
        return [Place(f"average of {len(claim.cells)} cells", claim.cells)]
    return [Place(cell.code, (cell,)) for cell in claim.cells]


def judge_place(claim: Claim, place: Place, numbers: Numbers) -> Outcome:
    """The verdict on one place; undecided where it can carry no claim or lacks something."""
    try:
        numbers.check_place(place.cells)
        return JUDGES[type(claim.asks)](claim.asks, place, numbers)
    except Lacking as lack:
        return Outcome(UNDECIDED, str(lack), detail=lack.detail)


def counted(outcomes: Sequence[Outcome], needed: int) -> str:
    counts = {verdict: sum(found.verdict == verdict for found in outcomes) for verdict in (HOLDS, CONTRADICTED, UNDECIDED)}
    wanted = "all" if needed == len(outcomes) else f"at least {needed}"
    return (
        f"of {len(outcomes)} cells {counts[HOLDS]} hold, {counts[CONTRADICTED]} are contradicted, {counts[UNDECIDED]} "
        f"undecided; {wanted} must hold"
    )


def grouped(places: Sequence[Place], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """A line of evidence per place; places of which the same is to be said share one."""
    named: dict[tuple[str, str], list[str]] = {}
    for place, found in zip(places, outcomes, strict=True):
        name = f"{place.name} ({found.detail})" if found.detail else place.name
        named.setdefault((found.text, found.words), []).append(name)
    if len(places) == 1:
        return tuple(f"{names[0]}: {words}" for (_, words), names in named.items())
    if len(named) == 1 and not any(found.detail for found in outcomes):
        return tuple(f"all {len(places)} cells: {text}; {words}" for text, words in named)
    return tuple(f"{', '.join(names)}: {text}; {words}" for (text, words), names in named.items())


def duel(method: str, rival: str, place: Place, numbers: Numbers) -> Duel:
    """Whether a method is above a rival."""
    try:
        found = numbers.weighted([(1.0, method), (-1.0, rival)], place.cells)
        words = f"{numbers.told(rival, place.cells)} Δ {found.text}"
    except Lacking as lack:
        return Duel(Outcome(UNDECIDED, str(lack)), lack=lack)
    return Duel(signed(found, numbers.by_means, words), found)


def judge_rank(asks: Rank, place: Place, numbers: Numbers) -> Outcome:
    told = numbers.told(asks.method, place.cells)
    duels = [duel(asks.method, rival, place, numbers) for rival in asks.rivals(numbers.claim.plan)]
    verdict, clear = combined([found.outcome for found in duels], partial(has_rank, asks.rank))
    return Outcome(verdict, "; ".join([told, *standing(duels)]), clear)


def standing(duels: Sequence[Duel]) -> list[str]:
    """Which rivals are above, not told apart, or lacking, one by one; of those clearly below the nearest alone."""
    fought = [(found.difference.value, found.outcome) for found in duels if found.difference is not None]
    groups = {
        "below": [found.words for _, found in fought if found.text == "contradicted"],
        "below by means only": [found.words for _, found in fought if found.text == "contradicted (means only)"],
        "not told from": [found.words for _, found in fought if found.verdict == UNDECIDED],
        "above by means only": [found.words for _, found in fought if found.text == "holds (means only)"],
    }
    words = [f"{title} {', '.join(found)}" for title, found in groups.items() if found]
    clear = sorted(((value, found.words) for value, found in fought if found.text == "holds"))
    if clear:
        words.append(f"above {clear[0][1]}{f', and {len(clear) - 1} more' * (len(clear) > 1)}")
    return words + lacking(duels)


def lacking(duels: Sequence[Duel]) -> list[str]:
    """`CQL, CURL: no run`."""
    named: dict[str, list[str]] = {}
    for found in duels:
        if found.lack is not None:
            named.setdefault(found.lack.words, []).append(found.lack.who)
    return [f"{', '.join(filter(None, names))}: {words}".removeprefix(": ") for words, names in named.items()]


def judge_above(asks: Above, place: Place, numbers: Numbers) -> Outcome:
    """Every method against every rival."""
    pairs = {method: [duel(method, rival, place, numbers) for rival in asks.than] for method in asks.method}
    verdict, clear = combined([found.outcome for duels in pairs.values() for found in duels], every)
    many = len(asks.method) * len(asks.than) > 1
    words = [against(method, duels, place, numbers, many) for method, duels in pairs.items()]
    return Outcome(verdict, "; ".join(words), clear)


def against(method: str, duels: Sequence[Duel], place: Place, numbers: Numbers, many: bool) -> str:
    """`CoWorld 540 ± 267 (3) against DV2 Finetune 308 ± 186 (3), Δ …`; each with its verdict where it is one of
    many."""
    try:
        told = numbers.told(method, place.cells)
    except Lacking as lack:
        return str(lack)
    fought = [found.outcome for found in duels if found.difference is not None]
    words = [f"{found.words}{f': {found.text}' * many}" for found in fought]
    return "; ".join(filter(None, [f"{told} against {', '.join(words)}" if words else told, *lacking(duels)]))


def judge_comparable(asks: Comparable, place: Place, numbers: Numbers) -> Outcome:
    """Whether method - (1 - margin) · to and (1 + margin) · to - method are both above 0."""
    difference = numbers.weighted([(1.0, asks.method), (-1.0, asks.to)], place.cells)
    sides = [
        numbers.weighted([(1.0 + asks.margin, asks.to), (-1.0, asks.method)], place.cells),
        numbers.weighted([(1.0, asks.method), (asks.margin - 1.0, asks.to)], place.cells),
    ]
    verdict, clear = combined([signed(side, numbers.by_means) for side in sides], every)
    pair = f"{numbers.told(asks.method, place.cells)} against {numbers.told(asks.to, place.cells)}"
    return Outcome(verdict, f"{pair} Δ {difference.text}, margin {100 * asks.margin:g} %", clear)


def judge_gain(asks: Gain, place: Place, numbers: Numbers) -> Outcome:
    """Printed: whether the cells give the stated gain. Measured: whether method - (1 + gain) · over is not below 0."""
    difference = numbers.weighted([(1.0, asks.method), (-1.0, asks.over)], place.cells)
    base = numbers.weighted([(1.0, asks.over)], place.cells).value
    if base <= 0:
        raise Lacking(f"{numbers.told(asks.over, place.cells)}: there is no gain over what is not above 0")
    gain = 100 * difference.value / base
    words = (
        f"{numbers.told(asks.method, place.cells)} against {numbers.told(asks.over, place.cells)} Δ {difference.text}: a "
        f"gain of {gain:.1f} %, stated {asks.percent:g} %"
    )
    above = signed(difference, numbers.by_means)
    if numbers.by_means:
        right = abs(gain - asks.percent) <= asks.tolerance
        words += printed_gain(asks, numbers)
        return Outcome(HOLDS, words, above.clear) if right else Outcome(CONTRADICTED, words)
    beyond = numbers.weighted([(1.0, asks.method), (-1.0 - asks.percent / 100, asks.over)], place.cells)
    words += f"; beyond the stated gain {beyond.text}"
    if signed(beyond, by_means=False).verdict == CONTRADICTED:
        return Outcome(CONTRADICTED, words)
    return Outcome(HOLDS if above.verdict == HOLDS else UNDECIDED, words)


def printed_gain(asks: Gain, numbers: Numbers) -> str:
    """What the averages give as they are printed."""
    upper, lower = numbers.printed_average(asks.method), numbers.printed_average(asks.over)
    if upper is None or lower is None:
        return ""
    return f"; the printed averages {number(upper)} and {number(lower)} give {100 * (upper / lower - 1):.1f} %"


def judge_value(asks: Value, place: Place, numbers: Numbers) -> Outcome:
    outcomes = [value_of(method, stated, asks, place, numbers) for method, stated in asks.stated.items()]
    verdict, clear = combined(outcomes, every)
    others = [found.words for found in outcomes if found.verdict != HOLDS]
    agreeing = [found.words for found in outcomes if found.verdict == HOLDS]
    words = [*others, f"{len(agreeing)} of {len(outcomes)} agree"] if others else agreeing
    return Outcome(verdict, "; ".join(words), clear)


def value_of(method: str, stated: float, asks: Value, place: Place, numbers: Numbers) -> Outcome:
    """Whether one method has the number that is stated."""
    found = numbers.weighted([(1.0, method)], place.cells)
    words = f"{numbers.told(method, place.cells)}, stated {number(stated)}"
    if numbers.by_means:
        return Outcome(HOLDS if abs(found.value - stated) <= asks.tolerance else CONTRADICTED, words)
    room = asks.margin * abs(stated)
    sides = [
        numbers.weighted([(-1.0, method)], place.cells, stated + room),
        numbers.weighted([(1.0, method)], place.cells, room - stated),
    ]
    verdict, _ = combined([signed(side, by_means=False) for side in sides], every)
    return Outcome(verdict, f"{words}, interval {found.text}, margin {100 * asks.margin:g} %")


def judge_gap(asks: Gap, place: Place, numbers: Numbers) -> Outcome:
    """Whether room + gap (over, close) and room - gap (under, close) are above 0; only `close` has room."""
    found = [numbers.gap(asks.method, cell) for cell in place.cells]
    share = 1 / len(found)
    realised = share * sum(value for _, value in found)
    room = asks.within * abs(realised) if asks.sign == "close" else 0.0
    gap = [(share, estimate) for estimate, _ in found]
    minus_gap = [(-share, estimate) for estimate, _ in found]
    sides = {"over": [gap], "under": [minus_gap], "close": [gap, minus_gap]}[asks.sign]
    verdict, clear = combined([signed(contrast(side, room), numbers.by_means) for side in sides], every)
    words = f"{numbers.claim.label(asks.method)} realises {number(realised)}, gap {contrast(gap).text}"
    close = f", close is within {number(room)}" * (asks.sign == "close")
    return Outcome(verdict, f"{words}{close} ({min(estimate.n for estimate, _ in found)} seeds)", clear)


def judge_chosen(asks: Chosen, place: Place, numbers: Numbers) -> Outcome:
    (cell,) = place.cells
    taken, stated = numbers.choices(asks.method, cell), asks.stated[cell.target]
    hits = taken.count(stated)
    verdict = HOLDS if hits == len(taken) else UNDECIDED if hits else CONTRADICTED
    codes = ", ".join(find_task(source).code for source in taken)
    return Outcome(verdict, f"took {codes}, stated {find_task(stated).code}")


JUDGES: dict[type[Kind], Callable[..., Outcome]] = {
    Rank: judge_rank, Above: judge_above, Comparable: judge_comparable, Gain: judge_gain, Value: judge_value,
    Gap: judge_gap, Chosen: judge_chosen,
}  # fmt: skip
