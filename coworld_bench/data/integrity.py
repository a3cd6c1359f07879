"""Whether a dataset on disk is what was built: a report of every check, which raises nothing itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.build import fingerprint_of
from coworld_bench.data.chunks import Damaged, ImageReader, open_shard, read_array
from coworld_bench.data.dataset import Dataset, check_files, read_manifest
from coworld_bench.data.layout import (
    EPISODE_TYPES,
    FRAME_TYPES,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    MANIFEST,
    PADDING,
    SHARD_ROWS,
    STORE,
    slots,
)
from coworld_bench.data.replaying import demands, replayed
from coworld_bench.data.writer import content_digest
from coworld_bench.errors import DatasetError, NotUsable, UserError
from coworld_bench.files import sha256_file


@dataclass(frozen=True)
class Check:
    """One check of one file; `detail` says what was wrong, or what was found."""

    file: str
    check: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Report:
    folder: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def faults(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def demand(self) -> None:
        """Raises DatasetError that names the first fault."""
        if not self.ok:
            first, more = self.faults[0], len(self.faults) - 1
            others = f" and {more} more faults" if more else ""
            raise DatasetError(
                f"{self.folder} is damaged: {first.file} ({first.check}: {first.detail}){others}; make it again"
            )


def verify(folder: Path | str, full: bool = True, replay: int = 0) -> Report:
    """Check a dataset. Quick: the manifest, the sizes of all files, and the index of every shard of pictures. Full: also
    every file's SHA-256, every chunk's CRC32C, every episode's digest, and flags, lengths, returns and successes worked
    out again. `replay`: so many episodes are played again from their seeds, and compared.

    Raises NotUsable where a replay lacks its simulator or OpenGL; all other faults are in the report."""
    folder = Path(folder)
    checks = [attempt(MANIFEST, "sha256", lambda: read_manifest(folder))]
    if checks[0].ok:
        manifest = read_manifest(folder)
        checks.append(attempt(STORE, "sizes", lambda: check_files(folder, manifest)))
        if manifest["card"]["image"]:
            checks.append(attempt(f"{STORE}/frames/image", "shard indices", lambda: open_shards(folder)))
        if full:
            checks += check_content(folder, manifest)
    if replay and all(check.ok for check in checks):
        checks += check_replay(Dataset(folder), replay)
    return Report(folder, tuple(checks))


def open_shards(folder: Path) -> None:
    """Raises Damaged for a shard whose index does not fit its checksum."""
    reader = ImageReader(folder / STORE / "frames/image")
    for number in range(math.ceil(reader.header.shape[0] / SHARD_ROWS)):
        open_shard(reader.folder, len(reader.header.shape), number)


def check_replay(dataset: Dataset, count: int) -> list[Check]:
    """A check per episode that was played again; its detail says how far the two are apart."""
    asked, found = demands(dataset), replayed(dataset, count)
    return [attempt(f"episode {each.episode}", "replay", partial(asked.check, each)) for each in found]


def attempt(file: str, check: str, action: Callable[[], Any]) -> Check:
    """The outcome of `action`, which raises when the check fails and may say what it found."""
    try:
        found = action()
    except NotUsable:
        raise
    except Damaged as error:
        return Check(str(error.path), error.check, False, error.detail)
    except (UserError, OSError, ValueError, KeyError, IndexError, AssertionError) as error:
        return Check(file, check, False, f"{type(error).__name__}: {error}")
    return Check(file, check, True, found if isinstance(found, str) else "")


def check_content(folder: Path, manifest: dict[str, Any]) -> list[Check]:
    checks = [check_digest(folder, name, entry["sha256"]) for name, entry in manifest["files"].items()]
    checks.append(attempt(STORE, "no other files", lambda: refuse_strangers(folder, set(manifest["files"]))))
    names = [f"frames/{name}" for name in FRAME_TYPES if name != "state" or manifest["card"]["state_size"]]
    for name in [*names, *(f"episodes/{name}" for name in EPISODE_TYPES)]:
        checks.append(attempt(f"{STORE}/{name}", "crc32c", partial(read_array, folder / STORE / name)))
    checks.append(attempt(f"{STORE}/frames", "episode digests", lambda: [None for _ in Dataset(folder)]))
    checks.append(attempt(f"{STORE}/episodes", "recomputed", lambda: recompute(folder)))
    checks.append(attempt(MANIFEST, "fingerprint", lambda: refingerprint(folder, manifest)))
    return checks


def refingerprint(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises Damaged when the fingerprint is not that of the episodes."""
    content = content_digest(read_array(folder / STORE / "episodes/sha256"))
    if fingerprint_of(manifest["card"] | {"content": content}) != manifest["fingerprint"]:
        raise Damaged(folder / MANIFEST, "fingerprint", "it is not that of these episodes")


def check_digest(folder: Path, name: str, expected: str) -> Check:
    path = folder / name
    if not path.is_file():
        return Check(name, "sha256", False, "missing")
    if sha256_file(path) != expected:
        return Check(name, "sha256", False, "the content changed")
    return Check(name, "sha256", True)


def refuse_strangers(folder: Path, known: set[str]) -> None:
    """Raises Damaged for a file inside the Zarr group that the manifest does not name."""
    for path in sorted((folder / STORE).rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            raise Damaged(path, "manifest", "the manifest does not name it")


def recompute(folder: Path) -> None:
    """Raises Damaged where starts, flags, discounts, returns or successes do not follow from lengths and rows."""
    store = folder / STORE
    table = {name: read_array(store / "episodes" / name) for name in ("start", "length", "ret", "success")}
    frames = {name: read_array(store / "frames" / name) for name in ("flags", "discount", "reward", "success")}
    ends = np.cumsum([slots(int(length)) for length in table["length"]])
    same(store / "episodes/start", table["start"], np.concatenate([[0], ends[:-1]]))
    same(store / "frames/flags", frames["flags"], expected_flags(table["start"], table["length"], frames["flags"]))
    same(store / "frames/discount", frames["discount"], 1.0 * (frames["flags"] & (IS_TERMINAL | PADDING) == 0))
    spans = [slice(start, start + length) for start, length in zip(table["start"], table["length"], strict=True)]
    returns = [frames["reward"][span].sum(dtype=np.float64) for span in spans]
    same(store / "episodes/ret", table["ret"], np.array(returns, np.float32))
    same(store / "episodes/success", table["success"], np.array([frames["success"][span].any() for span in spans]))


def expected_flags(starts: np.ndarray, lengths: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The flags that starts and lengths imply; whether a last row is terminal is taken from what is stored."""
    flags = np.full(len(stored), PADDING, np.uint8)
    for start, length in zip(starts, lengths, strict=True):
        flags[start : start + length] = 0
    last = starts + lengths - 1
    flags[starts] |= IS_FIRST
    flags[last] |= IS_LAST | (stored[last] & IS_TERMINAL)
    return flags


def same(path: Path, stored: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(stored, expected):
        raise Damaged(path, "recomputed", "it does not follow from the rows")
