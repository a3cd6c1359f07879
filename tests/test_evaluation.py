"""The evaluator and the score, against numbers worked by hand; environment and policy are the smallest that can lie."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from coworld_bench.anchors import measure_anchors
from coworld_bench.config import resolve
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.envs import domain_of, make_env
from coworld_bench.envs.pool import EnvProcessError
from coworld_bench.evaluation import Evaluator, discounted, evaluator, evenly, score
from coworld_bench.files import read_json
from coworld_bench.tasks import EnvSpec


class Constant:
    """A policy that always does the same and claims to know the future."""

    device = torch.device("cpu")

    def initial(self, batch: int = 1) -> int:
        return 0

    def act(self, image: np.ndarray, carry: int, generator: torch.Generator, sample: bool = False):
        assert image.shape == (1, 64, 64, 3) and image.dtype == np.uint8 and not sample
        return np.full((1, 2), 0.5, np.float32), carry + 1

    def value(self, carry: int) -> float:
        return float(carry)


@pytest.fixture
def judge():
    made = Evaluator(EnvSpec("toy/point"), reward_scale=0.5, discount=0.9)
    yield made
    made.close()


def test_an_episode_is_reproducible_and_complete(judge: Evaluator) -> None:
    first, again = judge.episode(Constant(), 5), judge.episode(Constant(), 5)
    assert first == again
    assert first["length"] == 50 and first["seed"] == 5 and isinstance(first["success"], bool)
    assert judge.episode(Constant(), 6)["return"] != first["return"]


def test_overestimation_by_hand() -> None:
    """Rewards 4, 0, 8 scaled by ½, γ ½, each counted at the row it leads to: 0 + ½·2 + ¼·0 + ⅛·4 = 1.5.

    One row's tail is long enough only at the start."""
    judge = Evaluator(EnvSpec("toy/point"), reward_scale=0.5, discount=0.5)
    probe = judge._overestimation([7.0, 1.0, 1.0], [4.0, 0.0, 8.0])
    assert probe["value_predicted"] == 7.0 and probe["value_realised"] == 1.5
    assert probe["value_predicted_mean"] == 7.0 and probe["value_realised_mean"] == 1.5


def test_overestimation_of_a_q_function_by_hand() -> None:
    """It does not count the reward of arriving: ½·4 + ½·½·0 + ¼·½·8 = 3 at row 0."""
    judge = Evaluator(EnvSpec("toy/point"), reward_scale=0.5, discount=0.5)
    probe = judge._overestimation([7.0, 1.0, 1.0], [4.0, 0.0, 8.0], arrival=False)
    assert probe["value_predicted"] == 7.0 and probe["value_realised"] == 3.0


def test_a_policy_says_what_its_values_count(judge: Evaluator) -> None:
    """One decision earlier, all is worth 1/γ as much."""
    state_values, q_values = Constant(), Constant()
    q_values.value_counts_arrival = False
    first, second = (judge.episode(policy, 5)["value_realised"] for policy in (state_values, q_values))
    assert second == pytest.approx(first / 0.9)


def test_the_probe_leaves_out_rows_whose_tail_is_cut_off() -> None:
    """γ ½: ln 0.01 / ln ½ = 6.6, so of 9 rows the first two count."""
    judge = Evaluator(EnvSpec("toy/point"), discount=0.5)
    probe = judge._overestimation([1.0, 3.0] + [100.0] * 7, [0.0] * 9)
    assert probe["value_predicted_mean"] == 2.0


def test_discounted_returns() -> None:
    assert discounted(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]


def test_same_resets_for_every_method_and_others_for_every_checkpoint(judge: Evaluator) -> None:
    seeds = [[record["seed"] for record in judge.checkpoint(Constant(), 3, index, 2)] for index in (0, 1, 0)]
    assert seeds[0] == seeds[2]
    assert not set(seeds[0]) & set(seeds[1])
    selecting = judge.checkpoint(Constant(), 3, 0, 2, stream="select")
    assert not {record["seed"] for record in selecting} & set(seeds[0])


