"""Pictures: the same as upstream's in profile `exact`, upright, and right beside other environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coworld_bench.benchmarks.rendering import ssim
from coworld_bench.envs import check_opengl, gl_info, make_env
from coworld_bench.envs.decimation import FACE_ARRAYS, coarsest, lighter_meshes
from coworld_bench.errors import NotUsable

UPSTREAM = {
    "robodesk/open_drawer": """
import gymnasium, types
gym = types.ModuleType("gym"); gym.Env, gym.spaces = gymnasium.Env, gymnasium.spaces; sys.modules["gym"] = gym
from PIL import Image
Image.ANTIALIAS = Image.Resampling.LANCZOS
from robodesk import RoboDesk
env = RoboDesk("open_drawer")
np.random.seed(4)
picture = env.reset()["image"]
picture = env.step(action(5))[0]["image"]
""",
    "dmc/cheetah_run": """
from dm_control import suite
env = suite.load("cheetah", "run", {"random": 4})
env.reset()
env.step(action(6))
picture = env.physics.render(64, 64, camera_id=0)
""",
    "metaworld/window_close": """
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
env = ALL_V3_ENVIRONMENTS["window-close-v3"](render_mode="rgb_array", camera_name="corner", width=64, height=64)
env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
env.seed(4)
env.reset()
env.step(action(4))
picture = env.render()[::-1]  # the released code stores the unflipped buffer
""",
}
PREFIX = """
import sys
import numpy as np
def action(size):
    return np.linspace(-0.9, 0.8, size).astype(np.float32)
"""


@pytest.fixture(scope="module", autouse=True)
def opengl() -> None:
    try:
        check_opengl()
    except NotUsable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("task", UPSTREAM)
def test_profile_exact_is_upstreams_own_picture(task: str, tmp_path: Path) -> None:
    script = PREFIX + UPSTREAM[task] + f"np.save({str(tmp_path / 'picture.npy')!r}, picture)\n"
    environment = {**os.environ, "MUJOCO_GL": os.environ["MUJOCO_GL"]}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True)
    env = make_env(task, action_repeat=1, profile="exact")
    env.reset(seed=4)
    ours = env.step(np.linspace(-0.9, 0.8, env.action_space.shape[0]).astype(np.float32))[0]["image"]
    env.close()
    assert np.array_equal(ours, np.load(tmp_path / "picture.npy"))


def test_environments_do_not_spoil_each_others_pictures() -> None:
    tasks = ["metaworld/door_close", "metaworld/button_press", "dmc/walker_walk"]
    alone = {}
    for task in tasks:
        env = make_env(task, profile="near")
        alone[task] = env.reset(seed=1)[0]["image"]
        env.close()
    together = {task: make_env(task, profile="near") for task in tasks}
    for _ in range(2):
        for task, env in together.items():
            assert np.array_equal(env.reset(seed=1)[0]["image"], alone[task]), task
    together[tasks[0]].close()
    for task in tasks[1:]:
        assert np.array_equal(together[task].reset(seed=1)[0]["image"], alone[task]), task
        together[task].close()


def test_metaworld_is_upright() -> None:
    """The empty background is above, the table below."""
    env = make_env("metaworld/button_press")
    env.reset(seed=0)
    sky = env.simulator.sky()
    env.close()
    assert sky[:20].mean() > 0.5 > 0.05 > sky[44:].mean()


LOOKS = {"metaworld/window_close": 0.85, "robodesk/open_drawer": 0.75, "dmc/walker_walk": 0.85, "dmc/cheetah_run": 0.85}


@pytest.mark.parametrize("task", LOOKS)
def test_near_looks_alike_and_fast_keeps_the_scene(task: str) -> None:
    """And what is simulated does not depend on what is drawn."""
    pictures, states = {}, {}
    for profile in ("exact", "near", "fast"):
        env = make_env(task, profile=profile)
        env.reset(seed=2)
        observation = env.step(np.full(env.action_space.shape, 0.4, np.float32))[0]
        pictures[profile], states[profile] = observation["image"], observation["state"]
        env.close()
    assert 0.98 <= ssim(pictures["exact"], pictures["near"]) < 1
    assert LOOKS[task] <= ssim(pictures["exact"], pictures["fast"]) < 0.98
    assert np.array_equal(states["exact"], states["near"]) and np.array_equal(states["exact"], states["fast"])


def test_ssim_of_a_picture_with_itself_noise_and_its_negative() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, 255 - picture) < -0.9
    assert ssim(picture, picture // 2 + 60) < 0.9


def ball(rings: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere: vertices [V, 3], faces [F, 3]."""
    turn, tilt = np.meshgrid(np.linspace(0, 2 * np.pi, rings), np.linspace(0, np.pi, rings), indexing="ij")
    vertices = np.stack([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)], -1).reshape(-1, 3)
    corner = (np.arange(rings - 1)[:, None] * rings + np.arange(rings - 1)).reshape(-1, 1)
    first, second = np.add(corner, (0, 1, rings)), np.add(corner, (1, rings, rings + 1))
    return vertices, np.concatenate([first, second]).astype(np.int32)


