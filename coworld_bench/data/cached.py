"""Datasets opened by URL: the table and the columns of rows at once, shards of pictures when they are first needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from coworld_bench.data.chunks import Damaged, ImageReader
from coworld_bench.data.dataset import Backend, Dataset
from coworld_bench.data.fetching import Tally, demand_space, fetch, fetch_file, read_remote
from coworld_bench.data.layout import MANIFEST, STORE
from coworld_bench.data.memory import Memory
from coworld_bench.data.remote import Remote
from coworld_bench.files import atomic

PICTURES = f"{STORE}/frames/image/c/"


def open_cached(url: str, home: Path) -> CachedDataset:
    """The dataset at `url`, with its copy below `home/remote`, which every process and every URL of the same dataset share.

    Raises DatasetError when there is none, or it cannot be reached."""
    remote = Remote(url)
    manifest, content = read_remote(remote)
    return CachedDataset(remote, home / "remote" / manifest["sha256"], manifest, content)


class CachedDataset(Dataset):
    """A dataset that is fetched file by file into `folder`; each is compared with the manifest before it is used."""

    def __init__(self, remote: Remote, folder: Path, manifest: dict[str, Any], content: bytes) -> None:
        self._remote, self._files, self._content = remote, manifest["files"], content
        self._checked: set[str] = set()
        files = {name: entry for name, entry in self._files.items() if not name.startswith(PICTURES)}
        demand_space(folder, files)
        fetch(remote, folder, files)
        super().__init__(folder, manifest | {"files": files})
        self.bytes = sum(entry["size"] for entry in self._files.values())

    def load(self, memory: Literal["auto"] | Backend = "auto") -> Memory:
        """As `Dataset.load`; what is to be decoded now is fetched at once rather than shard after shard."""
        backend = self.backend(memory)
        if backend != "packed":
            fetch(self._remote, self.folder, self._files)
        return super().load(backend)

    def complete(self) -> Path:
        """Fetch all that is missing and return the folder, which is then a dataset like any other."""
        fetch(self._remote, self.folder, self._files)
        if not (self.folder / MANIFEST).exists():
            with atomic(self.folder / MANIFEST) as file:
                file.write(self._content)
        return self.folder

    def _image_reader(self) -> ImageReader | None:
        return ImageReader(self.folder / STORE / "frames/image", self._fetch) if self.card["image"] else None

    def _fetch(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        if name not in self._files:
            raise Damaged(path, "manifest", "the manifest does not name it")
        if name not in self._checked:
            fetch_file(self._remote, self.folder, name, self._files[name], Tally({}))
            self._checked.add(name)
