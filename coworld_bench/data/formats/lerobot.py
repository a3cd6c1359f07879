"""Datasets to and from LeRobot v3.0: Parquet files with a row for each decision, pictures as PNG bytes within.

    meta/info.json, meta/stats.json, meta/tasks.parquet
    meta/episodes/chunk-000/file-000.parquet      an episode a row: length, where its rows are, statistics
    data/chunk-000/file-000.parquet               observation.image, observation.state, action, next.reward, next.done, ...
    coworld_last.parquet                          what was seen last in every episode

A row holds what was seen and the action taken then, so what the last action led to has no row. It lies beside, where
LeRobot does not look: a row with an action that nobody took would teach a policy to take it. Time is counted in decisions;
`fps` is nominal.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.dataset import Dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats.guards import fits_memory, flags, from_decisions, plausible, read_description, refused
from coworld_bench.data.formats.sidecar import export_folder, imported
from coworld_bench.data.formats.statistics import Statistics
from coworld_bench.data.preview import png
from coworld_bench.errors import MissingPackage, named
from coworld_bench.files import write_json

NAME, VERSION, FPS = "lerobot", "v3.0", 10
INFO, STATS, TASKS, LAST = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "coworld_last.parquet"
EPISODES, DATA = "meta/episodes/chunk-000/file-000.parquet", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILE_MB, FILES = 100, 1000  # of a data file, and of a chunk of files
IMAGE, STATE, ACTION = "observation.image", "observation.state", "action"
REWARD, DONE, TRUNCATED, SUCCESS = "next.reward", "next.done", "next.truncated", "next.success"
COUNTED = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
FILE = re.compile(r"chunk-\d+/file-\d+\.parquet")
PNG = b"\x89PNG\r\n\x1a\n"
LOST = "the last decision of every episode, whose next observation is not in the files"
BATCH = 64  # rows that are read together


def parquet() -> Any:
    """pyarrow.parquet. Raises MissingPackage where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackage("pyarrow", 'pip install "coworld-bench[lerobot]"') from error
    return pyarrow.parquet


def export(dataset: Dataset, out: Path, force: bool = False) -> Path:
    """Write the folder `out` and return it. Raises MissingPackage without pyarrow."""
    parquet()

    def write(folder: Path, episodes: Iterator[Episode]) -> None:
        writer = Writer(folder, dataset)
        try:
            for episode in episodes:
                writer.add(episode)
        finally:
            writer.close()
        writer.finish()

    return export_folder(NAME, dataset, out, force, write)


def features_of(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """What the columns are, in LeRobot's words."""
    card, found = dataset.card, {}
    if card["image"]:
        found[IMAGE] = {"dtype": "image", "shape": card["image"], "names": ["height", "width", "channels"]}
    if card["state_size"]:
        found[STATE] = {"dtype": "float32", "shape": [card["state_size"]], "names": None}
    found[ACTION] = {"dtype": "float32", "shape": [card["action_size"]], "names": None}
    found[REWARD] = {"dtype": "float32", "shape": [1], "names": None}
    marks = [DONE, TRUNCATED, *([SUCCESS] if card["has_success"] else [])]
    found |= {name: {"dtype": "bool", "shape": [1], "names": None} for name in marks}
    return found | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in COUNTED.items()}


