"""Every format gives the dataset back, is laid out as its own readers expect, and takes its name when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from made_episodes import SIZE, assert_same, card, played, several

from coworld_bench.data.build import build
from coworld_bench.data.converting import export_dataset, import_dataset
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.formats import FORMATS, vd4rl84
from coworld_bench.data.formats.statistics import Statistics
from coworld_bench.errors import DatasetError, UsageError

EPISODES = [*several(), played(4, 70, terminal=True, note="kept")]
FLAT = [name for name in FORMATS if name != "minari"]
LOSSLESS = [name for name in FORMATS if name != "vd4rl84"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(build(EPISODES, tmp_path_factory.mktemp("made") / "dataset", card()))


@pytest.fixture(autouse=True)
def minari_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_round_trip_gives_the_same_dataset(name: str, dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, name, tmp_path / "out")
    again = import_dataset(folder, name, out=tmp_path / "again")
    for given, expected in zip(again, EPISODES, strict=True):
        assert_same(given, expected)
    assert again.fingerprint == dataset.fingerprint and again.card == dataset.card


@pytest.mark.parametrize("name", LOSSLESS)
def test_states_alone_make_the_round_trip(name: str, tmp_path: Path) -> None:
    episodes = [played(0, 12, pictures=False), played(2, 9, pictures=False, terminal=True)]
    states = card(env_spec={"task": "toy/point", "observation": "state"}, has_success=False)
    made = open_dataset(build(episodes, tmp_path / "states", states))
    again = import_dataset(export_dataset(made.folder, name, tmp_path / "out"), name, out=tmp_path / "again")
    for given, expected in zip(again, episodes, strict=True):
        assert_same(given, expected)
    assert again.fingerprint == made.fingerprint


@pytest.mark.parametrize("name", FLAT)
def test_foreign_files_need_no_sidecar(name: str, dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, name, tmp_path / "out")
    (folder / "coworld.json").unlink()
    with pytest.raises(UsageError, match="--name suite/task/quality"):
        import_dataset(folder, name, data=tmp_path / "data")
    again = import_dataset(folder, name, "toy/point/expert-smoke", data=tmp_path / "data", options={"env.profile": "exact"})
    assert again.id.startswith("toy/point/expert-smoke__exact_") and again.folder == tmp_path / "data" / again.id
    assert (again.card["task"], again.card["preset"], again.card["quality"]) == ("toy/point", "smoke", {"label": "expert"})
    assert again.env_spec.profile == "exact" and again.env_spec.image_size == (84 if name == "vd4rl84" else SIZE)
    for given, expected in zip(again, EPISODES, strict=True):
        shown = expected if name != "vd4rl84" else vd4rl84.enlarged(expected)
        assert_same(replace(given, meta=expected.meta), shown)
        assert given.meta["seed"] == 0


@pytest.mark.parametrize("name", FLAT)
def test_an_export_is_kept_replaced_only_by_force_and_whole_or_absent(name: str, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stamp = export_dataset(dataset.folder, name, out).stat().st_mtime_ns
    assert export_dataset(dataset.folder, name, out).stat().st_mtime_ns == stamp
    other = open_dataset(build(EPISODES[:2], tmp_path / "other", card()))
    with pytest.raises(UsageError, match="holds an export of another dataset"):
        export_dataset(other.folder, name, out)
    export_dataset(other.folder, name, out, force=True)
    assert len(json.loads((out / "coworld.json").read_text())["episodes"]) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(UsageError, match="holds something that is no export"):
            export_dataset(other.folder, name, tmp_path / "mine", force=force)
    shutil.rmtree(other.folder / "data.zarr/frames/image/c")
    with pytest.raises(DatasetError):
        export_dataset(other.folder, name, tmp_path / "third")
    assert not list(tmp_path.glob("*third*"))


@pytest.mark.parametrize("name", FLAT)
def test_files_that_were_changed_since_are_told(name: str, dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, name, tmp_path / "out")
    said = json.loads((folder / "coworld.json").read_text())
    said["episodes"][3]["sha256"] = said["episodes"][2]["sha256"]
    (folder / "coworld.json").write_text(json.dumps(said))
    with pytest.raises(DatasetError, match="episode 3 is not what was exported"):
        import_dataset(folder, name, out=tmp_path / "again")
    assert not list(tmp_path.glob("*again*"))


def test_one_episode_is_in_memory_at_a_time(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading begins before a format has written, and an episode is written before the next one is read."""
    alive: list[int] = []
    original = Dataset.__iter__

    def counted(self: Dataset) -> Iterator[Episode]:
        import gc
        import weakref

        seen: list[weakref.ref[Episode]] = []
        for episode in original(self):
            gc.collect()
            alive.append(sum(reference() is not None for reference in seen))
            seen.append(weakref.ref(episode))
            yield episode

    monkeypatch.setattr(Dataset, "__iter__", counted)
    for name in FORMATS:
        export_dataset(dataset.folder, name, tmp_path / name)
    assert len(alive) == len(FORMATS) * len(EPISODES) and max(alive) <= 1


