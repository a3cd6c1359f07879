"""A finished dataset on disk: found by name, checked when it is opened and again when it is read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from copy import copy
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from coworld_bench.data.budget import BUDGET
from coworld_bench.data.chunks import Damaged, ImageReader, read_array, read_bytes
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import (
    EPISODE_TYPES,
    FORMAT,
    IS_FIRST,
    IS_TERMINAL,
    MANIFEST,
    META_COLUMNS,
    STORE,
    VERSION,
    dataset_folder,
    dataset_id,
    split_id,
)
from coworld_bench.data.memory import Memory
from coworld_bench.data.shared import SHM, MappedMemory, share, shared_file
from coworld_bench.data.stored import DecodedMemory, PackedMemory, StoredMemory
from coworld_bench.data.subsets import Rule, rule_of, subset_fingerprint
from coworld_bench.data.writer import content_digest
from coworld_bench.errors import DatasetError, UsageError, unknown
from coworld_bench.files import digest_of, sha256_file
from coworld_bench.paths import data_home
from coworld_bench.tasks import PAPER_TASKS, Domain, EnvSpec

__all__ = ["Dataset", "dataset_folder", "dataset_id", "list_datasets", "open_dataset"]
VERIFY = ("first", "full")
Backend = Literal["ram", "packed", "shared"]
MEMORY = ("auto", *get_args(Backend))


def open_dataset(name: str | Path, data: Path | str | None = None, verify: Literal["first", "full"] = "first") -> Dataset:
    """The dataset `suite/task/quality` (the highest version, or the one that `-vN` names), the one in a folder, or the
    one below a URL (`s3://`, `gs://`, `hf://`, `https://`, `file://`), whose pictures are fetched as they are needed.

    >>> dataset = open_dataset("metaworld/window_close/medium-replay")  # doctest: +SKIP
    >>> dataset.episode(0).image.shape  # doctest: +SKIP
    (501, 64, 64, 3)

    `data` is where datasets lie, by default `$COWORLD_BENCH_DATA` or `~/.coworld_bench/datasets`. `verify="first"`
    checks every chunk when it is read; `"full"` checks every byte now. Behind an `@` stands a part of its episodes: a rule
    as in `subsets.py`, `…/medium-replay@first=0.5,success=1`, or the name of one. Raises DatasetError for a dataset that is
    missing, unfinished or damaged, and UsageError for a name that cannot be one."""
    if verify not in VERIFY:
        raise unknown("verify mode", verify, VERIFY)
    stem, view = parted(name)
    if is_url(stem) and verify == "first":
        from coworld_bench.data.cached import open_cached

        dataset: Dataset = open_cached(str(stem), data_home(data))
    else:
        dataset = Dataset(find(stem, data_home(data)))
    if verify == "full":
        from coworld_bench.data.integrity import verify as check

        check(dataset.folder, full=True).demand()
    return dataset.subset(rule_of(dataset, view)) if view else dataset


def parted(name: str | Path) -> tuple[str | Path, str]:
    """A dataset's name, and the rule or name of a subset behind its `@`; empty where there is none."""
    stem, at, view = str(name).rpartition("@")
    return (name, "") if not at or "/" in view or Path(name).expanduser().is_dir() else (stem, view)


def find(name: str | Path, home: Path) -> Path:
    """The folder of a dataset; for a URL that of its copy, made whole.

    Raises DatasetError with the command that makes it when there is none."""
    name, _ = parted(name)
    if is_url(name):
        from coworld_bench.data.cached import open_cached

        return open_cached(str(name), home).complete()
    folder = Path(name).expanduser()
    if folder.is_dir() and ((folder / MANIFEST).exists() or (folder / STORE).exists()):
        return folder
    if isinstance(name, Path) or name.startswith(("/", ".", "~")):
        raise DatasetError(f"there is no dataset in the folder {name}; name a folder with a {MANIFEST}")
    stem, version = split_id(name).stem, split_id(name).version
    found = versions(home / stem)
    if not found or (version is not None and version not in found):
        raise missing(f"{stem}-v{version}" if version is not None else stem, home, found)
    return found[version if version is not None else max(found)]


def is_url(name: str | Path) -> bool:
    return isinstance(name, str) and "://" in name


