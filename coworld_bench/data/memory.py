"""Windows drawn from episodes that lie back to back: for the online replay and a loaded dataset alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coworld_bench.data.episode import Episode
from coworld_bench.errors import UsageError

ARRAYS = ("image", "state", "action", "reward")


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of L consecutive rows, each inside one episode; rows as drawn in `episode.py`.

    With `lead` a window has so many rows more before its start; where its episode has none, the episode's first row is
    there again."""

    image: np.ndarray | None  # uint8 [B, L, H, W, 3]
    state: np.ndarray  # float32 [B, L, S]
    action: np.ndarray  # float32 [B, L, A]
    reward: np.ndarray  # float32 [B, L]
    is_first: np.ndarray  # bool [B, L]


class Memory:
    """Episodes back to back, and windows drawn from them; all is in arrays, but a subclass may keep pictures elsewhere."""

    packed = False  # whether pictures are decoded as they are drawn, so that there is no array of them

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._returns: list[float] = []
        self.rows = 0

    @property
    def episodes(self) -> int:
        return len(self._lengths)

    @property
    def lengths(self) -> np.ndarray:
        """Rows of every episode, int64 [E]."""
        return np.array(self._lengths, np.int64)

    @property
    def returns(self) -> np.ndarray:
        """Sum of rewards of every episode, float64 [E]."""
        return np.array(self._returns, np.float64)

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row; 0 before the first episode."""
        return sum(array[:1].nbytes for array in self._arrays.values())

    def array(self, name: str) -> np.ndarray:
        """All rows of `image`, `state`, `action` or `reward`, episode after episode; a view."""
        return self._arrays[name][: self.rows]

    def sample(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> Batch:
        """`batch` windows of `length` rows: uniform over the episodes that are long enough, then over starts inside.

        Raises UsageError when no episode has `lead + length` rows."""
        return self.windows(*self.draw(rng, batch, length, lead), length, lead)

    def draw(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Where the windows of `sample` begin: rows of the whole memory, and rows of their episodes; int64 [B] each."""
        lengths = self.lengths
        eligible = np.flatnonzero(lengths >= lead + length)
        if not len(eligible):
            longest = int(lengths.max(initial=0))
            raise UsageError(
                f"a window of {lead + length} rows does not fit the longest episode, which has {longest} rows; "
                f"set batch.length to at most that"
            )
        chosen = eligible[rng.integers(len(eligible), size=batch)]
        offsets = rng.integers(lengths[chosen] - length + 1)
        return np.array(self._starts)[chosen] + offsets, offsets

    def windows(self, starts: np.ndarray, offsets: np.ndarray, length: int, lead: int = 0) -> Batch:
        """The batch of windows that begin where `draw` says, and `lead` rows before."""
        before = np.minimum(offsets, lead)  # what their episodes have of the lead
        rows = (starts - before)[:, None] + np.arange(lead + length)  # [B, L], consecutive
        state, action, reward = (take(self._arrays[name], rows) for name in ("state", "action", "reward"))
        is_first = np.zeros(rows.shape, bool)
        is_first[:, 0] = offsets == before
        batch = Batch(self._pictures(rows), state, action, reward, is_first)
        pad(batch, lead - before)
        return batch

    def _pictures(self, rows: np.ndarray) -> np.ndarray | None:
        """The pictures of `rows`, int64 [B, L], each line of which is a window: uint8 [B, L, H, W, 3]."""
        return take(self._arrays["image"], rows) if "image" in self._arrays else None

    def _enter(self, rows: int, ret: float) -> None:
        """Count an episode whose rows lie behind all others."""
        self._starts.append(self.rows)
        self._lengths.append(rows)
        self._returns.append(ret)
        self.rows += rows


class EpisodeMemory(Memory):
    """A growing store of episodes in contiguous arrays, pictures included; pixels stay uint8."""

    def __init__(self, reserve: int = 0) -> None:
        """Room for `reserve` rows is taken with the first episode, so that a known size is never copied."""
        super().__init__()
        self._reserve = reserve

    def append(self, episode: Episode) -> None:
        """Copy an episode behind the others; all episodes have the same sizes."""
        given = {name: array for name in ARRAYS if (array := getattr(episode, name)) is not None}
        self._make_room(given, self.rows + episode.rows)
        for name, array in given.items():
            self._arrays[name][self.rows : self.rows + episode.rows] = array
        self._enter(episode.rows, episode.ret)

    def extend(self, episodes: Iterable[Episode]) -> EpisodeMemory:
        """Append all `episodes`; returns the memory itself."""
        for episode in episodes:
            self.append(episode)
        return self

    def _make_room(self, given: dict[str, np.ndarray], rows: int) -> None:
        if not self._arrays:
            capacity = max(self._reserve, rows)
            self._arrays = {name: np.empty((capacity, *array.shape[1:]), array.dtype) for name, array in given.items()}
        shapes = {name: array.shape[1:] for name, array in self._arrays.items()}
        assert shapes == {name: array.shape[1:] for name, array in given.items()}, shapes
        if rows > len(self._arrays["reward"]):
            capacity = max(rows, len(self._arrays["reward"]) * 3 // 2)
            for name, array in self._arrays.items():
                grown = np.empty((capacity, *array.shape[1:]), array.dtype)
                grown[: self.rows] = array[: self.rows]
                self._arrays[name] = grown


class StoredMemory(Memory):
    """The episodes of a dataset on disk, with columns read whole; where the pictures lie is for the subclass to say."""

    def __init__(self, starts: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """`columns` are state, action and reward by rows on disk, where episodes begin at `starts` with padding between."""
        super().__init__()
        spans = zip(starts, lengths, strict=True)
        self._on_disk = np.concatenate([np.arange(start, start + rows) for start, rows in spans])  # by row
        self._arrays = {name: array[self._on_disk] for name, array in columns.items()}
        for rows in lengths.tolist():
            self._enter(rows, float(self._arrays["reward"][self.rows : self.rows + rows].sum(dtype=np.float64)))


def pad(batch: Batch, missing: np.ndarray) -> None:
    """Move windows back by `missing` [B] rows, in place; what gets free at their beginning repeats their first row."""
    parts = (batch.image, batch.state, batch.action, batch.reward, batch.is_first)
    for window in np.flatnonzero(missing):
        columns = np.maximum(np.arange(batch.reward.shape[1]) - missing[window], 0)
        for part in parts:
            if part is not None:
                part[window] = part[window, columns]


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]`; mode="clip" spares numpy a checking copy, and the rows are in range by construction."""
    return np.take(array, rows, axis=0, mode="clip")


class BatchStream:
    """Batches in which number k depends on the memory's episodes, the seed and k alone; resumable from `state_dict`."""

    def __init__(self, memory: Memory, seed: int, batch: int, length: int, k: int = 0, lead: int = 0) -> None:
        self.memory, self.seed, self.batch, self.length, self.k = memory, seed, batch, length, k
        self.lead = lead

    def next(self) -> Batch:
        """Batch number `k`; afterwards `k` is one more."""
        drawn = self.at(self.k)
        self.k += 1
        return drawn

    def at(self, k: int) -> Batch:
        """Batch number `k` of the memory as it is."""
        return self.memory.windows(*self.starts(k), self.length, self.lead)

    def starts(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the windows of batch `k` begin, from its own random stream: Philox keyed by the seed, its counter starting
        at k * 2**64."""
        generator = np.random.Generator(np.random.Philox(key=self.seed, counter=k << 64))
        return self.memory.draw(generator, self.batch, self.length, self.lead)

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.k = int(state["seed"]), int(state["k"])