def test_npz_files_are_what_dreamers_loaders_take(dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, "npz", tmp_path / "out")
    files = sorted(folder.glob("*.npz"))
    export_dataset(dataset.folder, "npz", tmp_path / "second")
    assert [path.name for path in files] == sorted(path.name for path in (tmp_path / "second").glob("*.npz"))
    for path, episode in zip(files, EPISODES, strict=True):
        assert int(str(path).split("-")[-1][:-4]) == episode.rows  # as the loaders read it
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
        assert {name: array.dtype.str for name, array in arrays.items()} == {
            "image": "|u1", "action": "<f4", "reward": "<f4", "discount": "<f4", "is_first": "|b1", "is_last": "|b1",
            "is_terminal": "|b1", "state": "<f4", "success": "|u1",
        }  # fmt: skip
        assert {len(array) for array in arrays.values()} == {episode.rows}  # every array is cut to a window of rows
        assert arrays["is_first"].nonzero()[0].tolist() == [0]
        assert arrays["is_last"].nonzero()[0].tolist() == [episode.rows - 1]
        assert bool(arrays["is_terminal"].any()) == episode.terminal == (arrays["discount"][-1] == 0)
        np.testing.assert_array_equal(arrays["image"], episode.image)


def test_older_npz_files_with_fewer_arrays_are_taken(tmp_path: Path) -> None:
    """As DreamerV2 names them, by decisions, with arrays that an episode has no place for and without is_terminal."""
    (tmp_path / "theirs").mkdir()
    for number, episode in enumerate(EPISODES):
        discount = np.ones(episode.rows)
        discount[-1] = not episode.terminal
        np.savez_compressed(
            tmp_path / "theirs" / f"2022010{number}T000000-{number:032x}-{episode.env_steps}.npz", image=episode.image,
            action=episode.action.astype(np.float64), reward=episode.reward.astype(np.float64), discount=discount,
            logprob=episode.reward, height=episode.reward,
        )  # fmt: skip
    again = import_dataset(tmp_path / "theirs", "npz", "toy/point/medium-replay-smoke", data=tmp_path / "data")
    assert again.card["provenance"]["imported"] == {"format": "npz", "left_out": ["height", "logprob"]}
    assert again.card["license"] == "unknown" and not again.card["has_success"]
    for given, expected in zip(again, EPISODES, strict=True):
        np.testing.assert_array_equal(given.image, expected.image)
        np.testing.assert_array_equal(given.action, expected.action)
        np.testing.assert_array_equal(given.reward, expected.reward)
        assert given.terminal == expected.terminal and given.state.shape == (expected.rows, 0)


def test_vd4rl84_is_exact_in_all_but_pixels(dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, "vd4rl84", tmp_path / "out")
    rows = sum(episode.rows for episode in EPISODES)
    with h5py.File(folder / "data.hdf5") as file:
        shapes = {name: (column.dtype.str, column.shape) for name, column in file.items()}
        assert shapes == {
            "observation": ("|u1", (rows, 3, 84, 84)), "action": ("<f4", (rows, 2)), "reward": ("<f4", (rows,)),
            "discount": ("<f4", (rows,)), "step_type": ("|u1", (rows,)), "state": ("<f4", (rows, 2)),
            "success": ("|u1", (rows,)),
        }  # fmt: skip
        assert file["observation"].chunks == (16, 3, 84, 84)
        lookup = {0: "first", 1: "mid", 2: "last"}  # their loader looks step types up in a dictionary
        kinds = [lookup[step_type] for step_type in file["step_type"][:]]
        pixels = file["observation"][:].transpose(0, 2, 3, 1)
    expected = [["first", *["mid"] * (episode.rows - 2), "last"] for episode in EPISODES]
    assert kinds == [kind for episode in expected for kind in episode]
    again = import_dataset(folder, "vd4rl84", out=tmp_path / "again")
    assert again.card["resized_from"] == SIZE and again.env_spec.image_size == 84
    assert again.id == "toy/point/medium-replay-smoke__84px-v0"
    np.testing.assert_array_equal(np.concatenate([episode.image for episode in again]), pixels)
    for given, expected_episode in zip(again, EPISODES, strict=True):
        assert_same(given, replace(expected_episode, image=given.image))
    third = export_dataset(again.folder, "vd4rl84", tmp_path / "third")
    with h5py.File(third / "data.hdf5") as file:
        np.testing.assert_array_equal(file["observation"][:].transpose(0, 2, 3, 1), pixels)


