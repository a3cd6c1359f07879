"""The world model and the actor-critic: alignment of rows, gradients, masks, storing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coworld_bench.checkpoints import restore_stream
from coworld_bench.config import Config, ModelConfig, override
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Seen, read_metrics
from coworld_bench.nets import center, image_decoder, image_encoder
from coworld_bench.rssm import Rssm

SPEC = AgentSpec(action=2, action_input=3, reward_scale=0.5)
VARIANTS = [
    {},
    {"model.latent": "gaussian", "model.stoch": "6"},
    {"model.encoder": "cnn", "model.depth": "2"},
    {"model.gru_norm": "true"},
    {"behaviour.indexing": "dv2"},
]


def agent_of(config: Config, seed: int = 0, spec: AgentSpec = SPEC) -> DreamerAgent:
    return DreamerAgent(config, spec, seed)


def learn(agent: DreamerAgent, memory: EpisodeMemory, updates: int, seed: int = 0) -> dict[str, float]:
    batches = BatchStream(memory, seed, agent.config.batch.size, agent.config.batch.length)
    metrics: dict[str, torch.Tensor] = {}
    for _ in range(updates):
        states, metrics = agent.update_model(agent.rows(batches.next()))
        metrics = metrics | agent.update_behaviour(states)
    return read_metrics(metrics)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_variant_learns_with_finite_numbers(tiny: Config, memory: EpisodeMemory, options: dict[str, str]) -> None:
    metrics = learn(agent_of(override(tiny, options)), memory, 3)
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.parametrize("encoder", ["patch", "cnn"])
def test_the_world_model_fits_a_tiny_dataset(tiny: Config, memory: EpisodeMemory, encoder: str) -> None:
    """Reconstruction must fall well below that of a grey picture, and the reward error below the rewards' variance."""
    larger = {"model.lr": "3e-3", "model.units": "64", "model.deter": "64", "model.encoder": encoder}
    agent = agent_of(override(tiny, larger))
    first = learn(agent, memory, 1)
    last = learn(agent, memory, 250, seed=1)
    assert last["model/image"] < 0.25 * first["model/image"]
    assert last["model/reward"] < 0.5 * first["model/reward"]


def test_gradients_lie_in_memory_as_their_parameters_do(tiny: Config, memory: EpisodeMemory) -> None:
    """Fused Adam walks both flat: a channels-last gradient beside a contiguous weight would train the wrong elements."""
    agent = agent_of(override(tiny, {"model.encoder": "cnn", "model.depth": "2"}))
    strides = []
    for optimiser in agent.optimisers.values():
        parameters = optimiser.param_groups[0]["params"]
        optimiser.register_step_pre_hook(
            lambda *_, given=parameters: strides.extend(
                (weight.stride(), weight.grad.stride()) for weight in given if weight.grad is not None
            )
        )
    learn(agent, memory, 1)
    assert len(strides) > 20 and all(weight == grad for weight, grad in strides)


def test_a_random_stream_of_another_device_is_left_alone() -> None:
    stream, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    seeded = stream.get_state()
    restore_stream(stream, torch.zeros(16, dtype=torch.uint8))  # the size of a CUDA generator's state
    assert torch.equal(stream.get_state(), seeded)
    restore_stream(stream, other.get_state())
    assert torch.equal(stream.get_state(), other.get_state())


def test_the_same_seed_gives_the_same_numbers(tiny: Config, memory: EpisodeMemory) -> None:
    assert learn(agent_of(tiny), memory, 4) == learn(agent_of(tiny), memory, 4)
    assert learn(agent_of(tiny), memory, 4) != learn(agent_of(tiny, seed=1), memory, 4)


def test_a_stored_agent_goes_on_as_if_never_stopped(tiny: Config, memory: EpisodeMemory) -> None:
    whole, halves = agent_of(tiny), agent_of(tiny)
    learn(whole, memory, 3)
    learn(halves, memory, 3)
    restored = agent_of(tiny, seed=7)
    restored.load_state_dict(halves.state_dict())
    assert learn(whole, memory, 3, seed=2) == learn(restored, memory, 3, seed=2)


def test_acting_row_by_row_filters_as_a_whole_sequence_does(tiny: Config, memory: EpisodeMemory) -> None:
    """`act` must feed the action that led to a picture before that picture, exactly as training does (trap T5)."""
    agent = agent_of(tiny)
    rows = agent.rows(memory.sample(np.random.default_rng(0), 1, 5))
    rows = rows._replace(action=torch.zeros_like(rows.action))
    generator = torch.Generator().manual_seed(3)
    carry, actions, deters = agent.initial(), [torch.zeros(1, 3)], []
    for row in range(5):
        _, carry = agent.act(rows.image[row].numpy(), carry, generator)
        deters.append(carry.state.deter)
        actions.append(carry.action)
    rows = rows._replace(action=torch.stack(actions[:5]))
    generator = torch.Generator().manual_seed(3)
    noise = torch.cat([agent.model.rssm.draw(generator, 1, 1) for _ in range(5)])
    with torch.no_grad():
        seen = agent.model.observe(rows, noise)
    torch.testing.assert_close(torch.stack(deters), seen.state.deter, rtol=1e-4, atol=1e-5)


