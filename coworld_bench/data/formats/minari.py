"""Datasets to and from Minari.

Minari keeps N+1 observations and N actions and rewards, so row 0 of our actions and rewards is left out on the way
there and put back on the way here; pictures stay exact in both directions. Files are written directly in Minari's HDF5
layout, because the chunks of its own writer make a window of 50 rows cost a whole episode.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import hdf5
from coworld_bench.data.formats.guards import (
    behind_zeros,
    checked,
    checked_card,
    checked_meta,
    fits_memory,
    flags,
    read_description,
    refused,
)
from coworld_bench.errors import DatasetError, UserError
from coworld_bench.files import named_when_whole, write_json

if TYPE_CHECKING:
    import h5py
    from gymnasium import Space

PREFIX, META, DATA, METADATA = "coworld/", "coworld_meta", "main_data.hdf5", "metadata.json"
WINDOW = 50  # rows of a chunk; with gzip 8.5 times smaller than Minari's own raw file
SIMULATORS = ("mujoco", "metaworld", "dm_control", "robodesk")


def export_minari(dataset: Dataset, root: Path | str | None = None, force: bool = False) -> str:
    """Write `dataset` where Minari keeps its own (or below `root`) and return its Minari id.

    >>> minari.load_dataset(export_minari(dataset)).recover_environment()  # doctest: +SKIP

    The folder takes its name when it is whole. An export that exists is kept when it is of this very dataset.
    Raises UserError when it is of another, unless `force`, and for a dataset that Minari could not name."""
    name = minari_name(dataset.id)
    folder = minari_root(root) / name
    if folder.exists() and not force:
        if exported_fingerprint(folder) == dataset.fingerprint:
            return name
        raise UserError(f"Minari has another {name} already in {folder}; remove it, or replace it with --force")
    with named_when_whole(folder) as partial:
        (partial / "data").mkdir()
        write_episodes(partial / "data" / DATA, dataset)
        size_mb = (partial / "data" / DATA).stat().st_size / 1e6
        write_json(partial / "data" / METADATA, metadata(dataset, name) | {"dataset_size": round(size_mb, 1)})
    return name


def export(dataset: Dataset, out: Path | None, force: bool = False) -> Path:
    """Write `dataset` below `out`, or where Minari keeps its own, and return its folder."""
    return minari_root(out) / export_minari(dataset, out, force)


def minari_name(dataset_id: str) -> str:
    """What Minari calls the dataset. Raises UserError where its rules allow no such name."""
    from minari.dataset.minari_dataset import parse_dataset_id

    name = PREFIX + dataset_id
    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        rule = "letters, digits, - and _ between slashes, and -vN at the end"
        raise UserError(f"Minari cannot name a dataset {name}: its names are {rule}") from error
    return name


def exported_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the dataset that was exported to `folder`; None where that cannot be told."""
    try:
        return json.loads((folder / "data" / METADATA).read_text()).get("coworld_fingerprint")
    except (OSError, ValueError):
        return None