def test_the_score_is_the_mean_over_checkpoints_of_the_last_half() -> None:
    """Ten updates: checkpoints at 6 and 10 count, those at 0 and 5 do not; each checkpoint weighs the same."""

    def point(updates: int, *returns: float) -> dict:
        return {"updates": updates, "episodes": [{"return": ret, "success": ret > 2} for ret in returns]}

    found = score([point(0, 99.0), point(5, 99.0), point(6, 1.0, 3.0), point(10, 6.0, 6.0)], total=10)
    assert found["mean"] == 4.0 and found["checkpoints"] == 2 and found["episodes"] == 4
    assert found["sd_checkpoints"] == 2.0 and found["success"] == 0.75


@pytest.mark.parametrize(("task", "action_repeat"), [("toy/point", 1), ("metaworld/window_close", 10)])
def test_episodes_played_at_the_same_time_are_the_same_to_the_last_bit(task: str, action_repeat: int) -> None:
    """Three episodes in two processes, whose pictures, latents, actions and values all enter the records."""
    env = EnvSpec(task, action_repeat=action_repeat)
    config = resolve("smoke", env.task.split("/")[0])
    agent = DreamerAgent(config, AgentSpec.of(domain_of(env), config), 0)
    with evaluator(env) as alone, evaluator(env, workers=2) as together:
        one_by_one = alone.checkpoint(agent, 3, 1, 3)
        assert together.checkpoint(agent, 3, 1, 3) == one_by_one
        assert together.checkpoint(agent, 3, 2, 1) == alone.checkpoint(agent, 3, 2, 1)
        assert together.pool_cpu_s > 0 and alone.pool_cpu_s == 0
    assert len({record["return"] for record in one_by_one}) == 3 and "value_predicted" in one_by_one[0]


@pytest.mark.parametrize(("length", "count", "places"), [(10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (50, 1, [0])])
def test_places_are_even_and_keep_both_ends(length: int, count: int, places: list[int]) -> None:
    assert evenly(length, count).tolist() == places


@pytest.mark.parametrize("workers", [0, 2])
def test_a_visit_is_an_episode_with_pictures_of_when_they_were_seen(workers: int) -> None:
    """The record is that of the same episode played for a score; every picture is the one before that decision."""
    with make_env(EnvSpec("toy/point")) as env:
        seen = [env.reset(seed=5)[0]["image"]]
        seen += [env.step(np.full(2, 0.5, np.float32))[0]["image"] for _ in range(50)]
    with evaluator(EnvSpec("toy/point"), workers=workers) as judge:
        record, env_steps, pictures = judge.visit(Constant(), 5, 8)
        episode = judge.episode(Constant(), 5)
    assert record == {key: episode[key] for key in ("seed", "return", "length", "success")}
    assert env_steps.tolist() == [0, 7, 14, 21, 28, 35, 42, 49]
    assert np.array_equal(pictures, np.stack([seen[step] for step in env_steps]))


def test_anchors_are_the_same_from_several_processes(tmp_path: Path) -> None:
    alone = read_json(measure_anchors("toy/point", "smoke", tmp_path / "alone"))
    together = read_json(measure_anchors("toy/point", "smoke", tmp_path / "together", workers=2))
    assert together == alone


class Murderer(Constant):
    """Kills an environment's process in the middle of its episode."""

    def __init__(self, judge: Evaluator) -> None:
        self.judge, self.left = judge, 60

    def act(self, *arguments, **keywords):
        self.left -= 1
        if not self.left:
            assert self.judge.pool is not None
            os.kill(self.judge.pool._processes[1].process.pid, signal.SIGKILL)
        return super().act(*arguments, **keywords)


def test_an_evaluation_says_which_process_died() -> None:
    killed = pytest.raises(EnvProcessError, match=r"process 2 of 2 \(toy/point\) was killed by SIGKILL")
    with evaluator(EnvSpec("toy/point"), workers=2) as judge, killed:
        judge.checkpoint(Murderer(judge), 0, 0, 4)
