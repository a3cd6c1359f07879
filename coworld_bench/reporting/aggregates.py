"""Aggregates over tasks, from normalised scores [runs, tasks]: IQM, median, mean, optimality gap, probability of
improvement, performance profiles, and the percentile interval of a stratified bootstrap (Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice").

A run is a seed, never an episode. Where tasks have unequal numbers of runs, NaN fills the columns of those that have fewer,
and all tasks weigh the same. A resample is given as `counts` [..., runs, tasks], how often each run is in it; without
counts every run is in it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coworld_bench.errors import UsageError

REPS = 5_000  # of an interval in a report
SEED = 0  # of the bit generator PCG64, for every interval anew: a row does not change with the rows beside it
LEVEL = 0.95
CHUNK = 2**22  # counts that are in memory at a time
Scores = NDArray[np.float64]
Counts = NDArray[np.int64]


def score_matrix(tasks: Sequence[Sequence[float]]) -> Scores:
    """Scores [runs, tasks] from the runs of each task, NaN below those of a task that has fewer than others."""
    most = max(map(len, tasks), default=0)
    return as_scores(np.array([[*runs, *[np.nan] * (most - len(runs))] for runs in tasks]).T)


def as_scores(given: ArrayLike) -> Scores:
    """Finite numbers [runs, tasks], with NaN where a run is missing. Raises UsageError for anything else."""
    scores = np.asarray(given, dtype=np.float64)
    if scores.ndim != 2 or 0 in scores.shape:
        raise UsageError(f"scores are a matrix [runs, tasks] with at least one of each; got the shape {scores.shape}")
    if np.isinf(scores).any():
        raise UsageError("scores are finite, or NaN where a task has fewer runs than others; got an infinite one")
    if (empty := np.isnan(scores).all(axis=0)).any():
        raise UsageError(f"every task needs a run; of the {scores.shape[1]} given, {empty.sum()} have none")
    return scores


def mean(given: ArrayLike, counts: Counts | None = None) -> Any:
    """The mean of the tasks' means [...]."""
    return task_means(as_scores(given), counts).mean(axis=-1)


def median(given: ArrayLike, counts: Counts | None = None) -> Any:
    """The median of the tasks' means [...]."""
    return np.median(task_means(as_scores(given), counts), axis=-1)


def iqm(given: ArrayLike, counts: Counts | None = None) -> Any:
    """The interquartile mean [...]: of all runs of all tasks, without the lowest and the highest quarter.

    A quarter is rounded down to whole runs. With unequal numbers of runs those of every task are taken as often as makes
    them equally many, so that all tasks weigh the same."""
    scores = as_scores(given)
    values = scores[~np.isnan(scores)]
    order = np.argsort(values, kind="stable")
    weights = run_weights(scores, counts)[..., order]  # whole numbers
    upto = weights.cumsum(axis=-1)
    total = int(upto.flat[-1])
    cut = total // 4
    kept = np.clip(upto, cut, total - cut) - np.clip(upto - weights, cut, total - cut)
    return kept @ values[order] / (total - 2 * cut)


def optimality_gap(given: ArrayLike, counts: Counts | None = None, target: float = 1.0) -> Any:
    """How far the runs stay below `target` on average [...]; what is above it makes up for nothing."""
    return target - mean(np.minimum(as_scores(given), target), counts)


def performance_profile(given: ArrayLike, taus: ArrayLike, counts: Counts | None = None) -> Any:
    """The fraction of runs with a score above each of `taus` [T], all tasks weighing the same: [..., T]."""
    scores = as_scores(given)
    above = scores[~np.isnan(scores)][:, None] > np.asarray(taus)
    weights = run_weights(scores, counts)
    return weights @ above.astype(np.float64) / weights.sum(axis=-1, keepdims=True)


