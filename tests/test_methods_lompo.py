"""LOMPO and LOMPO Finetune: penalty, latent buffers, actor and critics, both schedules, both phases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import striped_episode
from torch import Tensor

from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import Config, ModelConfig, override, resolve
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import AgentSpec, DreamerAgent, read_metrics
from coworld_bench.envs import domain_of, make_env
from coworld_bench.latent import LatentActorCritic, LatentAgent, LatentBuffer, Transitions
from coworld_bench.lompo import PLAIN_KL, Lompo, LompoSettings
from coworld_bench.methods import Job, load_method
from coworld_bench.nets import Precision
from coworld_bench.online import SourceAgent
from coworld_bench.rssm import Rssm, State
from coworld_bench.run_spec import RunSpec
from coworld_bench.seeding import episode_seed
from coworld_bench.tasks import EnvSpec

LATENTS = pytest.mark.parametrize("latent", ["gaussian", "categorical"])
CPU = torch.device("cpu")


def striped(action: int = 2, episodes: int = 4) -> EpisodeMemory:
    return EpisodeMemory().extend(striped_episode(seed, action=action) for seed in range(episodes))


def smoke(name: str = "lompo", **options: Any) -> Config:
    small = {"batch.size": "3", "batch.length": "6"} | {key.replace("__", "."): str(v) for key, v in options.items()}
    return override(load_method(name).adapt(resolve("smoke", "toy"), "toy"), small)


def job_of(config: Config, folder: Path, data: EpisodeMemory | None = None, sources: tuple[SourceAgent, ...] = ()) -> Job:
    return Job(config, domain_of(EnvSpec("toy/point")), data or striped(), sources, 0, "cpu", folder)


def lompo(folder: Path, config: Config | None = None, data: EpisodeMemory | None = None, **own: Any) -> Lompo:
    settings = load_method("lompo").defaults("smoke", "toy")
    return Lompo(LompoSettings.model_validate(settings.model_dump() | own), job_of(config or smoke(), folder, data))


@pytest.fixture
def source(tmp_path: Path) -> SourceAgent:
    """What LOMPO Finetune needs of a source agent: three episodes of a third action dimension."""
    with Staging(tmp_path / "source" / "episodes") as staging:
        for seed in range(3):
            staging.add(striped_episode(10 + seed))
    return SourceAgent(domain_of(EnvSpec("toy/point_mirrored")), smoke(), 0, 2, tmp_path / "source")


def finetune(folder: Path, source: SourceAgent, config: Config | None = None, **own: Any) -> Any:
    method = load_method("lompo_finetune")
    settings = method.settings.model_validate(method.defaults("smoke", "toy").model_dump() | own)
    return method.learner(settings, job_of(config or smoke("lompo_finetune"), folder, sources=(source,)))


def make(name: str, folder: Path, source: SourceAgent) -> Any:
    return lompo(folder) if name == "lompo" else finetune(folder, source)


def turns(learner: Any, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]


# The world model


@LATENTS
def test_log_probabilities_by_hand(latent: str) -> None:
    rssm = Rssm(ModelConfig(latent=latent, stoch=2, classes=2, deter=3, hidden=3), 4, 2, 2)  # type: ignore[arg-type]
    if latent == "gaussian":
        raw = 2 * math.log(9 / 11)  # 2 sigmoid(raw / 2) + 0.1 = 1
        statistic, stoch = torch.tensor([1.0, -1.0, raw, raw]), torch.tensor([3.0, -1.0])
        expected = -0.5 * 4 - math.log(2 * math.pi)
    else:
        statistic, stoch = torch.tensor([0.75, 0.25, 0.1, 0.9]).log(), torch.tensor([1.0, 0.0, 0.0, 1.0])
        expected = math.log(0.75 * 0.9)
    assert float(rssm.log_prob(stoch, statistic)) == pytest.approx(expected, abs=1e-5)


@LATENTS
def test_the_penalty_is_what_plain_loops_in_float64_give(latent: str) -> None:
    torch.manual_seed(0)
    heads, groups, classes = 5, 3, 4
    config = ModelConfig(latent=latent, stoch=groups, classes=classes, deter=6, hidden=7)  # type: ignore[arg-type]
    rssm = Rssm(config, 8, 2, heads)
    for weight in (rssm.prior.w2, rssm.prior.b2):
        weight.data *= 5  # heads that differ
    deter, statistic = torch.randn(9, 6), torch.randn(9, rssm.prior.b2.shape[-1])
    stoch = rssm.sample(statistic, rssm.draw(torch.Generator().manual_seed(1), 9))
    w1, b1, w2, b2 = (weight.detach().double().numpy() for weight in rssm.prior.parameters())

    def log_prob(head: int, row: int) -> float:
        hidden = deter[row].double().numpy() @ w1[head] + b1[head, 0]
        out = np.where(hidden > 0, hidden, np.exp(np.minimum(hidden, 0)) - 1) @ w2[head] + b2[head, 0]
        z, total = stoch[row].detach().double().numpy(), 0.0
        for group in range(groups):
            if latent == "gaussian":
                std = 2 / (1 + math.exp(-out[groups + group] / 2)) + 0.1
                total += -0.5 * ((z[group] - out[group]) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
            else:
                logits, drawn = out[group * classes :][:classes], int(z[group * classes :][:classes].argmax())
                total += logits[drawn] - math.log(np.exp(logits).sum())
        return total

    expected = [np.std([log_prob(head, row) for head in range(heads)]) for row in range(9)]
    np.testing.assert_allclose(rssm.log_prob_spread(State(deter, stoch)).detach().numpy(), expected, rtol=1e-4)
    assert min(expected) > 0.1


@LATENTS
def test_the_loss_has_the_gradient_of_the_plain_kl(latent: str) -> None:
    """`kl_balance` ½, `kl_scale` 2, no free nats: the gradient of mean KL[q ‖ p_k] to both sides, and twice its value."""
    torch.manual_seed(0)
    rssm = Rssm(ModelConfig(latent=latent, stoch=3, classes=4, deter=6, hidden=7), 8, 2, 3)  # type: ignore[arg-type]
    posterior = torch.randn(4, 2, rssm.prior.b2.shape[-1], requires_grad=True)
    deter, member = torch.randn(4, 2, 6, requires_grad=True), torch.tensor([2, 0, 1, 0])
    leaves = [posterior, deter, *rssm.prior.parameters()]
    plain = rssm.kl(posterior, rssm.prior.by_row(deter, member)).mean()
    loss = PLAIN_KL["kl_scale"] * rssm.kl_loss(posterior, deter, PLAIN_KL["kl_balance"], PLAIN_KL["free_nats"], member)
    assert float(loss.detach()) == pytest.approx(2 * float(plain.detach()), rel=1e-6)
    for ours, truth in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(plain, leaves), strict=True):
        torch.testing.assert_close(ours, truth)
    model = smoke().model
    assert {name: getattr(model, name) for name in PLAIN_KL} == PLAIN_KL


def test_the_world_model_fits_a_tiny_dataset(tmp_path: Path) -> None:
    learner = lompo(tmp_path, smoke(model__lr=3e-3, budget__warmup=200, budget__updates=201))
    metrics = turns(learner, 200)
    assert np.mean([m["model/image"] for m in metrics[-10:]]) < 0.4 * metrics[0]["model/image"]
    assert np.mean([m["model/reward"] for m in metrics[-10:]]) < 0.05


# The buffers


def numbered(first: int, count: int) -> Transitions:
    number = torch.arange(first, first + count, dtype=torch.float32)
    return Transitions(number[:, None], -number[:, None], 10 * number, number[:, None] + 1)


def test_a_full_buffer_forgets_the_oldest() -> None:
    buffer = LatentBuffer(5)
    buffer.add(numbered(0, 3))
    assert (buffer.filled, buffer.place) == (3, 3)
    buffer.add(numbered(3, 4))
    assert buffer.ring is not None
    assert buffer.ring.reward.tolist() == [50, 60, 20, 30, 40]
    assert buffer.ring.feature[:, 0].tolist() == [5, 6, 2, 3, 4]
    assert (buffer.filled, buffer.place) == (5, 2)
    buffer.add(numbered(10, 12))
    assert sorted(buffer.ring.reward.tolist()) == [170, 180, 190, 200, 210]


def test_only_what_was_written_is_sampled_and_rows_stay_together() -> None:
    buffer = LatentBuffer(100)
    buffer.add(numbered(1, 7))
    drawn = buffer.sample(500, torch.Generator().manual_seed(0))
    assert set(drawn.reward.tolist()) == {10.0 * number for number in range(1, 8)}
    torch.testing.assert_close(drawn.feature[:, 0], drawn.reward / 10)
    torch.testing.assert_close(drawn.next_feature[:, 0], drawn.reward / 10 + 1)
    torch.testing.assert_close(drawn.action[:, 0], -drawn.reward / 10)


@pytest.mark.parametrize("count", [0, 3, 8])
def test_a_buffer_is_stored_with_its_place(count: int) -> None:
    whole = LatentBuffer(5)
    if count:
        whole.add(numbered(0, 3)), whole.add(numbered(3, count - 3))
    other = LatentBuffer(5)
    other.load_state_dict(whole.state_dict(), CPU)
    for buffer in (whole, other):
        buffer.add(numbered(50, 2))
    assert whole.ring is not None and other.ring is not None
    assert (whole.filled, whole.place) == (other.filled, other.place)
    assert whole.ring.reward[: whole.filled].tolist() == other.ring.reward[: other.filled].tolist()


def test_real_transitions_follow_the_rows_of_their_episodes(tmp_path: Path) -> None:
    """Action and reward of row t + 1 stand between the features of rows t and t + 1; no transition joins two episodes."""
    learner = lompo(
        tmp_path, data=EpisodeMemory().extend(striped_episode(seed, rows) for seed, rows in enumerate([9, 9, 7]))
    )
    learner.agent.spec = replace(learner.agent.spec, reward_scale=0.5)
    learner.encode(3)
    assert learner.real.filled == 16 and learner.next_episode == 2  # the third has another length
    learner.encode(3)
    ring = learner.real.ring
    assert ring is not None and learner.real.filled == learner.real.capacity == 22 and learner.next_episode == 0
    episodes = [striped_episode(seed, rows) for seed, rows in enumerate([9, 9, 7])]
    np.testing.assert_array_equal(ring.action.numpy(), np.concatenate([episode.action[1:] for episode in episodes]))
    np.testing.assert_array_equal(ring.reward.numpy(), 0.5 * np.concatenate([episode.reward[1:] for episode in episodes]))
    joins = [torch.equal(ring.next_feature[row], ring.feature[row + 1]) for row in range(21)]
    assert [row for row, joined in enumerate(joins) if not joined] == [7, 15]


def test_an_episode_encoded_anew_takes_its_own_place(tmp_path: Path) -> None:
    learner = lompo(tmp_path)
    for _ in range(4):
        learner.encode(1)
    assert learner.real.ring is not None
    before = learner.real.ring.feature.clone()
    learner.encode(1)
    changed = (learner.real.ring.feature != before).any(-1)
    assert changed[:19].all() and not changed[19:].any()
    np.testing.assert_array_equal(learner.real.ring.action[:19].numpy(), striped_episode(0).action[1:])


def test_imagination_by_its_parts(tmp_path: Path) -> None:
    """Next states by the GRU, rewards of the next state less the penalty, exploring actions inside the limits."""
    learner = lompo(tmp_path, smoke(behaviour__horizon=5, behaviour__starts=0))
    agent, rssm = learner.agent, learner.agent.model.rssm
    starts, _ = agent.update_model(learner.next_rows())
    made, metrics = agent.imagine_transitions(starts, exploration=0.2, penalty=3.0)
    count = len(starts.deter)
    assert len(made.reward) == 5 * count
    torch.testing.assert_close(made.feature[:count], starts.feature)
    torch.testing.assert_close(made.feature[count:], made.next_feature[:-count])
    stoch, deter = made.feature.split([rssm.stoch, rssm.deter], -1)
    torch.testing.assert_close(made.next_feature[:, rssm.stoch :], rssm.recur(deter, stoch, rssm.from_action(made.action)))
    reached = State(made.next_feature[:, rssm.stoch :], made.next_feature[:, : rssm.stoch])
    spread = rssm.log_prob_spread(reached)
    torch.testing.assert_close(made.reward, agent.model.predict_reward(made.next_feature) - 3 * spread)
    assert float(metrics["critic/penalty"]) == pytest.approx(3 * float(spread.mean().detach()), rel=1e-4)
    noise = made.action - agent.behaviour.mode(made.feature)
    assert made.action.abs().max() <= 1 and 0.15 < float(noise.detach().std()) < 0.25


# Actor and critics


def linear_agent() -> LatentAgent:
    """One-dimensional features; Q1 = f + 2 a, Q2 = 3 f - a + ½, π = tanh(f / 2) on the first of two action dimensions."""
    config = override(smoke(), {"behaviour.discount": "0.5", "model.value_layers": "0", "model.actor_layers": "0"})
    agent = LatentAgent(config, AgentSpec(1, 2, 1.0, 3), 0, "cpu", slow_rate=0.25)
    agent.behaviour = LatentActorCritic(config.model, 1, agent.spec, Precision("cpu", None))
    with torch.no_grad():
        for critic, (weight, bias) in zip(agent.behaviour.critic, (([1, 2, 7], 0), ([3, -1, 7], 0.5)), strict=True):
            critic[0].weight.copy_(torch.tensor([weight])), critic[0].bias.fill_(bias)
        agent.behaviour.actor[0].weight.copy_(torch.tensor([[0.5], [9.0]])), agent.behaviour.actor[0].bias.zero_()
    agent.behaviour.slow_critic.load_state_dict(agent.behaviour.critic.state_dict())
    agent.reset_optimisers()
    return agent


GIVEN = Transitions(
    torch.tensor([[1.0], [-2.0]]),
    torch.tensor([[0.5, 0.0], [1.0, 0.0]]),
    torch.tensor([1.0, 2.0]),
    torch.tensor([[2.0], [0.0]]),
)


def test_targets_and_losses_by_hand() -> None:
    agent = linear_agent()
    with torch.no_grad():
        agent.behaviour.slow_critic[0][0].bias.fill_(1.0)  # the targets read the slow critics: Q̄1 = f + 2 a + 1
    a = math.tanh(1.0)  # π(2); π(0) = 0
    targets = [1 + 0.5 * min(2 + 2 * a + 1, 6 - a + 0.5), 2 + 0.5 * min(1, 0.5)]
    np.testing.assert_allclose(agent.bootstrapped(GIVEN).numpy(), targets, rtol=1e-6)
    q = np.array([[1 + 2 * 0.5, -2 + 2 * 1], [3 - 0.5 + 0.5, -6 - 1 + 0.5]])
    acts = np.tanh([0.5, -1.0])
    follows = [min(1 + 2 * acts[0], 3 - acts[0] + 0.5), min(-2 + 2 * acts[1], -6 - acts[1] + 0.5)]
    metrics = read_metrics(agent.learn(GIVEN))
    assert metrics["critic/regression"] == pytest.approx(((q - targets) ** 2).mean(1).sum(), rel=1e-5)
    assert metrics["actor/loss"] == pytest.approx(-np.mean(follows), rel=1e-5)
    assert metrics["critic/return"] == pytest.approx(np.mean(targets), rel=1e-5)
    assert agent.behaviour_updates == 1


def test_an_update_steps_the_actor_up_and_the_slow_critics_towards_the_critics() -> None:
    agent = linear_agent()
    behaviour = agent.behaviour
    before, slow = float(behaviour.actor[0].weight[0, 0].detach()), float(behaviour.slow_critic[0][0].bias)
    agent.learn(GIVEN)
    # d min Q / d w = Σ slope f sech²(w f): Q1 (slope 2) is smaller at f = 1, Q2 (slope -1) at f = -2
    gradient = 2 * 1 * (1 - math.tanh(0.5) ** 2) + -1 * -2 * (1 - math.tanh(-1.0) ** 2)
    assert math.copysign(1, float(behaviour.actor[0].weight[0, 0].detach()) - before) == math.copysign(1, gradient)
    assert float(behaviour.slow_critic[0][0].bias) == pytest.approx(
        0.75 * slow + 0.25 * float(behaviour.critic[0][0].bias.detach())
    )
    assert float(behaviour.critic[0][0].bias.detach()) != slow
    assert float(behaviour.actor[0].weight[1, 0].detach()) == 9.0  # a masked output is not trained


def test_slow_critics_start_as_copies_and_have_no_gradient(tmp_path: Path) -> None:
    """In the published code they start from weights of their own (trap T16)."""
    behaviour = lompo(tmp_path).agent.behaviour
    pairs = list(zip(behaviour.critic.parameters(), behaviour.slow_critic.parameters(), strict=True))
    assert all(torch.equal(a, b) and a is not b and not b.requires_grad for a, b in pairs)
    first, second = (network[0].weight for network in behaviour.critic)
    assert not torch.equal(first, second)


def test_the_policys_value_is_the_smaller_q_of_its_action() -> None:
    agent = linear_agent()
    expected = min(1 + 2 * math.tanh(0.5), 3 - math.tanh(0.5) + 0.5)
    assert float(agent.behaviour.value(torch.tensor([1.0]))) == pytest.approx(expected, rel=1e-6)
    assert not agent.value_counts_arrival


# What it is for


def narrow(seed: int) -> Any:
    """A striped episode of small moves only; what larger ones do is not in the data."""
    wide = striped_episode(seed, rows=20)
    moves = 0.3 * wide.action
    place = np.clip(32 + np.cumsum(20 * moves[:, 0]), 0, 63).astype(int)
    image = np.full_like(wide.image, 20)
    for row, column in enumerate(place):
        image[row, :, max(0, column - 3) : column + 4] = 220
    reward = np.where(np.arange(20) > 0, place / 63, 0).astype(np.float32)
    return replace(wide, image=image, action=moves, reward=reward)


@pytest.fixture(scope="module")
def narrowly_fitted() -> tuple[Config, EpisodeMemory, dict[str, Tensor], State]:
    """A world model of small moves, and states that it saw."""
    options = {"batch__size": 8, "batch__length": 8, "model__lr": 3e-3, "model__reward_loss": 50.0}
    config = smoke(**options, budget__warmup=300, budget__updates=301, behaviour__actor_lr=1e-3, behaviour__critic_lr=3e-3)
    data = EpisodeMemory().extend(narrow(seed) for seed in range(20))
    learner = lompo(Path("unused"), config, data, prior_heads=7)
    for _ in range(300):
        states, _ = learner.agent.update_model(learner.next_rows())
    return config, data, learner.agent.model.state_dict(), states


def fitted(given: tuple[Config, EpisodeMemory, dict[str, Tensor], State], **own: Any) -> Lompo:
    config, data, weights, _ = given
    learner = lompo(Path("unused"), config, data, prior_heads=7, **own)
    learner.agent.model.load_state_dict(weights)
    return learner


def test_actions_far_from_the_data_are_punished_more(narrowly_fitted: Any) -> None:
    learner, states = fitted(narrowly_fitted), narrowly_fitted[-1]

    def penalty(act: Callable[[Tensor], Tensor]) -> float:
        learner.agent.behaviour.mode = act  # type: ignore[method-assign]
        runs = [learner.agent.imagine_transitions(states, 0.0, 1.0)[1]["critic/penalty"] for _ in range(5)]
        return float(torch.stack(runs).mean())

    def uniform(feature: Tensor) -> Tensor:
        return 2 * torch.rand(*feature.shape[:-1], 2, generator=learner.agent.generator) - 1

    near = penalty(lambda feature: 0.3 * uniform(feature))
    far = penalty(lambda feature: uniform(feature).sign())
    assert far > 1.3 * near


def divided_agent() -> LatentAgent:
    """A world model made by hand: h'_0 = tanh(3/2 a_0), reward 0.3 h_0, and heads that disagree where h_0 > 0."""
    options = {"model__deter": 4, "model__hidden": 4, "model__reward_layers": 0, "behaviour__starts": 0}
    config = smoke(**options, behaviour__discount=0.5, behaviour__actor_lr=3e-3, behaviour__critic_lr=1e-2)
    agent = LatentAgent(config, AgentSpec(2, 2, 1.0, 5), 0, "cpu", slow_rate=0.1)
    rssm, head = agent.model.rssm, agent.model.reward[0]
    with torch.no_grad():
        for parameter in (*rssm.parameters(), *head.parameters()):
            parameter.zero_()
        rssm.from_action.weight[0, 0], rssm.from_action.bias[0] = 1, 1  # stays where ELU is the identity
        rssm.gates.weight[4, 0] = 1.5  # rows: reset 0-3, candidate 4-7, update 8-11
        rssm.gates.bias.copy_(torch.tensor([20.0] * 4 + [-1.5, 0, 0, 0] + [20.0] * 4))
        head.weight[0, rssm.stoch] = 0.3
        rssm.prior.w1[:, 0, 0] = 5
        opinion = torch.linspace(-2, 2, 5)[:, None].expand(5, 4)
        rssm.prior.w2[:, 0, ::4], rssm.prior.b2[:, 0, ::4] = opinion, opinion  # of every first class: ELU + 1, so >= 0
    return agent


