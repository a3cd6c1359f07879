"""Distances between groups of embeddings, by hand and by plain loops, and what a run records of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coworld_bench.domains import describe, mmd, nearest, source_pictures, tsne

RNG = np.random.default_rng(0)


def plain_mmd(a: np.ndarray, b: np.ndarray) -> float:
    both = [*a.tolist(), *b.tolist()]
    squared = [[sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) for y in both] for x in both]
    n = len(both)
    median = float(np.median([squared[i][j] for i in range(n) for j in range(i + 1, n)]))
    kernel = [[math.exp(-value / median) for value in row] for row in squared]
    ones, others = range(len(a)), range(len(a), n)
    within = [np.mean([kernel[i][j] for i in group for j in group if i != j]) for group in (ones, others)]
    return float(sum(within) - 2 * np.mean([kernel[i][j] for i in ones for j in others]))


def test_mmd_is_what_plain_loops_give() -> None:
    a, b = RNG.normal(size=(5, 3)), RNG.normal(1.0, 2.0, size=(7, 3))
    assert mmd(a, b) == pytest.approx(plain_mmd(a, b), rel=1e-9)


def test_mmd_by_hand() -> None:
    """Two points at 0 and two at 1: pairs inside are at distance 0, four of six across at 1, the median: 1 + 1 - 2/e."""
    a, b = np.zeros((2, 1)), np.ones((2, 1))
    assert mmd(a, b) == pytest.approx(2 - 2 / math.e)
    assert mmd(a, a) == 0.0


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.35, 0.65), (1.0, 0.6, 0.95), (5.0, 1.0, 1.0)])
def test_the_nearest_neighbour_tells_groups_apart_as_they_lie(shift: float, low: float, high: float) -> None:
    a, b = RNG.normal(size=(64, 8)), RNG.normal(size=(64, 8)) + shift
    assert low <= nearest(a, b) <= high


def test_the_nearest_neighbour_by_hand() -> None:
    """0 and 1 against 3: 0's and 1's nearest are each other, 3's is 1, of the other group. Against 2 and 2.5, 0 and 2 lie
    as near to 1. In turns nobody's nearest is of its own."""
    a = np.array([[0.0], [1.0]])
    assert nearest(a, np.array([[3.0]])) == (1 + 0) / 2
    assert nearest(a, np.array([[2.0], [2.5]])) == ((1 + 0.5) / 2 + 1) / 2
    assert nearest(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])) == 0.0


def test_pictures_all_alike_are_at_no_distance() -> None:
    alike = np.ones((4, 3))
    assert mmd(alike, alike) == 0.0 and nearest(alike, alike) == pytest.approx(3 / 7)


def test_the_map_keeps_groups_apart_that_lie_apart_and_is_the_same_twice() -> None:
    groups = {"data": RNG.normal(size=(30, 10)), "source": RNG.normal(size=(20, 10)) + 20}
    first, second = tsne(groups, 3), tsne(groups, 3)
    assert {name: points.shape for name, points in first.items()} == {"data": (30, 2), "source": (20, 2)}
    assert all(np.array_equal(first[name], second[name]) for name in groups)
    assert nearest(first["data"], first["source"]) == 1.0


def test_the_description_names_every_pair_once() -> None:
    told = describe({name: RNG.normal(size=(6, 4)) for name in ("data", "policy", "source")}, 0)
    assert [each["between"] for each in told["distances"]] == [["data", "policy"], ["data", "source"], ["policy", "source"]]
    assert (
        told["pictures"] == {"data": 6, "policy": 6, "source": 6} == {name: len(told["map"][name]) for name in told["map"]}
    )


def test_a_method_without_sources_has_no_source_pictures() -> None:
    assert source_pictures((), 0) is None
