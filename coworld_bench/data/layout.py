"""Where everything of a dataset lies on disk, and what it is called.

    metaworld/window_close/medium-replay-v0/
      data.zarr/            a Zarr v3 group; attributes: format_version, dataset_id, card, spaces, timing, policies
        frames/image        u1 [N, H, W, 3]   chunks of 16 rows in shards of 2048; no array when states are all there is
        frames/{action f4 [N, A], state f4 [N, S], reward f4 [N], discount f4 [N], success u1 [N], flags u1 [N]}
        episodes/{start i8, length i4, ret f4, success u1, seed u8, env_steps i8, policy_step i8, policy u1, ckpt i4,
                  noise f4, split u1}  [E], episodes/sha256 u1 [E, 32]
      journal.jsonl         one line per shard that was written and read back
      README.md             the dataset card
      preview/sheet.png     a contact sheet
      manifest.json         size and SHA-256 of every file above; written last

Rows are those of `episode.py`. Every episode starts at a multiple of 16 rows, so that no chunk holds two episodes; the
rows between two episodes are padding: the last picture again, all else zero.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from coworld_bench.config import PRESETS
from coworld_bench.errors import UsageError
from coworld_bench.tasks import find_task

FORMAT = "coworld-bench/1"
CHUNK_ROWS, SHARD_ROWS = 16, 2048
IS_FIRST, IS_LAST, IS_TERMINAL, PADDING = 1, 2, 4, 8  # bits of frames/flags
STORE, JOURNAL, CARD, SHEET, MANIFEST = "data.zarr", "journal.jsonl", "README.md", "preview/sheet.png", "manifest.json"

FRAME_TYPES = {"action": "<f4", "state": "<f4", "reward": "<f4", "discount": "<f4", "success": "|u1", "flags": "|u1"}
EPISODE_TYPES = {
    "start": "<i8", "length": "<i4", "ret": "<f4", "success": "|u1", "seed": "<u8", "env_steps": "<i8",
    "policy_step": "<i8", "policy": "|u1", "ckpt": "<i4", "noise": "<f4", "split": "|u1", "sha256": "|u1",
}  # fmt: skip
META_COLUMNS = {"seed": "seed", "env_steps": "env_steps", "updates": "policy_step", "noise": "noise"}  # of Episode.meta
VERSION = re.compile(r"-v(\d+)$")
PART = re.compile(r"[\w-]+", re.ASCII)  # of an id, which names folders here and datasets in Minari


def slots(rows: int) -> int:
    """Rows that an episode of `rows` rows takes on disk: the next multiple of the chunk."""
    return -(-rows // CHUNK_ROWS) * CHUNK_ROWS


def dataset_id(task: str, quality: str, preset: str = "paper", variant: str = "", version: int = 0) -> str:
    """`metaworld/window_close/medium-replay-v0`; a preset other than `paper` is named, and so is an environment other
    than the preset's (`EnvSpec.variant`): `…/medium-replay-quick__noise0p1-v0`. A quality may say which of the episodes:
    `medium-replay@first=0.5` is `…/medium-replay-quick-v0@first=0.5`."""
    quality, at, view = quality.partition("@")
    return f"{DatasetName(find_task(task).id, quality, preset, variant).stem}-v{version}{at}{view}"


class DatasetName(NamedTuple):
    """The parts of a dataset's id; `version` is None where it has none."""

    task: str
    quality: str
    preset: str = "paper"
    variant: str = ""
    version: int | None = None

    @property
    def stem(self) -> str:
        """The id without its version."""
        preset = "" if self.preset == "paper" else f"-{self.preset}"
        variant = f"__{self.variant}" if self.variant else ""
        return f"{self.task}/{self.quality}{preset}{variant}"


def split_id(name: str) -> DatasetName:
    """The parts of a dataset id, but for which of its episodes it says.

    Raises UsageError for a name that is not suite/task/quality or whose task does not exist."""
    whole = name.partition("@")[0]
    task, _, rest = whole.rpartition("/")
    if task.count("/") != 1 or not all(PART.fullmatch(part) for part in whole.split("/")):
        raise UsageError(f"a dataset is named suite/task/quality, as in metaworld/window_close/medium-replay; got {name!r}")
    match = VERSION.search(rest)
    quality, _, variant = VERSION.sub("", rest).partition("__")
    preset = next((name for name in PRESETS if quality.endswith(f"-{name}")), "paper")
    version = int(match[1]) if match else None
    return DatasetName(find_task(task).id, quality.removesuffix(f"-{preset}"), preset, variant, version)


def dataset_folder(data_home: Path, name: str, preset: str = "paper") -> Path:
    """Where the dataset of this id lies; `preset` and version 0 are added to an id that does not say them."""
    named = split_id(name)
    chosen = named._replace(preset=preset if named.preset == "paper" else named.preset)
    return Path(data_home) / f"{chosen.stem}-v{named.version or 0}"