def probability_of_improvement(
    given_x: ArrayLike, given_y: ArrayLike, counts_x: Counts | None = None, counts_y: Counts | None = None
) -> Any:
    """How probable it is that a run of X beats a run of Y on the same task, a tie counting half; mean over tasks [...].

    The Mann-Whitney U of each task over its number of pairs; the numbers of runs of X and Y may differ."""
    x, y = as_scores(given_x), as_scores(given_y)
    if x.shape[1] != y.shape[1]:
        raise UsageError(f"scores [runs, tasks] of two methods need the same tasks; got {x.shape[1]} and {y.shape[1]}")
    wins = (x[:, None] > y).astype(np.float64) + 0.5 * (x[:, None] == y)  # [X, Y, tasks]; no NaN is above anything
    pairs = np.einsum("...xm,xym,...ym->...m", as_counts(x, counts_x), wins, as_counts(y, counts_y), optimize=True)
    return (pairs / (runs_per_task(x) * runs_per_task(y))).mean(axis=-1)


def interval(
    aggregate: Callable[..., Any],
    *given: ArrayLike,
    shared: Sequence[Sequence[int]] | None = None,
    reps: int = REPS,
    seed: int = SEED,
    level: float = LEVEL,
) -> tuple[Any, Any]:
    """Low and high end of the percentile interval of `aggregate(*scores, *counts)` over resamples of the runs in each task.

    `given` are scores of one method or of several, which are resampled independently. `shared` has for each of them a
    number per task: tasks of the same number are the same runs and are resampled as one. The order of runs is of no matter.
    Raises UsageError where a task has one run, of which nothing can be resampled."""
    scores = [in_order(as_scores(each)) for each in given]
    groups = [np.arange(each.shape[1]) for each in scores] if shared is None else [np.asarray(each) for each in shared]
    for each in scores:
        if (single := runs_per_task(each) < 2).any():
            raise UsageError(
                f"an interval takes two runs of every task; of scores [runs, tasks] {each.shape}, {single.sum()} have one"
            )
    rng = np.random.Generator(np.random.PCG64(seed))
    step = max(1, CHUNK // max(each.size for each in scores))
    found = []
    for start in range(0, reps, step):
        counts = [resample(each, group, min(step, reps - start), rng) for each, group in zip(scores, groups, strict=True)]
        found.append(aggregate(*scores, *counts))
    low, high = np.quantile(np.concatenate(found), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return low, high


def in_order(scores: Scores) -> Scores:
    """The runs of every task from low to high, NaN below them, without rows of nothing else."""
    return np.sort(scores, axis=0)[: runs_per_task(scores).max()]


def resample(scores: Scores, group: NDArray[Any], reps: int, rng: np.random.Generator) -> Counts:
    """Counts [reps, runs, tasks] of as many draws with replacement as each task has runs, one draw for a whole group.

    The runs of every task must come before its NaN."""
    _, first, group_of = np.unique(group, return_index=True, return_inverse=True)
    sizes, most = runs_per_task(scores)[first], len(scores)
    assert (sizes[group_of] == runs_per_task(scores)).all(), "tasks that share their runs have as many"
    drawn = (rng.random((reps, most, len(sizes))) * sizes).astype(np.int64)  # [reps, draws, groups] -> row of a run
    drawn += most * np.arange(reps)[:, None, None]
    drawn *= len(sizes)
    drawn += np.arange(len(sizes))
    made = np.arange(most)[:, None] < sizes  # a task with fewer runs takes fewer draws
    counts = np.bincount(drawn[:, made].ravel(), minlength=reps * most * len(sizes))
    return counts.reshape(reps, most, len(sizes))[..., group_of]


def runs_per_task(scores: Scores) -> NDArray[np.int64]:
    return np.count_nonzero(~np.isnan(scores), axis=0)


def as_counts(scores: Scores, counts: Counts | None) -> Counts:
    """The counts, every run once by default."""
    return (~np.isnan(scores)).astype(np.int64) if counts is None else counts


def run_weights(scores: Scores, counts: Counts | None) -> Counts:
    """Whole weights [..., N] of the N runs that there are, adding up to the same for every task."""
    each = runs_per_task(scores)
    weights = as_counts(scores, counts) * (np.lcm.reduce(each) // each)
    return weights[..., ~np.isnan(scores)]


def task_means(scores: Scores, counts: Counts | None) -> Scores:
    """The mean of every task's runs: [..., tasks]."""
    sums = (as_counts(scores, counts) * np.nan_to_num(scores)).sum(axis=-2)
    return sums / runs_per_task(scores)
