"""DrQ+BC, CQL, CURL and BC: their losses against numbers worked by hand or plain loops, and the four at work on `toy`."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import striped_episode
from made_points import mixed_episodes, point_return
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from coworld_bench.benchmarks.counting import Counts
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import override, resolve
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.dreamer import read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.evaluation import Evaluator
from coworld_bench.methods import Job, load_method
from coworld_bench.model_free import PixelLearner, critic_loss, descend, follow, n_step_return, noisy
from coworld_bench.pixel_nets import ConvEncoder, SharedEncoder, TwinQ, shifted_stacks
from coworld_bench.run_spec import RunSpec
from coworld_bench.tasks import EnvSpec

NAMES = ["bc", "cql", "curl", "drq_bc"]
WITH_CRITIC = ["cql", "curl", "drq_bc"]
TOY = EnvSpec("toy/point")


def file_of(name: str) -> ModuleType:
    """The module of a shipped method."""
    return sys.modules[load_method(name).learner.__module__]


def make(name: str, memory: EpisodeMemory, preset: str = "smoke", seed: int = 0, **options: str) -> PixelLearner:
    """The method on `toy`; options with `__` for a dot, the method's own after `own__`."""
    method = load_method(name)
    dotted = {key.replace("__", "."): value for key, value in options.items()}
    own = {key.removeprefix("own."): value for key, value in dotted.items() if key.startswith("own.")}
    shared = {key: value for key, value in dotted.items() if not key.startswith("own.")}
    config = override(method.adapt(resolve(preset, "toy"), "toy"), shared)
    settings = override(method.defaults(preset, "toy"), own)
    return method.learner(
        settings, Job(config, domain_of(config.env.spec(TOY.task)), memory, (), seed, "cpu", Path("unused"))
    )


def turns(learner: PixelLearner, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]


def numbered(rows: int = 30) -> EpisodeMemory:
    """Row t of both episodes has t as picture and reward, and t / 100 as action."""
    row = np.arange(rows)
    image = np.broadcast_to(row.astype(np.uint8)[:, None, None, None], (rows, 64, 64, 3)).copy()
    action = np.repeat(row[:, None] / 100, 2, 1).astype(np.float32)
    reward = row.astype(np.float32)
    one = Episode(image, np.zeros((rows, 1), np.float32), action, reward, np.zeros(rows, np.uint8), meta={})
    return EpisodeMemory().extend([one, one])


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(module: torch.nn.Module, before: list[Tensor]) -> bool:
    return not all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


# What a batch is


def test_n_step_returns_by_hand() -> None:
    """Rewards 1, 2, 4 and 8, 0, 4 under γ ½."""
    assert n_step_return(torch.tensor([[1.0, 8.0], [2.0, 0.0], [4.0, 4.0]]), 0.5).tolist() == [3.0, 9.0]


def test_a_batch_is_what_was_seen_done_and_earned_and_what_was_seen_then() -> None:
    """Stacks of 3 and three steps: rows t-2 ... t, action of row t+1, rewards of t+1 ... t+3, rows t+1 ... t+3."""
    learner = make("drq_bc", numbered(), batch__size="300", behaviour__discount="0.5")
    batch = learner.next_batch()
    seen = batch.image[..., 0, 0, 0].long()  # [6, B]
    t = seen[2]
    assert set(t.tolist()) == set(range(27)), "every row with three more after it is decided at"
    steps = torch.arange(-2, 4)[:, None]
    assert torch.equal(seen, (t + steps).clamp(min=0)), "the first picture fills the stack"
    assert torch.allclose(batch.action, ((t + 1) / 100)[:, None].expand(-1, 2))
    assert torch.equal(batch.reward, (t + 1) + 0.5 * (t + 2) + 0.25 * (t + 3))
    now, then = learner.look(batch.image, 0, 3)[..., 0, 0, 0].long()
    assert torch.equal(now, (t + steps[:3]).clamp(min=0)) and torch.equal(then, t + steps[3:])


def test_rewards_are_scaled_as_for_the_other_methods() -> None:
    plain, scaled = (make("cql", numbered()), make("cql", numbered()))
    object.__setattr__(scaled.spec, "reward_scale", 0.25)
    assert torch.equal(0.25 * plain.next_batch().reward, scaled.next_batch().reward)


