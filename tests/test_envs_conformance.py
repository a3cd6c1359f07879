"""What every environment promises, one test a promise, over all suites."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from coworld_bench.envs import TaskEnv, check_opengl, domain_of, make_env, registered_id
from coworld_bench.errors import NotUsable, UsageError
from coworld_bench.tasks import PAPER_TASKS, EnvSpec, find_task

OTHERS = ["metaworld/reach", "dmc/cartpole_swingup", "dmc/quadruped_walk", "robodesk/lift_ball"]
ONE_PER_SUITE = ["metaworld/button_press", "robodesk/push_green", "dmc/walker_uphill", "toy/point_mirrored"]
SIZES = {"metaworld": (39, 4), "robodesk": (76, 5), "toy": (4, 2)}  # state, action


@pytest.fixture(scope="module")
def opengl() -> None:
    try:
        check_opengl()
    except NotUsable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=[*PAPER_TASKS, *OTHERS])
def blind(request: pytest.FixtureRequest) -> Iterator[TaskEnv]:
    """Every task, without pictures."""
    env = make_env(request.param, observation="state")
    yield env
    env.close()


@pytest.fixture(scope="module", params=ONE_PER_SUITE)
def seeing(request: pytest.FixtureRequest, opengl: None) -> Iterator[TaskEnv]:
    """One task of each suite, with pictures."""
    env = make_env(request.param, render_mode="rgb_array")
    yield env
    env.close()


def rollout(env: TaskEnv, seed: int | None, decisions: int = 4) -> dict[str, np.ndarray]:
    """Everything an agent sees in the first decisions of an episode; the actions are always the same."""
    rng = np.random.default_rng(7)
    observation, _ = env.reset(seed=seed)
    seen, rewards = [observation], []
    for _ in range(decisions):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        seen.append(observation)
        rewards.append(reward)
    return {"reward": np.array(rewards), **{key: np.stack([each[key] for each in seen]) for key in observation}}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[key], second[key]) for key in first)


def test_spaces_are_the_promised_ones(blind: TaskEnv) -> None:
    domain = domain_of(blind.env_spec)
    task = find_task(blind.env_spec.task)
    assert blind.observation_space["state"].shape == (domain.state,)
    assert blind.observation_space["state"].dtype == np.float32
    assert blind.action_space == gymnasium.spaces.Box(-1.0, 1.0, (domain.action,), np.float32)
    assert domain.image == () and domain_of(replace(blind.env_spec, observation="image")).image == (64, 64, 3)
    assert (domain.state, domain.action) == SIZES.get(task.suite, (domain.state, domain.action))


def test_a_seed_fixes_the_episode_also_on_a_used_environment(blind: TaskEnv) -> None:
    first, other, again = (rollout(blind, seed) for seed in (1, 2, 1))
    assert same(first, again)
    assert not same(first, other)


def test_success_is_told_where_the_task_has_one(blind: TaskEnv) -> None:
    blind.reset(seed=0)
    *_, info = blind.step(np.zeros(blind.action_space.shape, np.float32))
    assert blind.has_success == (find_task(blind.env_spec.task).suite != "dmc")
    assert ("success" in info) == blind.has_success
    assert not blind.has_success or isinstance(info["success"], bool)


def test_check_env(seeing: TaskEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # states have no bounds; the render modes are tried below
        check_env(seeing)


def test_pictures_are_reproducible_and_follow_the_seed(seeing: TaskEnv) -> None:
    first, other = rollout(seeing, 1, 2), rollout(seeing, 2, 2)
    fresh = make_env(seeing.env_spec)
    try:
        assert same(first, rollout(fresh, 1, 2))
    finally:
        fresh.close()
    assert not np.array_equal(first["image"], other["image"])
    assert first["image"].std() > 10
    assert np.array_equal(seeing.render(), other["image"][-1])


@pytest.mark.parametrize("task", ONE_PER_SUITE)
def test_an_episode_is_truncated_at_the_horizon_and_never_terminated(task: str) -> None:
    env = make_env(task, observation="state", action_repeat=5)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(env.env_spec.env_steps)]
    assert ends == [(False, False)] * (len(ends) - 1) + [(False, True)]
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    env.close()
    env.close()


@pytest.mark.parametrize("task", ["metaworld/door_close", "dmc/cheetah_run", "toy/point"])
def test_rewards_are_summed_over_the_repeated_frames(task: str) -> None:
    single, double = (make_env(task, observation="state", action_repeat=repeat) for repeat in (1, 2))
    for env in (single, double):
        env.reset(seed=5)
    action = np.full(single.action_space.shape, 0.4, np.float32)
    singles = [single.step(action) for _ in range(6)]
    doubles = [double.step(action) for _ in range(3)]
    assert np.allclose([s[1] + t[1] for s, t in zip(singles[::2], singles[1::2], strict=True)], [d[1] for d in doubles])
    assert np.array_equal(singles[-1][0]["state"], doubles[-1][0]["state"])


def test_episodes_without_a_seed_go_on_with_the_environments_stream() -> None:
    env = make_env("toy/point")
    stream = [rollout(env, seed)["state"] for seed in (3, None, None)]
    again = [rollout(env, seed)["state"] for seed in (3, None, None)]
    assert np.array_equal(stream, again)
    assert not np.array_equal(stream[1], stream[2])


def test_actions_are_clipped_and_nonsense_is_refused() -> None:
    env = make_env("metaworld/door_close", observation="state")
    states = []
    for size in (1, 9):
        env.reset(seed=0)
        states.append(env.step(np.full(4, size, np.float32))[0]["state"])
    assert np.array_equal(*states)
    for wrong in (np.zeros(3, np.float32), np.full(4, np.nan, np.float32)):
        with pytest.raises(InvalidAction):
            env.step(wrong)


def test_before_the_first_reset_nothing_can_be_done() -> None:
    env = make_env("toy/point")
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))
    with pytest.raises(ResetNeeded):
        env.render()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("metaworld/button_pres", "metaworld/button_press"),
        ("robodesk/push_gren", "robodesk/push_green"),
        ("dmc/walker_walks", "dmc/walker_walk"),
        ("dmc/cheetah_nopaws", "dmc/cheetah_nopaw"),
        ("toy/points", "toy/point"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(UsageError, match=suggestion):
        make_env(name)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="action_repeat, profile"):
        make_env("toy/point", repeat=2)
    with pytest.raises(UsageError, match="both a spec and profile"):
        make_env(EnvSpec("toy/point"), profile="fast")
    with pytest.raises(UsageError, match="observation='image'"):
        make_env("toy/point", observation="state").render()


def test_gymnasium_makes_the_papers_tasks() -> None:
    assert all(registered_id(task) in gymnasium.registry for task in PAPER_TASKS)
    with gymnasium.make("coworld_bench.envs:coworld/any-v0", task="toy/point", sparse=True) as env:
        assert env.reset(seed=0)[0]["image"].shape == (64, 64, 3)
    env = gymnasium.make("coworld/metaworld-button_press-v0", action_repeat=2, observation="state")
    assert env.unwrapped.env_spec == EnvSpec("metaworld/button_press", action_repeat=2, observation="state")
    assert env.reset(seed=1)[0]["state"].shape == (39,)
    env.close()


def test_importing_loads_no_simulator() -> None:
    script = """
import sys
import coworld_bench.envs
heavy = {"torch", "mujoco", "metaworld", "dm_control", "robodesk", "pandas", "matplotlib", "gym"} & set(sys.modules)
print(sorted(heavy))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
