"""What a learner answers, read strictly: each function says in words what is wrong, or gives the values to compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coworld_bench.methods import COUNTS

PLAIN = (Tensor, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)  # can be stored


class Broken(Exception):
    """The method breaks its contract; the message tells its author how."""


@dataclass(frozen=True)
class Turn:
    """What a turn gave: metrics as numbers, what is wrong with the first bad one, updates and counts after it."""

    metrics: dict[str, float]
    wrong: str
    updates: int
    counts: Any


def read_turn(metrics: Any) -> tuple[dict[str, float], str]:
    """Metrics as numbers, and what is wrong with the first that is none."""
    if not isinstance(metrics, Mapping):
        return {}, f"it returned {metrics!r}; metrics are a dict of numbers by name, which may be empty"
    wrong = [fault for name, value in metrics.items() if (fault := metric_fault(name, value))]
    plain = {name: value.detach() if isinstance(value, Tensor) else value for name, value in metrics.items()}
    numbers = {str(name): float(value) for name, value in plain.items() if single(value)}
    return numbers, wrong[0] if wrong else ""


def single(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float | np.number)


def metric_fault(name: Any, value: Any) -> str:
    """What is wrong with a metric, in words; empty where nothing is."""
    if not isinstance(name, str) or name in ("updates", *COUNTS):
        return f"a metric is called {name!r}; a name is text, and not one of updates, {', '.join(COUNTS)}"
    if not single(value):
        what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
        return f"{name} is of {what}; a metric is a number or a tensor of one"
    if isinstance(value, Tensor) and value.requires_grad:
        return f"{name} carries its graph, so that the memory of every update would be kept; detach() it"
    return "" if math.isfinite(value) else f"{name} is {float(value)}"


def count_fault(counts: Any, before: Mapping[str, int]) -> str:
    """What is wrong with counts() after what it was `before`, in words; empty where nothing is."""
    if not isinstance(counts, Mapping) or set(counts) != set(COUNTS):
        given = ", ".join(map(str, counts)) if isinstance(counts, Mapping) else repr(counts)
        return f"counts() has {given or 'nothing'}; it must have {', '.join(COUNTS)}, with 0 for what there is none of"
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int):
            return f"counts()[{name!r}] is {count!r}, a {type(count).__name__}; it must be an int"
        if count < before[name]:
            return f"counts()[{name!r}] fell from {before[name]} to {count}"
    return ""


def read_act(acted: Any, size: int) -> tuple[np.ndarray, Any]:
    """The action [A] for one picture, and the carry. Raises Broken."""
    if not isinstance(acted, tuple) or len(acted) != 2:
        raise Broken(f"policy.act() returned a {type(acted).__name__}; it must return (action, carry)")
    action, carry = acted
    of = f"{action.dtype} {list(action.shape)}" if isinstance(action, np.ndarray) else f"a {type(action).__name__}"
    if of != f"float32 [1, {size}]":
        raise Broken(f"policy.act() gives an action of {of}; for one picture it is a numpy array float32 [1, {size}]")
    if not np.isfinite(action).all() or np.abs(action).max() > 1 + 1e-6:
        raise Broken(f"policy.act() gives {action[0].tolist()}; every number of an action is in [-1, 1]")
    return action[0].copy(), carry


def check_value(value: Any) -> None:
    if value is not None and not isinstance(value, int | float | np.floating):
        raise Broken(f"policy.value() gives a {type(value).__name__}; it is a float, or None where there is no critic")


def check_embedding(embedded: Any, count: int) -> None:
    fits = isinstance(embedded, np.ndarray) and embedded.dtype == np.float32 and embedded.shape[:-1] == (count,)
    if not fits or not np.isfinite(embedded).all():
        raise Broken(f"policy.embed() must give finite numbers for {count} pictures, a numpy array float32 [{count}, E]")


def difference(mine: Sequence[Turn], theirs: Sequence[Turn], device: str) -> tuple[int, str] | None:
    """The first turn whose numbers differ, counted from 1, and in what; None where all are the same."""
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False), 1):
        names = [f"{', '.join(turn.metrics) or 'nothing'} at {turn.updates} updates" for turn in (one, other)]
        if names[0] != names[1]:
            return number, f"{names[0]}, then {names[1]}"
        for name, value in one.metrics.items():
            if not alike(value, other.metrics[name], device):
                return number, f"{name} is {value:.9g}, then {other.metrics[name]:.9g}"
    return None if len(mine) == len(theirs) else (min(len(mine), len(theirs)) + 1, f"{len(mine)} turns, then {len(theirs)}")


def alike(one: Any, other: Any, device: str) -> bool:
    """The same numbers: to the bit on a CPU, nearly on a GPU, whose sums have no fixed order."""
    if one is None or other is None:  # not to be had: another check says why
        return True
    tolerance = 1e-3 if device == "cuda" else 0.0
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance / 10, equal_nan=True))


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What a state holds, each with its place in it."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from leaves(value, f"{place}[{key!r}]")
    elif isinstance(state, list | tuple) and not isinstance(state, torch.Size):
        for index, value in enumerate(state):
            yield from leaves(value, f"{place}[{index}]")
    else:
        yield place, state


def unstorable(state: Any) -> str:
    """The first thing in a state that no checkpoint can hold, in words; empty where there is none."""
    odd = (f"{place} is of type {type(leaf).__name__}" for place, leaf in leaves(state) if not isinstance(leaf, PLAIN))
    return next(odd, "")


def changed(before: Any, after: Any) -> str | None:
    """The first place at which two states differ; None where they are equal to the bit."""
    mine, theirs = dict(leaves(before)), dict(leaves(after))
    places = [*mine, *(place for place in theirs if place not in mine)]
    return next((place for place in places if not same(mine.get(place), theirs.get(place))), None)


def same(one: Any, other: Any) -> bool:
    """Whether two leaves are equal to the bit."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and (one == other or one != one)
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(*(part.contiguous().reshape(-1).view(torch.uint8) for part in (one, other)))