class Writer:
    """Takes episodes one by one: each is a row group of a data file, which is closed when it is large enough."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder, self.task, self.features = folder, dataset.env_spec.task, features_of(dataset)
        self.rows, self.files = 0, 0  # written so far
        self.file: Any = None
        self.path = folder  # of that file
        self.entries: list[dict[str, Any]] = []
        self.last: list[dict[str, Any]] = []
        self.total = Statistics()

    def add(self, episode: Episode) -> None:
        """The next episode."""
        columns = self._columns(episode)
        statistics = Statistics(columns)
        self._write({name: as_arrow(array) for name, array in columns.items()})
        chunk, file = divmod(self.files - 1, FILES)
        entry = {
            "episode_index": len(self.entries), "tasks": [self.task], "length": episode.env_steps,
            "data/chunk_index": chunk, "data/file_index": file, "dataset_from_index": self.rows,
            "dataset_to_index": self.rows + episode.env_steps, "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }  # fmt: skip
        each = {
            f"stats/{name}/{key}": value for name, found in statistics.to_dict().items() for key, value in found.items()
        }
        self.entries.append(entry | each)
        seen = {} if episode.image is None else {IMAGE: png(episode.image[-1])}
        self.last.append(seen | {STATE: episode.state[-1].tolist()})
        self.total = self.total + statistics
        self.rows += episode.env_steps

    def finish(self) -> None:
        """Write what describes the rows."""
        import pandas as pd
        import pyarrow as pa

        path = self.folder / EPISODES
        path.parent.mkdir(parents=True)
        parquet().write_table(pa.Table.from_pylist(self.entries), path)
        parquet().write_table(pa.Table.from_pylist(self.last), self.folder / LAST)
        pd.DataFrame({"task_index": [0]}, index=pd.Index([self.task], name="task")).to_parquet(self.folder / TASKS)
        write_json(self.folder / STATS, self.total.to_dict())
        write_json(self.folder / INFO, self._info())

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = None

    def _columns(self, episode: Episode) -> dict[str, np.ndarray]:
        """The columns of an episode, in the order of the features."""
        steps = episode.env_steps
        last = np.arange(steps) == steps - 1
        counted: dict[str, np.ndarray] = {
            "timestamp": (np.arange(steps) / FPS).astype(np.float32), "frame_index": np.arange(steps),
            "episode_index": np.full(steps, len(self.entries)), "index": np.arange(self.rows, self.rows + steps),
            "task_index": np.zeros(steps, np.int64),
        }  # fmt: skip
        known = counted | {
            STATE: episode.state[:-1], ACTION: episode.action[1:], REWARD: episode.reward[1:], DONE: last,
            TRUNCATED: last & (not episode.terminal), SUCCESS: episode.success[1:].astype(bool),
        }  # fmt: skip
        if episode.image is not None:
            known[IMAGE] = episode.image[:-1]
        return {name: known[name] for name in self.features}

    def _write(self, columns: dict[str, Any]) -> None:
        """One row group, into a new file where the last one is large enough."""
        import pyarrow as pa

        if self.file is not None and self.path.stat().st_size > FILE_MB * 2**20:
            self.close()
        table = pa.table(columns)
        if self.file is None:
            chunk, file = divmod(self.files, FILES)
            self.path = self.folder / DATA.format(chunk_index=chunk, file_index=file)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = parquet().ParquetWriter(self.path, table.schema, write_page_checksum=True)
            self.files += 1
        self.file.write_table(table, row_group_size=max(table.num_rows, 1))

    def _info(self) -> dict[str, Any]:
        episodes = len(self.entries)
        return {
            "codebase_version": VERSION, "robot_type": None, "fps": FPS, "features": self.features,
            "total_episodes": episodes, "total_frames": self.rows, "total_tasks": 1, "chunks_size": FILES,
            "data_files_size_in_mb": FILE_MB, "video_files_size_in_mb": FILE_MB, "splits": {"train": f"0:{episodes}"},
            "data_path": DATA, "video_path": None,
        }  # fmt: skip


def as_arrow(array: np.ndarray) -> Any:
    """A column as LeRobot's features have it: [T] and [T, 1] as values, [T, K] as lists of K, pictures as PNG files."""
    import pyarrow as pa

    if array.ndim == 4:
        names = [f"frame-{row:06d}.png" for row in range(len(array))]
        return pa.StructArray.from_arrays([pa.array(map(png, array), pa.binary()), pa.array(names)], ["bytes", "path"])
    if array.ndim == 2 and array.shape[1] > 1:
        return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    return pa.array(array.ravel())


@dataclass(frozen=True)
class Layout:
    """What `info.json` says, as far as it is used; it names no place that is looked at."""

    path: Path
    names: frozenset[str]  # of the columns
    camera: str | None
    widths: dict[str, int]  # of the columns of vectors
    episodes: int
    rows: int


