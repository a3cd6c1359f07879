"""The pure mathematics: no module, no configuration, no device. Equation numbers are the CoWorld paper's.

Axes: T time, B batch, H imagined rows, N imagined trajectories, S latent, A action.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_error(prediction: Tensor, truth: Tensor) -> Tensor:
    """½ (x - y)², which is -ln N(y | x, 1) less its constant."""
    return 0.5 * (prediction - truth).square()


def gaussian_kl(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """KL[N(mean, std) ‖ N(other)] of diagonal Gaussians, summed over the last axis: [..., S] -> [...]."""
    ratio = (std / other_std).square()
    distance = ((mean - other_mean) / other_std).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def categorical_kl(logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL[p ‖ q] of independent categoricals, summed over them: [..., S, classes] -> [...]."""
    log_p, log_q = logits.log_softmax(-1), other_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def gaussian_log_prob(sample: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """ln N(sample | mean, std) of a diagonal Gaussian, summed over the last axis: [..., S] -> [...]."""
    distance = ((sample - mean) / std).square()
    return -0.5 * (distance + math.log(2 * math.pi)).sum(-1) - std.log().sum(-1)


def categorical_log_prob(onehot: Tensor, logits: Tensor) -> Tensor:
    """ln p(onehot) of independent categoricals, summed over them: [..., S, classes] -> [...]."""
    return (onehot * logits.log_softmax(-1)).sum((-2, -1))


def balanced_kl(train_posterior: Tensor, train_prior: Tensor, balance: float, free_nats: float) -> Tensor:
    """(1-b) max(mean KL[q ‖ sg p], free) + b max(mean KL[sg q ‖ p], free), from the two elementwise KLs.

    Free nats bound the mean over time and batch, not each element (DreamerV2's `free_avg`)."""
    posterior_side = train_posterior.mean().clamp(min=free_nats)
    prior_side = train_prior.mean().clamp(min=free_nats)
    return (1 - balance) * posterior_side + balance * prior_side


def lambda_returns(reward: Tensor, next_value: Tensor, discount: float, trace: float) -> Tensor:
    """V_t = r_t + γ [(1-λ) v(s_t+1) + λ V_t+1], forward in time (Eq. 9); the last V_t+1 is its v(s_t+1).

    reward, next_value: [H, N], where next_value[t] is v(s_t+1). Returns [H, N]. (The released code returns this
    reversed in time.)"""
    assert reward.shape == next_value.shape, (reward.shape, next_value.shape)
    one_row = reward + discount * (1 - trace) * next_value
    following, returns = next_value[-1], []
    for row in reversed(range(len(reward))):
        following = one_row[row] + discount * trace * following
        returns.append(following)
    return torch.stack(returns[::-1])


def discount_weights(rows: int, discount: float, like: Tensor) -> Tensor:
    """w_t = γ^t as [rows, 1]."""
    return (discount ** torch.arange(rows, device=like.device, dtype=like.dtype)).unsqueeze(-1)


def align_states(source_embed: Tensor, target_embed: Tensor, reduction: str = "batchmean") -> Tensor:
    """Stage A (Eq. 3): KL[softmax(sg e_source) ‖ softmax(e_target)] on the same target images.

    Both [T, B, E]. `batchmean` sums over time and divides by B, as the released code does; `mean` divides by T B."""
    log_q = target_embed.log_softmax(-1)
    log_p = source_embed.detach().log_softmax(-1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return divergence.mean() if reduction == "mean" else divergence.sum(0).mean()


def softmax_entropy(embed: Tensor) -> Tensor:
    """The entropy of softmax(embed), in nats: [..., E] -> [...]."""
    log_p = embed.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def relabel_reward(source_prediction: Tensor, target_reward: Tensor, k: float) -> Tensor:
    """Stage B (Eq. 4): r̃ = (1-k) sg r_source(s̃) + k r_target; k weighs the true target reward."""
    return (1 - k) * source_prediction.detach() + k * target_reward


def align_rewards(source_loss: Tensor, relabelled_loss: Tensor, eta: float | Tensor) -> Tensor:
    """Stage B (Eq. 5): η L(source data) + (1-η) L(relabelled target data)."""
    return eta * source_loss + (1 - eta) * relabelled_loss


def min_max_value(target_value: Tensor, source_value: Tensor) -> Tensor:
    """Stage C (Eq. 6, second term), elementwise: pull the larger estimate down; no gradient to the source."""
    return torch.maximum(target_value, source_value.detach())


def truncated_normal(mean: Tensor, std: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A reparameterised sample of N(mean, std) truncated to [-1, 1], and the entropy of each element. All [..., A].

    (The released code means to truncate and does not: its `sample` is never called.)"""
    low, high = (-1 - mean) / std, (1 - mean) / std
    below, mass = _truncation(low, high)
    sample = _quantile(mean, std, below + uniform * mass)
    clipped = sample + (sample.clamp(-1, 1) - sample).detach()
    density_low, density_high = _normal_density(low), _normal_density(high)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + (std * mass).log()
    return clipped, entropy + (low * density_low - high * density_high) / (2 * mass)


def truncated_sample(mean: Tensor, std: Tensor, uniform: Tensor) -> Tensor:
    """The sample of `truncated_normal` alone, where no gradient is wanted."""
    below, mass = _truncation((-1 - mean) / std, (1 - mean) / std)
    return _quantile(mean, std, below + uniform * mass).clamp(-1, 1)


def truncated_log_density(mean: Tensor, std: Tensor, action: Tensor) -> Tensor:
    """ln p(action) under the distribution of `truncated_normal`, of each element: all [..., A], action in [-1, 1]."""
    _, mass = _truncation((-1 - mean) / std, (1 - mean) / std)
    return -0.5 * ((action - mean) / std).square() - (std * mass).log() - 0.5 * math.log(2 * math.pi)


def _truncation(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The standard normal's mass below `low`, and between the two."""
    below = torch.special.ndtr(low)
    return below, (torch.special.ndtr(high) - below).clamp(min=1e-6)


def _quantile(mean: Tensor, std: Tensor, mass: Tensor) -> Tensor:
    return mean + std * torch.special.ndtri(mass.clamp(1e-6, 1 - 1e-6))


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def sample_onehot(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """A one-hot draw by inverse CDF with straight-through gradients: [..., classes], uniform [...]."""
    index = (probabilities.detach().cumsum(-1)[..., :-1] < uniform.unsqueeze(-1)).sum(-1)
    onehot = F.one_hot(index, probabilities.shape[-1]).to(probabilities.dtype)
    return onehot + probabilities - probabilities.detach()
