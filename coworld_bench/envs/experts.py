"""Scripted policies that solve a task from the simulator's full state: the ceiling that returns are read against.

Meta-World's own scripts, but for two that do not earn their task's reward: the button one never comes near enough to
open the reward's gate, the handle one presses beyond the goal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from coworld_bench.envs.toy import LOOKS, SPEED
from coworld_bench.tasks import EnvSpec, find_task

ScriptedPolicy = Callable[[Any], np.ndarray]
GAIN = 25.0  # of Meta-World's own scripts: metres off the wanted place -> action
CLEAR_OF_HANDLE = 0.2  # metres above the handle while the hand is not over it


def scripted_policy(spec: EnvSpec) -> ScriptedPolicy | None:
    """A policy from the environment (as `make_env` gives it) to its next action, or None where no script exists."""
    task = find_task(spec.task)
    if task.suite == "toy":
        return lambda env: reach_target(env.unwrapped.simulator, LOOKS[task.name].sideways)
    if task.suite == "metaworld":
        script = metaworld_script(task.name)
        return lambda env: np.clip(script(env.unwrapped.simulator.observation), -1, 1).astype(np.float32)
    return None


def reach_target(toy: Any, sideways: float) -> np.ndarray:
    """Straight to the target, as far as one frame goes."""
    return np.clip((toy.target - toy.agent) * (sideways, 1.0) / SPEED, -1, 1).astype(np.float32)


def metaworld_script(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """From Meta-World's 39 numbers to four action components."""
    corrected = {"button_press": press_button, "handle_press": press_handle}
    if name in corrected:
        return corrected[name]
    from metaworld.policies import ENV_POLICY_MAP

    made: Any = ENV_POLICY_MAP[name.replace("_", "-") + "-v3"]
    script = made()

    def act(observation: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # upstream warns of every action that needs clipping
            return script.get_action(observation)

    return act


def press_button(observation: np.ndarray) -> np.ndarray:
    """Align with the button in x and z, then push along y with open fingers; 4 cm above the button, chosen as
    the best of six heights (the stock script: 7 cm below)."""
    hand, button = observation[:3], observation[4:7]
    aim = np.add(button, (0.0, 0.02, 0.04))
    if np.abs(hand - aim)[[0, 2]].max() > 0.02:
        aim[1] = hand[1] - 0.1
    return np.append(GAIN * (aim - hand), -1.0)


def press_handle(observation: np.ndarray) -> np.ndarray:
    """Over the handle, then push it down only as far as its goal is."""
    hand, handle, goal = observation[:3], observation[4:7], observation[36:39]
    aim = np.add(handle, (0.0, -0.02, 0.0))
    if np.linalg.norm((hand - aim)[:2]) > 0.02:
        aim[2] += CLEAR_OF_HANDLE
        return np.append(GAIN * (aim - hand), -1.0)
    sideways = GAIN * (aim - hand)[:2]
    return np.array([*sideways, GAIN * (goal[2] - handle[2]), -1.0])
