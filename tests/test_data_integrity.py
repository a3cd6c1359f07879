"""One changed bit anywhere in a dataset is found, and what is read for training is never silently wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_episodes import card, played, several

from coworld_bench.data.build import build
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.integrity import verify
from coworld_bench.data.writer import StoreWriter
from coworld_bench.errors import DatasetError

UNREAD = ("README.md", "journal.jsonl", "preview/sheet.png", "data.zarr/frames/discount/c")
OF_EPISODES = ("data.zarr/frames/flags/c", "data.zarr/frames/success/c")  # not read by `load`


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([*several(), played(4, 2100)], tmp_path_factory.mktemp("data") / "original", card())


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def flip(path: Path, position: int, bit: int) -> bytes:
    """Change one bit of a file; returns what was there."""
    content = path.read_bytes()
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    path.write_bytes(changed)
    return content


def test_an_intact_dataset_passes_every_check(original: Path) -> None:
    for full in (False, True):
        report = verify(original, full)
        assert report.ok and not report.faults
    checked = {(check.file, check.check) for check in report.checks}
    assert {
        ("README.md", "sha256"),
        ("data.zarr/frames/action", "crc32c"),
        ("data.zarr/episodes", "recomputed"),
    } <= checked
    report.demand()


def test_a_flipped_bit_is_found_in_every_file(copy: Path) -> None:
    rng = np.random.default_rng(0)
    for name in files(copy):
        path = copy / name
        size = path.stat().st_size
        for position in {0, size - 1, int(rng.integers(size))}:
            content = flip(path, position, int(rng.integers(8)))
            report = verify(copy)
            assert not report.ok, (name, position)
            with pytest.raises(DatasetError, match="is damaged"):
                report.demand()
            path.write_bytes(content)
    assert verify(copy).ok


def test_a_flipped_bit_in_what_is_read_stops_loading(copy: Path) -> None:
    rng = np.random.default_rng(1)
    for name in files(copy):
        if name.startswith(UNREAD):
            continue
        path = copy / name
        size = path.stat().st_size
        for position in [size - 1, *map(int, rng.integers(size, size=12 if "image/c" in name else 2))]:
            content = flip(path, position, int(rng.integers(8)))
            with pytest.raises(DatasetError):
                dataset = open_dataset(copy)
                list(dataset) if name.startswith(OF_EPISODES) else dataset.load("ram")
                pytest.fail(f"{name} at byte {position}")
            path.write_bytes(content)
    assert open_dataset(copy).load().rows == 89 + 2101


@pytest.mark.parametrize("full", [False, True])
def test_a_file_that_is_missing_or_cut_short_is_found(copy: Path, full: bool) -> None:
    path = copy / "data.zarr/frames/image/c/1/0/0/0"
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert verify(copy, full).faults[0].file == str(path)
    path.unlink()
    report = verify(copy, full)
    assert "missing" in report.faults[0].detail
    with pytest.raises(DatasetError, match="c/1/0/0/0"):
        open_dataset(copy)


def test_a_damaged_shard_index_is_found_without_reading_pictures(copy: Path) -> None:
    flip(copy / "data.zarr/frames/image/c/1/0/0/0", -1000, 3)
    assert [(fault.check, fault.detail) for fault in verify(copy, full=False).faults] == [("crc32c", "shard index")]


def test_a_file_that_nobody_wrote_is_found(copy: Path) -> None:
    shutil.copy(copy / "data.zarr/frames/action/c/0/0", copy / "data.zarr/frames/action/c/0/1")
    assert verify(copy, full=False).ok
    assert [fault.detail for fault in verify(copy).faults] == ["the manifest does not name it"]


def test_a_dataset_without_a_manifest_fails_and_nothing_is_raised(copy: Path, tmp_path: Path) -> None:
    (copy / "manifest.json").unlink()
    assert "unfinished" in verify(copy).faults[0].detail
    assert not verify(tmp_path / "nowhere").ok


def test_columns_that_do_not_follow_from_the_rows_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = StoreWriter._enter

    def mistaken(writer: StoreWriter, episode: object) -> None:
        enter(writer, episode)
        writer._table[-1]["ret"] += 1

    monkeypatch.setattr(StoreWriter, "_enter", mistaken)
    report = verify(build(several(), tmp_path / "wrong", card()))
    assert [(fault.check, Path(fault.file).name) for fault in report.faults] == [("recomputed", "ret")]


def test_pictures_swapped_behind_intact_checksums_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = StoreWriter._write_shard
    monkeypatch.setattr(StoreWriter, "_write_shard", lambda writer, rows: write(writer, rows[::-1].copy()))
    folder = build(several(), tmp_path / "swapped", card())
    assert [fault.check for fault in verify(folder).faults] == ["sha256"]
    with pytest.raises(DatasetError, match="episode 0 is not what was collected"):
        list(open_dataset(folder))


def test_full_verification_on_opening(copy: Path) -> None:
    assert open_dataset(copy, verify="full").episodes == 5
    flip(copy / "README.md", 30, 0)
    assert open_dataset(copy).episodes == 5
    with pytest.raises(DatasetError, match=r"README.md \(sha256: the content changed\)"):
        open_dataset(copy, verify="full")
