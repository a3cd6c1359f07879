"""The paper's losses against numbers worked by hand or in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import tensor

from coworld_bench import losses


def test_lambda_returns_run_forward_in_time() -> None:
    """Rewards 1..5, γ 0.5, λ 1: the released code gives these five numbers in the opposite order."""
    reward = torch.arange(1.0, 6.0).unsqueeze(-1)
    returns = losses.lambda_returns(reward, torch.zeros(5, 1), discount=0.5, trace=1.0)
    assert returns.squeeze(-1).tolist() == [3.5625, 5.125, 6.25, 6.5, 5.0]


def test_lambda_returns_by_hand() -> None:
    """γ 0.5, λ 0.5, r = (1, 2), v = (4, 8): V_1 = 2 + 0.5 (0.5·8 + 0.5·8) = 6; V_0 = 1 + 0.5 (0.5·4 + 0.5·6) = 3.5."""
    returns = losses.lambda_returns(tensor([[1.0], [2.0]]), tensor([[4.0], [8.0]]), 0.5, 0.5)
    assert returns.tolist() == [[3.5], [6.0]]


def test_lambda_returns_equal_a_scalar_loop() -> None:
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    expected = np.zeros((7, 3))
    for column in range(3):
        following = value[-1, column]
        for row in reversed(range(7)):
            following = reward[row, column] + 0.9 * (0.05 * value[row, column] + 0.95 * following)
            expected[row, column] = following
    got = losses.lambda_returns(torch.tensor(reward), torch.tensor(value), 0.9, 0.95)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_gaussian_kl_by_hand() -> None:
    """KL[N(1, 2) ‖ N(0, 1)] = ½ (4 + 1 - 1 - ln 4)."""
    got = losses.gaussian_kl(tensor([1.0]), tensor([2.0]), tensor([0.0]), tensor([1.0]))
    assert got.item() == pytest.approx(0.5 * (4 - math.log(4)))


def test_categorical_kl_by_hand() -> None:
    """p = (¾, ¼), q = (½, ½): ¾ ln 1.5 + ¼ ln 0.5, for each of two groups."""
    p, q = tensor([[[0.75, 0.25]] * 2]).log(), torch.zeros(1, 2, 2)
    assert losses.categorical_kl(p, q).item() == pytest.approx(2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_kl_balance_trains_the_prior_with_the_larger_share() -> None:
    """0.8 of the gradient goes to the prior; swapped sides would make the posterior collapse (trap T4)."""
    posterior, prior = tensor([3.0], requires_grad=True), tensor([0.0], requires_grad=True)
    one = torch.ones(1)
    loss = losses.balanced_kl(
        losses.gaussian_kl(posterior, one, prior.detach(), one),
        losses.gaussian_kl(posterior.detach(), one, prior, one),
        balance=0.8,
        free_nats=1.0,
    )
    loss.backward()
    assert loss.item() == pytest.approx(4.5)
    assert posterior.grad is not None and posterior.grad.item() == pytest.approx(0.2 * 3)
    assert prior.grad is not None and prior.grad.item() == pytest.approx(-0.8 * 3)


def test_free_nats_bound_the_mean_not_each_element() -> None:
    elements = tensor([0.0, 4.0])  # mean 2, above the free nat; elementwise clamping would give 2.5
    assert losses.balanced_kl(elements, elements, 0.8, 1.0).item() == pytest.approx(2.0)
    assert losses.balanced_kl(elements / 8, elements / 8, 0.8, 1.0).item() == pytest.approx(1.0)


def test_state_alignment_by_hand_and_its_direction() -> None:
    """KL[source ‖ target] with source (¾, ¼) and target (½, ½), not the other way round."""
    source, target = tensor([[[0.75, 0.25]]]).log(), torch.zeros(1, 1, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert losses.align_states(source, target).item() == pytest.approx(forward)
    assert losses.align_states(target, source).item() != pytest.approx(forward)


def test_state_alignment_trains_the_target_alone() -> None:
    source, target = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    losses.align_states(source, target).backward()
    assert source.grad is None and target.grad is not None and target.grad.abs().sum() > 0


def test_batchmean_sums_over_time() -> None:
    """With T rows the released reduction is exactly T times the mean over rows (trap T12)."""
    source, target = torch.randn(50, 4, 8), torch.randn(50, 4, 8)
    ratio = losses.align_states(source, target) / losses.align_states(source, target, "mean")
    assert ratio.item() == pytest.approx(50.0, rel=1e-5)


def test_relabelled_reward_weighs_the_true_target_reward_with_k() -> None:
    predicted = tensor([2.0], requires_grad=True)
    relabelled = losses.relabel_reward(predicted, tensor([10.0]), k=0.3)
    assert relabelled.item() == pytest.approx(0.7 * 2 + 0.3 * 10)
    assert not relabelled.requires_grad


def test_reward_alignment_mixes_with_eta() -> None:
    assert losses.align_rewards(tensor(1.0), tensor(3.0), eta=0.25).item() == pytest.approx(0.25 + 2.25)


def test_min_max_value_pulls_the_larger_down() -> None:
    """Gradient reaches the target only where it exceeds the source, half of it at a tie, never the source (T8)."""
    target, source = tensor([1.0, 3.0, 2.0], requires_grad=True), tensor([2.0, 2.0, 2.0], requires_grad=True)
    values = losses.min_max_value(target, source)
    assert values.tolist() == [2.0, 3.0, 2.0]
    values.sum().backward()
    assert target.grad is not None and target.grad.tolist() == [0.0, 1.0, 0.5]
    assert source.grad is None


@pytest.mark.parametrize(("bootstrap", "optimum"), [(1.0, 1.0), (2.5, 2.0), (5.0, 4.0)])
def test_constrained_critic_settles_at_the_soft_threshold(bootstrap: float, optimum: float) -> None:
    """Source value 2, α 1: V where V <= 2; 2 where 2 < V < 3; V - 1 above (the pointwise optimum of Eq. 6)."""
    value, source = tensor([0.0], requires_grad=True), tensor([2.0])
    for _ in range(4000):
        loss = losses.squared_error(value, tensor([bootstrap])) + 1.0 * losses.min_max_value(value, source)
        (gradient,) = torch.autograd.grad(loss.sum(), value)
        value = (value - 0.005 * gradient).detach().requires_grad_()
    assert value.item() == pytest.approx(optimum, abs=0.02)


def test_truncated_normal_stays_inside_and_has_the_right_moments() -> None:
    from scipy.stats import truncnorm

    mean, std = torch.full((20_000, 1), 0.6), torch.full((20_000, 1), 0.9)
    uniform = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0))
    sample, entropy = losses.truncated_normal(mean, std, uniform)
    truth = truncnorm((-1 - 0.6) / 0.9, (1 - 0.6) / 0.9, loc=0.6, scale=0.9)
    assert sample.abs().max() <= 1
    assert sample.mean().item() == pytest.approx(truth.mean(), abs=0.01)
    assert sample.std().item() == pytest.approx(truth.std(), abs=0.01)
    assert entropy[0].item() == pytest.approx(truth.entropy(), abs=1e-3)


def test_truncated_normal_passes_gradients_to_mean_and_std() -> None:
    mean, std = tensor([[0.2]], requires_grad=True), tensor([[0.5]], requires_grad=True)
    sample, entropy = losses.truncated_normal(mean, std, tensor([[0.7]]))
    sample.sum().backward(retain_graph=True)
    assert mean.grad is not None and mean.grad.item() > 0
    entropy.sum().backward()
    assert std.grad is not None and torch.isfinite(std.grad).all()


def test_onehot_sampling_follows_the_probabilities_and_lets_gradients_through() -> None:
    probabilities = tensor([0.2, 0.5, 0.3]).expand(30_000, 3).clone().requires_grad_()
    drawn = losses.sample_onehot(probabilities, torch.rand(30_000, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(drawn.detach().sum(-1), torch.ones(30_000), atol=1e-6)
    np.testing.assert_allclose(drawn.detach().mean(0).numpy(), [0.2, 0.5, 0.3], atol=0.01)
    (drawn * tensor([1.0, 2.0, 3.0])).sum().backward()
    assert probabilities.grad is not None and probabilities.grad[0].tolist() == [1.0, 2.0, 3.0]


def test_discount_weights_start_at_one() -> None:
    assert losses.discount_weights(3, 0.5, torch.zeros(1)).squeeze(-1).tolist() == [1.0, 0.5, 0.25]
