"""Windows drawn from episodes that lie back to back: for the online replay and a loaded dataset alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from coworld_bench.data.episode import Episode
from coworld_bench.data.windows import Windows, across, within

ARRAYS = ("image", "state", "action", "reward")


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of L rows; rows as drawn in `episode.py`. They are consecutive rows of one episode, unless drawn `across`.

    With `lead` a window has so many rows more before its start; where its episode has none, the episode's first row is
    there again."""

    image: np.ndarray | None  # uint8 [B, L, H, W, 3]
    state: np.ndarray  # float32 [B, L, S]
    action: np.ndarray  # float32 [B, L, A]
    reward: np.ndarray  # float32 [B, L]
    is_first: np.ndarray  # bool [B, L]; whether it is an episode's first row


class Memory:
    """Episodes back to back, and windows drawn from them; all is in arrays, but a subclass may keep pictures elsewhere."""

    packed = False  # whether pictures are decoded as they are drawn, so that there is no array of them

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._returns: list[float] = []
        self._known = np.empty(0, np.int64), np.empty(0, np.int64)  # see `_spans`
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

    @property
    def picture(self) -> tuple[int, ...] | None:
        """The shape of a picture; None where there are none."""
        return self._arrays["image"].shape[1:] if "image" in self._arrays else None

    def array(self, name: str) -> np.ndarray:
        """All rows of `image`, `state`, `action` or `reward`, episode after episode; a view."""
        return self._arrays[name][: self.rows]

    def sample(
        self, rng: np.random.Generator, batch: int, length: int, lead: int = 0, windows: Windows = "inside"
    ) -> Batch:
        """`batch` windows of `length` rows, which lie as `windows.py` says.

        Raises UsageError when no episode has `lead + length` rows."""
        return self.gather(self.pick(rng, batch, length, lead, windows))

    def pick(
        self, rng: np.random.Generator, batch: int, length: int, lead: int = 0, windows: Windows = "inside"
    ) -> np.ndarray:
        """The rows of the batch of `sample`: int64 [B, lead + length]."""
        if windows == "across":
            assert lead == 0, "a window across episodes has no lead"
            return across(rng, self._spans[1], batch, length)
        return rows_from(*self.draw(rng, batch, length, lead, windows), length, lead)

    def draw(
        self, rng: np.random.Generator, batch: int, length: int, lead: int = 0, windows: Windows = "inside"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where windows within episodes begin: rows of the whole memory, and rows of their episodes; int64 [B] each."""
        starts, lengths = self._spans
        chosen, offsets = within(windows, rng, lengths, batch, length, lead)
        return starts[chosen] + offsets, offsets

    def windows(self, starts: np.ndarray, offsets: np.ndarray, length: int, lead: int = 0) -> Batch:
        """The batch of windows that begin where `draw` says, and `lead` rows before."""
        return self.gather(rows_from(starts, offsets, length, lead))

    def gather(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, int64 [B, L]."""
        state, action, reward = (take(self._arrays[name], rows) for name in ("state", "action", "reward"))
        starts, _ = self._spans
        is_first = starts[np.searchsorted(starts, rows, side="right") - 1] == rows
        return Batch(self._pictures(rows), state, action, reward, is_first)

    @property
    def _spans(self) -> tuple[np.ndarray, np.ndarray]:
        """First row and number of rows of every episode, int64 [E] each."""
        if len(self._known[0]) != self.episodes:
            self._known = np.array(self._starts, np.int64), np.array(self._lengths, np.int64)
        return self._known

    def _pictures(self, rows: np.ndarray) -> np.ndarray | None:
        """The pictures of `rows`, int64 [B, L]: uint8 [B, L, H, W, 3]."""
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


def rows_from(starts: np.ndarray, offsets: np.ndarray, length: int, lead: int) -> np.ndarray:
    """The rows of windows that begin at `starts`, which are `offsets` behind the first of their episodes, and `lead` rows
    before, the episode's first again where it has none: int64 [B, lead + length]."""
    return np.maximum(starts[:, None] + np.arange(-lead, length), (starts - offsets)[:, None])


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]`; mode="clip" spares numpy a checking copy, and the rows are in range by construction."""
    return np.take(array, rows, axis=0, mode="clip")


class BatchStream:
    """Batches in which number k depends on the memory's episodes, the seed and k alone; resumable from `state_dict`."""

    def __init__(
        self,
        memory: Memory,
        seed: int,
        batch: int,
        length: int,
        k: int = 0,
        lead: int = 0,
        windows: Windows = "inside",
    ) -> None:
        self.memory, self.seed, self.batch, self.length, self.k = memory, seed, batch, length, k
        self.lead, self.windows = lead, windows

    def next(self) -> Batch:
        """Batch number `k`; afterwards `k` is one more."""
        drawn = self.at(self.k)
        self.k += 1
        return drawn

    def at(self, k: int) -> Batch:
        """Batch number `k` of the memory as it is."""
        return self.memory.gather(self.rows(k))

    def rows(self, k: int) -> np.ndarray:
        """The rows of batch `k`, int64 [B, lead + L], from its own random stream."""
        return self.memory.pick(stream(self.seed, k), self.batch, self.length, self.lead, self.windows)

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.k = int(state["seed"]), int(state["k"])


def stream(seed: int, k: int, part: int = 0) -> np.random.Generator:
    """The random stream of batch `k`: Philox keyed by the seed, its counter starting at k * 2**64 + part * 2**192."""
    return np.random.Generator(np.random.Philox(key=seed, counter=(k << 64) + (part << 192)))