def test_pictures_are_enlarged_as_opencv_does_it() -> None:
    """Beside what cv2.resize(..., (84, 84), interpolation=cv2.INTER_CUBIC) of OpenCV 5.0.0 makes of a ramp and a step."""
    ramp = (4 * np.arange(64, dtype=np.uint8))[None, :, None, None].repeat(64, 2).repeat(3, 3)
    assert vd4rl84.resized(ramp)[0, [0, 1, 2, 41, 42, 83], 40, 1].tolist() == [0, 2, 6, 125, 127, 252]
    step = np.where(np.arange(64) < 32, 0, 200).astype(np.uint8)[None, None, :, None].repeat(64, 1).repeat(3, 3)
    assert vd4rl84.resized(step)[0, 0, 40:45, 0].tolist() == [0, 20, 180, 212, 200]


def test_vd4rl84_needs_pictures(tmp_path: Path) -> None:
    made = build(
        [played(0, 5, pictures=False)], tmp_path / "made", card(env_spec={"task": "toy/point", "observation": "state"})
    )
    with pytest.raises(UsageError, match="has no pictures"):
        export_dataset(made, "vd4rl84", tmp_path / "out")


def qlearning_rows(file: h5py.File) -> Iterator[tuple[int, int, bool]]:
    """Which rows D4RL's `qlearning_dataset` pairs with which, and whether it calls them terminal."""
    for row in range(len(file["rewards"]) - 1):
        if not file["timeouts"][row]:
            yield row, row + 1, bool(file["terminals"][row])


def test_d4rl_files_are_what_its_readers_take(dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, "d4rl", tmp_path / "out")
    steps = [episode.env_steps for episode in EPISODES]
    with h5py.File(folder / "data.hdf5") as file:
        assert set(file) == {"observations", "next_observations", "actions", "rewards", "terminals", "timeouts", "infos"}
        assert set(file["infos"]) == {"state", "next_state", "success"}
        assert (file["terminals"].dtype, file["timeouts"].dtype) == (bool, bool)
        ends = np.cumsum(steps) - 1
        assert file["timeouts"][:].nonzero()[0].tolist() == ends[:-1].tolist()
        assert file["terminals"][:].nonzero()[0].tolist() == [ends[-1]]
        following = file["next_observations"][:]
        for row, after, terminal in qlearning_rows(file):
            assert not terminal
            np.testing.assert_array_equal(file["observations"][after], following[row])
        np.testing.assert_array_equal(following[ends[0]], EPISODES[0].image[-1])
        np.testing.assert_array_equal(file["actions"][: steps[0]], EPISODES[0].action[1:])
        np.testing.assert_array_equal(file["infos/success"][: steps[0]], EPISODES[0].success[1:].astype(bool))


def test_d4rl_files_without_what_followed_lose_a_decision_and_say_so(tmp_path: Path) -> None:
    episode = played(1, 10, pictures=False)
    with h5py.File(tmp_path / "theirs.hdf5", "w") as file:
        file["observations"], file["actions"] = episode.state[:-1], episode.action[1:]
        file["rewards"], file["terminals"] = episode.reward[1:, None], np.zeros(10)
        file["timeouts"] = np.arange(10) == 3  # and the second episode stops within
    again = import_dataset(tmp_path / "theirs.hdf5", "d4rl", "toy/point/random-smoke", data=tmp_path / "data")
    assert [episode.env_steps for episode in again] == [3, 5]
    assert "the last decision of every episode" in again.card["provenance"]["imported"]["left_out"][0]
    np.testing.assert_array_equal(again.episode(1).state, episode.state[4:10])
    np.testing.assert_array_equal(again.episode(1).reward[1:], episode.reward[5:10])