def drq_shift(image: Tensor, shift: Tensor, pad: int) -> Tensor:
    """DrQ's own way on one stack uint8 [S, H, W, C]: pad, then sample a grid bilinearly."""
    size = image.shape[1]
    pixels = F.pad(image.permute(0, 3, 1, 2).double(), (pad,) * 4, mode="replicate")
    place = torch.linspace(-1, 1, 2 * (size + 2 * pad) + 1, dtype=torch.float64)[1::2][:size]  # pixel centres
    y, x = (place + 2 * (step + pad) / (size + 2 * pad) for step in shift.tolist())
    grid = torch.stack([x[None, :].expand(size, -1), y[:, None].expand(-1, size)], -1)
    sampled = F.grid_sample(pixels, grid.expand(len(image), -1, -1, -1), mode="bilinear", align_corners=False)
    return sampled.permute(0, 2, 3, 1)


def test_the_random_shift_is_drqs_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (4, 5, 16, 16, 3), generator=generator, dtype=torch.uint8).transpose(0, 1)  # [T 5, B 4]
    shift = torch.randint(-4, 5, (2, 4, 2), generator=generator)
    shift[0, 0], shift[1, 3] = torch.tensor([-4, 4]), torch.tensor([4, -4])
    shifted = shifted_stacks(image, (0, 2), 3, shift, 4)
    for k, first in enumerate((0, 2)):
        for b in range(4):
            expected = drq_shift(image[first : first + 3, b], shift[k, b], 4)
            assert (shifted[k, :, b].double() - expected).abs().max() < 1e-9


def test_a_shift_by_hand() -> None:
    """One line up and one column to the left: what is new at the edges repeats them."""
    image = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3, 1)
    shifted = shifted_stacks(image, (0,), 1, torch.tensor([[[1, 1]]]), 1)
    assert shifted.flatten().tolist() == [4, 5, 5, 7, 8, 8, 7, 8, 8]


def test_every_stack_is_shifted_by_a_draw_of_its_own() -> None:
    ramp = torch.arange(64, dtype=torch.uint8)
    image = (ramp[:, None] + 3 * ramp).expand(6, 500, 64, 64).unsqueeze(-1).expand(-1, -1, -1, -1, 3)
    learner = make("drq_bc", numbered())
    looked = learner.look(image, 0, 3)[..., 32, 16, 0].long() - (32 + 48)  # dy + 3 dx: [K, S, B]
    assert (looked == looked[:, :1]).all(), "one for all pictures of a stack"
    assert looked.min() == -16 and looked.max() == 16
    assert torch.corrcoef(looked[:, 0].double())[0, 1].abs() < 0.15


# The parts


def test_noise_is_clipped_then_the_action_and_the_gradient_goes_through() -> None:
    mean = torch.tensor([0.9, 0.5, 0.0], requires_grad=True)
    action = noisy(mean, torch.tensor(2.0), torch.tensor([1.0, 0.05, -1.0]), 0.3)
    action.sum().backward()
    assert action.tolist() == pytest.approx([1.0, 0.6, -0.3]) and mean.grad.tolist() == [1, 1, 1]


def test_both_critics_in_one_pass_are_two_networks() -> None:
    """Against plain linear layers in float64, for seven actions at each of five states."""
    torch.manual_seed(0)
    twin = TwinQ(4, 3, 8).double()
    for bias in (twin.b1, twin.b2, twin.b3):
        torch.nn.init.normal_(bias)
    feature, action = torch.randn(5, 4).double(), torch.randn(7, 5, 3).double()
    q = twin(feature, action)
    assert q.shape == (2, 7, 5) and torch.allclose(twin(feature, action[2]), q[:, 2])
    for j in range(2):
        for k in range(7):
            x = torch.cat([feature, action[k]], -1)
            for weight, bias in ((twin.w1, twin.b1), (twin.w2, twin.b2)):
                x = F.relu(F.linear(x, weight[j].t(), bias[j, 0]))
            x = F.linear(x, twin.w3[j].t(), twin.b3[j, 0])
            assert torch.allclose(q[j, k], x[:, 0], atol=1e-12)


def test_the_critics_loss_and_the_slow_step_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert critic_loss(q, torch.tensor([1.0, 0.0])) == 2.0 + 2.0
    slow, fast = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((slow, 1.0), (fast, 5.0)):
        torch.nn.init.constant_(module.weight, value), torch.nn.init.constant_(module.bias, -value)
    follow(slow, fast, 0.25)
    assert (slow.weight.item(), slow.bias.item(), fast.weight.item()) == (2.0, -2.0, 5.0)


