"""CURL (Laskin et al. 2020), offline: SAC from pixels whose encoder also learns to tell a picture from all others.

    SAC     y = r + γ [min_j Q̄_j(s', a') - α log π(a'|s')],   L_Q = Σ_j mean (Q_j(s, a) - y)²
            L_π = mean [α log π(a|s) - min_j Q_j(s, a)],   L_α = mean α [-log π(a|s) + A]
    CURL    z = trunk(encoder(crop)), z⁺ = slow trunk(slow encoder(other crop of the same stack))
            L_z = -mean log softmax_j(z_i W z⁺_j)[i]

Actor, temperature and slow copies move at every second update. The slow encoder and trunk follow at 0.05, the slow Q
functions at 0.01. L_z trains encoder, trunk and W. In the published code two Adams with the same state both step the first
two down L_z; here that is one Adam with twice the learning rate for them, which is the same.

Differences from the published code: pictures are 64 pixels and randomly shifted by up to 6 (padded to 76 and cropped) where
it crops 84 out of 100, and evaluated as they are; they are centred as for the other methods, which is a constant in the
first bias; convolutions begin orthogonal as DrQ's, not delta-orthogonal; the actor reads what was encoded before the
critic's step. Its replay is the whole dataset and its budget 300,000 updates (the paper's, table 12) of batch 128. Nothing
makes it conservative: that its values run away is expected. Quick and smoke use the world models' patch encoder on every
picture of the stack.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from coworld_bench.config import Config, Count, Natural, Rate, Share
from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.model_free import (
    QUICK,
    SHARED,
    SMOKE,
    CriticSettings,
    PixelLearner,
    Transitions,
    critic_loss,
    descend,
    follow,
)
from coworld_bench.nets import Precision
from coworld_bench.pixel_nets import CriticNetworks, PixelSettings

LOG_STD = -10.0, 2.0


class CurlSettings(CriticSettings):
    shift: Natural = 6
    lr: Rate = 1e-3
    encoder_tau: Share = 0.05
    temperature: Rate = 0.1  # α at first
    temperature_lr: Rate = 1e-4
    every: Count = Field(2, le=2)  # updates per one of actor, temperature and slow copies


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(μ + σ ε) [B, A] and log π(a) [B]."""
    action = torch.tanh(mean + log_std.exp() * noise)
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return action, (log_normal - (1 - action.square() + 1e-6).log()).sum(-1)


def info_nce(anchor: Tensor, positive: Tensor, bilinear: Tensor) -> Tensor:
    """-mean log softmax_j(z_i W z⁺_j)[i]: [B, F], [B, F] and [F, F]."""
    logits = anchor @ bilinear @ positive.t()
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class CurlNetworks(CriticNetworks):
    bounded = False
    moments = 2

    def __init__(self, settings: PixelSettings, config: Config, action: int, precision: Precision) -> None:
        super().__init__(settings, config, action, precision)
        self.slow_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.bilinear = nn.Parameter(torch.rand(settings.feature, settings.feature))
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def sample(self, encoded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """An action [B, A] and its log-probability [B]."""
        mean, raw = self.run(self.actor, encoded).chunk(2, -1)
        low, high = LOG_STD
        return squashed_sample(mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1), noise)


class Curl(PixelLearner):
    networks_of = CurlNetworks
    networks: CurlNetworks

    def __init__(self, settings: CurlSettings, job: Job) -> None:
        super().__init__(settings, job, settings.n_step)
        self.curl, networks = settings, self.networks
        with torch.no_grad():
            networks.log_temperature.fill_(math.log(settings.temperature))
        embedding = [*networks.encoder.parameters(), *networks.critic.trunk.parameters()]
        contrast = [{"params": embedding, "lr": 2 * settings.lr}, {"params": [networks.bilinear]}]
        self.optimisers = {
            "critic": self.adam([*networks.encoder.parameters(), *networks.critic.parameters()], settings.lr),
            "actor": self.adam(networks.actor.parameters(), settings.lr),
            "temperature": self.adam([networks.log_temperature], settings.temperature_lr, beta1=0.5),
            "contrast": self.adam(contrast, settings.lr),
        }

    @property
    def phase(self) -> int:
        """0: actor, temperature and slow copies move too."""
        return self.updates % self.curl.every

    def step(self, batch: Transitions, done: Tensor, phase: int) -> Metrics:
        now, then, other = self.look(batch.image, 0, self.n_step, 0)
        encoded = self.networks.encode(now)
        target = self.target(batch.reward, then)
        q = self.networks.q(encoded, batch.action)
        loss = critic_loss(q, target)
        descend(self.optimisers["critic"], loss)
        metrics = {"critic/regression": loss, "critic/value": q.mean(), "critic/return": target.mean()}
        if phase == 0:
            metrics |= self.update_actor(encoded.detach())
            self.follow()
        metrics["contrast/loss"] = self.contrast(now, other)
        return {name: metric.detach() for name, metric in metrics.items()}

    @torch.no_grad()
    def target(self, reward: Tensor, then: Tensor) -> Tensor:
        """y: [B]."""
        networks = self.networks
        action, log_probability = networks.sample(networks.encode(then), self.normal(len(reward), networks.action))
        q = networks.slow_q(networks.run(networks.slow_encoder, then), action).amin(0)
        soft = q - networks.log_temperature.exp() * log_probability
        return reward + self.discount**self.n_step * soft

    def update_actor(self, encoded: Tensor) -> Metrics:
        """A step of actor and temperature."""
        networks = self.networks
        action, log_probability = networks.sample(encoded, self.normal(len(encoded), networks.action))
        temperature = networks.log_temperature.exp()
        loss = (temperature.detach() * log_probability - networks.q(encoded, action).amin(0)).mean()
        excess = (-log_probability.detach() + networks.action).mean()  # of the entropy over its target, -A
        descend(self.optimisers["actor"], loss)
        descend(self.optimisers["temperature"], temperature * excess)
        return {"actor/loss": loss, "actor/entropy": -log_probability.mean(), "actor/temperature": temperature}

    def follow(self) -> None:
        """The slow copies take a step towards what they are copies of."""
        networks = self.networks
        follow(networks.slow_encoder, networks.encoder, self.curl.encoder_tau)
        follow(networks.slow_critic.trunk, networks.critic.trunk, self.curl.encoder_tau)
        follow(networks.slow_critic.q, networks.critic.q, self.curl.tau)

    def contrast(self, now: Tensor, other: Tensor) -> Tensor:
        """A step of encoder, trunk and W."""
        networks = self.networks
        with torch.no_grad():
            positive = networks.run(networks.slow_critic.trunk, networks.run(networks.slow_encoder, other))
        anchor = networks.run(networks.critic.trunk, networks.encode(now))
        loss = info_nce(anchor, positive, networks.bilinear)
        descend(self.optimisers["contrast"], loss)
        return loss


METHOD = Method(
    name="curl",
    label="CURL",
    learner=Curl,
    settings=CurlSettings,
    shared=SHARED | {"paper": SHARED["paper"] | {"batch": {"size": 128}}},
    own={"quick": QUICK, "smoke": SMOKE},
)
