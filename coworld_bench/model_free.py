"""Model-free learning from stacks of pictures: what `drq_bc`, `cql`, `curl` and `bc` share.

A batch is windows of stack + n rows of the dataset; nothing else is stored. With the decision made at row t:

    rows      t-stack+1 ... t             the pictures of the observation
              t+n-stack+1 ... t+n         the pictures of the next observation
              t+1                         the action (row t+1 holds the one that led to it)
              t+1 ... t+n                 the rewards, Σ_{i<n} γ^i r_{t+1+i}; what follows is worth γ^n times its value

Episodes are cut off by time and never end, so the value of what follows always counts. Rows before an episode's first
repeat the first, as the policy sees it when it begins.

Axes: K stacks of a window (or actions at a state), S pictures of a stack, B batch, E encoded, A action.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from coworld_bench.checkpoints import restore_stream
from coworld_bench.config import Count, Rate, Share, Weight
from coworld_bench.data.memory import BatchStream
from coworld_bench.dreamer import AgentSpec, Metrics
from coworld_bench.errors import PartMissing
from coworld_bench.feeding import feed
from coworld_bench.losses import discount_weights
from coworld_bench.methods import Job
from coworld_bench.nets import Precision
from coworld_bench.pixel_nets import CriticNetworks, PixelNetworks, PixelSettings, shifted_stacks
from coworld_bench.replay import Replay
from coworld_bench.seeding import torch_seed

# What these methods change of the shared settings: the published batch; the paper's 300,000 updates, one an iteration; no
# warm-up, which is of world models. A quick batch has half as many decisions as a world model's has rows.
SHARED: dict[str, dict[str, Any]] = {
    "paper": {"batch": {"size": 256}, "budget": {"warmup": 0, "updates": 300_000}},
    "quick": {"batch": {"size": 128}, "budget": {"warmup": 0}},
    "smoke": {"budget": {"warmup": 0}},
}
QUICK: dict[str, Any] = {"encoder": "shared", "units": 256}
SMOKE: dict[str, Any] = {"encoder": "shared", "units": 32}


class CriticSettings(PixelSettings):
    n_step: Count = 1
    tau: Share = 0.01  # of the slow critic


class DrqSettings(CriticSettings):
    """The policy's noise while it learns: its standard deviation falls in a line over a share of the updates."""

    std_first: Rate = 1.0
    std_last: Rate = 0.1
    std_share: Share = 5 / 12  # 250,000 steps of V-D4RL's loop, which updates at every second: 125,000 of 300,000
    noise_clip: Weight = 0.3


def n_step_return(reward: Tensor, discount: float) -> Tensor:
    """Σ_{i<n} γ^i r_i: [n, B] -> [B]."""
    return (discount_weights(len(reward), discount, reward) * reward).sum(0)


def noisy(mean: Tensor, std: Tensor, noise: Tensor, clip: float) -> Tensor:
    """clip(μ + clip(σ ε, ±c), ±1), the gradient straight through to μ: [..., A]."""
    action = mean + (std * noise).clamp(-clip, clip)
    return action + (action.clamp(-1, 1) - action).detach()


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σ_j mean (Q_j(s, a) - y)²: q [2, B], y [B]."""
    return (q - target).square().mean(1).sum()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, tau: float) -> None:
    """slow <- (1 - τ) slow + τ fast, all parameters at once."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), tau)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down `loss` in the optimiser's parameters alone."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()  # as the parameter lies in memory, which fused Adam walks flat
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def behaviour_counts(updates: int) -> dict[str, int]:
    """What a method without a world model and without sources has spent: every update is one of the behaviour."""
    return {"world_model_updates": 0, "behaviour_updates": updates, "source_updates": 0, "source_env_steps": 0}


class Carry(NamedTuple):
    """The last pictures uint8 [S, B, 64, 64, 3], what they are encoded to [B, E], and the action [B, A]; None at first."""

    pictures: Tensor | None = None
    encoded: Tensor | None = None
    action: Tensor | None = None


