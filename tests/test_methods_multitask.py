"""Multi-Task DV2: one world model for two domains, and who sees what; with what it shares with EWC."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_columns import FAST, PUSHING, SMALL, losses_of, make, pretrained, push, targets, turns
from torch import Tensor

from coworld_bench.alternating import schedule
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import Config, override
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.errors import UsageError
from coworld_bench.methods import SourceAgent, load_method
from coworld_bench.rssm import State
from coworld_bench.run_spec import RunSpec

multitask: Any = sys.modules[load_method("multitask_dv2").learner.__module__]
METHODS = ["dv2_finetune_ewc", "multitask_dv2"]


@pytest.fixture(scope="module")
def small() -> Config:
    return SMALL


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return pretrained(SMALL, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def pusher(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent that pushes the column to the right."""
    return pretrained(SMALL, tmp_path_factory.mktemp("pusher"), updates=150, **PUSHING)


@pytest.fixture(scope="module")
def target() -> EpisodeMemory:
    return targets()


def test_both_domains_are_learnt_by_one_world_model(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Image and reward loss of each, over six batches, fall to less than a third: the pictures are each other's inverse,
    and a world model that cannot tell them apart paints them grey."""
    config = override(small, FAST | {"model.reward_loss": "50", "batch.size": "8", "budget.warmup": "80"})
    learner = make("multitask_dv2", config, target, replace(source, config=config), tmp_path, warm_rounds=1, epochs=1)
    owner = learner.source.agent
    domains = [[source.next_rows() for _ in range(6)] for source in (learner.source, learner)]

    def look() -> list[float]:
        seen = [[losses_of(owner, rows) for rows in batches] for batches in domains]
        return [np.mean([losses[name] for losses in each]) for each in seen for name in ("image", "reward")]

    before = look()
    turns(learner, 80)
    after = look()
    assert all(late < early / 3 for early, late in zip(before, after, strict=True)), (before, after)
    assert learner.policy.model is owner.model


def weights_of(agent: DreamerAgent) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in agent.behaviour.parameters()])


def test_each_actor_critic_learns_from_its_own_domain_alone(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """In a world model that stays as it is, other data of one domain changes nothing for the other's actor-critic."""
    config = override(small, {"model.lr": "1e-30", "budget.warmup": "0", "budget.updates": "8"})
    source = replace(source, config=config)

    def learnt(folder: str, source_data: bool, target_data: bool) -> tuple[Tensor, Tensor]:
        learner = make("multitask_dv2", config, target, source, tmp_path / folder, epochs=1)
        other = targets(40)
        if source_data:
            learner.source.batches.memory = other
        if target_data:
            learner.batches.memory = other
        turns(learner, 3)
        return weights_of(learner.source.agent), weights_of(learner.agent)

    (source_actor, target_actor), begun = learnt("a", False, False), weights_of(source.agent("cpu"))
    assert not torch.equal(source_actor, begun)
    other_source, same_target = learnt("b", True, False)
    assert torch.equal(same_target, target_actor) and not torch.equal(other_source, source_actor)
    same_source, other_target = learnt("c", False, True)
    assert torch.equal(same_source, source_actor) and not torch.equal(other_target, target_actor)


@pytest.mark.slow
def test_each_actor_critic_learns_to_push_its_own_way(
    small: Config, target: EpisodeMemory, pusher: SourceAgent, tmp_path: Path
) -> None:
    """What is rewarded is a column to the right, which the same action moves to opposite sides in the two domains."""
    config, one_block = override(small, PUSHING), {"warm_rounds": 1, "epochs": 1, "source_env_steps_per_round": 0}
    learner = make("multitask_dv2", config, target, pusher, tmp_path, **one_block)
    turns(learner, 250)
    owner = learner.source.agent
    assert push(owner, learner.source.memory) > 0.3 and push(learner.agent, target) < -0.3


def test_states_are_parted_by_domain() -> None:
    """Two rows of one source and two target sequences, numbered row * 10 + sequence."""
    rows = torch.tensor([[0.0], [1], [2], [10], [11], [12]])
    source, target = multitask.parted(State(rows, rows), 1, 2)
    assert source.deter.flatten().tolist() == [0, 10]
    assert target.stoch.flatten().tolist() == [1, 2, 11, 12]


def test_the_target_waits_for_the_warm_up_and_the_source_does_not(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("multitask_dv2", override(small, {"budget.warmup": "2"}), target, source, tmp_path)
    begun, theirs = weights_of(learner.agent), weights_of(learner.source.agent)
    turns(learner, 2)
    assert torch.equal(weights_of(learner.agent), begun) and not torch.equal(weights_of(learner.source.agent), theirs)
    assert turns(learner, 1) == [{}]  # an episode of actor S, in which nothing is learnt
    turns(learner, 1)
    assert not torch.equal(weights_of(learner.agent), begun)


def test_budgets_are_coworlds(small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path) -> None:
    """The same target updates and source env steps, at every target update of the way."""

    def way(name: str) -> list[tuple[int, ...]]:
        learner, spent = make(name, small, target, source, tmp_path / name), []
        while learner.updates < learner.total:
            learner.turn()
            counts = learner.counts()
            spent.append((counts["world_model_updates"], counts["behaviour_updates"], counts["source_env_steps"]))
        return spent

    assert way("multitask_dv2") == way("coworld")


@pytest.mark.parametrize("preset", ["paper", "quick", "smoke"])
@pytest.mark.parametrize("pair", ["metaworld/window_close robodesk/open_slide", "dmc/walker_walk dmc/walker_uphill"])
def test_schedule_and_source_agent_are_coworlds(pair: str, preset: str) -> None:
    theirs, mine = pair.split()
    plans = [RunSpec(name, mine, (theirs,), preset=preset).plan() for name in ("coworld", "multitask_dv2")]
    coworld, multi = (schedule(plan.settings, plan.config) for plan in plans)
    assert coworld == multi
    assert plans[0].source_specs() == plans[1].source_specs()


@pytest.mark.parametrize("action", [1, 3])
def test_domains_may_have_actions_of_different_sizes(small: Config, action: int, tmp_path: Path) -> None:
    """The target has fewer or more actions than the source's two; each acts with its own, the world model reads all."""
    source = pretrained(small, tmp_path / "source", action_input=max(2, action))
    data = targets(action=action)
    learner = make("multitask_dv2", small, data, source, tmp_path)
    turns(learner, learner.total)
    assert learner.source.staging.episodes()[-1].action.shape[1] == 2
    assert learner.source.agent.spec.action_input == learner.agent.spec.action_input == max(2, action)
    actions, _ = learner.policy.act(np.zeros((1, 64, 64, 3), np.uint8), learner.policy.initial(), torch.Generator())
    assert actions.shape == (1, action)


def test_the_domain_is_read_behind_every_action(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """In batches, in imagination and in acting; at first it makes no difference, later it does."""
    plain, onehot = (
        make("multitask_dv2", small, target, source, tmp_path / str(told), domain_onehot=told) for told in (False, True)
    )
    rows, agent = onehot.next_rows(), onehot.agent
    assert rows.action.shape[-1] == 4 and (rows.action[..., 2:] == torch.tensor([0.0, 1.0])).all()
    assert (onehot.source.next_rows().action[..., 2:] == torch.tensor([1.0, 0.0])).all()
    assert agent.initial().action.tolist() == [[0, 0, 0, 1]]
    for sample in (False, True):
        _, carry = agent.act(rows.image[0].numpy(), agent.initial(rows.batch), torch.Generator(), sample)
        assert (carry.action[:, 2:] == torch.tensor([0.0, 1.0])).all() and (carry.action[:, :2] != 0).any()
    plain.next_rows(), plain.source.next_rows()
    first, same = turns(onehot, 1)[0], turns(plain, 1)[0]
    assert first["model/image"] == pytest.approx(same["model/image"], rel=1e-5)
    reads = onehot.agent.model.rssm.from_action.weight[:, 2:]
    assert (reads[:, 0] != 0).any() and (reads[:, 1] != 0).any()
    turns(onehot, onehot.total - onehot.updates)


def test_imagination_in_a_labelled_domain_is_that_of_plain_loops(small: Config, memory: EpisodeMemory) -> None:
    """The label reaches the dynamics in the fast rollout as in the plain one, and a different one gives other states."""

    def imagined(plain: str, label: tuple[float, ...]) -> Tensor:
        agent = DreamerAgent(override(small, {"compute.plain": plain}), AgentSpec(2, 3, 1.0, label=label), 0)
        states = agent.see(agent.rows(memory.sample(np.random.default_rng(0), 3, 6))).state.flat()
        return agent.imagine(states).feature

    fast, slow, other = imagined("false", (1.0, 0.0)), imagined("true", (1.0, 0.0)), imagined("false", (0.0, 1.0))
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fast, other, rtol=1e-3)


def test_the_shared_world_model_is_stored_and_updated_once(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("multitask_dv2", small, target, source, tmp_path)
    state = learner.state_dict()
    assert "model" in state["source"]["agent"] and "model" not in state["agent"]
    with pytest.raises(AssertionError, match="the agent that owns it"):
        learner.agent.update_model(learner.next_rows())


def test_a_batch_of_one_cannot_be_shared(small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"batch\.size must be at least 2"):
        make("multitask_dv2", override(small, {"batch.size": "1"}), target, source, tmp_path)


# Both methods


@pytest.mark.parametrize("name", METHODS)
def test_a_method_spends_the_same_budget_to_the_end(
    name: str, small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make(name, small, target, source, tmp_path)
    while learner.updates < learner.total:
        assert np.isfinite(list(turns(learner, 1)[0].values())).all()
    counts = learner.counts()
    assert counts["world_model_updates"] == small.budget.updates
    assert counts["behaviour_updates"] == small.budget.updates - small.budget.warmup


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_numbers(
    name: str, small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    first, second = (turns(make(name, small, target, source, tmp_path / folder), 6) for folder in "ab")
    assert first == second


@pytest.mark.parametrize("stop", [0, 5])
@pytest.mark.parametrize("name", METHODS)
def test_a_stored_method_goes_on_as_if_never_stopped(
    name: str, stop: int, small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    whole, stopped = (make(name, small, target, source, tmp_path / folder) for folder in ("whole", "stopped"))
    assert turns(whole, stop) == turns(stopped, stop)
    save_state(tmp_path / "state.pt", stopped.state_dict())
    if name == "multitask_dv2":
        stopped.source.staging.close()
    restored = make(name, small, target, source, tmp_path / "stopped")
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert turns(restored, 5) == turns(whole, 5)
    assert restored.counts() == whole.counts()