def minari_root(root: Path | str | None = None) -> Path:
    """What was given, else where Minari looks."""
    return Path(root or os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets").expanduser()


def write_episodes(path: Path, dataset: Dataset) -> None:
    import h5py

    with h5py.File(path, "w", track_order=True) as file:
        for index, episode in enumerate(dataset):
            write_episode(file.create_group(f"episode_{index}"), index, episode, dataset.card["has_success"])


def write_episode(group: h5py.Group, index: int, episode: Episode, has_success: bool) -> None:
    """One episode in Minari's layout; its metadata as attributes, and once more as JSON for the way back."""
    group.attrs.update({"id": index, "total_steps": episode.env_steps, META: json.dumps(episode.meta)})
    for name, value in (("seed", "seed"), ("policy_step", "updates"), ("env_steps", "env_steps")):
        group.attrs[name] = episode.meta.get(value, 0)
    observations = group.create_group("observations")
    if episode.image is not None:
        chunks = (min(WINDOW, episode.rows), *episode.image.shape[1:])
        observations.create_dataset("image", data=episode.image, chunks=chunks, **hdf5.GZIP)
    observations["state"] = episode.state
    group["actions"], group["rewards"] = episode.action[1:], episode.reward[1:]
    last = np.arange(episode.env_steps) == episode.env_steps - 1
    group["terminations"], group["truncations"] = last & episode.terminal, last & (not episode.terminal)
    infos = group.create_group("infos")
    if has_success:
        infos["success"] = episode.success.astype(bool)  # N+1 long, as Minari keeps what `reset` reported


def metadata(dataset: Dataset, name: str) -> dict[str, Any]:
    """Minari's description of a dataset, with our card in it."""
    import minari
    from minari.serialization import serialize_space

    observation, action = gym_spaces(dataset)
    card, environment = dataset.card, environment_json(dataset)
    quality = card.get("quality", {})
    described = {
        "dataset_id": name, "total_episodes": dataset.episodes, "total_steps": dataset.rows - dataset.episodes,
        "data_format": "hdf5", "jpeg_encoding": False, "minari_version": minari.__version__,
        "observation_space": serialize_space(observation), "action_space": serialize_space(action),
        "env_spec": environment, "eval_env_spec": environment, "requirements": requirements(card),
        "algorithm_name": str(card.get("policy", {}).get("algo", "")), "author": ["coworld-bench"],
        "description": f"{dataset.env_spec.task}, {quality.get('label')}: {quality.get('rule', 'no rule')}",
        "license": card["license"], "coworld_card": json.dumps(card), "coworld_fingerprint": dataset.fingerprint,
    }  # fmt: skip
    if quality.get("reference") is not None:
        described["ref_max_score"] = float(quality["reference"])
    return described


def gym_spaces(dataset: Dataset) -> tuple[Space, Space]:
    """Observation and action space as the environment has them."""
    from gymnasium.spaces import Box, Dict

    domain = dataset.domain
    parts: dict[str, Any] = {"state": Box(-np.inf, np.inf, (domain.state,), np.float32)}
    if domain.image:
        parts["image"] = Box(0, 255, domain.image, np.uint8)
    return Dict(parts), Box(-1.0, 1.0, (domain.action,), np.float32)


def environment_json(dataset: Dataset) -> str:
    """What `recover_environment` makes the environment from: an entry point and plain values."""
    from gymnasium.envs.registration import EnvSpec

    suite, task = dataset.env_spec.task.split("/")
    return EnvSpec(
        id=f"coworld/{suite}-{task}-v0",
        entry_point="coworld_bench.envs:make_env",
        kwargs=dataset.env_spec.to_dict(),
        order_enforce=False,
        disable_env_checker=True,
    ).to_json()


def requirements(card: Mapping[str, Any]) -> list[str]:
    packages = card.get("provenance", {}).get("packages", {})
    return [f"{name}=={packages[name]}" for name in SIMULATORS if packages.get(name)]


def import_minari(name: str | Path, root: Path | str | None = None) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a Minari dataset (an id, or its folder) and a card to `build` them with.

    Raises DatasetError when there is none, when its pictures went through JPEG, or when its spaces are not ours."""
    folders = [path for path in (Path(name), minari_root(root) / name) if (path / "data" / METADATA).is_file()]
    if not folders and len(below := list(Path(name).glob(f"**/data/{METADATA}"))) == 1:  # an export's --out
        folders = [below[0].parent.parent]
    if not folders:
        raise DatasetError(f"no Minari dataset {name} in {minari_root(root)}; fetch it with: minari download {name}")
    folder = folders[0]
    where = folder / "data" / METADATA
    described = read_description(where)
    refuse_foreign(str(name), where, described)
    if "coworld_card" in described:
        card = checked_card(where, embedded(where, described, "coworld_card"))
    else:
        card = foreign_card(where, described)
    count = described.get("total_episodes")
    if not isinstance(count, int | float) or count < 1 or count != int(count):
        raise refused(where, f"it counts {count!r} episodes")
    return read_episodes(folder / "data" / DATA, int(count)), card


def read(path: Path) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a Minari dataset, named by id or folder."""
    return import_minari(path)


def embedded(where: Path, described: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The JSON object that an entry of the description is the text of; empty where there is no entry."""
    try:
        found = json.loads(described.get(name) or "{}")
    except (TypeError, ValueError, RecursionError) as error:
        raise refused(where, f"{name} is no JSON") from error
    if not isinstance(found, dict):
        raise refused(where, f"{name} is no JSON object")
    return found


def refuse_foreign(name: str, where: Path, described: Mapping[str, Any]) -> None:
    """Raises DatasetError for a dataset whose pictures are not exact or whose format or spaces are not these."""
    parts = embedded(where, described, "observation_space").get("subspaces", {})
    if not isinstance(parts, dict) or "state" not in parts or not set(parts) <= {"image", "state"}:
        raise DatasetError(f"{name} has other observations than a Dict of `state` and, where there is one, `image`")
    if "image" in parts and described.get("jpeg_encoding", True):
        raise DatasetError(f"{name} keeps its pictures as lossy JPEG; import one written with jpeg_encoding=False")
    if described.get("data_format") != "hdf5":
        raise DatasetError(f"{name} is kept as {described.get('data_format')}; only Minari's hdf5 format can be imported")


def foreign_card(where: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a dataset that did not come from here: its environment must be one of ours. It has no name yet.

    Raises DatasetError when the environment is missing or another one."""
    environment = embedded(where, described, "env_spec")
    kwargs = environment.get("kwargs")
    if environment.get("entry_point") != "coworld_bench.envs:make_env" or not isinstance(kwargs, dict):
        named = described.get("dataset_id")
        raise DatasetError(f"{named} does not name an environment of coworld_bench, so it cannot be used")
    card = {
        "task": kwargs.get("task"),
        "env_spec": kwargs,
        "policy": {"algo": str(described.get("algorithm_name", ""))},
        "license": str(described.get("license", "unknown")),
        "provenance": {"imported": {"format": "minari", "dataset_id": str(described.get("dataset_id"))}},
    }
    return checked_card(where, card)


def read_episodes(path: Path, count: int) -> Iterator[Episode]:
    """The episodes of Minari's HDF5 file. Raises DatasetError when the file cannot be read."""
    with hdf5.opened(path) as file:
        for index in range(count):
            yield read_episode(path, hdf5.group(file, f"episode_{index}", path))


def read_episode(path: Path, group: h5py.Group) -> Episode:
    """One episode with row 0 put back."""
    names = {"state": "observations/state", "action": "actions", "reward": "rewards"}
    optional = {"image": "observations/image", "success": "infos/success"}
    names |= {name: place for name, place in optional.items() if hdf5.has(group, place)}
    columns = {name: hdf5.column(group, place, path) for name, place in names.items()}
    for column in columns.values():
        fits_memory(path, 1, column.nbytes)
    arrays = {name: column[()] for name, column in columns.items()}
    steps = len(arrays["reward"])
    ends = {}
    for name in ("terminations", "truncations"):
        ends[name] = flags(path, name, hdf5.column(group, name, path)[()], steps)
        if ends[name][:-1].any():
            raise refused(path, f"{group.name} goes on after {name} say that it ended")
    short = [name for name in ("action", "reward", "success") if name in arrays and len(arrays[name]) == steps]
    arrays |= {name: behind_zeros(arrays[name]) for name in short}  # success is N+1 long where `reset` reported it
    said = json.loads(group.attrs[META]) if META in group.attrs else {"seed": seed_of(group)}
    return replace(checked(path, arrays, terminal=bool(ends["terminations"][-1])), meta=checked_meta(path, said))


def seed_of(group: h5py.Group) -> int:
    """The seed of a foreign episode; 0 where it is not known, which Minari writes as the word None."""
    seed = group.attrs.get("seed", 0)
    return 0 if isinstance(seed, str) else int(seed)