class PixelPolicy:
    """Acts on the last pictures, without noise."""

    value_counts_arrival = False  # Q(s, π(s)) begins with the reward of the decision

    def __init__(self, networks: PixelNetworks, stack: int, device: torch.device) -> None:
        self.networks, self.stack, self.device = networks, stack, device

    def initial(self, batch: int = 1) -> Carry:
        return Carry()

    @torch.no_grad()
    def act(
        self, image: np.ndarray, carry: Carry, generator: torch.Generator, sample: bool = False
    ) -> tuple[np.ndarray, Carry]:
        """An action float32 [B, A] for images uint8 [B, 64, 64, 3]; an episode's first one fills the stack."""
        assert not sample, "these policies learn offline, they never explore"
        latest = torch.from_numpy(image).to(self.device).unsqueeze(0)
        past = latest.expand(self.stack, *image.shape) if carry.pictures is None else carry.pictures
        pictures = torch.cat([past[1:], latest])
        encoded = self.networks.encode(pictures)
        action = self.networks.mode(encoded)
        return action.cpu().numpy(), Carry(pictures, encoded, action)

    @torch.no_grad()
    def embed(self, image: np.ndarray) -> np.ndarray:
        """What the encoder makes of stacks of one picture, uint8 [N, 64, 64, 3]: float32 [N, E]."""
        pictures = torch.from_numpy(image).to(self.device)
        return self.networks.encode(pictures.expand(self.stack, *image.shape)).cpu().numpy()

    @torch.no_grad()
    def value(self, carry: Carry) -> float | None:
        """min_j Q_j(s, π(s)) of the stack just observed, in scaled reward units (batch of one)."""
        assert carry.encoded is not None and carry.action is not None
        value = self.networks.value(carry.encoded, carry.action)
        return None if value is None else float(value[0])


class Transitions(NamedTuple):
    """A batch: pictures uint8 [stack + n, B, 64, 64, 3], the action taken [B, A] and the n-step reward [B] (scaled)."""

    image: Tensor
    action: Tensor
    reward: Tensor


class PixelLearner:
    """A model-free method on the target's dataset. Subclasses write `step`, what an update does with a batch."""

    networks_of: ClassVar[type[PixelNetworks]] = PixelNetworks
    networks: PixelNetworks

    def __init__(self, settings: PixelSettings, job: Job, n_step: int = 1) -> None:
        self.job, self.config, self.n_step = job, job.config, n_step
        self.device, self.discount = torch.device(job.device), job.config.behaviour.discount
        self.stack, self.pad = settings.stack, settings.shift
        self.spec = AgentSpec.of(job.target, job.config)
        precision = Precision.of(job.config.compute.precision, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(job.seed, "weights"))
            networks = self.networks_of(settings, job.config, self.spec.action, precision)
        self.networks = networks.to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(torch_seed(job.seed, "noise"))
        self.replay = Replay(self.device, self.generator, job.config.compute.graph)
        self.batches = BatchStream(job.data, job.seed, job.config.batch.size, 1 + n_step, lead=self.stack - 1)
        self.feed = feed(self.batches, self.device)
        self.policy = PixelPolicy(self.networks, self.stack, self.device)
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.updates = 0

    def step(self, batch: Transitions, done: Tensor, phase: int) -> Metrics:
        """One update; `done` is the share of the budget that is spent."""
        raise PartMissing(self, "step")

    @property
    def phase(self) -> int:
        """Which of the method's kinds of update is next, where it has several."""
        return 0

    @property
    def total(self) -> int:
        return self.config.budget.updates

    def turn(self) -> Metrics:
        done = torch.full((), self.updates / self.total, device=self.device)
        step = partial(self.step, phase=self.phase)
        metrics: Metrics = self.replay(("update", self.phase), step, self.next_batch(), done)
        self.updates += 1
        return metrics

    def next_batch(self) -> Transitions:
        """The next batch of target data, on the device."""
        drawn = self.feed.next()
        assert drawn.image is not None, "model-free methods learn from pictures"
        reward = n_step_return(drawn.reward[self.stack :], self.discount) * self.spec.reward_scale
        return Transitions(drawn.image, drawn.action[self.stack], reward)

    def look(self, image: Tensor, *firsts: int) -> Tensor:
        """The stacks that begin at these rows of the windows, each randomly shifted: uint8 [K, S, B, 64, 64, 3]."""
        shape = (len(firsts), image.shape[1], 2)
        shift = torch.randint(-self.pad, self.pad + 1, shape, generator=self.generator, device=self.device)
        return shifted_stacks(image, firsts, self.stack, shift, self.pad)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def adam(self, groups: Iterable[Any], lr: float, beta1: float = 0.9) -> torch.optim.Adam:
        """Adam for parameters or groups of them, with PyTorch's defaults, as in the published code."""
        capturable = self.device.type == "cuda"
        return torch.optim.Adam(groups, lr=lr, betas=(beta1, 0.999), fused=True, capturable=capturable)

    def counts(self) -> dict[str, int]:
        return behaviour_counts(self.updates)

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "generator": self.generator.get_state(),
            "batches": self.batches.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        restore_stream(self.generator, state["generator"])
        self.batches.load_state_dict(state["batches"])
        self.updates = state["updates"]


