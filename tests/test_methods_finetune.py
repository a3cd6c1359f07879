"""DV2 Finetune + EWC: Fisher information and anchor by hand, and what an anchor holds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_columns import FAST, PUSHING, SMALL, losses_of, make, pretrained, push, targets, turns
from scipy.stats import truncnorm
from torch import Tensor, nn

from coworld_bench.config import Config, override
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.losses import truncated_log_density
from coworld_bench.methods import SourceAgent, load_method

ewc: Any = sys.modules[load_method("dv2_finetune_ewc").learner.__module__]


@pytest.fixture(scope="module")
def small() -> Config:
    return SMALL


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return pretrained(SMALL, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent whose world model knows its episodes."""
    return pretrained(SMALL, tmp_path_factory.mktemp("fitted"), updates=120, **FAST)


@pytest.fixture(scope="module")
def pusher(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent that pushes the column to the right."""
    return pretrained(SMALL, tmp_path_factory.mktemp("pusher"), updates=150, **PUSHING)


@pytest.fixture(scope="module")
def target() -> EpisodeMemory:
    return targets()


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
