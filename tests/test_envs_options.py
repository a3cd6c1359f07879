"""The experiments' options: sparse reward, action noise, moving background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coworld_bench.envs import check_opengl, make_env
from coworld_bench.envs.background import Background, ping_pong
from coworld_bench.envs.experts import scripted_policy
from coworld_bench.envs.noise import ActionNoise
from coworld_bench.errors import NotUsable, UsageError


@pytest.fixture(scope="module")
def opengl() -> None:
    try:
        check_opengl()
    except NotUsable as error:
        pytest.skip(str(error))


def test_sparse_pays_once_at_the_first_success() -> None:
    env = make_env("toy/point", sparse=True)
    policy = scripted_policy(env.env_spec)
    for seed in (0, 1):
        env.reset(seed=seed)
        steps = [env.step(policy(env)) for _ in range(50)]
        rewards = [reward for _, reward, *_ in steps]
        successes = [info["success"] for *_, info in steps]
        assert sum(successes) > 1
        assert rewards[successes.index(True)] == 500 and sum(rewards) == 500


def test_sparse_needs_a_success_signal() -> None:
    with pytest.raises(UsageError, match="dmc/walker_walk has none"):
        make_env("dmc/walker_walk", sparse=True, observation="state")


def test_noise_has_the_asked_size_and_follows_the_seed() -> None:
    noise, action = ActionNoise(0.5), np.full(4000, 0.2, np.float32)
    noise.reset(1)
    first, second = noise.apply(action), noise.apply(action)
    noise.reset(1)
    assert np.array_equal(first, noise.apply(action))
    assert not np.array_equal(first, second)
    assert abs((first - action).std() - 0.5) < 0.02 and abs((first - action).mean()) < 0.03
    assert first.dtype == np.float32


def test_noise_moves_the_agent_and_is_clipped() -> None:
    clean, noisy, wild = (make_env("toy/point", action_noise=scale) for scale in (0.0, 0.1, 1000.0))
    moved = []
    for env in (clean, noisy, wild):
        before = env.reset(seed=2)[0]["state"]
        moved.append(env.step(np.zeros(2, np.float32))[0]["state"][:2] - before[:2])
    assert np.all(moved[0] == 0) and np.all(moved[1] != 0)
    assert np.abs(moved[2]).max() <= 0.1 + 1e-6  # full speed


def test_generated_background_moves_is_seeded_and_hides_behind_the_scene() -> None:
    black, sky = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool)
    sky[:32] = True
    films = []
    for seed in (1, 1, 2):
        background = Background("generated", 64)
        background.reset(seed)
        films.append([background.behind(black, sky) for _ in range(3)])
    assert np.array_equal(films[0], films[1]) and not np.array_equal(films[0], films[2])
    assert not np.array_equal(films[0][0], films[0][1])
    assert films[0][0][:32].std() > 20 and not films[0][0][32:].any()
    assert np.abs(films[0][0].astype(int) - films[0][1])[:32].mean() < 60  # drifts rather than flickers


def test_ping_pong_runs_forwards_then_backwards() -> None:
    assert [ping_pong(index, 3) for index in range(9)] == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert [ping_pong(index, 1) for index in range(3)] == [0, 0, 0]


def test_background_frames_come_from_a_folder(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 20, 3), 50, np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.full((2, 64, 64, 3), 200, np.uint8))
    background = Background(str(tmp_path), 32)
    sky = np.ones((32, 32), bool)
    shown = {int(background.behind(np.zeros((32, 32, 3), np.uint8), sky)[0, 0, 0]) for _ in range(5)}
    assert shown == {50, 200}


def test_photographs_are_frames_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "a.JPG")
    shown = Background(str(tmp_path), 32).behind(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), bool))
    assert abs(int(shown.mean()) - 90) <= 2


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.jpg or \.npy"):
        Background(str(tmp_path), 64)
    np.save(tmp_path / "wrong.npy", np.zeros((4, 4, 3)))
    with pytest.raises(UsageError, match="uint8"):
        Background(str(tmp_path), 64)


def test_toy_has_no_background() -> None:
    with pytest.raises(UsageError, match="toy/point"):
        make_env("toy/point", background="generated")


@pytest.mark.parametrize("task", ["dmc/walker_downhill", "metaworld/drawer_close", "robodesk/push_green"])
def test_background_fills_only_what_is_behind(task: str, opengl: None) -> None:
    plain, moving = make_env(task), make_env(task, background="generated")
    image, changed = plain.reset(seed=3)[0]["image"], moving.reset(seed=3)[0]["image"]
    sky = plain.simulator.sky()
    assert 0.1 < sky.mean() < 0.9
    assert np.array_equal(image[~sky], changed[~sky])
    assert (image != changed).any(-1)[sky].mean() > 0.9
    assert np.array_equal(changed, moving.reset(seed=3)[0]["image"])
    plain.close()
    moving.close()
