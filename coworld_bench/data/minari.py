"""Datasets to and from Minari.

Minari keeps N+1 observations and N actions and rewards, so row 0 of our actions and rewards is left out on the way
there and put back on the way here; pictures stay exact in both directions. Files are written directly in Minari's HDF5
layout, because the chunks of its own writer make a window of 50 rows cost a whole episode.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import VERSION
from coworld_bench.errors import DatasetError, UserError
from coworld_bench.files import sync, write_json

if TYPE_CHECKING:
    import h5py
    from gymnasium import Space

PREFIX, META, DATA, METADATA = "coworld/", "coworld_meta", "main_data.hdf5", "metadata.json"
GZIP, WINDOW = {"compression": "gzip", "compression_opts": 4}, 50  # 8.5 times smaller than Minari's own raw file
SIMULATORS = ("mujoco", "metaworld", "dm_control", "robodesk")


def export_minari(dataset: Dataset, root: Path | str | None = None, force: bool = False) -> str:
    """Write `dataset` where Minari keeps its own (or below `root`) and return its Minari id.

    >>> minari.load_dataset(export_minari(dataset)).recover_environment()  # doctest: +SKIP

    The folder takes its name when it is whole. An export that exists is kept when it is of this very dataset.
    Raises UserError when it is of another, unless `force`."""
    name = PREFIX + dataset.id
    folder = minari_root(root) / name
    if folder.exists() and not force:
        if exported_fingerprint(folder) == dataset.fingerprint:
            return name
        raise UserError(f"Minari has another {name} already in {folder}; remove it, or replace it with --force")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    write_episodes(partial / "data" / DATA, dataset)
    size_mb = (partial / "data" / DATA).stat().st_size / 1e6
    write_json(partial / "data" / METADATA, metadata(dataset, name) | {"dataset_size": round(size_mb, 1)})
    sync(partial / "data")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    sync(folder.parent)
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
    sync(path)


def write_episode(group: h5py.Group, index: int, episode: Episode, has_success: bool) -> None:
    """One episode in Minari's layout; its metadata as attributes, and once more as JSON for the way back."""
    group.attrs.update({"id": index, "total_steps": episode.env_steps, META: json.dumps(episode.meta)})
    for name, value in (("seed", "seed"), ("policy_step", "updates"), ("env_steps", "env_steps")):
        group.attrs[name] = episode.meta.get(value, 0)
    observations = group.create_group("observations")
    if episode.image is not None:
        chunks = (min(WINDOW, episode.rows), *episode.image.shape[1:])
        observations.create_dataset("image", data=episode.image, chunks=chunks, **GZIP)
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
    if not folders:
        raise DatasetError(f"no Minari dataset {name} in {minari_root(root)}; fetch it with: minari download {name}")
    folder = folders[0]
    described = json.loads((folder / "data" / METADATA).read_text())
    refuse_foreign(str(name), described)
    card = json.loads(described["coworld_card"]) if "coworld_card" in described else foreign_card(described)
    return read_episodes(folder / "data" / DATA, int(described["total_episodes"])), card


def refuse_foreign(name: str, described: Mapping[str, Any]) -> None:
    """Raises DatasetError for a dataset whose pictures are not exact or whose format or spaces are not these."""
    observation = json.loads(described.get("observation_space", "{}"))
    parts = observation.get("subspaces", {})
    if "image" in parts and described.get("jpeg_encoding", True):
        raise DatasetError(f"{name} keeps its pictures as lossy JPEG; import one written with jpeg_encoding=False")
    if described.get("data_format") != "hdf5":
        raise DatasetError(f"{name} is kept as {described.get('data_format')}; only Minari's hdf5 format can be imported")
    if not isinstance(parts, dict) or "state" not in parts or not set(parts) <= {"image", "state"}:
        raise DatasetError(f"{name} has other observations than a Dict of `state` and, where there is one, `image`")


def foreign_card(described: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a dataset that did not come from here: its environment must be one of ours.

    Raises DatasetError when the environment is missing or another one."""
    environment = json.loads(described.get("env_spec") or "{}")
    if environment.get("entry_point") != "coworld_bench.envs:make_env":
        raise DatasetError(f"{described['dataset_id']} does not name an environment of coworld_bench, so it cannot be used")
    name = described["dataset_id"].removeprefix(PREFIX)
    label = VERSION.sub("", name.rpartition("/")[2])
    return {
        "dataset_id": name,
        "task": environment["kwargs"]["task"],
        "env_spec": environment["kwargs"],
        "quality": {"label": label},
        "policy": {"algo": described.get("algorithm_name", "")},
        "license": described.get("license", "unknown"),
    }


def read_episodes(path: Path, count: int) -> Iterator[Episode]:
    """The episodes of Minari's HDF5 file. Raises DatasetError when the file cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            for index in range(count):
                yield read_episode(file[f"episode_{index}"])
    except (OSError, KeyError) as error:
        raise DatasetError(f"{path} is damaged ({error}); export or download it again") from error


def read_episode(group: h5py.Group) -> Episode:
    """One episode with row 0 put back."""
    observations, infos = group["observations"], group.get("infos", {})
    success = infos["success"][()].astype(np.uint8) if "success" in infos else np.zeros(len(group["rewards"]), np.uint8)
    meta = json.loads(group.attrs[META]) if META in group.attrs else {"seed": int(group.attrs.get("seed", 0))}
    return Episode(
        image=observations["image"][()] if "image" in observations else None,
        state=observations["state"][()].astype(np.float32),
        action=with_first_row(group["actions"][()].astype(np.float32)),
        reward=with_first_row(group["rewards"][()].astype(np.float32)),
        success=success if len(success) == len(group["rewards"]) + 1 else with_first_row(success),
        terminal=bool(group["terminations"][-1]),
        meta=meta,
    )


def with_first_row(array: np.ndarray) -> np.ndarray:
    """`array` behind a row of zeros."""
    return np.concatenate([np.zeros_like(array[:1]), array])