def test_padded_action_dimensions_stay_zero(tiny: Config) -> None:
    agent = agent_of(tiny)
    feature = torch.randn(5, agent.model.rssm.feature_size)
    action, entropy = agent.behaviour.sample(feature, torch.rand(5, 3))
    assert (action[:, 2] == 0).all() and (action[:, :2] != 0).all()
    wider = agent_of(tiny, spec=AgentSpec(3, 3, 0.5))
    wider.behaviour.load_state_dict({**agent.behaviour.state_dict(), "mask": torch.ones(3)})
    _, all_entropy = wider.behaviour.sample(feature, torch.rand(5, 3))
    assert (all_entropy > entropy - 5).all() and not torch.equal(all_entropy, entropy)


def test_behaviour_learning_leaves_the_world_model_alone(tiny: Config, memory: EpisodeMemory) -> None:
    agent = agent_of(tiny)
    seen = agent.see(agent.rows(memory.sample(np.random.default_rng(0), 3, 6)))
    before = {name: value.clone() for name, value in agent.model.state_dict().items()}
    actor = [parameter.clone() for parameter in agent.behaviour.actor.parameters()]
    agent.update_behaviour(seen.state.flat())
    assert all(torch.equal(value, before[name]) for name, value in agent.model.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(actor, agent.behaviour.actor.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in agent.model.parameters())


def test_the_actor_climbs_towards_reward_through_the_dynamics(tiny: Config, memory: EpisodeMemory) -> None:
    """With a world model that has learnt that column = reward, the policy must learn to push the column to the right."""
    fast = {"model.lr": "3e-3", "behaviour.actor_lr": "3e-3", "behaviour.critic_lr": "3e-3", "model.units": "64"}
    agent = agent_of(override(tiny, fast | {"model.deter": "64", "behaviour.horizon": "8", "batch.size": "8"}))
    learn(agent, memory, 400)
    seen = agent.see(agent.rows(memory.sample(np.random.default_rng(0), 8, 6)))
    mode = agent.behaviour.mode(seen.state.feature)
    assert mode[..., 0].mean().item() > 0.3, mode[..., 0].mean()


def test_slow_critic_is_copied_every_so_many_updates(tiny: Config, memory: EpisodeMemory) -> None:
    agent = agent_of(override(tiny, {"behaviour.slow_every": "3"}))

    def slow() -> torch.Tensor:
        return agent.behaviour.slow_critic[-1].weight.clone()

    learn(agent, memory, 1)
    first = slow()
    learn(agent, memory, 2)
    assert torch.equal(first, slow())
    learn(agent, memory, 1)
    assert not torch.equal(first, slow())


def test_extra_terms_join_or_replace(tiny: Config, memory: EpisodeMemory) -> None:
    agent = agent_of(tiny)
    rows = agent.rows(memory.sample(np.random.default_rng(0), 3, 6))

    def terms(seen: Seen, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"reward": own["reward"] * 0, "more": seen.embed.square().mean()}

    _, metrics = agent.update_model(rows, terms)
    assert metrics["model/reward"] == 0 and metrics["model/more"] > 0


def test_prior_heads_disagree_and_one_head_does_not(tiny: Config) -> None:
    many = agent_of(tiny, spec=AgentSpec(2, 2, 1.0, prior_heads=4)).model.rssm
    one = agent_of(tiny, spec=AgentSpec(2, 2, 1.0)).model.rssm
    deter = torch.randn(6, many.deter)
    assert (many.disagreement(deter) > 0).all()
    assert one.disagreement(deter).abs().max() == 0


def test_disagreement_by_hand() -> None:
    """Two heads certain of different classes: m̄ = (½, ½), each head is √½ away."""
    config = ModelConfig(latent="categorical", stoch=1, classes=2, deter=1, hidden=1)
    rssm = Rssm(config, embed=1, action=1, prior_heads=2)
    with torch.no_grad():
        rssm.prior.w1.zero_(), rssm.prior.b1.zero_(), rssm.prior.w2.zero_()
        rssm.prior.b2.copy_(torch.tensor([[[50.0, -50.0]], [[-50.0, 50.0]]]))
    assert rssm.disagreement(torch.zeros(1, 1)).item() == pytest.approx(0.5**0.5)


def test_prior_by_row_uses_the_named_head(tiny: Config) -> None:
    rssm = agent_of(tiny, spec=AgentSpec(2, 2, 1.0, prior_heads=3)).model.rssm
    deter = torch.randn(4, 5, rssm.deter)
    member = torch.tensor([2, 0, 1, 2])
    by_row = rssm.prior.by_row(deter, member)
    for row, head in enumerate(member):
        torch.testing.assert_close(by_row[row], rssm.prior.all(deter[row])[head])


@pytest.mark.parametrize("encoder", ["cnn", "patch"])
def test_encoder_and_decoder_speak_of_the_same_pixels(encoder: str) -> None:
    """Target and reconstruction must have one layout: `picture` of a decoder that outputs the pixels is the image."""
    config = ModelConfig(encoder=encoder, depth=2)  # type: ignore[arg-type]
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    net, decoder = image_encoder(config), image_decoder(config, 4)
    pixels = center(net.pixels(image))
    decoder.forward = lambda _: pixels  # type: ignore[method-assign]
    assert torch.equal(decoder.picture(torch.zeros(2, 4)), image)
    assert net(pixels).shape == (2, net.size)