def read(path: Path) -> tuple[Iterator[Episode], dict[str, Any]]:
    """The episodes of a LeRobot folder with one camera at most, whose pictures are PNG files.

    Where the folder did not come from here, the last decision of every episode is left out, and the card says so. Raises
    DatasetError for anything else, MissingPackage without pyarrow."""
    parquet()
    layout = read_layout(path)
    last = read_last(path, layout)
    used = {layout.camera, STATE, ACTION, REWARD, DONE, TRUNCATED, SUCCESS, *COUNTED}
    left_out = sorted(layout.names - used) + ([LOST] if last is None else [])
    return imported(NAME, path, read_episodes(layout, last), left_out, has_success=SUCCESS in layout.names)


def read_layout(path: Path) -> Layout:
    info = read_description(path / INFO)
    version, features = info.get("codebase_version"), info.get("features")
    if not isinstance(version, str) or not version.startswith("v3."):
        raise refused(path, f"it has LeRobot's version {version!r}; {VERSION} is read")
    if info.get("data_path") != DATA:
        raise refused(path, f"it keeps its rows at {info.get('data_path')!r}; they should be at {DATA}")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise refused(path / INFO, "it describes no features")
    if any(feature.get("dtype") == "video" for feature in features.values()):
        raise refused(path, "it keeps its pictures as video, which is lossy; pictures as PNG files are read")
    cameras = [name for name, feature in features.items() if feature.get("dtype") == "image"]
    lacking = {ACTION, REWARD, "episode_index", "frame_index"} - set(features)
    if len(cameras) > 1 or lacking or (not cameras and STATE not in features):
        raise refused(path, f"it has {len(cameras)} cameras and lacks {', '.join(sorted(lacking)) or 'nothing else'}")
    episodes, rows = info.get("total_episodes"), info.get("total_frames")
    if not isinstance(episodes, int) or not isinstance(rows, int):
        raise refused(path / INFO, f"it counts {episodes!r} episodes and {rows!r} frames")
    widths = {name: width_of(path, name, features[name]) for name in (STATE, ACTION) if name in features}
    return Layout(path, frozenset(features), cameras[0] if cameras else None, widths, episodes, rows)


def width_of(path: Path, name: str, feature: Mapping[str, Any]) -> int:
    shape = feature.get("shape")
    if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int or not 0 < shape[0] < 10_000:
        raise refused(path / INFO, f"{name} has the shape {shape!r}, and should be a vector")
    return shape[0]


def read_episodes(layout: Layout, last: list[dict[str, Any]] | None) -> Iterator[Episode]:
    read = 0
    for read, part in enumerate(joined(layout, read_batches(layout)), 1):
        yield read_episode(layout, read - 1, part, None if last is None else last[read - 1 : read])
    if read != layout.episodes:
        raise refused(layout.path, f"it has {read} episodes, and {INFO} says {layout.episodes}")


def read_episode(layout: Layout, index: int, part: dict[str, Any], last: list[dict[str, Any]] | None) -> Episode:
    """One episode of its rows; `last` is what was seen after them, where it is known."""
    where, steps = layout.path, len(part["frame_index"])
    if (part["episode_index"] != index).any() or (part["frame_index"] != np.arange(steps)).any():
        raise refused(where, f"the rows of episode {index} are not all of it in their order")
    ends = {name: flags(where, name, part[name], steps) for name in (DONE, TRUNCATED) if name in part}
    if any(end[:-1].any() for end in ends.values()):
        raise refused(where, f"episode {index} ends before its last row")
    arrays = {"action": part[ACTION], "reward": part[REWARD], "state": part.get(STATE), "success": part.get(SUCCESS)}
    if last is not None and STATE in part:
        arrays["state"] = followed_by(where, part[STATE], np.array([row[STATE] for row in last], part[STATE].dtype))
    if layout.camera:
        after = [] if last is None else [row.get(IMAGE) for row in last]
        arrays["image"] = decoded(where, [*part[layout.camera], *after])
    terminal = TRUNCATED in ends and DONE in ends and bool(ends[DONE][-1]) and not ends[TRUNCATED][-1]
    return from_decisions(where, arrays, terminal)


def followed_by(where: Path, rows: np.ndarray, more: np.ndarray) -> np.ndarray:
    if more.shape[1:] != rows.shape[1:]:
        raise refused(where, f"the last states have the shape {more.shape[1:]}, the others {rows.shape[1:]}")
    return np.concatenate([rows, more])


