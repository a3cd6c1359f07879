"""Where windows of L rows lie in episodes of T_e rows. Each mode is a function of the lengths and of a random stream.

`inside`           an episode uniformly of those with T_e ≥ L, then a start uniformly of its T_e - L + 1: what the released
                   CoWorld code does, and the default. Rows near both ends of an episode are drawn more rarely.
`oversample_ends`  the episode likewise; of T_e + 1 equally likely draws every start before the last gets one and the last
                   gets L + 1, so that its end is as frequent as its middle. DreamerV2's `prioritize_ends` with minlen and
                   maxlen L, its default (danijar/dreamerv2 at 6124db4, common/replay.py, `_sample_sequence`).
`aligned`          the episode likewise, then a start uniformly of the multiples of 16 up to T_e - L: packed pictures are
                   then decoded from the first row of a chunk. Most windows of `inside` are never drawn.
`across`           a place in an endless row of whole episodes, each drawn uniformly, after the row has run for long: the
                   first row is uniform over all rows of all episodes, and what follows its episode are whole ones, each
                   drawn uniformly. DreamerV2's stream with maxlen = 0 (`_generate_chunks`), but for this: there episodes
                   lose up to minlen - 1 rows at random, and each window begins where the one before it ended.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from coworld_bench.data.layout import CHUNK_ROWS
from coworld_bench.errors import UsageError, unknown

Within = Literal["inside", "oversample_ends", "aligned"]  # modes whose windows lie in one episode each
Windows = Literal[Within, "across"]


def within(
    mode: Windows, rng: np.random.Generator, lengths: np.ndarray, batch: int, length: int, lead: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The episodes of `batch` windows and the rows of these where they start; int64 [B] each.

    Raises UsageError for an unknown mode and where no episode has `lead + length` rows."""
    if mode not in get_args(Within):
        raise unknown("window mode within episodes", mode, get_args(Within))
    eligible = np.flatnonzero(lengths >= lead + length)
    if not len(eligible):
        longest = int(lengths.max(initial=0))
        raise UsageError(
            f"a window of {lead + length} rows does not fit the longest episode, which has {longest} rows; "
            f"set batch.length to at most that"
        )
    chosen = eligible[rng.integers(len(eligible), size=batch)]
    last = lengths[chosen] - length
    if mode == "oversample_ends":
        return chosen, np.minimum(rng.integers(lengths[chosen] + 1), last)
    if mode == "aligned":
        return chosen, CHUNK_ROWS * rng.integers(last // CHUNK_ROWS + 1)
    return chosen, rng.integers(last + 1)


def across(rng: np.random.Generator, lengths: np.ndarray, batch: int, length: int) -> np.ndarray:
    """The rows of `batch` windows, in episodes that lie back to back: int64 [B, L]."""
    if not len(lengths):
        raise UsageError("there is no episode to draw windows from")
    ends = np.cumsum(lengths)
    firsts = rng.integers(ends[-1], size=batch)
    enough = -(-(length - 1) // int(lengths.min()))  # episodes that follow the first at most
    following = rng.integers(len(lengths), size=(batch, enough))
    rows = np.empty((batch, length), np.int64)
    for window, first, others in zip(rows, firsts, following, strict=True):
        end = ends[np.searchsorted(ends, first, side="right")]
        spans = [np.arange(first, end), *(np.arange(ends[each] - lengths[each], ends[each]) for each in others)]
        window[:] = np.concatenate(spans)[:length]
    return rows
