"""Minari reads what is exported, and what comes back is what went out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
from made_episodes import DATASET, SIZE, assert_same, card, played, several

from coworld_bench.data.build import build
from coworld_bench.data.converting import import_dataset
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.formats.minari import export_minari, import_minari
from coworld_bench.errors import DatasetError, UserError
from coworld_bench.tasks import EnvSpec

EPISODES = [*several(), played(4, 70, terminal=True)]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return open_dataset(build(EPISODES, tmp_path / "dataset", card()))


def test_minari_reads_the_export(dataset: Dataset) -> None:
    name = export_minari(dataset)
    assert name == f"coworld/{DATASET}" and list(minari.list_local_datasets()) == [name]
    loaded = minari.load_dataset(name)
    assert (loaded.total_episodes, loaded.total_steps) == (5, sum(episode.env_steps for episode in EPISODES))
    assert loaded.observation_space["image"].shape == (SIZE, SIZE, 3) and loaded.action_space.shape == (2,)
    for given, expected in zip(loaded, EPISODES, strict=True):
        np.testing.assert_array_equal(given.observations["image"], expected.image)
        np.testing.assert_array_equal(given.observations["state"], expected.state)
        np.testing.assert_array_equal(given.actions, expected.action[1:])
        np.testing.assert_array_equal(given.rewards, expected.reward[1:])
        np.testing.assert_array_equal(given.infos["success"], expected.success.astype(bool))
        assert given.observations["image"][0] in loaded.observation_space["image"]
        assert given.actions[0] in loaded.action_space
        ends = [given.terminations, given.truncations]
        assert [end[:-1].any() for end in ends] == [False, False]
        assert [bool(end[-1]) for end in ends] == [expected.terminal, not expected.terminal]
    seeds = [entry["seed"] for entry in loaded.storage.get_episode_metadata(range(5))]
    assert seeds == [episode.meta["seed"] for episode in EPISODES]


def test_minari_draws_from_the_export(dataset: Dataset) -> None:
    loaded = minari.load_dataset(export_minari(dataset))
    loaded.set_seed(1)
    drawn = list(loaded.sample_episodes(3))
    assert len({int(episode.id) for episode in drawn}) == 3
    for given in [*drawn, *loaded.iterate_episodes([3, 1])]:
        expected = EPISODES[int(given.id)]
        np.testing.assert_array_equal(given.observations["image"], expected.image)
        np.testing.assert_array_equal(given.rewards, expected.reward[1:])
    assert [int(episode.id) for episode in loaded.iterate_episodes([3, 1])] == [3, 1]
    terminated = loaded.filter_episodes(lambda episode: bool(episode.terminations[-1]))
    assert terminated.episode_indices.tolist() == [4]


def test_a_dataset_that_minari_cannot_name_is_refused(tmp_path: Path) -> None:
    odd = open_dataset(build(EPISODES[:1], tmp_path / "odd", card(dataset_id="toy/point/half done.v0")))
    with pytest.raises(UserError, match="Minari cannot name a dataset coworld/toy/point/half done"):
        export_minari(odd, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_the_environment_is_recovered(dataset: Dataset) -> None:
    environment = minari.load_dataset(export_minari(dataset)).recover_environment()
    try:
        assert environment.unwrapped.env_spec == EnvSpec("toy/point", image_size=SIZE)
        observation, _ = environment.reset(seed=1)
        assert observation["image"].shape == (SIZE, SIZE, 3)
    finally:
        environment.close()


def test_an_import_gives_the_same_dataset_again(dataset: Dataset, tmp_path: Path) -> None:
    name = export_minari(dataset)
    for source in (name, tmp_path / "minari" / name):
        episodes, described = import_minari(source)
        again = open_dataset(build(episodes, tmp_path / "again", described, force=True))
        for given, expected in zip(again, EPISODES, strict=True):
            assert_same(given, expected)
        assert again.fingerprint == dataset.fingerprint


def test_episodes_without_pictures_or_success(dataset: Dataset, tmp_path: Path) -> None:
    environment = EnvSpec("toy/point", observation="state").to_dict()
    episodes = [played(0, 12, pictures=False), played(2, 12, pictures=False)]
    for episode in episodes:
        episode.success[:] = 0
    folder = build(episodes, tmp_path / "states", card(env_spec=environment, has_success=False))
    name = export_minari(open_dataset(folder), tmp_path / "elsewhere")
    imported, _ = import_minari(name, tmp_path / "elsewhere")
    for given, expected in zip(imported, episodes, strict=True):
        assert_same(given, expected)
    with h5py.File(tmp_path / "elsewhere" / name / "data/main_data.hdf5") as file:
        assert not file["episode_0/infos"].keys() and list(file["episode_0/observations"]) == ["state"]


def test_an_export_is_kept_replaced_only_by_force_and_whole_or_absent(dataset: Dataset, tmp_path: Path) -> None:
    name = export_minari(dataset)
    assert export_minari(dataset) == name
    other = open_dataset(build(EPISODES[:2], tmp_path / "other", card()))
    with pytest.raises(UserError, match="has another"):
        export_minari(other)
    assert minari.load_dataset(name).total_episodes == 5
    export_minari(other, force=True)
    assert minari.load_dataset(name).total_episodes == 2
    shutil.rmtree(other.folder / "data.zarr/frames/image/c")
    with pytest.raises(DatasetError):
        export_minari(other, tmp_path / "third")
    assert not list((tmp_path / "third").glob("**/*-v0"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # it asks for an author and a description
def test_minaris_own_writer_can_be_imported(dataset: Dataset, tmp_path: Path) -> None:
    from gymnasium.envs.registration import EnvSpec as Registered
    from minari.data_collector import EpisodeBuffer

    from coworld_bench.data.formats.minari import gym_spaces

    kwargs = EnvSpec("toy/point", image_size=SIZE).to_dict()
    registered = Registered("coworld/toy-point-v0", entry_point="coworld_bench.envs:make_env", kwargs=kwargs)
    buffers = []
    for episode in EPISODES:
        last = np.arange(episode.env_steps) == episode.env_steps - 1
        buffers.append(
            EpisodeBuffer(
                observations={"image": list(episode.image), "state": list(episode.state)},
                actions=list(episode.action[1:].astype(np.float64)),
                rewards=list(episode.reward[1:]),
                terminations=list(last & episode.terminal),
                truncations=list(last & (not episode.terminal)),
                seed=episode.meta["seed"],
            )
        )
    observation, action = gym_spaces(dataset)
    spaces = {"env": registered, "observation_space": observation, "action_space": action}
    minari.create_dataset_from_buffers("other/own-v0", buffers, **spaces, jpeg_encoding=False)
    imported, described = import_minari("other/own-v0")
    for given, expected in zip(imported, EPISODES, strict=True):
        np.testing.assert_array_equal(given.image, expected.image)
        np.testing.assert_array_equal(given.action, expected.action)
        np.testing.assert_array_equal(given.reward, expected.reward)
        assert (given.terminal, given.meta) == (expected.terminal, {"seed": expected.meta["seed"]})
    made = import_dataset(tmp_path / "minari/other/own-v0", "minari", "toy/point/own-smoke", data=tmp_path / "data")
    assert (made.id, made.env_spec) == ("toy/point/own-smoke__16px-v0", EnvSpec("toy/point", image_size=SIZE))
    assert described["provenance"]["imported"] == {"format": "minari", "dataset_id": "other/own-v0"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"jpeg_encoding": True}, "lossy JPEG"),
        ({"data_format": "arrow"}, "kept as arrow"),
        ({"observation_space": json.dumps({"type": "Box"})}, "other observations than a Dict"),
        ({"coworld_card": None, "env_spec": None}, "not name an environment"),
    ],
)
def test_a_dataset_that_is_not_ours_is_refused(dataset: Dataset, tmp_path: Path, changes: dict, says: str) -> None:
    path = tmp_path / "minari" / export_minari(dataset) / "data/metadata.json"
    described = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in described.items() if value is not None}))
    with pytest.raises(DatasetError, match=says):
        import_minari(f"coworld/{DATASET}")


def test_a_missing_and_a_damaged_minari_dataset_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no Minari dataset nothing/here-v0 in .*; fetch it with"):
        import_minari("nothing/here-v0")
    path = tmp_path / "minari" / export_minari(dataset) / "data/main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match="is damaged"):
        list(import_minari(f"coworld/{DATASET}")[0])