def test_encoders_read_the_pictures_of_a_stack_in_order() -> None:
    pictures = torch.randint(256, (3, 2, 64, 64, 3), dtype=torch.uint8)
    conv = ConvEncoder(3)
    x = torch.cat([picture.permute(0, 3, 1, 2) for picture in pictures], 1).float() / 255 - 0.5
    for layer, stride in zip(conv.layers, (2, 1, 1, 1), strict=True):
        x = F.conv2d(x, layer.weight, layer.bias, stride).relu()
    assert x.shape == (2, 32, 25, 25) and conv.size == 20_000
    torch.testing.assert_close(conv(pictures), x.flatten(1), atol=1e-4, rtol=1e-4)
    shared = SharedEncoder(resolve("smoke", "toy"), 3)
    each = [shared.picture(shared.picture.pixels(picture)) for picture in pictures]
    torch.testing.assert_close(shared(pictures), torch.cat(each, 1))


# The losses


def test_the_target_of_drq_by_hand(memory: EpisodeMemory) -> None:
    """R + γ³ min Q̄(s', π(s')) where the noise is clipped to nothing."""
    learner = make("drq_bc", memory, behaviour__discount="0.5", own__noise_clip="0")
    encoded = torch.randn(4, learner.networks.encoder.size)
    with torch.no_grad():
        first, second = learner.networks.slow_q(encoded, learner.networks.mode(encoded))
        target = learner.target(torch.ones(4), encoded, torch.tensor(1.0))
    expected = [1 + 0.125 * min(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert target.tolist() == pytest.approx(expected)


def test_the_noise_of_the_policy_falls_over_its_share_of_the_budget(memory: EpisodeMemory) -> None:
    learner = make("drq_bc", memory, own__std_share="0.5")
    found = [learner.std(torch.tensor(done)).item() for done in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_cloning_and_improvement_by_hand() -> None:
    """mean |Q| is 2, so λ is 1.25 and -λ mean Q is 1.25; no gradient reaches λ."""
    q = torch.tensor([1.0, -3.0], requires_grad=True)
    policy, action = torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, -1.0]])
    improve, clone = file_of("drq_bc").improve_and_clone(q, policy, action, 2.5)
    improve.backward()
    assert improve == 1.25 and clone == (0.25 + 1) / 4 and q.grad.tolist() == [-0.625, -0.625]


def test_the_conservative_penalty_is_a_loop_over_31_actions(memory: EpisodeMemory) -> None:
    """What an update reports, against float64 networks that are asked about one action at a time."""
    learner = make("cql", memory, own__weight="3", own__temperature="0.5")
    size, std = learner.networks.encoder.size, torch.tensor(0.1)
    encoded, then, action = torch.randn(4, size), torch.randn(4, size), torch.rand(4, 2)
    before = learner.generator.get_state()
    actions = learner.critic_actions(encoded, then, action, std)
    learner.generator.set_state(before)
    critic = copy.deepcopy(learner.networks.critic).double()
    expected = 0.0
    for j in range(2):
        for b in range(4):
            q = [critic(encoded[b : b + 1].double(), each[b : b + 1].double())[j, 0].item() for each in actions]
            assert len(q) == 31
            soft_maximum = 0.5 * math.log(sum(math.exp(value / 0.5) for value in q))
            expected += 3 * (soft_maximum - critic(encoded.double(), action.double())[j, b].item()) / 4
    leaf = torch.zeros(1, requires_grad=True)  # an encoder to train
    learner.optimisers["critic"] = learner.adam([leaf, *learner.networks.critic.parameters()], 1e-9)
    metrics = learner.update_critic(encoded + leaf, then, action, torch.zeros(4), std)
    assert metrics["critic/conservative"].item() == pytest.approx(expected, rel=1e-5)


