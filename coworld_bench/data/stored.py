"""The episodes of a dataset on disk as a memory: pictures decoded into one array, or left compressed where they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coworld_bench.data.chunks import ImageReader
from coworld_bench.data.memory import Memory
from coworld_bench.errors import UsageError


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


class DecodedMemory(StoredMemory):
    """Draws what an `EpisodeMemory` of the same episodes draws; every chunk was compared with its checksum."""

    def __init__(
        self, reader: ImageReader, starts: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> None:
        """As `StoredMemory`, with the reader of the pictures by rows on disk. Raises Damaged for what is not whole."""
        super().__init__(starts, lengths, columns)
        self._arrays["image"] = reader.gather(self._on_disk)


class PackedMemory(StoredMemory):
    """Draws what an `EpisodeMemory` of the same episodes draws, but decodes the pictures of a batch as it is drawn.

    Each chunk is compared with its checksum whenever it is decoded; Damaged is raised where one differs."""

    packed = True

    def __init__(
        self, reader: ImageReader, starts: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> None:
        """As `StoredMemory`, with the reader of the pictures by rows on disk."""
        super().__init__(starts, lengths, columns)
        self._reader = reader

    @property
    def row_bytes(self) -> int:
        return super().row_bytes + int(np.prod(self.picture))

    @property
    def picture(self) -> tuple[int, ...]:
        return self._reader.header.shape[1:]

    def array(self, name: str) -> np.ndarray:
        """All rows of `state`, `action` or `reward`; a view. Raises UsageError for `image`."""
        if name == "image":
            raise UsageError(
                "there is no array of these pictures, they lie compressed on disk; "
                'give -o compute.memory=ram, or dataset.load("ram"), to have one'
            )
        return super().array(name)

    def _pictures(self, rows: np.ndarray) -> np.ndarray:
        return self._reader.gather(self._on_disk[rows])
