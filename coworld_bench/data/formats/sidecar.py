"""`coworld.json`: what lies beside an export and says what the foreign layout has no place for.

Other libraries do not look at it. With it, an import gives the very dataset again, and says so where the files were changed
since; without it, files are imported as anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats.guards import POLICIES, checked_card, checked_meta, read_description, refused
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.files import named_when_whole, write_json

SIDECAR = "coworld.json"
Write = Callable[[Path, Iterator[Episode]], None]


@dataclass(frozen=True)
class Sidecar:
    """What it says: the dataset's card, and of every episode its digest in these files and its metadata."""

    path: Path
    card: dict[str, Any]
    digests: list[str]
    metas: list[dict[str, Any]]

    def rejoin(self, episodes: Iterator[Episode]) -> Iterator[Episode]:
        """The episodes with their metadata. Raises DatasetError where they are not those that were exported."""
        read = 0
        for read, episode in enumerate(episodes, 1):
            if read > len(self.metas) or episode.digest != self.digests[read - 1]:
                raise refused(
                    self.path.parent, f"episode {read - 1} is not what was exported; without {SIDECAR} it is taken"
                )
            yield replace(episode, meta=self.metas[read - 1])
        if read < len(self.metas):
            raise refused(self.path.parent, f"{read} of the {len(self.metas)} episodes that were exported are there")


def read_sidecar(folder: Path, format: str) -> Sidecar | None:
    """The sidecar of an export to `format`; None where there is none. Raises DatasetError where it is damaged."""
    path = folder / SIDECAR
    if not path.is_file():
        return None
    said = read_description(path)
    if said.get("format") != format:
        raise refused(folder, f"it was exported to {said.get('format')!r}, not to {format}")
    entries = said.get("episodes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise refused(path, "it lists no episodes")
    metas = [checked_meta(path, entry.get("meta")) for entry in entries]
    if len({meta.get("policy", "") for meta in metas}) > POLICIES:
        raise refused(path, f"it names more than {POLICIES} policies")
    return Sidecar(path, checked_card(path, said.get("card")), [str(entry.get("sha256")) for entry in entries], metas)


def imported(
    format: str, folder: Path, episodes: Iterator[Episode], left_out: list[str], **known: Any
) -> tuple[Iterator[Episode], dict[str, Any]]:
    """What a reader gives: with a sidecar, the dataset as it was exported; without one, the episodes and what is known.

    `left_out` names what foreign files hold that an episode has no place for."""
    sidecar = read_sidecar(folder, format)
    if sidecar is not None:
        return sidecar.rejoin(episodes), sidecar.card
    source = {"format": format} | ({"left_out": left_out} if left_out else {})
    return episodes, {"provenance": {"imported": source}, "license": "unknown", **known}


def export_folder(
    format: str,
    dataset: Dataset,
    out: Path,
    force: bool,
    write: Write,
    shown: Callable[[Episode], Episode] = lambda episode: episode,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Have `write` fill a folder with the episodes, one at a time, and put the sidecar beside; it takes the name `out` when
    it is whole. An export of this very dataset that is there is kept.

    `shown` makes the episode that is written where that is another one; `card` is then what it is called. Raises UsageError
    for a folder of something else, and for an export of another dataset unless `force`."""
    out = Path(out).expanduser().absolute()
    if not force and exported(out) == (format, dataset.fingerprint):
        return out
    refuse_folder(out, force)
    entries: list[dict[str, Any]] = []

    def episodes() -> Iterator[Episode]:
        for episode in dataset:
            episode = shown(episode)
            entries.append({"sha256": episode.digest, "meta": episode.meta})
            yield episode

    with named_when_whole(out) as folder:
        write(folder, episodes())
        said = {"card": dict(card or dataset.card), "episodes": entries}
        write_json(folder / SIDECAR, {"format": format, "fingerprint": dataset.fingerprint, **said})
    return out


def exported(folder: Path) -> tuple[Any, Any] | None:
    """The format and fingerprint of the export in `folder`; None where there is none."""
    if not (folder / SIDECAR).is_file():
        return None
    try:
        said = read_description(folder / SIDECAR)
    except DatasetError:
        return None, None
    return said.get("format"), said.get("fingerprint")


def refuse_folder(out: Path, force: bool) -> None:
    """Raises UsageError where an export would destroy something."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if exported(out) is None:
        raise UsageError(f"{out} holds something that is no export; choose a folder that is new or empty with --out")
    if not force:
        raise UsageError(f"{out} holds an export of another dataset or format; choose another --out, or give --force")
