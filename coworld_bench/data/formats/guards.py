"""What every reader asks of a file before it believes it. Files come from anywhere: nothing of them is executed, nothing
they name is opened, and no size they claim is allocated before it is compared with what they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import split_id
from coworld_bench.errors import DatasetError, UserError
from coworld_bench.tasks import EnvSpec

MOST_PACKED = 1100  # decoded bytes that a byte of a file can stand for: deflate reaches 1032
EPISODE_BYTES = 2**31  # of one array of one episode, decoded
POLICIES = 256  # that a dataset can tell apart: its column is uint8
RANGE = 1 + 1e-6  # of actions
WHOLE = {"seed": 2**64, "env_steps": 2**63, "updates": 2**63}  # of an episode's metadata, with the end of their columns


def refused(where: Path | str, why: str) -> DatasetError:
    return DatasetError(f"{where} cannot be imported: {why}")


def read_description(path: Path) -> dict[str, Any]:
    """A JSON file with a dictionary in it. Raises DatasetError for anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise refused(path, f"it is no JSON file ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise refused(path, "it holds no JSON object")
    return value


def plausible(where: Path | str, name: str, shape: tuple[int, ...], dtype: np.dtype, packed: int) -> None:
    """Raises DatasetError for an array of Python objects, or one that claims more than `packed` bytes can hold."""
    if dtype.hasobject or dtype.kind not in "biuf":
        raise refused(where, f"{name} has the type {dtype}, and only plain numbers are read")
    size = math.prod(shape) * dtype.itemsize
    if size > MOST_PACKED * packed:
        raise refused(where, f"{name} claims {size:,} bytes, which {packed:,} bytes of file cannot hold")


def fits_memory(where: Path | str, rows: int, row_bytes: int) -> None:
    """Raises DatasetError for an episode that is too large to hold."""
    if rows * row_bytes > EPISODE_BYTES:
        raise refused(where, f"an episode of {rows:,} rows takes {rows * row_bytes:,} bytes, more than {EPISODE_BYTES:,}")


def numbers(where: Path | str, name: str, array: np.ndarray, rows: int, axes: int) -> np.ndarray:
    """`array` as float32 [rows, ...] with so many axes. Raises DatasetError where it is something else or not finite."""
    if array.dtype.kind != "f":
        raise refused(where, f"{name} has the type {array.dtype}; floating-point numbers are needed")
    if array.ndim != axes or len(array) != rows:
        raise refused(where, f"{name} has the shape {array.shape}; {axes} axes and {rows} rows are needed")
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32)
    if not np.isfinite(converted).all():
        raise refused(where, f"{name} holds values that are not finite")
    return converted


def flags(where: Path | str, name: str, array: np.ndarray, rows: int) -> np.ndarray:
    """`array` as bool [rows]. Raises DatasetError where it holds anything but 0 and 1."""
    if array.shape not in ((rows,), (rows, 1)) or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise refused(where, f"{name} must be {rows} values of 0 and 1; it has the type {array.dtype}, shape {array.shape}")
    return array.reshape(rows).astype(bool)


def pictures(where: Path | str, array: np.ndarray, rows: int) -> np.ndarray:
    """`array`, when it is uint8 [rows, S, S, 3]."""
    if array.dtype != np.uint8 or array.ndim != 4 or len(array) != rows or array.shape[3] != 3:
        raise refused(where, f"pictures must be uint8 [{rows}, S, S, 3]; they have the type {array.dtype}, {array.shape}")
    if array.shape[1] != array.shape[2] or array.shape[1] < 16:
        raise refused(where, f"pictures must be square, of 16 pixels a side or more; they are {array.shape[1:3]}")
    return array


def checked(where: Path | str, arrays: Mapping[str, np.ndarray | None], terminal: bool) -> Episode:
    """The episode of arrays by their names in `Episode`, in its row layout; `state`, `success` and `image` may be missing.

    Raises DatasetError, which says what is wrong, for anything that is no episode of ours."""
    reward, action = arrays["reward"], arrays["action"]
    assert reward is not None and action is not None
    rows = len(reward) if reward.ndim else 0
    if rows < 2:
        raise refused(where, f"an episode needs two rows or more; one has {rows}")
    image, state, success = (arrays.get(name) for name in ("image", "state", "success"))
    parts: dict[str, Any] = {
        "reward": numbers(where, "reward", reward, rows, 1),
        "action": numbers(where, "action", action, rows, 2),
    }
    if parts["action"].any(where=np.abs(parts["action"]) > RANGE):
        raise refused(where, f"its actions leave [-1, 1]: the largest is {np.abs(parts['action']).max():g}")
    if parts["action"][0].any() or parts["reward"][0]:
        raise refused(
            where, "row 0 of an episode has an action or a reward, so its rows are not laid out as they should be"
        )
    parts["state"] = np.empty((rows, 0), np.float32) if state is None else numbers(where, "state", state, rows, 2)
    won = np.zeros(rows, bool) if success is None else flags(where, "success", success, rows)
    seen = None if image is None else pictures(where, image, rows)
    return Episode(seen, **parts, success=won.astype(np.uint8), terminal=terminal)