def versions(stem: Path) -> dict[int, Path]:
    """The folders `stem-vN` by N."""
    paths = [path for path in stem.parent.glob(f"{stem.name}-v*") if path.is_dir()]
    return {int(match[1]): path for path in paths if (match := VERSION.search(path.name))}


def missing(name: str, home: Path, others: dict[int, Path]) -> DatasetError:
    """The sentence for a dataset that is not there: how to make it, and what is there instead."""
    task, quality, preset, variant, _ = split_id(name)
    command = f"coworld-bench collect {task} --quality {quality} --preset {preset}"
    if variant:
        command += f", with the -o env.… that {variant} stands for"
    if home != data_home():
        command += f" --data {home}"
    beside = [path.name for path in others.values()] or [
        path.name for path in sorted((home / task).glob("*-v*")) if path.is_dir() and VERSION.search(path.name)
    ]
    hint = f" ({task} has {', '.join(beside)} there)" if beside else nearest(task)
    return DatasetError(f"no dataset {name} in {home}{hint}; make it with: {command}")


def nearest(task: str) -> str:
    """A hint for a task that is not in the table and close to one that is."""
    close = [] if task in PAPER_TASKS else get_close_matches(task, PAPER_TASKS, n=1, cutoff=0.8)
    return f" (did you mean {close[0]}?)" if close else ""