def decoded(where: Path, files: list[Any]) -> np.ndarray:
    """The pictures of PNG files, uint8 [T, H, W, 3]. Raises DatasetError for other files, other sizes and other kinds."""
    from PIL import Image

    found: list[np.ndarray] = []
    for data in files:
        if not isinstance(data, bytes) or not data.startswith(PNG):
            raise refused(where, "a picture is no PNG file; others are lossy, or not within the rows")
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                plausible(where, "a picture", (*image.size, 3), np.dtype(np.uint8), len(data))
                fits_memory(where, len(files), 3 * image.size[0] * image.size[1])
                found.append(np.asarray(image))
        except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
            raise refused(where, f"a picture is damaged ({named(error)})") from error
    if len({(picture.shape, picture.dtype) for picture in found}) > 1:
        raise refused(where, "its pictures differ in size or kind")
    return np.stack(found)


def joined(layout: Layout, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of one `episode_index` behind each other as one part, however they come."""
    parts: list[dict[str, Any]] = []
    for batch in batches:
        cuts = np.flatnonzero(np.diff(batch["episode_index"])) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(batch["episode_index"])]):
            if parts and batch["episode_index"][start] != parts[0]["episode_index"][0]:
                yield one(parts)
                parts = []
            parts.append({name: column[start:stop] for name, column in batch.items()})
            fits_memory(layout.path, sum(len(part["frame_index"]) for part in parts), 8 * (3 + sum(layout.widths.values())))
    if parts:
        yield one(parts)


def one(parts: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: list(chain(*pieces)) if isinstance(pieces[0], list) else np.concatenate(pieces)
        for name, pieces in columns.items()
    }


def read_batches(layout: Layout) -> Iterator[dict[str, Any]]:
    """The rows of all data files, in order of name, a few at a time; pictures are left as the bytes they are."""
    import pyarrow as pa

    files = sorted(path for path in layout.path.glob("data/*/*") if FILE.fullmatch(f"{path.parent.name}/{path.name}"))
    wanted = {ACTION, REWARD, "episode_index", "frame_index"}
    wanted |= layout.names & {STATE, DONE, TRUNCATED, SUCCESS, layout.camera}
    rows = 0
    for path in files:
        try:
            with parquet().ParquetFile(path, page_checksum_verification=True) as file:
                rows += file.metadata.num_rows
                for batch in file.iter_batches(BATCH, columns=sorted(wanted), use_threads=False):
                    yield {name: as_numpy(layout, path, name, batch.column(name)) for name in wanted}
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise refused(path, f"it is damaged ({named(error)})") from error
    if rows != layout.rows:
        raise refused(layout.path, f"its data files have {rows} rows, and {INFO} says {layout.rows}")


def as_numpy(layout: Layout, path: Path, name: str, column: Any) -> Any:
    """A column of a batch: vectors [T, K], values [T], pictures as a list of bytes."""
    import pyarrow as pa

    if column.null_count:
        raise refused(path, f"{name} has rows without a value")
    if name == layout.camera:
        if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
            raise refused(path, f"{name} has the type {column.type}, and should hold the bytes of pictures")
        return column.field("bytes").to_pylist()
    width = layout.widths.get(name, 1)
    kind = getattr(column.type, "value_type", column.type)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise refused(path, f"{name} has the type {column.type}, and only plain numbers are read")
    if width > 1:
        flat = column.cast(pa.list_(kind, width)).flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, width)
    values = column.to_numpy(zero_copy_only=False)
    return values[:, None] if name in layout.widths else values


def read_last(path: Path, layout: Layout) -> list[dict[str, Any]] | None:
    """What was seen last in every episode; None where the folder did not come from here."""
    import pyarrow as pa

    if not (path / LAST).is_file():
        return None
    try:
        rows = parquet().read_table(path / LAST, use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refused(path / LAST, f"it is damaged ({named(error)})") from error
    state, width = layout.widths.get(STATE, 0), len(rows)
    fits = all(isinstance(row.get(STATE), list) and len(row[STATE]) == state for row in rows)
    if width != layout.episodes or not fits or not all(isinstance(x, float) for row in rows for x in row[STATE]):
        raise refused(path / LAST, f"it should say what was seen last in each of {layout.episodes} episodes")
    return rows