def test_the_31_actions_are_the_datas_uniform_ones_and_the_policys(memory: EpisodeMemory) -> None:
    learner = make("cql", memory)
    size = learner.networks.encoder.size
    encoded, then, action = torch.randn(50, size), torch.randn(50, size), torch.rand(50, 2)
    actions = learner.critic_actions(encoded, then, action, torch.tensor(1.0))
    data, uniform, here, there = actions.split([1, 10, 10, 10])
    assert torch.equal(data[0], action) and not actions.requires_grad
    assert uniform.min() < -0.9 and uniform.max() > 0.9 and uniform.mean().abs() < 0.1
    for policy, at in ((here, encoded), (there, then)):
        distance = (policy - learner.networks.mode(at)).abs()
        assert distance.max() <= 0.3 + 1e-6 and distance.mean() > 0.1


def test_the_squashed_sample_has_its_distributions_density() -> None:
    torch.manual_seed(0)
    mean, log_std, noise = torch.randn(6, 3).double(), -1 + 0.3 * torch.randn(6, 3).double(), torch.randn(6, 3).double()
    action, log_probability = file_of("curl").squashed_sample(mean, log_std, noise)
    oracle = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    assert torch.allclose(action, torch.tanh(mean + log_std.exp() * noise))
    assert torch.allclose(log_probability, oracle.log_prob(action).sum(-1), atol=1e-3)


def test_info_nce_is_a_loop() -> None:
    torch.manual_seed(0)
    anchor, positive, bilinear = torch.randn(5, 3).double(), torch.randn(5, 4).double(), torch.rand(3, 4).double()
    expected = 0.0
    for i in range(5):
        logits = [float(anchor[i] @ bilinear @ positive[j]) for j in range(5)]
        expected -= (logits[i] - math.log(sum(map(math.exp, logits)))) / 5
    assert float(file_of("curl").info_nce(anchor, positive, bilinear)) == pytest.approx(expected)


def test_two_equal_adams_are_one_with_twice_the_rate() -> None:
    """What the published CURL does to its encoder, and what is done here."""
    one, two = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    double = torch.optim.Adam([one], lr=0.02)
    pair = [torch.optim.Adam([two], lr=0.01) for _ in range(2)]
    for scale in (1.0, 3.0, -0.5):
        descend(double, (scale * one.square()).sum())
        two.grad = (2 * scale * two).detach()
        for optimiser in pair:
            optimiser.step()
    assert torch.allclose(one, two, atol=1e-6)


def test_curls_contrast_tells_pictures_apart(memory: EpisodeMemory) -> None:
    """Random guessing among the 16 of a batch is worth ln 16 = 2.77. Pictures differ in where their column is, so that
    shifts are small here."""
    learner = make("curl", memory, batch__size="16", budget__updates="100", own__shift="1")
    losses = [metrics["contrast/loss"] for metrics in turns(learner, 100)]
    assert losses[0] > 2.3 and np.mean(losses[-10:]) < 1.5


def test_curls_actor_temperature_and_slow_copies_move_at_every_second_update(memory: EpisodeMemory) -> None:
    learner = make("curl", memory)
    networks = learner.networks
    slow = {networks.slow_encoder: (networks.encoder, 0.05), networks.slow_critic.trunk: (networks.critic.trunk, 0.05)}
    slow |= {networks.slow_critic.q: (networks.critic.q, 0.01)}
    learner.turn()  # phase 0
    resting = {module: weights(module) for module in (networks.actor, *slow)}
    learning, temperature = weights(networks.encoder), networks.log_temperature.item()
    learner.turn()
    assert not any(moved(module, before) for module, before in resting.items())
    assert moved(networks.encoder, learning) and networks.log_temperature.item() == temperature
    learner.turn()
    assert all(moved(module, before) for module, before in resting.items())
    assert networks.log_temperature.item() != temperature
    critic_q, (source, tau) = resting[networks.slow_critic.q], slow[networks.slow_critic.q]
    for now, before, fast in zip(networks.slow_critic.q.parameters(), critic_q, source.parameters(), strict=True):
        torch.testing.assert_close(now, (1 - tau) * before + tau * fast)


@pytest.mark.parametrize("name", ["cql", "drq_bc"])
def test_the_actors_loss_leaves_encoder_and_critics_alone(name: str, memory: EpisodeMemory) -> None:
    """With the critics' rate at nothing, an update moves the actor only (trap: the encoder is the critics')."""
    learner = make(name, memory)
    for group in learner.optimisers["critic"].param_groups:
        group["lr"] = 0.0
    networks = learner.networks
    still = {module: weights(module) for module in (networks.encoder, networks.critic, networks.slow_critic)}
    actor = weights(networks.actor)
    turns(learner, 2)
    assert moved(networks.actor, actor) and not any(moved(module, before) for module, before in still.items())