@pytest.mark.parametrize(("penalty", "lowest", "highest"), [(0.0, 0.8, 1.0), (1.0, -1.0, 0.1)])
def test_the_actor_stays_out_of_what_the_heads_disagree_on(penalty: float, lowest: float, highest: float) -> None:
    """Reward grows with a_0, and so does disagreement above 0: it goes there only where it is not punished for that."""
    agent, buffer = divided_agent(), LatentBuffer(640)
    starts = agent.model.rssm.initial(64)
    for _ in range(200):
        buffer.add(agent.imagine_transitions(starts, 0.5, penalty)[0])
        agent.learn(buffer.sample(64, agent.generator))
    assert lowest < float(agent.behaviour.mode(starts.feature)[0, 0]) < highest


def test_it_learns_from_pixels_to_move_where_the_reward_is(tmp_path: Path) -> None:
    options = {"batch__size": 8, "batch__length": 8, "model__lr": 3e-3, "model__reward_loss": 50.0}
    rates = {"behaviour__actor_lr": 1e-3, "behaviour__critic_lr": 3e-3}
    config = smoke(**options, **rates, budget__warmup=150, budget__updates=250)
    learner = lompo(tmp_path, config, striped(episodes=20), slow_rate=0.05, latent_batch=64, refresh_every=5)
    turns(learner, 250)
    assert learner.real.ring is not None
    assert float(learner.agent.behaviour.mode(learner.real.ring.feature)[:, 0].mean()) > 0.8


