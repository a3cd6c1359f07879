"""Datasets to other formats, and files of other formats to datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from coworld_bench.config import override, resolve, usual_env
from coworld_bench.data.build import build, refuse
from coworld_bench.data.dataset import Dataset, dataset_folder, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import find_format
from coworld_bench.data.formats.guards import refused
from coworld_bench.data.layout import DatasetName, split_id
from coworld_bench.data.lock import WriterLock
from coworld_bench.errors import DatasetError, UsageError, unknown
from coworld_bench.files import named_when_whole
from coworld_bench.paths import data_home
from coworld_bench.tasks import EnvSpec

TOLD = ("action_repeat", "profile", "rewards", "sparse", "action_noise", "background")  # what no file says of pictures


def export_dataset(
    name: str | Path, format: str, out: Path | None = None, *, data: Path | str | None = None, force: bool = False
) -> Path:
    """Write a dataset in another format and return the folder.

    Raises UsageError for a format that does not exist and a folder that holds something else."""
    kind = find_format(format)
    kind.demand(out)
    return kind.export(open_dataset(name, data), out, force)


def import_dataset(
    path: Path,
    format: str,
    name: str | None = None,
    *,
    options: Mapping[str, str] | None = None,
    data: Path | str | None = None,
    out: Path | None = None,
    force: bool = False,
) -> Dataset:
    """Build a dataset from files of another format: `suite/task/quality`, with a preset, in `data` or in the folder `out`.

    Exports of ours say what they are; of other files the name says it, and `options` such as `env.action_repeat` say how
    their environment differs from the preset's. Nothing is left behind where a file is refused. Raises DatasetError for
    files that are not what they should be, UsageError for a name or option that does not fit."""
    kind = find_format(format)
    kind.check()
    episodes, known = kind.read(Path(path).expanduser())
    first = next(episodes, None)
    if first is None:
        raise refused(path, "there are no episodes in it")
    card = full_card(known, first, name, options or {})
    folder = Path(out).expanduser() if out is not None else dataset_folder(data_home(data), card["dataset_id"])
    try:
        with WriterLock(folder):
            refuse(folder, force)
            with named_when_whole(folder) as whole:
                build(alike(first, episodes, path), whole, card)
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return open_dataset(folder)


def alike(first: Episode, others: Iterator[Episode], path: Path) -> Iterator[Episode]:
    """All episodes. Raises DatasetError for one whose arrays have other sizes than the first one's."""
    sizes = {name: array.shape[1:] for name, array in first.arrays().items()}
    for number, episode in enumerate(chain([first], others)):
        found = {name: array.shape[1:] for name, array in episode.arrays().items()}
        if found != sizes:
            raise refused(path, f"episode {number} has arrays of the sizes {found}, the first one {sizes}")
        yield episode


def full_card(known: Mapping[str, Any], first: Episode, name: str | None, options: Mapping[str, str]) -> dict[str, Any]:
    """The card of the dataset: what the files say, and for the rest the name, its preset and the options."""
    if name is None and "dataset_id" not in known:
        raise UsageError("these files do not say what they are; name them with --name suite/task/quality[-preset]")
    if "subset" in known:
        part = known["subset"]
        if name is None:
            raise UsageError(
                f"these files are a part of {part['of']} ({part['rule']}); say with --name what it is to be called"
            )
        known = {key: value for key, value in known.items() if key != "subset"} | {"part_of": part}
    if name is None and not options:
        return dict(known)
    named = split_id(name or known["dataset_id"])
    if known.get("task", named.task) != named.task:
        raise UsageError(f"these files are of {known['task']}, so they cannot be called {name}")
    environment = environment_of(known, named, first, options)
    variant = environment.variant(usual_env(named.task, named.preset))
    if name is not None and named.variant not in ("", variant):
        raise UsageError(
            f"the files and options make it {variant or 'the usual environment'}; leave the variant out of {name}"
        )
    quality = {**known.get("quality", {}), "label": named.quality}
    own = {"task": named.task, "preset": named.preset, "env_spec": environment.to_dict(), "quality": quality}
    return {**known, **own, "dataset_id": f"{named._replace(variant=variant).stem}-v{named.version or 0}"}


def environment_of(known: Mapping[str, Any], named: DatasetName, first: Episode, options: Mapping[str, str]) -> EnvSpec:
    """What the files, the name's preset and the options say of the environment, in the order of least to most."""
    for key in options:
        if key not in [f"env.{field}" for field in TOLD]:
            raise unknown("setting of an environment", key, [f"env.{field}" for field in TOLD])
    suite = named.task.split("/")[0]
    settings = override(resolve(named.preset, suite), options, suite).env.spec(named.task).to_dict()
    base = dict(known.get("env_spec") or usual_env(named.task, named.preset).to_dict())
    asked = {key.removeprefix("env."): settings[key.removeprefix("env.")] for key in options}
    shown = {"observation": "state"} if first.image is None else {"image_size": first.image.shape[1]}
    try:
        return EnvSpec(**{**base, **shown, **asked, "task": named.task})
    except UsageError as error:
        raise DatasetError(f"the files fit no environment of {named.task}: {error}") from error
