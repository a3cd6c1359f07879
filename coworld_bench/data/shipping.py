"""Whole datasets to and from a URL. Like on disk, a remote dataset is complete when its manifest is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coworld_bench.data.build import BESIDE, OURS, refuse, take_place
from coworld_bench.data.chunks import Damaged
from coworld_bench.data.dataset import check_files, find, parted, read_manifest
from coworld_bench.data.fetching import (
    PART,
    Files,
    Observe,
    Tally,
    demand_space,
    fetch,
    in_threads,
    intact,
    partial_path,
    read_remote,
)
from coworld_bench.data.layout import MANIFEST, STORE, dataset_folder, split_id
from coworld_bench.data.lock import WriterLock
from coworld_bench.data.remote import READ_ONLY, Absent, Remote
from coworld_bench.errors import DatasetError, UsageError, UserError
from coworld_bench.files import atomic
from coworld_bench.paths import data_home

LEAST_DIGITS = 8  # of a fingerprint that is asked for


@dataclass(frozen=True)
class Shipped:
    """What a push or a pull did; bytes that were there already are skipped."""

    dataset_id: str
    fingerprint: str
    folder: Path
    url: str
    files: int
    bytes_moved: int
    bytes_skipped: int
    wall_s: float


def pull(
    url: str,
    data: Path | str | None = None,
    name: str | None = None,
    fingerprint: str | None = None,
    force: bool = False,
    observe: Observe = lambda news: None,
) -> Shipped:
    """Copy the dataset at `url` to where datasets lie, as `name` or by its own id. A pull that broke off is gone on with,
    and what is here and intact is not fetched again.

    Raises UserError when another dataset is there, unless `force`; DatasetError when the remote one is missing,
    unfinished, damaged or has another fingerprint than the one that was asked for."""
    began, remote = time.monotonic(), Remote(url)
    manifest, content = read_remote(remote)
    if fingerprint is not None and len(fingerprint) < LEAST_DIGITS:
        raise UsageError(f"a fingerprint, or at least its first {LEAST_DIGITS} digits; got {fingerprint!r}")
    if fingerprint and not manifest["fingerprint"].startswith(fingerprint.lower()):
        raise DatasetError(f"{remote.url} has the fingerprint {manifest['fingerprint']}, not {fingerprint}")
    folder = place(data_home(data), name or manifest["dataset_id"])
    demand_space(folder, manifest["files"])
    with WriterLock(folder):
        target = target_of(folder, manifest, force)
        if target is None:
            tally = Tally(manifest["files"])
            tally.add(skipped=tally.bytes)
        else:
            (target / STORE).mkdir(parents=True, exist_ok=True)  # so that the rest of a pull is told from something else
            tidy(target, manifest["files"])
            tally = fetch(remote, target, manifest["files"], observe)
            if not (target / MANIFEST).exists():
                with atomic(target / MANIFEST) as file:
                    file.write(content)
            if target != folder:
                take_place(target, folder)
    return shipped(manifest, folder, remote, tally, began)


def place(home: Path, name: str) -> Path:
    """The folder of a dataset of this name; raises UsageError for one that is no name, or leads elsewhere."""
    if not all(PART.fullmatch(part) for part in name.split("/")):
        raise UsageError(f"a dataset is named suite/task/quality in letters, digits, -, _ and .; got {name[:100]!r}")
    split_id(name)
    return dataset_folder(home, name)


def target_of(folder: Path, manifest: Mapping[str, Any], force: bool) -> Path | None:
    """Where to fetch files to: the folder, or one beside it where another dataset is to be replaced; None where the dataset
    is here already. Raises UserError for a folder of something else."""
    if (folder / MANIFEST).exists():
        here = manifest_in(folder)
        if here.get("sha256") == manifest["sha256"]:
            return folder
        if force:
            return folder.with_name(f".{folder.name}.pulling")
        if here.get("fingerprint") == manifest["fingerprint"]:
            check_files(folder, here)
            return None
        held = here.get("fingerprint", "a damaged manifest")
        raise UserError(
            f"{folder} holds another dataset ({held}, not {manifest['fingerprint']}); "
            "give this one another name with --as, or replace that one with --force"
        )
    refuse(folder, force)
    return folder


def manifest_in(folder: Path) -> dict[str, Any]:
    try:
        return read_manifest(folder)
    except Damaged:
        return {}


def tidy(folder: Path, files: Files) -> None:
    """Remove the remains of a build or of a pull of something else."""
    kept = {folder / name for name in files}
    kept |= {partial_path(folder / name, entry["sha256"]) for name, entry in files.items()}
    for path in folder.rglob("*"):
        first = path.relative_to(folder).parts[0]
        if path.is_file() and path not in kept and first not in BESIDE and (first in OURS or first.endswith(".partial")):
            path.unlink()


def push(
    name: str | Path,
    url: str,
    data: Path | str | None = None,
    force: bool = False,
    observe: Observe = lambda news: None,
) -> Shipped:
    """Copy a dataset to `url`, every file compared with the manifest before it goes, and the manifest last. What is there
    already with the same content is left.

    Raises UserError when another dataset, or something else, is there, unless `force`; DatasetError when this one is
    missing or damaged, or the store takes it not."""
    began, remote = time.monotonic(), Remote(url)
    if remote.scheme in READ_ONLY:
        raise UsageError(f"{remote.url} can only be read; push to s3://, gs://, hf:// or file://")
    if parted(name)[1]:
        raise UsageError(
            f"a part of a dataset has no files of its own; push {parted(name)[0]}, and name the part where it is used"
        )
    folder = find(name, data_home(data))
    manifest = read_manifest(folder)
    files = {**manifest["files"], MANIFEST: {"size": (folder / MANIFEST).stat().st_size}}
    there = remote.listing()
    gone = in_the_way(remote, manifest, set(there), force)
    tally = Tally(files)
    if remote.scheme == "hf":
        check_content(folder, manifest["files"])
        remote.put_together(folder, sorted(files), sorted(set(gone) - set(files)))
        tally.add(moved=tally.bytes, done=tally.files)
    else:
        for file in gone:
            remote.remove(file)
        send(remote, folder, files, there, tally, observe)
    return shipped(manifest, folder, remote, tally, began)


def send(
    remote: Remote, folder: Path, files: Files, there: Mapping[str, Mapping[str, Any]], tally: Tally, observe: Observe
) -> None:
    """Store what is not `there`: first what tells a dataset from other folders, and the manifest last."""

    def send_one(name: str) -> None:
        path, entry = folder / name, files[name]
        if name != MANIFEST:
            check_content(folder, {name: entry})
        same = name in there and remote.holds(there[name], path)
        if not same:
            remote.put(path, name)
        tally.add(**{"skipped" if same else "moved": entry["size"]}, done=1)

    store = [name for name in files if name.startswith(STORE)]
    for batch in (store, [name for name in files if name not in {*store, MANIFEST}], [MANIFEST]):
        in_threads(remote, tally, send_one, batch, observe)


def check_content(folder: Path, files: Files) -> None:
    """Raises Damaged for a file that is not what the manifest names."""
    for name, entry in files.items():
        if not intact(folder / name, entry):
            raise Damaged(folder / name, "sha256", "the content changed")


def in_the_way(remote: Remote, manifest: Mapping[str, Any], there: set[str], force: bool) -> list[str]:
    """The files of another dataset that go before a push by force; its manifest first, so that nobody takes a mixture for
    either. Raises UserError where a push without force would destroy something."""
    tops = {file.partition("/")[0] for file in there}
    if tops and STORE not in tops and MANIFEST not in tops and not force:
        raise UserError(f"{remote.url} holds something that is not a dataset ({min(tops)}); choose an empty folder")
    if MANIFEST not in tops:
        return []
    try:
        other, _ = read_remote(remote)
    except Absent:
        return []
    except DatasetError as error:
        if not force:
            raise UserError(f"{error}, or replace it with --force") from error
        other = {"sha256": "", "files": {}}
    if other["sha256"] == manifest["sha256"]:
        return []
    if not force:
        raise UserError(
            f"{remote.url} holds another dataset ({other['fingerprint']}, not {manifest['fingerprint']}); "
            "choose another folder, or replace it with --force"
        )
    return [MANIFEST, *sorted(set(other["files"]) & there - set(manifest["files"]))]


def shipped(manifest: Mapping[str, Any], folder: Path, remote: Remote, tally: Tally, began: float) -> Shipped:
    return Shipped(
        manifest["dataset_id"], manifest["fingerprint"], folder, remote.url,
        tally.files, tally.moved, tally.skipped, round(time.monotonic() - began, 3),
    )  # fmt: skip