# The procedure


@pytest.mark.parametrize("name", ["lompo", "lompo_finetune"])
def test_it_spends_the_same_budget_to_the_end(name: str, source: SourceAgent, tmp_path: Path) -> None:
    learner = make(name, tmp_path, source)
    while learner.updates < learner.total:
        metrics = read_metrics(dict(learner.turn()))
        assert np.isfinite(list(metrics.values())).all()
    budget, counts = smoke().budget, learner.counts()
    assert counts["world_model_updates"] == budget.updates
    assert counts["behaviour_updates"] == budget.updates - budget.warmup
    assert counts["source_updates"] == (4 if name == "lompo_finetune" else 0)
    assert counts["source_env_steps"] == (57 if name == "lompo_finetune" else 0)


def test_the_published_schedule_freezes_the_world_model(tmp_path: Path) -> None:
    config = smoke(budget__warmup=0, budget__updates=3)
    learner = lompo(
        tmp_path, config, schedule="phased", behaviour_updates=5, refresh_every=2, refresh_episodes=1, least_imagined=70
    )
    turns(learner, 3)
    weights = [parameter.clone() for parameter in learner.agent.model.parameters()]
    assert learner.real.filled == learner.imagined.filled == 0
    turns(learner, 1)
    assert learner.real.filled == 76 and learner.imagined.filled == 76  # a buffer is as large as the dataset
    turns(learner, 4)
    assert learner.next_episode == 2  # refreshed before behaviour updates 2 and 4
    assert learner.updates == learner.total == 8 and learner.agent.behaviour_updates == 5
    assert all(torch.equal(a, b) for a, b in zip(weights, learner.agent.model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["lompo", "lompo_finetune"])
@pytest.mark.parametrize("stop", [3, 8])
def test_it_goes_on_as_if_never_stopped(name: str, stop: int, source: SourceAgent, tmp_path: Path) -> None:
    """LOMPO Finetune is stopped in phase 1 (3 of 4 turns) and in phase 2."""
    whole = make(name, tmp_path / "whole", source)
    before = turns(whole, stop)
    stopped = make(name, tmp_path / "stopped", source)
    assert turns(stopped, stop) == before
    save_state(tmp_path / "state.pt", stopped.state_dict())
    restored = make(name, tmp_path / "stopped", source)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert turns(restored, 4) == turns(whole, 4)
    assert restored.counts() == whole.counts()


def test_a_run_killed_inside_phase_1_goes_on_there(source: SourceAgent, tmp_path: Path) -> None:
    """Its only checkpoint is from before phase 1; what phase 1 kept is later."""
    config = override(smoke("lompo_finetune"), {"evaluation.early_every": "3"})
    whole = finetune(tmp_path, source, config, source_updates=5)
    first = whole.state_dict()
    save_state(tmp_path / "state.pt", first)
    turns(whole, 4)
    restored = finetune(tmp_path, source, config, source_updates=5)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert restored.counts()["source_updates"] == 3
    turns(restored, 1)
    assert turns(restored, 3) == turns(whole, 3)
    again = finetune(tmp_path, source, config, source_updates=5)
    again.load_state_dict(load_state(tmp_path / "state.pt"))
    assert again.first is None and again.counts()["source_updates"] == 5  # kept at the end of phase 1, too


def test_finetune_keeps_the_networks_and_nothing_else(source: SourceAgent, tmp_path: Path) -> None:
    learner = finetune(tmp_path, source)
    first = learner.first
    turns(learner, 3)
    assert first.real.filled and first.imagined.filled and learner.updates == 0
    turns(learner, 1)
    assert learner.first is None
    kept = learner.second
    for name, weights in first.agent.weights().items():
        for key, weight in weights.items():
            assert torch.equal(weight, kept.agent.weights()[name][key]), key
    assert kept.real.filled == kept.imagined.filled == kept.updates == 0
    assert not any(optimiser.state for optimiser in kept.agent.optimisers.values())
    np.testing.assert_array_equal(kept.job.data.array("action"), striped().array("action"))
    before = kept.agent.model.encoder.embed.weight.clone()
    learner.turn()
    assert learner.updates == 1 and not torch.equal(kept.agent.model.encoder.embed.weight, before)


def test_both_phases_understand_the_larger_actions_and_use_their_own(tmp_path: Path) -> None:
    """Meta-World's four actions, then RoboDesk's five."""
    with Staging(tmp_path / "source" / "episodes") as staging:
        staging.add(striped_episode(1, action=4))
    four, five = domain_of(EnvSpec("metaworld/door_close")), domain_of(EnvSpec("robodesk/push_green"))
    source = SourceAgent(four, smoke(), 0, 5, tmp_path / "source")
    method = load_method("lompo_finetune")
    config = smoke("lompo_finetune")
    job = Job(config, five, striped(action=5), (source,), 0, "cpu", tmp_path)
    learner = method.learner(method.defaults("smoke", "robodesk"), job)
    masks = [phase.agent.behaviour.mask.tolist() for phase in (learner.first, learner.second)]
    assert masks == [[1, 1, 1, 1, 0], [1] * 5]
    scales = [phase.agent.spec.reward_scale for phase in (learner.first, learner.second)]
    assert scales == [1 / four.largest_reward, 1 / five.largest_reward]
    first = learner.first
    turns(learner, 4)
    for buffer in (first.real, first.imagined):
        assert buffer.ring.action.shape[1] == 5 and not buffer.ring.action[: buffer.filled, 4].any()
    assert learner.second.agent.behaviour.mask.tolist() == [1] * 5
    turns(learner, 4)
    assert learner.second.imagined.ring.action[: learner.second.imagined.filled, 4].any()


def test_paper_sizes_are_the_published_ones() -> None:
    planned = RunSpec("lompo", "dmc/walker_downhill", preset="paper").plan()
    model = planned.config.model
    assert (model.latent, model.stoch, model.deter, model.units, model.depth) == ("gaussian", 64, 256, 256, 32)
    assert (model.encoder, model.gru_norm, model.reward_loss, model.lr) == ("cnn", False, 1.0, 6e-4)
    assert (planned.config.budget.updates, planned.settings.behaviour_updates) == (25_000, 100_000)
    assert planned.settings.penalty == 5.0 and planned.config.behaviour.horizon == 5


@pytest.mark.parametrize("preset", ["paper", "quick"])
def test_finetune_uses_the_source_agent_that_is_there(preset: str) -> None:
    """It takes the experience alone, so its own world model makes no other source agent."""
    pair = ("robodesk/push_green", ("metaworld/door_close",))
    specs = [RunSpec(name, *pair, preset=preset).plan() for name in ("lompo_finetune", "dv2_finetune")]
    assert specs[0].source_specs() == specs[1].source_specs()
    assert specs[0].config.model != specs[1].config.model


def test_quick_has_the_updates_of_every_other_method() -> None:
    planned = RunSpec("lompo", "metaworld/door_close").plan()
    assert planned.settings.schedule == "joint" and planned.config.budget == resolve("quick", "metaworld").budget


def test_its_world_model_is_the_shared_one(tmp_path: Path) -> None:
    """Same networks as a DreamerV2 agent with as many prior heads; no second actor-critic lies idle."""
    agent = lompo(tmp_path).agent
    other = DreamerAgent(agent.config, agent.spec, 0)
    assert {k: v.shape for k, v in agent.model.state_dict().items()} == {
        k: v.shape for k, v in other.model.state_dict().items()
    }
    assert set(agent.weights()) == {"model", "behaviour"} and isinstance(agent.behaviour, LatentActorCritic)


# The actor-critic alone


def test_actor_and_critics_solve_the_toy_task_from_its_state() -> None:
    """From random transitions between the states of toy/point; a random policy returns about 10 of 47."""
    env = make_env(EnvSpec("toy/point"))
    rng, parts = np.random.default_rng(0), []
    for index in range(60):
        observation, _ = env.reset(seed=episode_seed("collect", 0, index))
        truncated = False
        while not truncated:
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            state = observation["state"]
            observation, reward, _, truncated, _ = env.step(action)
            parts.append((state, action, np.float32(reward), observation["state"]))
    config = override(smoke(), {"model.units": "64", "model.actor_layers": "2", "model.value_layers": "2"})
    config = override(config, {"behaviour.actor_lr": "1e-3", "behaviour.critic_lr": "3e-3", "behaviour.discount": "0.95"})
    agent = LatentAgent(config, AgentSpec(2, 2, 1.0, 3), 0, "cpu", slow_rate=0.05)
    agent.behaviour = LatentActorCritic(config.model, 4, agent.spec, Precision("cpu", None))
    agent.reset_optimisers()
    buffer = LatentBuffer(len(parts))
    buffer.add(Transitions(*(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))))
    for _ in range(600):
        agent.learn(buffer.sample(128, agent.generator))
    returns = []
    for index in range(5):
        observation, _ = env.reset(seed=episode_seed("evaluate", 0, index))
        total, truncated = 0.0, False
        while not truncated:
            action = agent.behaviour.mode(torch.from_numpy(observation["state"])).detach().numpy()
            observation, reward, _, truncated, _ = env.step(action)
            total += float(reward)
        returns.append(total)
    assert np.mean(returns) > 35
