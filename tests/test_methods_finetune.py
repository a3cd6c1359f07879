"""DV2 Finetune + EWC and Multi-Task DV2 on made-up domains: anchors by hand, what they hold, and who sees what."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import striped_episode
from scipy.stats import truncnorm
from torch import Tensor, nn

from coworld_bench.alternating import schedule
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import Config, override, resolve
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import AgentSpec, DreamerAgent, read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.errors import UsageError
from coworld_bench.losses import truncated_log_density
from coworld_bench.methods import Job, SourceAgent, load_method
from coworld_bench.online import OnlineAgent
from coworld_bench.rssm import State
from coworld_bench.run_spec import RunSpec
from coworld_bench.tasks import Domain, EnvSpec

EWC, MULTI = load_method("dv2_finetune_ewc"), load_method("multitask_dv2")
ewc: Any = sys.modules[EWC.learner.__module__]
multitask: Any = sys.modules[MULTI.learner.__module__]
EPISODES, ROWS = 12, 20
METHODS = ["dv2_finetune_ewc", "multitask_dv2"]

SOURCE = domain_of(EnvSpec("toy/point_mirrored"))


def target_of(action: int) -> Domain:
    return replace(domain_of(EnvSpec("toy/point")), action=action)


def inverted(seed: int, action: int = 2, rows: int = ROWS) -> Episode:
    """A striped episode in a dark column on light ground, controlled the other way round."""
    episode = striped_episode(seed, rows, action)
    return replace(episode, image=255 - episode.image, action=-episode.action)


@pytest.fixture(scope="module")
def small() -> Config:
    options = {"online.prefill": "50", "batch.size": "4", "batch.length": "6", "behaviour.slow_every": "4"}
    return override(resolve("smoke", "toy"), options)


def pretrained(config: Config, folder: Path, action_input: int = 2, updates: int = 3, **options: str) -> SourceAgent:
    """A source agent that learnt from striped episodes."""
    config = override(config, options)
    with Staging(folder / "episodes") as staging:
        for seed in range(EPISODES):
            episode = striped_episode(seed, ROWS)
            state = np.pad(episode.state, ((0, 0), (0, 2)))  # of toy's size
            staging.add(replace(episode, state=state, meta={"seed": seed, "policy": "random"}))
        online = OnlineAgent(SOURCE, config, 0, staging, action_input=action_input)
        for _ in range(updates):
            online.update()
        save_state(folder / "agent.pt", online.state_dict())
    return SourceAgent(SOURCE, config, 0, action_input, folder)


@pytest.fixture(scope="module")
def source(small: Config, tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return pretrained(small, tmp_path_factory.mktemp("source"))


FAST = {"model.lr": "3e-3", "budget.warmup": "0", "budget.updates": "120"}


@pytest.fixture(scope="module")
def fitted(small: Config, tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent whose world model knows its episodes."""
    return pretrained(small, tmp_path_factory.mktemp("fitted"), updates=120, **FAST)


# Networks and rates with which an actor learns to push the column within a few hundred updates.
PUSHING = FAST | {
    "budget.updates": "400", "batch.size": "8", "model.stoch": "8", "model.classes": "8", "model.units": "64",
    "model.deter": "64", "behaviour.horizon": "8", "behaviour.actor_lr": "1e-3", "behaviour.critic_lr": "3e-3",
}  # fmt: skip