def test_lerobot_files_are_laid_out_as_version_three(dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, "lerobot", tmp_path / "out")
    info = json.loads((folder / "meta/info.json").read_text())
    steps = [episode.env_steps for episode in EPISODES]
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 5, sum(steps))
    assert info["features"]["observation.image"]["dtype"] == "image"
    table = pyarrow.parquet.read_table(folder / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == set(info["features"])
    assert pyarrow.parquet.ParquetFile(folder / "data/chunk-000/file-000.parquet").num_row_groups == len(EPISODES)
    assert table["index"].to_pylist() == list(range(sum(steps)))
    rows = table.to_pylist()
    ends = np.cumsum(steps)
    assert [row["index"] for row in rows if row["next.done"]] == (ends - 1).tolist()
    assert [row["index"] for row in rows if row["next.truncated"]] == (ends[:-1] - 1).tolist()
    np.testing.assert_array_equal(opened(rows[3]["observation.image"]["bytes"]), EPISODES[0].image[3])
    np.testing.assert_array_equal(np.float32(rows[3]["action"]), EPISODES[0].action[4])
    episodes = pyarrow.parquet.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [entry["length"] for entry in episodes] == steps
    assert [entry["dataset_to_index"] for entry in episodes] == ends.tolist()
    assert {tuple(entry["tasks"]) for entry in episodes} == {("toy/point",)}


def test_lerobot_datasets_of_several_files(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coworld_bench.data.formats import lerobot

    monkeypatch.setattr(lerobot, "FILE_MB", 0)
    monkeypatch.setattr(lerobot, "FILES", 2)
    folder = export_dataset(dataset.folder, "lerobot", tmp_path / "out")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("data/*/*")) == [
        "data/chunk-000/file-000.parquet", "data/chunk-000/file-001.parquet", "data/chunk-001/file-000.parquet",
        "data/chunk-001/file-001.parquet", "data/chunk-002/file-000.parquet",
    ]  # fmt: skip
    assert import_dataset(folder, "lerobot", out=tmp_path / "again").fingerprint == dataset.fingerprint


def test_lerobot_files_without_what_was_seen_last(dataset: Dataset, tmp_path: Path) -> None:
    folder = export_dataset(dataset.folder, "lerobot", tmp_path / "out")
    for name in ("coworld.json", "coworld_last.parquet"):
        (folder / name).unlink()
    again = import_dataset(folder, "lerobot", "toy/point/medium-replay-smoke", data=tmp_path / "data")
    assert [episode.env_steps for episode in again] == [episode.env_steps - 1 for episode in EPISODES]
    assert not any(episode.terminal for episode in again)
    np.testing.assert_array_equal(again.episode(2).image, EPISODES[2].image[:-1])
    np.testing.assert_array_equal(again.episode(2).action, EPISODES[2].action[:-1])


def opened(data: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def test_statistics_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    parts = [{"image": rng.integers(0, 256, (n, 4, 4, 3), np.uint8), "action": rng.normal(size=(n, 2))} for n in (3, 8)]
    found = (Statistics() + Statistics(parts[0]) + Statistics(parts[1])).to_dict()
    pixels = np.concatenate([part["image"] for part in parts]) / 255
    actions = np.concatenate([part["action"] for part in parts])
    expected: dict[str, Callable[[np.ndarray, object], np.ndarray]] = {
        "min": np.min,
        "max": np.max,
        "mean": np.mean,
        "std": np.std,
    }
    for name, function in expected.items():
        np.testing.assert_allclose(np.squeeze(found["image"][name]), function(pixels, axis=(0, 1, 2)), atol=1e-12)
        np.testing.assert_allclose(found["action"][name], function(actions, axis=0), atol=1e-12)
    assert found["image"]["count"] == [11] and np.shape(found["image"]["mean"]) == (3, 1, 1)


def test_episodes_of_different_sizes_make_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for number, width in enumerate((2, 3)):
        arrays = {"state": np.zeros((4, width), np.float32), "action": np.zeros((4, 2), np.float32)}
        np.savez(tmp_path / "theirs" / f"{number}-4.npz", **arrays, reward=np.zeros(4, np.float32))
    with pytest.raises(DatasetError, match="episode 1 has arrays of the sizes"):
        import_dataset(tmp_path / "theirs", "npz", "toy/point/random-smoke", data=tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*v0*"))
