"""The fast recurrences and pixel losses against the plain ones they stand for."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from coworld_bench.config import Config, override, resolve
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Rows
from coworld_bench.nets import PatchDecoder, PatchEncoder
from coworld_bench.rssm import Rssm, State
from coworld_bench.scans import ImagineScan, roll_out

LATENTS = [
    pytest.param({}, id="categorical"),
    pytest.param({"model.latent": "gaussian"}, id="gaussian"),
    pytest.param({"model.gru_norm": "true"}, id="layer-norm"),
]
ROWS, BATCH, EMBED, ACTION = 6, 3, 11, 4


def random_rssm(options: dict[str, str], heads: int = 1) -> Rssm:
    torch.manual_seed(0)
    return Rssm(override(resolve("smoke", "toy"), options).model, EMBED, ACTION, heads).double()


def random_state(rssm: Rssm, batch: int) -> State:
    return State(torch.randn(batch, rssm.deter).double(), torch.randn(batch, rssm.stoch).double())


def random_noise(rssm: Rssm, *shape: int) -> Tensor:
    return rssm.draw(torch.Generator().manual_seed(1), *shape).double()


def weighted(outputs: tuple[Tensor, ...]) -> Tensor:
    """A number that depends on every element of `outputs` in its own way."""
    generator = torch.Generator().manual_seed(2)
    return torch.stack([(out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outputs]).sum()


def assert_same(ours: tuple[Tensor, ...], plain: tuple[Tensor, ...], tolerance: float = 1e-12) -> None:
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", LATENTS)
def test_observe_fast_equals_observe_in_states_and_in_every_gradient(options: dict[str, str]) -> None:
    rssm = random_rssm(options)
    embed = torch.randn(ROWS, BATCH, EMBED).double().requires_grad_()
    action = torch.randn(ROWS, BATCH, ACTION).double().requires_grad_()
    start, noise = random_state(rssm, BATCH), random_noise(rssm, ROWS, BATCH)
    for part in start:
        part.requires_grad_()
    weights = [weight for name, weight in rssm.named_parameters() if not name.startswith("prior.")]

    def made_by(observe: object) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        state, statistics = observe(embed, action, noise, start)  # type: ignore[operator]
        outputs = (*state, statistics)
        return outputs, torch.autograd.grad(weighted(outputs), [embed, action, *start, *weights])

    (fast, fast_grads), (plain, plain_grads) = made_by(rssm.observe_fast), made_by(rssm.observe)
    assert_same(fast, plain)
    assert_same(fast_grads, plain_grads)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("options", LATENTS)
def test_a_rollout_equals_imagining_row_by_row(options: dict[str, str], heads: int) -> None:
    rssm = random_rssm(options, heads)
    start, noise = random_state(rssm, BATCH), random_noise(rssm, ROWS, BATCH)
    actions = torch.randn(ROWS, BATCH, ACTION).double().requires_grad_()
    members = torch.tensor([0, 2, 1, 1, 0, 2]) if heads > 1 else None
    states = [start]
    for row in range(ROWS):
        member = None if members is None else members[row : row + 1]
        states.append(rssm.imagine(states[-1], actions[row], noise[row], member))
    plain = torch.stack([state.deter for state in states]), torch.stack([state.stoch for state in states])
    dynamics = rssm.dynamics(members)
    rollout = roll_out(dynamics, *start, noise, lambda row, _: actions[row].detach())
    fast = ImagineScan.apply(actions, dynamics, rollout)
    assert_same(fast, plain)
    assert_same(torch.autograd.grad(weighted(fast), actions), torch.autograd.grad(weighted(plain), actions))


def test_patches_are_embedded_and_painted_as_by_plain_layers() -> None:
    torch.manual_seed(0)
    fast_encoder, plain_encoder = PatchEncoder(2, False).double(), PatchEncoder(2, True).double()
    fast_decoder, plain_decoder = PatchDecoder(5, 2, False).double(), PatchDecoder(5, 2, True).double()
    plain_encoder.load_state_dict(fast_encoder.state_dict())
    plain_decoder.load_state_dict(fast_decoder.state_dict())
    images = torch.randint(0, 256, (20, 64, 64, 3), dtype=torch.uint8)  # 1,280 patches: more than one part
    feature = torch.randn(20, 5).double().requires_grad_()

    def made_by(encoder: PatchEncoder, decoder: PatchDecoder) -> tuple[Tensor, ...]:
        pixels = encoder.pixels(images)
        outputs = encoder(pixels), decoder.loss(feature, pixels)
        return *outputs, *torch.autograd.grad(weighted(outputs), [feature, *encoder.parameters(), *decoder.parameters()])

    assert_same(made_by(fast_encoder, fast_decoder), made_by(plain_encoder, plain_decoder), 1e-5)


def agents(config: Config, heads: int = 1) -> tuple[DreamerAgent, DreamerAgent]:
    """A fast and a plain agent with the same weights and noise; the action is padded."""
    spec = AgentSpec(action=2, action_input=3, reward_scale=1.0, prior_heads=heads)
    return DreamerAgent(config, spec, 0), DreamerAgent(override(config, {"compute.plain": "true"}), spec, 0)


def random_rows(config: Config) -> Rows:
    rng, (rows, batch) = np.random.default_rng(0), (config.batch.length, config.batch.size)
    return Rows(
        torch.from_numpy(rng.integers(0, 256, (rows, batch, 64, 64, 3), np.uint8)),
        torch.from_numpy(rng.uniform(-1, 1, (rows, batch, 3)).astype(np.float32)) * torch.tensor([1.0, 1.0, 0.0]),
        torch.from_numpy(rng.uniform(0, 1, (rows, batch)).astype(np.float32)),
    )


CASES = [
    pytest.param("quick", {}, 1, id="quick"),
    pytest.param("quick", {"behaviour.indexing": "dv2"}, 7, id="seven-heads"),
    pytest.param("paper", {"model.depth": "2", "batch.size": "4", "batch.length": "5", "model.units": "32"}, 1, id="cnn"),
]


@pytest.mark.parametrize(("preset", "options", "heads"), CASES)
def test_a_whole_update_has_the_plain_one_s_gradients(preset: str, options: dict[str, str], heads: int) -> None:
    config = override(resolve(preset, "metaworld"), options)
    fast, plain = agents(config, heads)
    kept = gradients(fast, plain, rows=random_rows(config))
    for name in ("model", "actor", "critic"):
        for mine, other in zip(kept[fast, name], kept[plain, name], strict=True):
            assert float((mine - other).norm()) <= 1e-4 * float(other.norm()) + 1e-7, name
    torch.testing.assert_close(fast.generator.get_state(), plain.generator.get_state())


def test_states_are_freed_when_nobody_holds_them() -> None:
    """A cycle through autograd's nodes would keep every batch's activations for ever."""
    config = override(resolve("smoke", "toy"), {"batch.size": "2"})
    agent, rows = agents(config)[0], random_rows(config)
    seen = agent.see(rows)
    imagined = agent.imagine(seen.state.flat())
    torch.autograd.grad(seen.statistics.sum(), list(agent.model.rssm.posterior_out.parameters()))
    torch.autograd.grad(imagined.deter.sum(), list(agent.behaviour.actor.parameters()))
    held = [weakref.ref(tensor) for tensor in (seen.state.deter, seen.state.stoch, seen.statistics, imagined.deter)]
    del seen, imagined
    assert [ref() for ref in held] == [None] * 4


def test_bfloat16_gradients_are_within_a_few_percent() -> None:
    """Per network: single small tensors of an untrained one are mostly rounding."""
    options = {"model.depth": "4", "batch.size": "8", "batch.length": "8", "model.units": "64"}
    config = override(resolve("paper", "metaworld"), options)
    plain, _ = agents(config)
    low, _ = agents(override(config, {"compute.precision": "bfloat16"}))
    kept = gradients(low, plain, rows=random_rows(config))
    for name in ("model", "actor", "critic"):
        mine, other = (torch.cat([grad.flatten() for grad in kept[agent, name]]) for agent in (low, plain))
        assert 0 < float((mine - other).norm() / other.norm()) < 0.03, name


Kept = dict[tuple[DreamerAgent, str], list[Tensor]]


def gradients(*agents: DreamerAgent, rows: Rows) -> Kept:
    """The gradients of one update of every agent, by optimiser."""
    kept: Kept = {}

    def keep(agent: DreamerAgent) -> None:
        descend = agent._descend

        def kept_descend(name: str, parameters: list[torch.nn.Parameter], loss: Tensor) -> Tensor:
            grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
            kept[agent, name] = [grad for grad in grads if grad is not None]
            return descend(name, parameters, loss)

        agent._descend = kept_descend  # type: ignore[assignment,method-assign]

    for agent in agents:
        keep(agent)
        states, _ = agent.update_model(rows)
        agent.update_behaviour(states)
    return kept