class Dataset:
    """Episodes with what made them; reading is lazy and every read is verified."""

    def __init__(self, folder: Path, manifest: dict[str, Any] | None = None) -> None:
        """`manifest` is given where its file is not in the folder.

        Raises DatasetError when the folder holds no finished dataset, or a file has not the size it should have."""
        self.folder = folder
        manifest = manifest or read_manifest(folder)
        check_files(folder, manifest)
        self.bytes = sum(entry["size"] for entry in manifest["files"].values())
        self.card: dict[str, Any] = manifest["card"]
        self.fingerprint: str = manifest["fingerprint"]
        self.id: str = manifest["dataset_id"]
        self.env_spec = EnvSpec(**self.card["env_spec"])
        self.attributes: dict[str, Any] = json.loads(read_bytes(folder / STORE / "zarr.json"))["attributes"]
        self._table = {name: self._read(f"episodes/{name}") for name in EPISODE_TYPES}
        self.numbers: np.ndarray = np.arange(len(self._table["length"]))  # of its episodes in the whole dataset, int64 [E]

    def __repr__(self) -> str:
        return f"Dataset({self.id}, {self.episodes} episodes, mean return {self.returns.mean():.2f})"

    @property
    def domain(self) -> Domain:
        """The environment with its sizes, as a method sees it."""
        return Domain(self.env_spec, tuple(self.card["image"]), self.card["state_size"], self.card["action_size"])

    @property
    def episodes(self) -> int:
        return len(self._table["length"])

    @property
    def rows(self) -> int:
        """Rows without padding: one per decision and one per episode start."""
        return int(self.lengths.sum())

    @property
    def lengths(self) -> np.ndarray:
        """Rows of every episode, int32 [E]."""
        return self._table["length"]

    @property
    def returns(self) -> np.ndarray:
        """Sum of rewards of every episode, float32 [E]."""
        return self._table["ret"]

    @property
    def successes(self) -> np.ndarray:
        """Whether every episode succeeded, bool [E]."""
        return self._table["success"].astype(bool)

    @property
    def policy_steps(self) -> np.ndarray:
        """Updates of the policy that played every episode, int64 [E]."""
        return self._table["policy_step"]

    @property
    def noise(self) -> np.ndarray:
        """Noise on the actions of every episode, float64 [E]: 0.1, not the nearest float32."""
        return np.array([float(str(level)) for level in self._table["noise"]], np.float64)

    def subset(self, rule: Rule | str) -> Dataset:
        """The episodes that a rule of `subsets.py` chooses, as a dataset with a fingerprint of its own; `numbers` says
        which they are. No picture is read or copied. Raises UsageError where no episode meets the rule."""
        rule = rule if isinstance(rule, Rule) else Rule.parse(rule)
        if "subset" in self.card:
            raise UsageError(f"{self.id} is a subset already; give all conditions in one rule, with commas between them")
        chosen = rule.choose(self)
        if not len(chosen):
            raise UsageError(f"none of the {self.episodes} episodes of {self.id} meets {str(rule)!r}; ask for more")
        part = copy(self)
        part.numbers, part._table = chosen, {name: column[chosen] for name, column in self._table.items()}
        part.id, part.fingerprint = f"{self.id}@{rule}", subset_fingerprint(self, rule)
        origin = {"of": self.id, "fingerprint": self.fingerprint, "rule": str(rule)}
        part.card = self.card | part._summary() | {"subset": origin}
        return part

    def _summary(self) -> dict[str, Any]:
        """What a card says of the episodes that are in the table."""
        returns, policies = self.returns.astype(np.float64), self.attributes["policies"]
        played = Counter(policies[index] for index in self._table["policy"])
        return {
            "dataset_id": self.id, "episodes": self.episodes, "rows": self.rows,
            "returns": {"mean": float(returns.mean()), "min": float(returns.min()), "max": float(returns.max())},
            "success_rate": float(self.successes.mean()), "policies": dict(sorted(played.items())),
            "content": content_digest(self._table["sha256"]),
        }  # fmt: skip

    @property
    def fired(self) -> bool:
        """Whether the rule that ends the collection was met; a dataset whose rule was not is incomplete."""
        return bool(self.card.get("quality", {}).get("fired", True))

    def policy_of(self, episode: int) -> str:
        """Who acted: `random`, `held` or `agent`; empty where it is not known."""
        return self.attributes["policies"][self._table["policy"][episode]]

    def columns(self) -> dict[str, np.ndarray]:
        """`state`, `action`, `reward` and `success` of all rows, episode after episode and without padding, and `first`:
        bool [R], whether a row is an episode's first. No pixel is touched."""
        spans = zip(self._table["start"], self.lengths, strict=True)
        kept = np.concatenate([np.arange(start, start + rows) for start, rows in spans])
        columns = {name: array[kept] for name, array in self._frames.items()}
        return columns | {"first": columns.pop("flags") & IS_FIRST > 0}

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        reader = self._image_reader()
        return (self.episode(index, reader) for index in range(self.episodes))

    def episode(self, index: int, reader: ImageReader | None = None) -> Episode:
        """Episode `index`. Raises DatasetError when it differs from its checksum, IndexError when there is none."""
        if not 0 <= index < self.episodes:
            raise IndexError(f"{self.id} has episodes 0 to {self.episodes - 1}; got {index}")
        start, count = int(self._table["start"][index]), int(self._table["length"][index])
        reader = reader or self._image_reader()
        columns = {name: array[start : start + count] for name, array in self._frames.items()}
        flags = columns.pop("flags")
        terminal = bool(flags[-1] & IS_TERMINAL)
        image = reader.rows(start, count) if reader else None
        episode = Episode(image, **columns, terminal=terminal, meta=self._meta(index))
        if bytes.fromhex(episode.digest) != self._table["sha256"][index].tobytes():
            number = self.numbers[index]
            raise Damaged(self.folder / STORE / "frames", "sha256", f"episode {number} is not what was collected")
        return episode

    @property
    def decoded_bytes(self) -> int:
        """What all rows take when they are decoded."""
        pixels = math.prod(self.card["image"]) if self.card["image"] else 0
        return self.rows * (pixels + 4 * (self.card["state_size"] + self.card["action_size"] + 1))

    def load(self, memory: Literal["auto"] | Backend = "auto") -> Memory:
        """All episodes, for drawing batches from; batches are the same to the last bit whichever way.

        `ram` decodes all pictures now. `packed` leaves them compressed on disk: a batch decodes the chunks that it touches.
        Either way each chunk is compared with its checksum. `shared` maps one file of decoded pictures, which all
        processes of the host have in common and the first of them makes (see `shared.py`).

        `auto` is `shared` where that file is there already, for it costs nothing more; else `ram` where the decoded rows
        fit what is left of the process's budget (see `budget.py`), else `packed`. It never makes the file: that stays
        behind, so it is made where it is asked for.

        Raises DatasetError for what is damaged, NotUsable where shared pictures cannot be kept."""
        backend, reader = self.backend(memory), self._image_reader()
        columns = self._columns("state", "action", "reward")
        if reader is None:
            return StoredMemory(self._table["start"], self.lengths, columns)
        if backend == "packed":
            return PackedMemory(reader, self._table["start"], self.lengths, columns)
        if backend == "ram":
            decoded = DecodedMemory(reader, self._table["start"], self.lengths, columns)
            BUDGET.hold(decoded, self.decoded_bytes)
            return decoded
        path, pictures = share(self, BUDGET.left)
        mapped = MappedMemory(path, pictures, self._table["start"], self.lengths, columns)
        BUDGET.hold(mapped, pictures.nbytes if path.is_relative_to(SHM) else 0)  # files elsewhere can leave memory
        return mapped

    def backend(self, memory: Literal["auto"] | Backend) -> Backend:
        """What `load(memory)` is. Raises UsageError for a memory that does not exist."""
        if memory not in MEMORY:
            raise unknown("memory", memory, MEMORY)
        if memory != "auto":
            return memory
        if self.card["image"] and shared_file(self) is not None:
            return "shared"
        return "ram" if self.decoded_bytes <= BUDGET.left else "packed"

    @cached_property
    def _frames(self) -> dict[str, np.ndarray]:
        return self._columns("state", "action", "reward", "success", "flags")

    def _columns(self, *names: str) -> dict[str, np.ndarray]:
        """Columns of the rows on disk, padding included."""
        stored = {name: self._read(f"frames/{name}") for name in names if name != "state" or self.card["state_size"]}
        return {"state": np.empty((len(stored["reward"]), 0), np.float32)} | stored

    def _read(self, name: str) -> np.ndarray:
        return read_array(self.folder / STORE / name)

    def _image_reader(self) -> ImageReader | None:
        return ImageReader(self.folder / STORE / "frames/image") if self.card["image"] else None

    def _meta(self, index: int) -> dict[str, Any]:
        meta = {name: self._table[column][index].item() for name, column in META_COLUMNS.items()}
        meta["noise"] = float(str(self._table["noise"][index]))  # as in `noise`
        meta["policy"] = self.policy_of(index)
        return meta | self.attributes["extras"].get(str(self.numbers[index]), {})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, compared with its own checksum. Raises DatasetError when there is none or it does not fit."""
    path = folder / MANIFEST
    if not path.exists():
        raise DatasetError(f"{folder} holds an unfinished dataset (no {MANIFEST}); collect it again with --resume")
    return parse_manifest(read_bytes(path), path)


def parse_manifest(content: bytes, path: Path | str) -> dict[str, Any]:
    """The manifest that these bytes are; `path` is where they come from. Raises DatasetError as `read_manifest` does."""
    try:
        manifest = json.loads(content)
        intact = digest_of({name: value for name, value in manifest.items() if name != "sha256"}) == manifest["sha256"]
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(path, "readable", f"{type(error).__name__}: {error}") from error
    if not intact:
        raise Damaged(path, "sha256", "it does not fit the content")
    if version != FORMAT:
        raise DatasetError(f"{path} has format {version}; this version of coworld-bench reads {FORMAT}")
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises Damaged for a listed file that is missing or has another size, and for headers with another content."""
    for name, expected in manifest["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["size"]:
            raise Damaged(path, "size", "missing" if size is None else f"{size} bytes instead of {expected['size']}")
        if path.name == "zarr.json" and sha256_file(path) != expected["sha256"]:
            raise Damaged(path, "sha256", "the content changed")


def list_datasets(data: Path | str | None = None) -> list[dict[str, Any]]:
    """The datasets below `data`, by id: id, folder, episodes, mean_return, fingerprint, fired, and `fault` for one
    that is unfinished or damaged (its other values are then None)."""
    home = data_home(data)
    folders = {path.parent for name in (MANIFEST, STORE) for path in home.glob(f"*/*/*-v*/{name}")}
    named = sorted(folder for folder in folders if VERSION.search(folder.name))  # not what a repair leaves beside them
    return [summary(folder, folder.relative_to(home).as_posix()) for folder in named]


def summary(folder: Path, name: str) -> dict[str, Any]:
    values = dict.fromkeys(("episodes", "mean_return", "fingerprint", "fired", "fault"))
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except DatasetError as error:
        return {"id": name, "folder": folder, **values, "fault": str(error)}
    card = manifest["card"]
    known = {"episodes": card["episodes"], "mean_return": card["returns"]["mean"]}
    known |= {"fingerprint": manifest["fingerprint"], "fired": card.get("quality", {}).get("fired", True)}
    return {"id": manifest["dataset_id"], "folder": folder, **values, **known}