# Effects


def gap(learner: PixelLearner) -> float:
    """How much more the critics think of uniform actions than of the data's."""
    batch = learner.next_batch()
    with torch.no_grad():
        encoded = learner.networks.encode(learner.look(batch.image, 0)[0])
        uniform = 2 * torch.rand(20, *batch.action.shape, generator=torch.Generator().manual_seed(0)) - 1
        q = learner.networks.q(encoded, torch.cat([batch.action[None], uniform])).mean(0)
    return float(q[1:].mean() - q[0].mean())


def test_the_conservative_penalty_lowers_values_of_unseen_actions() -> None:
    """Actions are all (0.8, -0.8), so that uniform ones were not seen."""

    def trained(weight: str) -> float:
        memory = EpisodeMemory()
        for seed in range(3):
            episode = striped_episode(seed)
            episode.action[1:] = (0.8, -0.8)
            memory.append(episode)
        learner = make("cql", memory, batch__size="16", budget__updates="100", own__weight=weight, own__lr="1e-3")
        turns(learner, 100)
        return gap(learner)

    with_penalty, without = trained("1"), trained("0")
    assert with_penalty < -0.5 and with_penalty < without - 0.5


def test_cloning_keeps_actions_near_the_datas() -> None:
    """The reward grows with the action, which in the data is always 0.2: improvement alone goes far beyond."""
    rng, memory = np.random.default_rng(0), EpisodeMemory()
    for seed in range(3):
        episode = striped_episode(seed)
        episode.action[1:] = 0.2 + 0.05 * rng.standard_normal(episode.action[1:].shape)
        episode.reward[1:] = 10 * episode.action[1:].mean(1)
        memory.append(episode)

    def distance(alpha: str) -> float:
        options = {"own__alpha": alpha, "own__n_step": "1", "behaviour__discount": "0.1", "own__noise_clip": "0"}
        learner = make("drq_bc", memory, batch__size="16", budget__updates="100", own__lr="1e-3", **options)
        turns(learner, 100)
        batch = learner.next_batch()
        with torch.no_grad():
            policy = learner.networks.mode(learner.networks.encode(learner.look(batch.image, 0)[0]))
        return float((policy - batch.action).abs().mean())

    assert distance("0") < 0.15 and distance("0.1") < 0.3 and distance("100") > 0.5


@pytest.mark.parametrize(
    ("name", "loss"),
    [("bc", "actor/loss"), ("drq_bc", "critic/regression"), ("cql", "critic/regression"), ("curl", "critic/regression")],
)
def test_a_small_dataset_is_learnt_by_heart(name: str, loss: str) -> None:
    """Twelve decisions; rewards follow from the picture, and with γ next to nothing they are the value (which CQL's penalty
    would hold down)."""
    memory = EpisodeMemory().extend([striped_episode(0, rows=14)])
    options = {"own__shift": "0", "own__units": "64", "own__lr": "1e-3", "behaviour__discount": "0.01"}
    options |= {"own__weight": "0.01"} if name == "cql" else {}
    learner = make(name, memory, batch__size="12", budget__updates="300", **options)
    first, *_, last = turns(learner, 300)
    assert last[loss] < 0.01 < first[loss]


# Acting


def test_the_first_picture_fills_the_policys_stack_as_it_does_a_batchs(memory: EpisodeMemory) -> None:
    learner = make("bc", memory)
    image = memory.array("image")[:5]
    carry, generator = learner.policy.initial(), torch.Generator()
    for row in range(5):
        action, carry = learner.policy.act(image[row][None], carry, generator)
        expected = torch.from_numpy(image[np.maximum(np.arange(row - 2, row + 1), 0)]).unsqueeze(1)
        assert torch.equal(carry.pictures, expected)
        with torch.no_grad():
            assert np.array_equal(action, learner.networks.mode(learner.networks.encode(expected)).numpy())
    assert action.dtype == np.float32 and action.shape == (1, 2) and np.abs(action).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_policys_value_is_its_critics_smaller_one(name: str, memory: EpisodeMemory) -> None:
    learner = make(name, memory)
    action, carry = learner.policy.act(memory.array("image")[:1], learner.policy.initial(), torch.Generator())
    value = learner.policy.value(carry)
    record = Evaluator(TOY).episode(learner.policy, 3)
    if name == "bc":
        assert value is None and "value_predicted" not in record
    else:
        with torch.no_grad():
            q = learner.networks.q(carry.encoded, torch.from_numpy(action))
        assert value == q.min().item() and "value_predicted" in record


