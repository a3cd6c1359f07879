"""Writing the Zarr group of a dataset: shard by shard, each synced, read back, compared and entered in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.chunks import Damaged, ImageReader, chunk_path, read_array
from coworld_bench.data.episode import TIMING, Episode
from coworld_bench.data.layout import (
    CHUNK_ROWS,
    EPISODE_TYPES,
    FORMAT,
    FRAME_TYPES,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    META_COLUMNS,
    PADDING,
    SHARD_ROWS,
    slots,
)
from coworld_bench.files import append_line, digest_of, sha256_file, sync

if TYPE_CHECKING:
    import zarr


def content_digest(episodes: np.ndarray) -> str:
    """SHA-256 in hex of the episodes' digests, uint8 [E, 32], in their order."""
    return digest_of([bytes(episode).hex() for episode in episodes])


class StoreWriter:
    """Takes episodes one by one; pictures are written as shards fill up, the rest at the end."""

    def __init__(self, store: Path, journal: Path) -> None:
        import zarr

        self._store, self._journal = store, journal
        self._group = zarr.create_group(store, zarr_format=3)
        self._images: zarr.Array | None = None
        self._pending: list[np.ndarray] = []  # pictures of the shard that is not full yet
        self._written = 0  # rows of pictures on disk
        self._rows = 0
        self._frames: dict[str, list[np.ndarray]] = {name: [] for name in FRAME_TYPES}
        self._table: list[dict[str, Any]] = []
        self._policies: list[str] = []
        self._extras: dict[str, dict[str, Any]] = {}  # metadata that has no column, by episode number

    def add(self, episode: Episode) -> None:
        """The next episode, padded to whole chunks."""
        count = slots(episode.rows)
        self._enter(episode)
        for name, array in frame_columns(episode).items():
            self._frames[name].append(padded(array, count, PADDING if name == "flags" else 0))
        if episode.image is not None:
            last = np.broadcast_to(episode.image[-1], (count - episode.rows, *episode.image.shape[1:]))
            self._pending += [episode.image, last]
            self._flush_full_shards()
        self._rows += count

    def summary(self) -> dict[str, Any]:
        """What a card says about sizes and returns."""
        returns = np.array([row["ret"] for row in self._table])
        return {
            "episodes": len(self._table),
            "rows": int(sum(row["length"] for row in self._table)),
            "image": list(self._picture_shape()),
            "state_size": self._frames["state"][0].shape[1],
            "action_size": self._frames["action"][0].shape[1],
            "returns": {"mean": float(returns.mean()), "min": float(returns.min()), "max": float(returns.max())},
            "success_rate": float(np.mean([row["success"] for row in self._table])),
            "policies": dict(sorted(Counter(self._policies[row["policy"]] for row in self._table).items())),
            "content": content_digest(np.array([row["sha256"] for row in self._table], np.uint8)),
        }

    def finish(self, card: Mapping[str, Any]) -> None:
        """Write all that is left, and the attributes."""
        if sum(map(len, self._pending)):
            self._write_shard(np.concatenate(self._pending))
        for name, parts in self._frames.items():
            self._write_small(f"frames/{name}", np.concatenate(parts).astype(FRAME_TYPES[name]))
        for name, dtype in EPISODE_TYPES.items():
            self._write_small(f"episodes/{name}", np.array([row[name] for row in self._table], dtype))
        self._group.attrs.update(
            {
                "format_version": FORMAT, "dataset_id": card["dataset_id"], "card": dict(card), "timing": TIMING,
                "spaces": spaces(card), "policies": self._policies, "extras": self._extras,
            }
        )  # fmt: skip

    def _enter(self, episode: Episode) -> None:
        policy = str(episode.meta.get("policy", ""))
        if policy not in self._policies:
            self._policies.append(policy)
        known = {column: episode.meta.get(name, 0) for name, column in META_COLUMNS.items()}
        extra = {name: value for name, value in episode.meta.items() if name not in META_COLUMNS and name != "policy"}
        if extra:
            self._extras[str(len(self._table))] = extra
        row = {
            "start": self._rows, "length": episode.rows, "ret": episode.ret, "success": episode.succeeded,
            "policy": self._policies.index(policy), "ckpt": -1, "split": 0,
            "sha256": np.frombuffer(bytes.fromhex(episode.digest), np.uint8),
        }  # fmt: skip
        self._table.append(row | known)

    def _picture_shape(self) -> tuple[int, ...]:
        if self._images is not None:
            return self._images.shape[1:]
        return self._pending[0].shape[1:] if self._pending else ()

    def _flush_full_shards(self) -> None:
        while sum(map(len, self._pending)) >= SHARD_ROWS:
            rows = np.concatenate(self._pending)
            self._write_shard(rows[:SHARD_ROWS])
            self._pending = [rows[SHARD_ROWS:]]

    def _write_shard(self, rows: np.ndarray) -> None:
        if self._images is None:
            self._images = self._create("frames/image", (0, *rows.shape[1:]), "u1", sharded=True)
        shard, end = self._written // SHARD_ROWS, self._written + len(rows)
        self._images.resize((end, *rows.shape[1:]))
        self._images[self._written : end] = rows
        back = ImageReader(self._store / "frames/image").rows(self._written, len(rows))
        self._commit("frames/image", shard, rows.ndim, [self._written, end], np.array_equal(back, rows))
        self._written = end

    def _write_small(self, name: str, values: np.ndarray) -> None:
        if 0 in values.shape:  # a state of size 0: the card says so
            return
        self._create(name, values.shape, values.dtype.str)[:] = values
        same = np.array_equal(read_array(self._store / name), values, equal_nan=values.dtype.kind == "f")
        for shard, start in enumerate(range(0, len(values), SHARD_ROWS)):
            self._commit(name, shard, values.ndim, [start, min(start + SHARD_ROWS, len(values))], same)

    def _commit(self, name: str, shard: int, axes: int, rows: list[int], same: bool) -> None:
        path = chunk_path(self._store / name, shard, axes)
        if not same:
            raise Damaged(path, "read back", "what is on disk is not what was written")
        sync(path)
        append_line(self._journal, {"array": name, "shard": shard, "rows": rows, "sha256": sha256_file(path)})

    def _create(self, name: str, shape: tuple[int, ...], dtype: str, sharded: bool = False) -> zarr.Array:
        from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

        fast = BloscCodec(cname="lz4hc", clevel=9, shuffle="noshuffle", typesize=1)
        return self._group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=(CHUNK_ROWS if sharded else SHARD_ROWS, *shape[1:]),
            shards=(SHARD_ROWS, *shape[1:]) if sharded else None,
            compressors=(fast if sharded else ZstdCodec(level=3), Crc32cCodec()),
            config={"write_empty_chunks": True},  # so that a chunk of zeros can be told from a missing one
        )


def frame_columns(episode: Episode) -> dict[str, np.ndarray]:
    """The arrays of `frames/` for one episode, without padding and pictures."""
    flags = np.zeros(episode.rows, np.uint8)
    flags[0], flags[-1] = IS_FIRST, IS_LAST | IS_TERMINAL * episode.terminal
    discount = (flags & IS_TERMINAL == 0).astype(np.float32)
    columns = {"action": episode.action, "state": episode.state, "reward": episode.reward, "discount": discount}
    return columns | {"success": episode.success, "flags": flags}


def padded(array: np.ndarray, rows: int, value: int) -> np.ndarray:
    """`array` with rows of `value` behind it."""
    widths = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, widths, constant_values=value)


def spaces(card: Mapping[str, Any]) -> dict[str, Any]:
    """Observation and action space in few words: type, range and shape."""
    box: dict[str, Any] = {"state": {"dtype": "float32", "shape": [card["state_size"]]}}
    if card["image"]:
        box["image"] = {"dtype": "uint8", "low": 0, "high": 255, "shape": card["image"]}
    action = {"dtype": "float32", "low": -1, "high": 1, "shape": [card["action_size"]]}
    return {"observation": box, "action": action}
