"""What is particular to a suite: the changed models of DMC, the repaired faults of RoboDesk, the toy, the scripts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from coworld_bench.envs import TaskEnv, make_env
from coworld_bench.envs.dmc import VARIANTS
from coworld_bench.envs.experts import ScriptedPolicy, scripted_policy
from coworld_bench.errors import MissingPackage
from coworld_bench.tasks import EnvSpec

# The arrays of a compiled model that may differ from the base's: what the table changes, and what follows from it.
FLOOR = {"geom_size", "geom_aabb", "geom_rbound"}
SLOPE = {"cam_quat", "cam_mat0"}
SHRUNK = {
    "body_mass", "body_inertia", "body_ipos", "body_iquat", "body_subtreemass", "body_invweight0", "dof_M0",
    "dof_invweight0", "actuator_acc0", "actuator_length0", "cam_poscom0", "light_poscom0", "bvh_aabb",
}  # fmt: skip


def model_of(task: str) -> Any:
    env = make_env(task, observation="state")
    return env.simulator.physics()[0]


def base_of(name: str) -> Any:
    return model_of({"walker": "dmc/walker_walk", "cheetah": "dmc/cheetah_run"}[VARIANTS[name].domain])


def differing(base: Any, changed: Any) -> set[str]:
    """The names of the arrays in which two compiled models differ."""
    names = [name for name in dir(base) if isinstance(getattr(base, name, None), np.ndarray)]
    return {name for name in names if not np.array_equal(getattr(base, name), getattr(changed, name))}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_its_base_as_the_table_says(name: str) -> None:
    variant, base, changed = VARIANTS[name], base_of(name), model_of(f"dmc/{name}")
    found = differing(base, changed)
    assert "geom_size" in found
    assert ("cam_quat" in found) == bool(variant.camera) and ("body_inertia" in found) == bool(variant.shrunk)
    assert found <= FLOOR | (SLOPE if variant.camera else set()) | (SHRUNK if variant.shrunk else set())
    assert np.array_equal(base.opt.gravity, changed.opt.gravity) == (not variant.gravity)
    assert np.isclose(np.linalg.norm(changed.opt.gravity), 9.805 if variant.gravity else 9.81, atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_floor_is_long_and_only_the_named_foot_is_small(name: str) -> None:
    variant, base, changed = VARIANTS[name], base_of(name), model_of(f"dmc/{name}")
    floor = {"walker": "floor", "cheetah": "ground"}[variant.domain]
    assert changed.geom(floor).size[0] == 1000
    assert np.array_equal(changed.geom(floor).size[1:], base.geom(floor).size[1:])
    resized = {
        changed.geom(i).name for i in range(base.ngeom) if not np.array_equal(base.geom_size[i], changed.geom_size[i])
    }
    assert resized == {floor, variant.shrunk} - {""}
    if variant.shrunk:
        assert np.allclose(changed.geom(variant.shrunk).size[:2], 0.001)


@pytest.mark.parametrize(("name", "pull"), [("uphill", -2.54), ("downhill", 2.54)])
@pytest.mark.parametrize("domain", ["walker", "cheetah"])
def test_slopes_pull_the_right_way_and_tilt_the_camera(domain: str, name: str, pull: float) -> None:
    base, model = base_of(f"{domain}_{name}"), model_of(f"dmc/{domain}_{name}")
    assert model.opt.gravity[0] == pull
    turn = abs(float(np.dot(base.cam_quat[0], model.cam_quat[0])))
    assert np.isclose(2 * np.degrees(np.arccos(turn)), 15, atol=0.1)
    assert model.cam("side").id == 0 and np.array_equal(base.cam_quat[1:], model.cam_quat[1:])


def test_masses_follow_from_the_shrunk_foot() -> None:
    assert np.isclose(model_of("dmc/walker_walk").body_mass.sum(), 28.54, atol=0.01)
    assert np.isclose(model_of("dmc/walker_nofoot").body_mass.sum(), 26.45, atol=0.01)
    assert np.isclose(model_of("dmc/cheetah_nopaw").body_mass.sum(), 14)  # the compiler normalises it


def desk(task: str, rewards: str) -> TaskEnv:
    env = make_env(task, observation="state", rewards=rewards)
    env.reset(seed=1)
    return env


def put(env: TaskEnv, block: str, place: tuple[float, float, float]) -> None:
    physics = env.simulator._desk.physics
    physics.named.data.qpos[block][:3] = place
    physics.forward()


def reward_kinds(env: TaskEnv, task: str) -> tuple[float, bool]:
    inner = env.simulator._desk
    return inner._get_task_reward(task, "dense_reward"), bool(inner._get_task_reward(task, "success"))


def test_robodesk_upstream_does_not_see_blocks_move_and_fixed_does() -> None:
    """The upright block lies below the table; another block was moved by 11 cm on the way."""
    task, seen = "upright_block_off_table", {}
    for rewards in ("upstream", "fixed"):
        env = desk(f"robodesk/{task}", rewards)
        place = env.simulator._desk.physics.named.data.qpos["flat_block"][:3].copy()
        put(env, "upright_block", (0.0, 0.6, 0.05))
        dropped = reward_kinds(env, task)
        put(env, "flat_block", tuple(np.add(place, (0.11, 0, 0))))
        seen[rewards] = (*dropped, *reward_kinds(env, task))
        env.close()
    dense, success, _, success_after_move = seen["upstream"]
    fixed_dense, fixed_success, _, fixed_success_after_move = seen["fixed"]
    assert fixed_dense > dense + 0.4  # upstream pays nothing for the fall
    assert (success, success_after_move) == (True, True)
    assert (fixed_success, fixed_success_after_move) == (True, False)


def test_robodesk_state_holds_positions_where_upstream_has_velocities() -> None:
    env = desk("robodesk/open_slide", "upstream")
    state, data = env.simulator.state(), env.simulator._desk.physics.data
    assert np.allclose(state[:9], data.qpos[:9]) and np.allclose(state[9:18], data.qvel[:9])
    assert np.allclose(state[21:50], data.qpos[9:]) and np.allclose(state[50:], data.qvel[9:])
    assert np.abs(state[21:50]).max() > 0.1
    kept = state.copy()
    env.step(np.ones(5, np.float32))
    assert np.array_equal(state, kept)  # a copy, not a live view
    env.close()


def test_robodesk_leaves_numpys_stream_and_the_name_gym_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    desk("robodesk/push_green", "fixed").close()
    assert np.array_equal(before, np.random.get_state()[1])
    assert "gym" not in sys.modules


def test_a_missing_robodesk_is_answered_with_its_install_line() -> None:
    script = """