def from_decisions(where: Path | str, arrays: Mapping[str, np.ndarray | None], terminal: bool) -> Episode:
    """The episode of N decisions, where row t of `action`, `reward` and `success` belongs to the decision taken at row t of
    `image` and `state`. These have N+1 rows, or N where the last was not kept; then the last decision is left out, and
    with it the end."""
    reward = arrays["reward"]
    seen = arrays.get("image") if arrays.get("image") is not None else arrays.get("state")
    assert reward is not None and seen is not None
    kept = min(len(reward), len(seen) - 1)
    observed = {name: cut(arrays.get(name), kept + 1) for name in ("image", "state")}
    decided = {name: shifted(arrays.get(name), kept) for name in ("action", "reward", "success")}
    return checked(where, observed | decided, terminal and kept == len(reward))


def cut(array: np.ndarray | None, rows: int) -> np.ndarray | None:
    return None if array is None else array[:rows]


def shifted(array: np.ndarray | None, rows: int) -> np.ndarray | None:
    return None if array is None else behind_zeros(array[:rows])


def behind_zeros(array: np.ndarray) -> np.ndarray:
    """`array` behind a row of zeros: what belongs to a decision, in the rows that it led to."""
    return np.concatenate([np.zeros_like(array[:1]), array])


def checked_meta(where: Path | str, meta: Any) -> dict[str, Any]:
    """An episode's metadata. Raises DatasetError where a dataset has no place for it."""
    if not isinstance(meta, dict):
        raise refused(where, "the metadata of an episode is no JSON object")
    for name, end in WHOLE.items():
        value = meta.get(name, 0)
        if type(value) is not int or not 0 <= value < end:
            raise refused(where, f"{name} of an episode is {value!r}, which is no whole number of the kind it should be")
    noise = meta.get("noise", 0.0)
    if type(noise) not in (int, float) or not 0 <= noise < 1e30:
        raise refused(where, f"noise of an episode is {noise!r}, which is no number of at least 0")
    if not isinstance(meta.get("policy", ""), str):
        raise refused(where, f"policy of an episode is {meta['policy']!r}, which is no name")
    return meta


class Part(BaseModel):
    """Of a card: what is computed or formatted with. The rest is kept as it is."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Quality(Part):
    label: str | None = None
    rule: str | None = None
    reference: float | None = None
    threshold: float | None = None
    fired: bool = True
    curve: list[dict[str, Any]] = []


class Origin(Part):
    format: str = ""
    left_out: list[str] = []


class Provenance(Part):
    imported: Origin = Origin()
    packages: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    git: dict[str, Any] | None = None
    gl: dict[str, Any] | None = None


class Card(Part):
    """What a card that comes in a file must be for `build`, `open_dataset` and the command line to use it."""

    dataset_id: str | None = None  # of a dataset that has one already
    task: str
    env_spec: dict[str, Any]
    preset: str | None = None
    seed: int | None = None
    quality: Quality = Quality()
    policy: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    provenance: Provenance = Provenance()
    has_success: bool = False
    license: str = ""


def checked_card(where: Path | str, card: Any) -> dict[str, Any]:
    """A dataset's card that came in a file. Raises DatasetError where one cannot be built with it."""
    try:
        Card.model_validate(card)
        EnvSpec(**card["env_spec"])
        if "dataset_id" in card:
            split_id(card["dataset_id"])
    except ValidationError as error:
        first = error.errors()[0]
        raise refused(where, f"its card is damaged ({'.'.join(map(str, first['loc']))}: {first['msg'].lower()})") from error
    except (TypeError, ValueError, UserError) as error:
        raise refused(where, f"its card names no environment or dataset of ours ({error})") from error
    return dict(card)
