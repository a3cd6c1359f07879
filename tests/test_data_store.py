"""Datasets on disk: what goes in comes out, unfinished ones are refused, and the same content has one fingerprint."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import zarr
from made_episodes import DATASET, SIZE, assert_same, card, played, several

from coworld_bench.data import build as building
from coworld_bench.data.build import build
from coworld_bench.data.chunks import Damaged, ImageReader
from coworld_bench.data.dataset import dataset_folder, dataset_id, list_datasets, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.layout import IS_FIRST, IS_LAST, IS_TERMINAL, PADDING
from coworld_bench.data.lock import WriterLock
from coworld_bench.data.staging import Staging
from coworld_bench.data.writer import StoreWriter
from coworld_bench.errors import DatasetError, UsageError, UserError
from coworld_bench.files import read_json, read_lines
from coworld_bench.tasks import EnvSpec


def made(home: Path, episodes: Iterable[Episode] | None = None, **changes: object) -> Path:
    described = card(**changes)
    return build(several() if episodes is None else episodes, home / described["dataset_id"], described)


def test_episodes_come_back_bit_by_bit(tmp_path: Path) -> None:
    episodes = [*several(), played(4, 20, terminal=True), played(5, 2100, extra="kept"), played(6, 3)]
    dataset = open_dataset(made(tmp_path, iter(episodes)))
    for given, expected in zip(dataset, episodes, strict=True):
        assert_same(given, expected)
    assert_same(dataset.episode(5), episodes[5])
    assert dataset.lengths.tolist() == [episode.rows for episode in episodes]
    np.testing.assert_allclose(dataset.returns, [episode.ret for episode in episodes], rtol=1e-6)
    assert dataset.successes.tolist() == [episode.succeeded for episode in episodes]
    assert (dataset.episodes, dataset.rows) == (7, sum(episode.rows for episode in episodes))
    with pytest.raises(IndexError, match="episodes 0 to 6"):
        dataset.episode(7)


def test_the_loaded_memory_holds_the_episodes_without_padding(tmp_path: Path) -> None:
    episodes = several()
    memory = open_dataset(made(tmp_path, episodes)).load()
    assert memory.lengths.tolist() == [15, 16, 17, 41] and memory.rows == 89
    batch = memory.sample(np.random.default_rng(0), 300, 9)
    number, row = batch.state[..., 0].astype(int), batch.state[..., 1].astype(int)
    assert (number == number[:, :1]).all() and (np.diff(row, axis=1) == 1).all()
    for window in range(0, 300, 37):
        expected = episodes[number[window, 0]].image[row[window]]
        np.testing.assert_array_equal(batch.image[window], expected)


def test_episodes_without_pictures(tmp_path: Path) -> None:
    environment = EnvSpec("toy/point", observation="state").to_dict()
    episodes = several(pictures=False)
    dataset = open_dataset(made(tmp_path, episodes, env_spec=environment), verify="full")
    for given, expected in zip(dataset, episodes, strict=True):
        assert_same(given, expected)
    assert dataset.domain.image == () and not (dataset.folder / "preview").exists()
    assert dataset.load().sample(np.random.default_rng(0), 2, 3).image is None


def test_plain_zarr_reads_the_documented_layout(tmp_path: Path) -> None:
    episodes = [*several(), played(4, 2100, terminal=True)]
    group = zarr.open_group(made(tmp_path, episodes) / "data.zarr", mode="r")
    assert group.attrs["format_version"] == "coworld-bench/1" and group.attrs["card"]["task"] == "toy/point"
    starts, lengths = group["episodes/start"][:], group["episodes/length"][:]
    assert starts.tolist() == [0, 16, 32, 64, 112] and lengths.tolist() == [15, 16, 17, 41, 2101]
    image, flags = group["frames/image"], group["frames/flags"][:]
    assert (image.chunks, image.shards) == ((16, SIZE, SIZE, 3), (2048, SIZE, SIZE, 3))
    pixels = image[:]
    for episode, start, length in zip(episodes, starts, lengths, strict=True):
        span = slice(start, start + length)
        np.testing.assert_array_equal(pixels[span], episode.image)
        np.testing.assert_array_equal(group["frames/action"][span], episode.action)
        np.testing.assert_array_equal(group["frames/reward"][span], episode.reward)
    assert flags[:16].tolist() == [IS_FIRST, *[0] * 13, IS_LAST, PADDING]
    assert flags[112 + 2100] == IS_LAST | IS_TERMINAL and (flags & IS_FIRST).astype(bool).sum() == 5
    assert group["frames/discount"][112 + 2100] == 0 and group["frames/discount"][14] == 1
    np.testing.assert_array_equal(pixels[15], episodes[0].image[-1])  # padding repeats the last picture
    assert group["episodes/seed"][1] == 2**31 + 1 and group["episodes/policy_step"][1] == 20


def test_a_dataset_says_what_it_is(tmp_path: Path) -> None:
    dataset = open_dataset(made(tmp_path))
    assert dataset.id == DATASET and dataset.fired and dataset.card["episodes"] == 4
    assert dataset.env_spec == EnvSpec("toy/point", image_size=SIZE)
    assert (dataset.domain.image, dataset.domain.state, dataset.domain.action) == ((SIZE, SIZE, 3), 2, 2)
    text = (dataset.folder / "README.md").read_text()
    assert DATASET in text and "It was reached" in text and "agent 3, random 1" in text
    assert (dataset.folder / "preview/sheet.png").stat().st_size > 500
    lines = read_lines(dataset.folder / "journal.jsonl")
    assert {"array": "frames/image", "rows": [0, 112], "shard": 0}.items() <= lines[0].items()


def test_a_rule_that_did_not_fire_is_shown(tmp_path: Path) -> None:
    dataset = open_dataset(made(tmp_path, quality={"label": "medium-replay", "rule": "a third", "fired": False}))
    assert not dataset.fired and "**not reached**" in (dataset.folder / "README.md").read_text()
    assert list_datasets(tmp_path)[0]["fired"] is False


def test_the_same_episodes_have_the_same_fingerprint_whoever_made_them(tmp_path: Path) -> None:
    with Staging(tmp_path / "staging") as staging:
        for episode in several():
            staging.add(episode)
        first = open_dataset(made(tmp_path / "a", staging)).fingerprint
    assert open_dataset(made(tmp_path / "b")).fingerprint == first
    assert open_dataset(made(tmp_path / "c", several()[:3])).fingerprint != first
    assert open_dataset(made(tmp_path / "d", seed=1)).fingerprint == first


def test_a_build_killed_at_any_file_leaves_an_unfinished_dataset_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = tmp_path / DATASET, open_dataset(made(tmp_path / "whole")).fingerprint
    commits = len(read_lines(tmp_path / "whole" / DATASET / "journal.jsonl"))
    commit = StoreWriter._commit
    for last in range(0, commits, 4):
        count = itertools.count()

        def killed(*values: object, count: Iterable[int] = count, last: int = last) -> None:
            if next(count) == last:
                raise KeyboardInterrupt
            commit(*values)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(StoreWriter, "_commit", killed)
            made(tmp_path)
        with pytest.raises(DatasetError, match="unfinished"):
            open_dataset(DATASET, tmp_path)
        assert "unfinished" in list_datasets(tmp_path)[0]["fault"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(building, "write_manifest", killed_at_once)
        made(tmp_path)
    with pytest.raises(DatasetError, match=f"{folder} holds an unfinished dataset"):
        open_dataset(folder)
    assert open_dataset(made(tmp_path), verify="full").fingerprint == whole


def killed_at_once(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_complete_dataset_is_only_replaced_by_force(tmp_path: Path) -> None:
    folder = made(tmp_path)
    before = open_dataset(folder).fingerprint
    with pytest.raises(UserError, match="complete dataset already"):
        build(several()[:1], folder, card())
    assert open_dataset(folder, verify="full").fingerprint == before
    with pytest.raises(UserError, match="at least one episode"):
        build([], folder, card(), force=True)
    assert open_dataset(folder, verify="full").fingerprint == before
    build(several()[:1], folder, card(), force=True)
    assert open_dataset(folder, verify="full").episodes == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    for force in (False, True):
        with pytest.raises(UserError, match=r"not a dataset \(README.md\)"):
            build(several(), tmp_path, card(), force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_second_builder_is_refused(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(UserError, match="being written by process"):
        build(several(), tmp_path, card())
    lock.release()
    build(several(), tmp_path, card())
    assert not (tmp_path / "writer.lock").exists()


def test_a_card_that_is_not_plain_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        build(several(), tmp_path / "new", card(seed=object()))
    assert not (tmp_path / "new").exists()
    dataset = open_dataset(build(several(), tmp_path / "new", card(seed=np.int64(3), curve=np.ones(2))))
    assert dataset.card["seed"] == 3 and dataset.card["curve"] == [1.0, 1.0]


def test_a_missing_shard_is_an_error_and_never_black_pictures(tmp_path: Path) -> None:
    folder = made(tmp_path)
    reader = ImageReader(folder / "data.zarr/frames/image")
    dataset = open_dataset(folder)
    shutil.rmtree(folder / "data.zarr/frames/image/c")
    assert zarr.open_array(folder / "data.zarr/frames/image", mode="r")[:16].max() == 0  # what plain zarr makes of it
    with pytest.raises(Damaged, match="readable"):
        reader.rows(0, 16)
    with pytest.raises(DatasetError, match="frames/image/c/0"):
        dataset.load()
    with pytest.raises(DatasetError, match="missing"):
        open_dataset(folder)


def test_a_chunk_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "data.zarr", tmp_path / "journal.jsonl")
    array = writer._create("frames/image", (64, SIZE, SIZE, 3), "u1", sharded=True)
    holey = zarr.open_array(array.store_path, config={"write_empty_chunks": False})
    holey[:] = np.repeat(np.array([1, 0, 1, 1], np.uint8), 16)[:, None, None, None]
    reader = ImageReader(tmp_path / "data.zarr/frames/image")
    assert reader.rows(32, 32).min() == 1
    with pytest.raises(Damaged, match="chunk 1 is missing"):
        reader.rows(16, 16)


def test_black_pictures_are_written_like_all_others(tmp_path: Path) -> None:
    episode = played(0, 40)
    episode.image[:] = 0
    assert open_dataset(made(tmp_path, [episode]), verify="full").load().rows == 41


def test_names_find_folders(tmp_path: Path) -> None:
    made(tmp_path)
    for name in ("toy/point/medium-replay-smoke", DATASET, tmp_path / DATASET, str(tmp_path / DATASET)):
        assert open_dataset(name, tmp_path).id == DATASET
    newer = made(tmp_path, several()[:2], dataset_id="toy/point/medium-replay-smoke-v1")
    assert open_dataset("toy/point/medium-replay-smoke", tmp_path).folder == newer
    assert open_dataset(DATASET, tmp_path).episodes == 4
    listed = list_datasets(tmp_path)
    assert [(entry["id"], entry["episodes"]) for entry in listed] == [
        (DATASET, 4),
        ("toy/point/medium-replay-smoke-v1", 2),
    ]
    assert listed[0]["fingerprint"] == open_dataset(DATASET, tmp_path).fingerprint and listed[0]["fault"] is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("toy/point/medium-replay", "collect toy/point --quality medium-replay --preset paper --data"),
        ("toy/point/medium-replay", r"toy/point has medium-replay-smoke-v0 there"),
        ("toy/point/expert-quick-v0", "collect toy/point --quality expert --preset quick"),
        (DATASET.replace("v0", "v7"), "no dataset toy/point/medium-replay-smoke-v7 in .*medium-replay-smoke-v0 there"),
        ("metaworld/windw_close/medium", r"did you mean metaworld/window_close\?"),
        ("/nowhere/at/all", "no dataset in the folder /nowhere/at/all"),
    ],
)
def test_a_missing_dataset_says_how_to_make_it(tmp_path: Path, name: str, says: str) -> None:
    made(tmp_path)
    with pytest.raises(DatasetError, match=says):
        open_dataset(name, tmp_path)


def test_a_name_that_cannot_be_a_dataset_is_a_usage_error(tmp_path: Path) -> None:
    for name in ("medium-replay", "toy/pont/medium", "nosuite/task/medium", "toy/point/"):
        with pytest.raises(UsageError):
            open_dataset(name, tmp_path)
    with pytest.raises(UsageError, match="verify mode"):
        open_dataset(DATASET, tmp_path, verify="all")


def test_ids_and_folders_name_every_preset_but_the_papers(tmp_path: Path) -> None:
    assert dataset_id("toy/point", "medium-replay") == "toy/point/medium-replay-v0"
    assert dataset_id("toy/point", "medium-replay", "quick") == "toy/point/medium-replay-quick-v0"
    folder = tmp_path / "toy/point/medium-replay-quick-v0"
    assert dataset_folder(tmp_path, "toy/point/medium-replay", "quick") == folder
    assert dataset_folder(tmp_path, "toy/point/medium-replay-quick-v0") == folder
    assert dataset_folder(tmp_path, "toy/point/medium-replay-v2", "paper").name == "medium-replay-v2"


def test_the_manifest_names_every_file_and_no_time(tmp_path: Path) -> None:
    folder = made(tmp_path)
    manifest = read_json(folder / "manifest.json")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == found - {"manifest.json"}
    assert set(manifest) == {"format_version", "dataset_id", "card", "files", "fingerprint", "sha256"}
