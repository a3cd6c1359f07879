"""Files of a remote dataset, brought here: resumed where they broke off, and compared before they take their names."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from io import BufferedRandom
from pathlib import Path
from threading import Lock
from typing import Any

from coworld_bench.data.build import OURS, fingerprint_of
from coworld_bench.data.chunks import Damaged
from coworld_bench.data.dataset import parse_manifest
from coworld_bench.data.layout import MANIFEST, STORE
from coworld_bench.data.lock import locked
from coworld_bench.data.remote import Absent, Remote
from coworld_bench.errors import DatasetError
from coworld_bench.files import sha256_file, sync

BLOCK = 2**20  # bytes of a request; what a cut connection costs at most
THREADS = 8
LARGEST_MANIFEST = 64 * 2**20  # some 400,000 files
PART, DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}"), re.compile(r"[0-9a-f]{64}")

Observe = Callable[[Mapping[str, Any]], None]
Files = Mapping[str, Mapping[str, Any]]  # name below the folder -> size, sha256


def read_remote(remote: Remote) -> tuple[dict[str, Any], bytes]:
    """The manifest of a remote dataset, vetted, and its bytes. Raises DatasetError where there is none, or it is not one
    that `build` writes."""
    try:
        content = remote.head(MANIFEST, LARGEST_MANIFEST + 1)
    except Absent as absent:
        try:
            remote.head(f"{STORE}/zarr.json", 1)
        except Absent:
            raise absent from None
        raise DatasetError(f"{remote.url} holds an unfinished dataset (no {MANIFEST}); push it again") from absent
    where = f"{remote.url}/{MANIFEST}"
    if len(content) > LARGEST_MANIFEST:
        raise Damaged(where, "size", f"it has more than {LARGEST_MANIFEST} bytes")
    manifest = parse_manifest(content, where)
    vet(manifest, where)
    return manifest, content


def vet(manifest: Mapping[str, Any], where: str) -> None:
    """Raises Damaged for a manifest that is not of a dataset, or whose files would lie outside of its folder."""
    try:
        files, card = manifest["files"], manifest["card"]
        odd = next((name for name, entry in files.items() if not is_file_of_ours(name, entry)), None)
        said, due = (manifest["dataset_id"], manifest["fingerprint"]), (card["dataset_id"], fingerprint_of(card))
        folders = {folder.as_posix() for name in files for folder in Path(name).parents}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(where, "content", f"{type(error).__name__}: {error}") from error
    if odd is not None:
        raise Damaged(where, "names", f"{odd[:100]!r} with {str(files[odd])[:150]} is no file of a dataset")
    if said != due:
        raise Damaged(where, "fingerprint", "id and fingerprint do not follow from the card")
    if folders & set(files) or f"{STORE}/zarr.json" not in files:
        raise Damaged(where, "names", f"a folder is listed as a file, or there is no {STORE}")


def is_file_of_ours(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a name stays inside the folder, below what `build` puts there, and its size and digest can be such."""
    parts = name.split("/")
    inside = parts[0] in OURS - {MANIFEST} and all(PART.fullmatch(part) for part in parts) and len(parts) <= 10
    size, digest = entry["size"], entry["sha256"]
    return inside and type(size) is int and size >= 0 and bool(DIGEST.fullmatch(digest))


class Tally:
    """Files and bytes that were fetched or were here already; several threads add to it."""

    def __init__(self, files: Files) -> None:
        self.files, self.bytes = len(files), sum(entry["size"] for entry in files.values())
        self.done = self.moved = self.skipped = 0
        self._lock = Lock()

    def add(self, moved: int = 0, skipped: int = 0, done: int = 0) -> None:
        with self._lock:
            self.moved, self.skipped, self.done = self.moved + moved, self.skipped + skipped, self.done + done

    def news(self) -> dict[str, Any]:
        """What a progress bar shows."""
        part = f"{self.done} of {self.files} files, {self.moved / 1e6:.1f} MB moved"
        return {"part": part, "bytes": min(self.moved + self.skipped, self.bytes), "bytes_total": self.bytes}


def in_threads(remote: Remote, tally: Tally, work: Callable[[str], None], names: Iterable[str], observe: Observe) -> None:
    """Call `work(name)` for every file, several at once; the first exception stops the others and is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        left = {pool.submit(work, name) for name in names}
        try:
            while left:
                ready, left = wait(left, timeout=0.5)
                for future in ready:
                    future.result()
                observe(tally.news())
        except BaseException:
            remote.stop.set()
            pool.shutdown(cancel_futures=True)
            remote.stop.clear()
            raise


def fetch(remote: Remote, folder: Path, files: Files, observe: Observe = lambda news: None) -> Tally:
    """Make `files` be in `folder`, each with the size and the SHA-256 that it should have; what is there is kept.

    Raises DatasetError for a file that does not fit when it was fetched afresh, and for what `Remote` raises."""
    tally = Tally(files)
    in_threads(remote, tally, lambda name: fetch_file(remote, folder, name, files[name], tally), files, observe)
    return tally


def demand_space(folder: Path, files: Files) -> None:
    """Raises DatasetError when what is missing does not fit on the disk."""
    sizes = {name: path.stat().st_size for name in files if (path := folder / name).is_file()}
    needed = sum(entry["size"] for name, entry in files.items() if sizes.get(name) != entry["size"])
    there = next(path for path in [folder, *folder.absolute().parents] if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DatasetError(f"{folder} needs {needed / 1e9:.2f} GB, and {there} has {free / 1e9:.2f} GB free; use --data")


def fetch_file(remote: Remote, folder: Path, name: str, entry: Mapping[str, Any], tally: Tally) -> None:
    """One file; a part of it that is here already is gone on with, and thrown away when the whole then does not fit."""
    target = folder / name
    if intact(target, entry):
        return tally.add(skipped=entry["size"], done=1)
    target.parent.mkdir(parents=True, exist_ok=True)
    growing = partial_path(target, entry["sha256"])
    with os.fdopen(locked(growing, wait=True), "r+b") as file:  # locked until it is closed
        if intact(target, entry):  # another process was faster
            growing.unlink()
            return tally.add(skipped=entry["size"], done=1)
        here = file.seek(0, os.SEEK_END)
        tally.add(skipped=here)
        fits = receive(remote, name, entry, file, tally)
        if not fits and here:
            file.truncate(0)
            tally.add(skipped=-here)
            fits = receive(remote, name, entry, file, tally)
        if not fits:
            growing.unlink()
            raise Damaged(f"{remote.url}/{name}", "sha256", "what was fetched is not what the manifest names")
        os.fsync(file.fileno())
        growing.replace(target)
    sync(target.parent)
    tally.add(done=1)


def intact(path: Path, entry: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["size"] and sha256_file(path) == entry["sha256"]


def partial_path(target: Path, digest: str) -> Path:
    """Where a file grows that is to have this SHA-256."""
    return target.with_name(f".{target.name}.{digest[:16]}.partial")


def receive(remote: Remote, name: str, entry: Mapping[str, Any], file: BufferedRandom, tally: Tally) -> bool:
    """Append what is missing of a file; whether the whole is then what it should be."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    here, size = file.tell(), entry["size"]
    while here < size:
        block = remote.read(name, here, min(size, here + BLOCK))[: size - here]
        if not block:
            return False
        file.write(block)
        file.flush()
        digest.update(block)
        tally.add(moved=len(block))
        here += len(block)
    return here == size and digest.hexdigest() == entry["sha256"]