import sys
from typing import Any
sys.modules["robodesk"] = None
from coworld_bench.envs import make_env
try:
    make_env("robodesk/push_green")
except Exception as error:
    print(type(error).__name__, error)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    assert shown.startswith(MissingPackage.__name__)
    assert "pip install --no-deps robodesk==1.0.0" in shown


def returns(env: TaskEnv, policy: ScriptedPolicy, seeds: range) -> tuple[float, float]:
    """Mean return and how many episodes succeed."""
    totals, successes = [], []
    for seed in seeds:
        env.reset(seed=seed)
        truncated, total, success = False, 0.0, False
        while not truncated:
            _, reward, _, truncated, info = env.step(policy(env))
            total, success = total + reward, success or info["success"]
        totals.append(total)
        successes.append(success)
    return float(np.mean(totals)), float(np.mean(successes))


@pytest.mark.parametrize("task", ["toy/point", "toy/point_mirrored"])
def test_the_toys_script_solves_it_and_chance_does_not(task: str) -> None:
    env = make_env(task, observation="state")
    rng = np.random.default_rng(0)
    scripted = returns(env, scripted_policy(env.env_spec), range(10))
    random = returns(env, lambda env: rng.uniform(-1, 1, 2).astype(np.float32), range(10))
    assert scripted[1] == 1 and scripted[0] > 40
    assert random[0] < 0.5 * scripted[0]


def test_the_mirrored_toy_mirrors_the_first_action_and_has_other_colours() -> None:
    plain, mirrored = make_env("toy/point"), make_env("toy/point_mirrored")
    before, other = plain.reset(seed=4)[0], mirrored.reset(seed=4)[0]
    assert np.array_equal(before["state"], other["state"])
    assert not (before["image"] == other["image"]).all(-1).any()
    action = np.array([0.5, 0.25], np.float32)
    moved = [env.step(action)[0]["state"][:2] - before["state"][:2] for env in (plain, mirrored)]
    assert np.allclose(moved[0], (0.05, 0.025), atol=1e-6) and np.allclose(moved[1], (-0.05, 0.025), atol=1e-6)


def test_the_toy_draws_the_agent_where_it_is() -> None:
    env = make_env("toy/point")
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        white = (observation["image"] > 250).all(-1)
        rows, columns = np.nonzero(white)
        place = (columns.mean() + 0.5) / 32 - 1, 1 - (rows.mean() + 0.5) / 32
        assert np.allclose(place, observation["state"][:2], atol=0.04), seed


@pytest.mark.parametrize(("task", "least"), [("button_press", 4000), ("handle_press", 4300), ("door_close", 4200)])
def test_metaworld_scripts_earn_the_reference_returns(task: str, least: float) -> None:
    env = make_env(f"metaworld/{task}", observation="state")
    reached, success = returns(env, scripted_policy(env.env_spec), range(101, 103))
    assert reached > least and success == 1
    env.close()


def test_there_are_no_scripts_for_the_other_suites() -> None:
    assert scripted_policy(EnvSpec("dmc/walker_walk")) is None
    assert scripted_policy(EnvSpec("robodesk/push_green")) is None
