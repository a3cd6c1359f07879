"""The recurrent state-space model: h' = GRU(h, z, a); prior p(z' | h'); posterior q(z' | h', e).

Everything that does not depend on the recurrence is computed for all rows at once: the projections of actions and
embeddings before the scan, the prior after it (it depends on h alone, and the scan never uses a sample of it).
Randomness is passed in. Axes: T time, B batch, D deterministic, S stochastic (flattened), A action, E embedding.

The released code has one linear layer over [z, a] and one over [h, e]; here each part has its own, initialised by its own
number of inputs, so the few action inputs begin with larger weights than there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coworld_bench.config import ModelConfig
from coworld_bench.losses import (
    balanced_kl,
    categorical_kl,
    categorical_log_prob,
    gaussian_kl,
    gaussian_log_prob,
    sample_onehot,
)
from coworld_bench.scans import Dynamics, Gru, Latents, ObserveScan, Posterior, Prior


class State(NamedTuple):
    """deter [..., D] and stoch [..., S]."""

    deter: Tensor
    stoch: Tensor

    @property
    def feature(self) -> Tensor:
        """[z, h], what every head reads: [..., S + D]."""
        return torch.cat([self.stoch, self.deter], -1)

    def flat(self) -> State:
        """[T, B, .] -> [T * B, .], cut from the graph: the starts of imagination."""
        return State(*(part.detach().flatten(0, 1) for part in self))


class Rssm(nn.Module):
    def __init__(self, config: ModelConfig, embed: int, action: int, prior_heads: int = 1) -> None:
        super().__init__()
        self.latent, self.deter, self.hidden = config.latent, config.deter, config.hidden
        self.groups, self.classes, self.compiled = config.stoch, config.classes, False
        gaussian = config.latent == "gaussian"
        self.stoch = config.stoch if gaussian else config.stoch * config.classes
        statistics = 2 * config.stoch if gaussian else self.stoch
        self.from_stoch = nn.Linear(self.stoch, config.hidden, bias=False)
        self.from_action = nn.Linear(action, config.hidden)
        self.gates = nn.Linear(config.hidden + config.deter, 3 * config.deter, bias=not config.gru_norm)
        self.norm = nn.LayerNorm(3 * config.deter) if config.gru_norm else nn.Identity()
        self.prior = PriorHeads(config.deter, config.hidden, statistics, prior_heads)
        self.posterior_embed = nn.Linear(embed, config.hidden, bias=False)
        self.posterior_deter = nn.Linear(config.deter, config.hidden)
        self.posterior_out = nn.Linear(config.hidden, statistics)

    @property
    def feature_size(self) -> int:
        return self.stoch + self.deter

    @property
    def noise_size(self) -> int:
        """Random numbers per latent sample."""
        return self.groups

    def draw(self, generator: torch.Generator, *shape: int) -> Tensor:
        """Noise for latents of `shape`: normal for Gaussian ones, uniform for categorical ones."""
        make = torch.randn if self.latent == "gaussian" else torch.rand
        return make(*shape, self.groups, generator=generator, device=generator.device)

    def initial(self, batch: int) -> State:
        like = self.from_stoch.weight
        return State(like.new_zeros(batch, self.deter), like.new_zeros(batch, self.stoch))

    def observe(self, embed: Tensor, action: Tensor, noise: Tensor, start: State) -> tuple[State, Tensor]:
        """Posterior states and statistics over T rows: embed [T, B, E], action [T, B, A] (the one that led to the row)."""
        actions = self.from_action(action)
        embeds = self.posterior_embed(embed)
        deter, stoch = start
        deters, stochs, statistics = [], [], []
        for row in range(len(embed)):
            deter = self.recur(deter, stoch, actions[row])
            hidden = F.elu(self.posterior_deter(deter) + embeds[row])
            statistic = self.posterior_out(hidden)
            stoch = self.sample(statistic, noise[row])
            deters.append(deter)
            stochs.append(stoch)
            statistics.append(statistic)
        return State(torch.stack(deters), torch.stack(stochs)), torch.stack(statistics)

    def observe_fast(self, embed: Tensor, action: Tensor, noise: Tensor, start: State) -> tuple[State, Tensor]:
        """`observe` with the backward pass of `scans.py`."""
        embeds = F.linear(embed, self.posterior_embed.weight, self.posterior_deter.bias)
        head = Posterior(self.posterior_deter.weight, self.posterior_out.weight, self.posterior_out.bias)
        deter, stoch, statistics = ObserveScan.apply(
            self.latents, self.from_action(action), embeds, noise, *start, *head, *self.gru
        )
        return State(deter, stoch), statistics

    @property
    def latents(self) -> Latents:
        return Latents(0 if self.latent == "gaussian" else self.classes, self.compiled)

    @property
    def gru(self) -> Gru:
        gates = self.from_stoch.weight, self.gates.weight, self.gates.bias
        norm = (self.norm.weight, self.norm.bias) if isinstance(self.norm, nn.LayerNorm) else (None, None)
        return Gru(*gates, *norm)

    def dynamics(self, member: Tensor | None) -> Dynamics:
        """What imagination reads, with one prior head for all rows or head member[t] for row t."""
        weights = (self.prior.w1, self.prior.b1, self.prior.w2, self.prior.b2)
        chosen = [weight[:1] if member is None else weight[member] for weight in weights]
        priors = tuple(Prior(*head) for head in zip(*(weight.unbind() for weight in chosen), strict=True))
        return Dynamics(self.latents, self.gru, self.from_action.weight, self.from_action.bias, priors)

    def imagine(self, state: State, action: Tensor, noise: Tensor, member: Tensor | None = None) -> State:
        """One row ahead of `state` under the prior (of head `member` [1]): action [N, A], noise [N, groups]."""
        deter = self.recur(state.deter, state.stoch, self.from_action(action))
        prior = self.prior(deter) if member is None else self.prior.by_row(deter.unsqueeze(0), member)[0]
        return State(deter, self.sample(prior, noise))

    def recur(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """The GRU of the released code: the reset gate multiplies the candidate's pre-activation; update bias -1."""
        inputs = F.elu(self.from_stoch(stoch) + action)
        reset, candidate, update = self.norm(self.gates(torch.cat([inputs, deter], -1))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1)
        return update * candidate + (1 - update) * deter

    def sample(self, statistic: Tensor, noise: Tensor) -> Tensor:
        """A reparameterised (straight-through) latent sample: [..., statistics] -> [..., S]."""
        if self.latent == "gaussian":
            mean, std = self.moments(statistic)
            return mean + std * noise
        return sample_onehot(self.logits(statistic).softmax(-1), noise).flatten(-2)

    def moments(self, statistic: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = statistic.chunk(2, -1)
        return mean, 2 * torch.sigmoid(raw / 2) + 0.1

    def logits(self, statistic: Tensor) -> Tensor:
        """[..., S] -> [..., groups, classes]."""
        return statistic.unflatten(-1, (self.groups, self.classes))

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """KL[q ‖ p] of two statistics: [...]."""
        if self.latent == "gaussian":
            return gaussian_kl(*self.moments(posterior), *self.moments(prior))
        return categorical_kl(self.logits(posterior), self.logits(prior))

    def kl_loss(self, posterior: Tensor, deter: Tensor, balance: float, free: float, member: Tensor | None) -> Tensor:
        """The balanced KL of a scan; `member` [T] says which prior head each row is held against."""
        prior = self.prior(deter) if member is None else self.prior.by_row(deter, member)
        return balanced_kl(self.kl(posterior, prior.detach()), self.kl(posterior.detach(), prior), balance, free)

    def disagreement(self, deter: Tensor) -> Tensor:
        """How far the prior heads differ: (1/K) Σ_k ‖m_k - m̄‖, m_k the class probabilities (or means): [N, D] -> [N].

        Lu et al. 2023, `meandis`."""
        statistics = self.prior.all(deter)  # [K, N, statistics]
        if self.latent == "gaussian":
            centres = self.moments(statistics)[0]
        else:
            centres = self.logits(statistics).softmax(-1).flatten(-2)
        return (centres - centres.mean(0)).norm(dim=-1).mean(0)

    def log_prob(self, stoch: Tensor, statistic: Tensor) -> Tensor:
        """ln p(z) of latents [..., S] under statistics (a density, or the probability of the drawn classes): [...]."""
        if self.latent == "gaussian":
            return gaussian_log_prob(stoch, *self.moments(statistic))
        return categorical_log_prob(self.logits(stoch), self.logits(statistic))

    def log_prob_spread(self, state: State) -> Tensor:
        """std_k[ln p_k(z | h)] over the prior heads, LOMPO's measure of what the model does not know: [N, .] -> [N]."""
        return self.log_prob(state.stoch, self.prior.all(state.deter)).std(0, correction=0)


class PriorHeads(nn.Module):
    """K heads deter -> hidden (ELU) -> statistics with batched weights; DreamerV2 has one, Offline DV2 seven."""

    def __init__(self, deter: int, hidden: int, statistics: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.w1, self.b1 = self._linear(count, deter, hidden)
        self.w2, self.b2 = self._linear(count, hidden, statistics)

    @staticmethod
    def _linear(count: int, inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
        bound = 1 / math.sqrt(inputs)  # nn.Linear's own initialisation
        weight, bias = torch.empty(count, inputs, outputs), torch.empty(count, 1, outputs)
        return nn.Parameter(weight.uniform_(-bound, bound)), nn.Parameter(bias.uniform_(-bound, bound))

    def forward(self, deter: Tensor) -> Tensor:
        """[..., D] -> [..., statistics] by the first head."""
        return F.elu(deter @ self.w1[0] + self.b1[0, 0]) @ self.w2[0] + self.b2[0, 0]

    def by_row(self, deter: Tensor, member: Tensor) -> Tensor:
        """[T, B, D] -> [T, B, statistics], row t by head member[t]."""
        hidden = F.elu(torch.baddbmm(self.b1[member], deter, self.w1[member]))
        return torch.baddbmm(self.b2[member], hidden, self.w2[member])

    def all(self, deter: Tensor) -> Tensor:
        """[N, D] -> [K, N, statistics]."""
        return F.elu(deter @ self.w1 + self.b1) @ self.w2 + self.b2