class DrqLearner(PixelLearner):
    """DrQ-v2's critics and actor offline:

        a' = noisy π(s'),   y = Σ_{i<n} γ^i r_i + γ^n min_j Q̄_j(s', a'),   L_Q = Σ_j mean (Q_j(s, a) - y)²

    The critics' loss trains the encoder, which has no slow copy; the actor reads what is encoded without a gradient to it.
    Subclasses write `actor_loss`, and may evaluate more actions in the critics' one pass and add terms to their loss."""

    networks_of = CriticNetworks
    networks: CriticNetworks

    def __init__(self, settings: DrqSettings, job: Job) -> None:
        super().__init__(settings, job, settings.n_step)
        self.drq, networks = settings, self.networks
        self.optimisers = {
            "critic": self.adam([*networks.encoder.parameters(), *networks.critic.parameters()], settings.lr),
            "actor": self.adam(networks.actor.parameters(), settings.lr),
        }

    def actor_loss(self, encoded: Tensor, action: Tensor, std: Tensor) -> tuple[Tensor, Metrics]:
        """The actor's loss on [B, E] with the data's actions [B, A], and metrics."""
        raise PartMissing(self, "actor_loss")

    def critic_actions(self, encoded: Tensor, next_encoded: Tensor, action: Tensor, std: Tensor) -> Tensor:
        """The actions the critics are evaluated on, the data's first: [K, B, A]."""
        return action.unsqueeze(0)

    def critic_terms(self, q: Tensor) -> dict[str, Tensor]:
        """Further terms of the critics' loss, from [2, K, B]."""
        return {}

    def step(self, batch: Transitions, done: Tensor, phase: int) -> Metrics:
        std = self.std(done)
        now, then = self.look(batch.image, 0, self.n_step)
        encoded = self.networks.encode(now)
        with torch.no_grad():
            next_encoded = self.networks.encode(then)
            target = self.target(batch.reward, next_encoded, std)
        metrics = self.update_critic(encoded, next_encoded, batch.action, target, std)
        loss, more = self.actor_loss(encoded.detach(), batch.action, std)
        descend(self.optimisers["actor"], loss)
        follow(self.networks.slow_critic, self.networks.critic, self.drq.tau)
        return metrics | more | {"actor/loss": loss.detach()}

    def std(self, done: Tensor) -> Tensor:
        """The standard deviation of the policy's noise."""
        settings = self.drq
        along = (done / max(settings.std_share, 1e-9)).clamp(max=1.0)
        return settings.std_first + along * (settings.std_last - settings.std_first)

    def target(self, reward: Tensor, next_encoded: Tensor, std: Tensor) -> Tensor:
        """y: [B]."""
        next_action = self.noised(self.networks.mode(next_encoded), std)
        next_q = self.networks.slow_q(next_encoded, next_action).amin(0)
        return reward + self.discount**self.n_step * next_q

    def update_critic(self, encoded: Tensor, next_encoded: Tensor, action: Tensor, target: Tensor, std: Tensor) -> Metrics:
        """A step of critics and encoder."""
        actions = self.critic_actions(encoded.detach(), next_encoded, action, std)
        q = self.networks.q(encoded, actions)  # [2, K, B]
        terms = {"regression": critic_loss(q[:, 0], target)} | self.critic_terms(q)
        descend(self.optimisers["critic"], torch.stack(list(terms.values())).sum())
        metrics = {f"critic/{name}": term.detach() for name, term in terms.items()}
        return metrics | {"critic/value": q[:, 0].mean().detach(), "critic/return": target.mean()}

    def noised(self, mean: Tensor, std: Tensor, *count: int) -> Tensor:
        """The actions [*count, B, A] of a policy with noise around its mean [B, A]."""
        return noisy(mean, std, self.normal(*count, *mean.shape), self.drq.noise_clip)