def test_a_lightened_mesh_keeps_its_shape_within_the_limit() -> None:
    vertices, faces = ball(40)
    drawn, kept = coarsest(vertices, faces, 500)
    assert 250 < len(kept) <= 500 < len(faces)
    corners = vertices[drawn[kept]]
    assert np.allclose(np.abs(corners).reshape(-1, 3).max(0), 1, atol=0.1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1).sum() / 2
    assert np.isclose(area, 4 * np.pi, rtol=0.1)


def test_drawing_lighter_meshes_leaves_the_model_as_it_was() -> None:
    env = make_env("metaworld/button_press", profile="fast")
    model = env.simulator.physics()[0]
    before = {name: getattr(model, name).copy() for name in (*FACE_ARRAYS, "mesh_facenum")}
    env.reset(seed=0)
    assert all(np.array_equal(before[name], getattr(model, name)) for name in before)
    with lighter_meshes(model, 2000):
        assert model.mesh_facenum.max() <= 2000 < before["mesh_facenum"].max()
    assert all(np.array_equal(before[name], getattr(model, name)) for name in before)
    env.close()


def test_an_error_while_meshes_are_lighter_leaves_the_model_whole() -> None:
    env = make_env("metaworld/button_press", observation="state")
    model = env.simulator.physics()[0]
    before = model.mesh_facenum.copy()
    with pytest.raises(RuntimeError), lighter_meshes(model, 500):
        raise RuntimeError
    assert np.array_equal(model.mesh_facenum, before)
    env.close()


def test_states_are_bit_identical_under_every_profile() -> None:
    """The profile is for the eye alone: the same actions lead to the same states."""
    states = []
    for profile in ("exact", "fast"):
        env = make_env("metaworld/window_close", action_repeat=50, profile=profile)
        observation, _ = env.reset(seed=5)
        trail = [observation["state"]]
        for action in ([1, 0, 0, 1], [0, -1, 0.5, -1]):
            trail.append(env.step(np.array(action, np.float32))[0]["state"])
        states.append(np.stack(trail))
        env.close()
    assert np.array_equal(*states)


def test_image_size_is_what_is_asked_for() -> None:
    env = make_env("dmc/cheetah_run", image_size=84)
    assert env.reset(seed=0)[0]["image"].shape == (84, 84, 3)
    env.close()


def test_a_cleared_backend_is_answered_with_the_command_that_installs_one() -> None:
    script = """
from coworld_bench.envs import make_env
from coworld_bench.errors import NotUsable
make_env("dmc/cheetah_run", observation="state").reset(seed=0)
try:
    make_env("dmc/cheetah_run").reset(seed=0)
except NotUsable as error:
    print(error.exit_code, error)
"""
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("4 "), done.stderr
    assert "apt-get install" in done.stdout


def test_an_environment_left_open_makes_no_noise_at_exit() -> None:
    script = "from coworld_bench.envs import make_env; env = make_env('dmc/cheetah_run'); env.reset(seed=0)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr == ""


def test_gl_info_names_the_renderer() -> None:
    found = gl_info()
    assert set(found) == {"backend", "renderer", "version"}
    assert found["renderer"] not in ("", "none")
    json.dumps(found)