@pytest.fixture(scope="module")
def pusher(small: Config, tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent that pushes the column to the right."""
    return pretrained(small, tmp_path_factory.mktemp("pusher"), updates=150, **PUSHING)


@pytest.fixture(scope="module")
def target() -> EpisodeMemory:
    return EpisodeMemory().extend(inverted(seed) for seed in range(20, 20 + EPISODES))


def make(name: str, config: Config, data: EpisodeMemory, source: SourceAgent, folder: Path, **own: Any) -> Any:
    method = load_method(name)
    domain = target_of(data.array("action").shape[1])
    job = Job(method.adapt(config, "toy"), domain, data, (source,), 0, "cpu", folder)
    return method.learner(method.defaults("smoke", "toy").model_copy(update=own), job)


def turns(learner: Any, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]


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


# EWC: the Fisher information


def test_log_density_of_the_truncated_normal_is_scipys() -> None:
    mean, std = torch.tensor([-0.9, 0.0, 0.7]).double(), torch.tensor([0.1, 1.0, 2.0]).double()
    action = torch.tensor([-1.0, 0.3, 1.0]).double()
    expected = truncnorm.logpdf(action, (-1 - mean) / std, (1 - mean) / std, mean, std)
    np.testing.assert_allclose(truncated_log_density(mean, std, action), expected)


def sequence_stream(source: SourceAgent) -> BatchStream:
    return BatchStream(EpisodeMemory().extend(source.episodes()), 0, 1, source.config.batch.length)


def lambda_returns_by_hand(reward: Tensor, value: Tensor, discount: float, trace: float) -> Tensor:
    """[H, N] and v of rows 0..H [H + 1, N]: one trajectory after the other, backwards."""
    returns = torch.zeros_like(reward)
    for n in range(reward.shape[1]):
        following = value[-1, n]
        for t in reversed(range(len(reward))):
            following = reward[t, n] + discount * ((1 - trace) * value[t + 1, n] + trace * following)
            returns[t, n] = following
    return returns


def gradients_in_float64(source: SourceAgent, count: int) -> list[dict[str, list[Tensor]]]:
    """∂ℓ/∂θ of every single sequence, by plain loops and autograd; needs `Tensor.float` to be `Tensor.double`."""
    plain = replace(source, config=override(source.config, {"compute.plain": "true"}))
    agent, stream = plain.agent("cpu"), sequence_stream(source)
    agent.model.double(), agent.behaviour.double()
    config, behaviour, found = agent.config.behaviour, agent.behaviour, []
    for _ in range(count):
        rows = agent.rows(stream.next())
        rows = rows._replace(action=rows.action.double(), reward=rows.reward.double())
        seen = agent.see(rows)
        model = sum(agent.model.terms(rows, seen, None).values())
        feature = seen.state.feature.detach()
        mean, std = behaviour.moments(feature)
        normal, actor = torch.distributions.Normal(mean, std), 0.0
        inside = (normal.cdf(torch.ones_like(mean)) - normal.cdf(-torch.ones_like(mean))).log()
        for t in range(len(feature) - 1):
            log_density = normal.log_prob(rows.action[t + 1].expand_as(mean))[t, 0] - inside[t, 0]
            actor = actor - log_density[: source.domain.action].sum() / (len(feature) - 1)
        imagined = agent.imagine(seen.state.flat())
        reward = agent.model.predict_reward(imagined.feature[:-1])
        returns = lambda_returns_by_hand(reward, behaviour.slow_value(imagined.feature), config.discount, config.trace)
        value = behaviour.value(imagined.feature[:-1].detach())
        weight = torch.tensor([config.discount**t for t in range(len(returns))])[:, None]
        critic = (weight * 0.5 * (value - returns.detach()) ** 2).mean()
        losses = {"model": model, "actor": actor, "critic": critic}
        modules = {"model": agent.model, "actor": behaviour.actor, "critic": behaviour.critic}
        found.append({name: list(torch.autograd.grad(losses[name], list(modules[name].parameters()))) for name in losses})
    return found


@pytest.fixture
def wide(small: Config, tmp_path: Path) -> SourceAgent:
    """A source agent whose networks have room for a third action."""
    return pretrained(small, tmp_path / "wide", action_input=3, **{"model.free_nats": "0"})


def test_the_fisher_information_is_that_of_an_independent_loop_in_float64(
    wide: SourceAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = wide.agent("cpu")
    fisher = ewc.fisher_information(agent, ewc.modules(agent), sequence_stream(wide), 5)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        gradients = gradients_in_float64(wide, 5)
    for name, parts in fisher.items():
        for index, part in enumerate(parts):
            own = torch.stack([sequence[name][index] for sequence in gradients])
            expected = own.square().mean(0)
            assert own.dtype == torch.float64
            torch.testing.assert_close(part.double(), expected, rtol=2e-3, atol=1e-4 * float(expected.max()))
        whole = torch.cat([part.flatten() for part in ewc.normalised(parts)])
        assert whole.mean().item() == pytest.approx(1, rel=1e-4)


def test_squared_gradients_are_of_single_sequences(fitted: SourceAgent) -> None:
    """The square of a mean gradient is smaller in every weight, and by much over a world model that has learnt."""
    agent, stream = fitted.agent("cpu"), sequence_stream(fitted)
    held = ewc.modules(agent)
    start = agent.generator.get_state()
    fisher = ewc.fisher_information(agent, held, stream, 8)
    agent.generator.set_state(start)
    stream.k, total = 0, {name: 0.0 for name in held}
    for _ in range(8):
        losses = ewc.sequence_losses(agent, agent.rows(stream.next()))
        total = {name: total[name] + losses[name] / 8 for name in held}
    for name, module in held.items():
        of_mean = [part.square() for part in torch.autograd.grad(total[name], list(module.parameters()))]
        assert all((a >= b - 1e-4 * b.max()).all() for a, b in zip(fisher[name], of_mean, strict=True))
        if name == "model":
            assert sum(part.sum() for part in of_mean) < 0.5 * sum(part.sum() for part in fisher[name])


def test_actions_the_source_does_not_have_are_not_anchored(wide: SourceAgent) -> None:
    agent = wide.agent("cpu")
    fisher = ewc.fisher_information(agent, {"actor": agent.behaviour.actor}, sequence_stream(wide), 3)
    last = fisher["actor"][-1]  # biases of three means, then of three stds
    assert (last[[2, 5]] == 0).all() and (last[[0, 1, 3, 4]] > 0).all()


# EWC: the anchor


def test_the_anchor_by_hand() -> None:
    """θ = (3, 1), θ* = (1, 2), F = (½, 2): ½ (½ 4 + 2 1) = 2; its gradient is F (θ - θ*) = (1, -2)."""
    module = nn.Linear(2, 1, bias=False)
    module.weight.data = torch.tensor([[3.0, 1.0]])
    anchor = ewc.Anchor([torch.tensor([[1.0, 2.0]])], [torch.tensor([[0.5, 2.0]])])
    distance = anchor.distance(module)
    assert distance.item() == 2
    assert torch.autograd.grad(distance, module.weight)[0].tolist() == [[1, -2]]


STILL = {"model.lr": "1e-12", "behaviour.actor_lr": "1e-12", "behaviour.critic_lr": "1e-12", "budget.warmup": "0"}


def descended(learner: Any, shift: float) -> dict[str, list[Tensor]]:
    """The gradients that the optimisers of a learner get in its first turn, its weights `shift` away from the anchor."""
    found: dict[str, list[Tensor]] = {}
    for name, optimiser in learner.agent.optimisers.items():
        parameters = optimiser.param_groups[0]["params"]
        optimiser.register_step_pre_hook(
            lambda *_, name=name, given=parameters: found.update({name: [weight.grad.clone() for weight in given]})
        )
        with torch.no_grad():
            for parameter in parameters:
                parameter += shift
    learner.turn()
    return found


def test_the_penalty_joins_the_gradient_of_every_module(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """λ F δ in each, for weights that are δ away; nothing is clipped here."""
    config = override(small, STILL | {"optimiser.clip": "1e9"})
    held, free = (make("dv2_finetune_ewc", config, target, source, tmp_path, penalty=weight) for weight in (3e4, 0.0))
    with_anchor, without = descended(held, 0.25), descended(free, 0.25)
    for name, anchor in held.anchors.items():
        difference = torch.cat([(a - b).flatten() for a, b in zip(with_anchor[name], without[name], strict=True)])
        expected = torch.cat([3e4 * 0.25 * fisher.flatten() for fisher in anchor.fisher])
        torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_the_penalty_is_clipped_with_the_loss(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("dv2_finetune_ewc", override(small, STILL | {"optimiser.clip": "2"}), target, source, tmp_path)
    for gradients in descended(learner, 0.25).values():
        assert torch.cat([part.flatten() for part in gradients]).norm().item() == pytest.approx(2, rel=1e-3)


def test_without_weight_the_anchor_changes_nothing(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    plain, free = make("dv2_finetune", small, target, source, tmp_path), None
    free = make("dv2_finetune_ewc", small, target, source, tmp_path, penalty=0.0)
    for metrics, others in zip(turns(plain, 8), turns(free, 8), strict=True):
        assert metrics == {name: value for name, value in others.items() if not name.endswith("/ewc")}
    for weight, other in zip(plain.agent.model.parameters(), free.agent.model.parameters(), strict=True):
        assert torch.equal(weight, other)
    assert plain.counts() == free.counts()


def losses_of(agent: DreamerAgent, rows: Any) -> dict[str, float]:
    """The world model's losses on these rows."""
    agent.generator.manual_seed(0)
    with torch.no_grad():
        return {name: float(term) for name, term in agent.model.terms(rows, agent.see(rows), None).items()}


def test_a_strong_anchor_keeps_the_source(
    small: Config, target: EpisodeMemory, fitted: SourceAgent, tmp_path: Path
) -> None:
    """Finetuned on inverted pictures the world model forgets the source's unless it is held; then it stays at θ*."""
    rows = fitted.agent("cpu").rows(BatchStream(EpisodeMemory().extend(fitted.episodes()), 5, 4, 6).next())
    before = losses_of(fitted.agent("cpu"), rows)["image"]

    def finetuned(penalty: float) -> tuple[float, dict[str, float]]:
        learner = make("dv2_finetune_ewc", override(small, FAST), target, fitted, tmp_path, penalty=penalty, sequences=32)
        turns(learner, 40)
        modules = ewc.modules(learner.agent)
        with torch.no_grad():
            moved = {name: float(anchor.distance(modules[name])) for name, anchor in learner.anchors.items()}
        return losses_of(learner.agent, rows)["image"], moved

    (kept, near), (between, away), (forgot, far) = (finetuned(penalty) for penalty in (1e6, 100.0, 0.0))
    assert kept < 1.05 * before < 3 * before < between < forgot
    assert all(5 * near[name] < away[name] < 0.1 * far[name] for name in far), (near, away, far)


def test_the_anchor_is_computed_in_full_precision(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Where the networks are not."""
    config = override(small, {"compute.precision": "bfloat16"})
    learner = make("dv2_finetune_ewc", config, target, replace(source, config=config), tmp_path)
    metrics = [learner.turn() for _ in range(4)][-1]
    assert all(metrics[f"{name}/ewc"].dtype == torch.float32 for name in ("model", "actor", "critic"))
    assert all(part.dtype == torch.float32 for anchor in learner.anchors.values() for part in anchor.fisher)


def push(agent: DreamerAgent, memory: EpisodeMemory) -> float:
    """The mean first action component in the first rows of all episodes, where the column is not at an edge."""
    starts = np.flatnonzero(~memory.array("action").any(-1))
    rows = agent.rows(memory.windows(starts, np.zeros_like(starts), 6))
    agent.generator.manual_seed(0)
    with torch.no_grad():
        return float(agent.behaviour.mode(agent.see(rows).state.feature)[..., 0].mean())


@pytest.mark.slow
def test_an_anchored_actor_goes_on_with_what_it_did_in_the_source(
    small: Config, target: EpisodeMemory, pusher: SourceAgent, tmp_path: Path
) -> None:
    """The target wants the opposite action: learnt under a weak anchor, not under a strong one."""

    def pushes(penalty: float) -> float:
        config = override(small, PUSHING)
        learner = make("dv2_finetune_ewc", config, target, pusher, tmp_path, penalty=penalty, sequences=32)
        turns(learner, 150)
        return push(learner.agent, target)

    before = push(pusher.agent("cpu"), target)
    assert before > 0.3 and pushes(1e6) == pytest.approx(before, abs=0.1)
    assert pushes(1.0) < -0.3


def test_the_world_model_alone_can_be_held(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("dv2_finetune_ewc", small, target, source, tmp_path, modules="world_model")
    metrics = turns(learner, 4)[-1]
    assert set(learner.anchors) == {"model"}
    assert metrics["model/ewc"] > 0 and not {"actor/ewc", "critic/ewc"} & set(metrics)


def test_a_restored_learner_keeps_its_anchors(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """They are stored, not estimated again."""
    learner = make("dv2_finetune_ewc", small, target, source, tmp_path)
    turns(learner, 1)
    restored = make("dv2_finetune_ewc", small, target, source, tmp_path)
    restored.load_state_dict(learner.state_dict())
    restored.find_anchors = lambda: pytest.fail("estimated again")
    turns(restored, 1)
    assert set(restored.anchors) == {"model", "actor", "critic"}  # no slow critic


# Multi-Task DV2


def test_both_domains_are_learnt_by_one_world_model(
    small: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Image and reward loss of each fall to less than a third: the pictures are each other's inverse, and a world model
    that cannot tell them apart paints them grey."""
    config = override(small, FAST | {"model.reward_loss": "50", "batch.size": "8", "budget.warmup": "80"})
    learner = make("multitask_dv2", config, target, replace(source, config=config), tmp_path, warm_rounds=1, epochs=1)
    owner, rows = learner.source.agent, [learner.source.next_rows(), learner.next_rows()]
    before = [losses_of(owner, domain) for domain in rows]
    turns(learner, 80)
    after = [losses_of(owner, domain) for domain in rows]
    pairs = [(early[name], late[name]) for early, late in zip(before, after, strict=True) for name in ("image", "reward")]
    assert all(late < early / 3 for early, late in pairs), pairs
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
        other = EpisodeMemory().extend(inverted(seed) for seed in range(40, 44))
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
    data = EpisodeMemory().extend(inverted(seed, action) for seed in range(4))
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
