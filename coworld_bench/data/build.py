"""Episodes in, a finished dataset out: Zarr arrays, journal, card, contact sheet, and the manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.card import card_text
from coworld_bench.data.episode import TIMING, Episode
from coworld_bench.data.layout import CARD, FORMAT, JOURNAL, MANIFEST, SHEET, STORE
from coworld_bench.data.lock import LOCK, WriterLock
from coworld_bench.data.preview import contact_sheet
from coworld_bench.data.writer import StoreWriter
from coworld_bench.errors import UserError
from coworld_bench.files import digest_of, sha256_file, sync, sync_tree, write_json, write_text

OURS = {STORE, JOURNAL, CARD, MANIFEST, Path(SHEET).parts[0]}
BESIDE = {LOCK, "staging"}  # what may lie in the folder and is left alone


def build(episodes: Iterable[Episode], folder: Path, card: Mapping[str, Any], force: bool = False) -> Path:
    """Write `episodes` as a dataset into `folder` and return the folder. Same episodes and card, same fingerprint.

    `card` says where they come from: dataset_id, task, env_spec, quality, policy, provenance and so on; sizes and
    counts are added. A killed build leaves no manifest, so nothing reads its remains, and the next build removes them;
    where it was to replace a dataset, that is still there.
    Raises UserError for a dataset that is complete already (unless `force`), a folder of something else, no episodes,
    or another writer."""
    folder, card = Path(folder), plain(card)
    with WriterLock(folder):
        refuse(folder, force)
        episodes = iter(episodes)
        first = next(episodes, None)
        if first is None:
            raise UserError(f"a dataset needs at least one episode; {folder} was given none")
        if (folder / MANIFEST).exists():
            replace(folder, chain([first], episodes), card)
        else:
            clear(folder)
            write(chain([first], episodes), folder, card)
    return folder


def replace(folder: Path, episodes: Iterable[Episode], card: Mapping[str, Any]) -> None:
    """Another dataset in the place of the one in `folder`, which stays as it is until the other is whole."""
    fresh = folder.with_name(f".{folder.name}.replacing")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        write(episodes, fresh, card)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    take_place(fresh, folder)


def take_place(fresh: Path, folder: Path) -> None:
    """The whole dataset in `fresh` instead of the one in `folder`."""
    former = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(former, ignore_errors=True)
    swap(folder, fresh, former)
    shutil.rmtree(former)


def swap(folder: Path, fresh: Path, former: Path) -> None:
    """Rename `folder` to `former` and `fresh` to `folder`; what is not of the dataset stays in `folder`."""
    folder.rename(former)
    fresh.rename(folder)
    for name in BESIDE:
        if (former / name).exists():
            (former / name).rename(folder / name)
    sync(folder.parent)


def plain(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card as JSON gives it back, in order of key; numbers and arrays of numpy become plain ones."""

    def convert(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        return str(value) if isinstance(value, Path) else json.JSONEncoder().default(value)

    return json.loads(json.dumps(dict(card), default=convert, sort_keys=True))


def refuse(folder: Path, force: bool) -> None:
    """Raises UserError where a build would destroy something."""
    names = {path.name for path in folder.iterdir()} - BESIDE - {path.name for path in partials(folder)}
    if MANIFEST in names and not force:
        raise UserError(f"{folder} holds a complete dataset already; use it, or replace it with --force")
    if names and STORE not in names and MANIFEST not in names:
        raise UserError(f"{folder} holds something that is not a dataset ({min(names)}); choose an empty folder")


def partials(folder: Path) -> list[Path]:
    """What killed builds left of files that they were writing."""
    return [path for name in OURS for path in folder.glob(f".{name}.*.partial")]


def clear(folder: Path) -> None:
    """Remove a dataset or the remains of one: the manifest first, so that no half of it passes for a whole, and the arrays
    last, so that what is left of it when that is cut short is known for one."""
    (folder / MANIFEST).unlink(missing_ok=True)
    sync(folder)
    for path in [*partials(folder), *(folder / name for name in sorted(OURS - {STORE})), folder / STORE]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write(episodes: Iterable[Episode], folder: Path, card: Mapping[str, Any]) -> None:
    """Fill an empty folder."""
    writer = StoreWriter(folder / STORE, folder / JOURNAL)
    for episode in episodes:
        writer.add(episode)
    full_card = {"license": "MIT", **card, **writer.summary(), "format_version": FORMAT, "timing": TIMING}
    full_card.setdefault("has_success", bool(full_card["success_rate"]))
    full_card = plain(full_card)
    writer.finish(full_card)
    sheet = contact_sheet(folder)
    if sheet is not None:
        sheet_path = folder / SHEET
        sheet_path.parent.mkdir(exist_ok=True)
        sheet.save(sheet_path)
    write_text(folder / CARD, card_text(full_card))
    sync_tree(folder)
    write_manifest(folder, full_card)


def write_manifest(folder: Path, card: Mapping[str, Any]) -> None:
    """The file that makes a dataset complete: every file with its size and SHA-256, and the dataset's fingerprint."""
    paths = [path for name in sorted(OURS) for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()]
    files = {path.relative_to(folder).as_posix(): describe(path) for path in paths}
    manifest = {"format_version": FORMAT, "dataset_id": card["dataset_id"], "card": dict(card), "files": files}
    manifest["fingerprint"] = fingerprint_of(card)
    write_json(folder / MANIFEST, manifest | {"sha256": digest_of(manifest)})


def fingerprint_of(card: Mapping[str, Any]) -> str:
    """What names the data in every result: the episodes and the environment they came from, whoever made them when."""
    return digest_of([card["format_version"], card["dataset_id"], card["env_spec"], card["content"]])


def describe(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}