# The learner's protocol


@pytest.mark.parametrize("name", NAMES)
def test_a_method_spends_its_budget_to_the_end(name: str, memory: EpisodeMemory) -> None:
    learner = make(name, memory)
    while learner.updates < learner.total:
        assert np.isfinite(list(read_metrics(dict(learner.turn())).values())).all()
    updates = {"world_model_updates": 0, "behaviour_updates": 8}
    assert learner.counts() == updates | {"source_updates": 0, "source_env_steps": 0}


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_method_goes_on_as_if_never_stopped(name: str, memory: EpisodeMemory, tmp_path: Path) -> None:
    whole, stopped, other = make(name, memory), make(name, memory), make(name, memory, seed=1)
    before = turns(whole, 3)
    assert turns(stopped, 3) == before != turns(other, 3)
    save_state(tmp_path / "state.pt", stopped.state_dict())
    restored = make(name, memory, seed=5)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert turns(restored, 4) == turns(whole, 4)
    assert restored.updates == 7


@pytest.mark.parametrize("name", NAMES)
def test_an_update_never_waits_for_the_device(name: str, memory: EpisodeMemory) -> None:
    learner = make(name, memory)
    learner.turn()
    with Counts() as counts:
        learner.turn()
    assert counts.synchronisations == 0 and counts.launches < 400


@pytest.mark.parametrize("name", NAMES)
def test_networks_also_compute_in_bfloat16(name: str, memory: EpisodeMemory) -> None:
    """As they do on CUDA: near float32, and nothing breaks."""
    low, full = make(name, memory, compute__precision="bfloat16"), make(name, memory, compute__precision="float32")
    for a, b in zip(turns(low, 2), turns(full, 2), strict=True):
        assert a != b and a == pytest.approx(b, rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_settings(name: str) -> None:
    planned = RunSpec(name, "metaworld/door_close", preset="paper").plan()
    settings, config = planned.settings, planned.config
    assert config.budget.updates == 300_000 and config.batch.size == (128 if name == "curl" else 256)
    assert (settings.encoder, settings.stack, settings.feature, settings.units) == ("conv", 3, 50, 1024)
    assert (settings.shift, settings.lr) == ((6, 1e-3) if name == "curl" else (4, 3e-4))
    if name != "bc":
        assert (settings.n_step, settings.tau) == (3 if name == "drq_bc" else 1, 0.01)
        assert config.behaviour.discount == 0.99
    if name == "cql":
        assert (settings.weight, settings.temperature, settings.actions) == (10, 1, 10)


def test_the_published_networks_take_an_update(memory: EpisodeMemory) -> None:
    learner = make("drq_bc", memory, preset="paper", batch__size="2")
    assert all(np.isfinite(list(metrics.values())).all() for metrics in turns(learner, 2))
    assert learner.networks.critic.q.w1.shape == (2, 52, 1024)


# Learning


LEARNING: dict[str, tuple[int, dict[str, str], float]] = {
    "bc": (300, {"lr": "5e-4"}, 20),
    "drq_bc": (450, {"lr": "3e-4", "n_step": "1", "tau": "0.1"}, 25),
    "cql": (600, {"lr": "5e-4", "weight": "0.1", "tau": "0.1", "std_share": "0.3"}, 25),
    "curl": (750, {"tau": "0.1", "encoder_tau": "0.1", "temperature": "0.003", "every": "1", "shift": "1"}, 14),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_method_learns_to_reach_the_target_from_pixels(name: str) -> None:
    updates, own, wanted = LEARNING[name]
    shared = {"env__unit_reward": "true", "env__action_repeat": "5", "behaviour__discount": "0.5", "batch__size": "32"}
    options = {f"own__{key}": value for key, value in ({"stack": "1", "shift": "2", "units": "64"} | own).items()}
    memory = EpisodeMemory().extend(mixed_episodes())
    learner = make(name, memory, budget__updates=str(updates), **shared, **options)
    assert point_return(learner.policy) < 12
    for _ in range(updates):
        learner.turn()
    assert point_return(learner.policy) > wanted
