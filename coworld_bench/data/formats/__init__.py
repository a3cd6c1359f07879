"""The formats that datasets are exchanged in: one table, one file a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import d4rl, lerobot, minari, npz, vd4rl84
from coworld_bench.errors import UsageError, unknown

Imported = tuple[Iterator[Episode], dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """A way to keep a dataset that other programs read.

    export   writes a dataset into a folder, one episode in memory at a time, and returns where it lies
    read     the episodes of such a folder or file, and what is known of their card
    lacks    what other programs do not find in it, and where it is instead
    """

    name: str
    what: str
    export: Callable[..., Path]
    read: Callable[[Path], Imported]
    lacks: str
    check: Callable[[], Any] = lambda: None  # raises MissingPackage where it cannot be written or read
    own_home: bool = False  # whether it knows a place of its own, so that no folder need be named

    def demand(self, out: Path | None) -> None:
        """Raises the UserError now that an export to `out` would raise after hours of work."""
        self.check()
        if out is None and not self.own_home:
            raise UsageError(f"the format {self.name} has no place of its own; say where with --out DIR")


BESIDE = "the card and the episodes' seeds and policies are in coworld.json beside"
FORMATS = {
    each.name: each
    for each in (
        Format(
            "minari", "Minari's HDF5 datasets, whole: minari.load_dataset reads them",
            minari.export, minari.read, "nothing is left out: card and seeds are in Minari's metadata", own_home=True,
        ),
        Format(
            "npz", "an npz file an episode, as the authors of CoWorld and V-D4RL (64 pixels) have them",
            npz.export, npz.read, BESIDE,
        ),
        Format(
            "vd4rl84", "V-D4RL's flat HDF5 files with pictures of 84 pixels",
            vd4rl84.export, vd4rl84.read, f"pictures of another size are resized, all else is exact; {BESIDE}",
        ),
        Format(
            "d4rl", "D4RL's flat HDF5 files; pictures are the observations where there are any",
            d4rl.export, d4rl.read, BESIDE,
        ),
        Format(
            "lerobot", "LeRobot v3.0: Parquet files with pictures as PNG",
            lerobot.export, lerobot.read, f"what was seen last is in coworld_last.parquet, {BESIDE}", lerobot.parquet,
        ),
    )
}  # fmt: skip


def find_format(name: str) -> Format:
    """The format of this name. Raises UsageError with the nearest names for another."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]
