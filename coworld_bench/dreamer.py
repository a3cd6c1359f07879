"""DreamerV2: the world model, the actor-critic, and the agent every world-model method is made from.

An update has two halves. `update_model` fits the world model to a batch and returns the states it saw;
`update_behaviour` imagines from them and fits actor and critic. A method changes either by passing a function that returns
extra (or replacing) named loss terms; nothing of another agent is ever stored in this one, unless both are made to share
one world model. Both halves are pure functions of tensors, which CUDA graphs may replay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coworld_bench.checkpoints import restore_stream
from coworld_bench.config import Config, ModelConfig
from coworld_bench.data.memory import Batch
from coworld_bench.errors import UserError
from coworld_bench.feeding import Drawn, on_device
from coworld_bench.fusing import made
from coworld_bench.losses import discount_weights, lambda_returns, squared_error, truncated_normal, truncated_sample
from coworld_bench.nets import (
    Precision,
    StateDecoder,
    StateEncoder,
    embedding_size,
    image_decoder,
    image_encoder,
    mlp,
)
from coworld_bench.replay import Replay
from coworld_bench.rssm import Rssm, State
from coworld_bench.scans import ImagineScan, roll_out
from coworld_bench.seeding import torch_seed
from coworld_bench.tasks import Domain

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class AgentSpec:
    """The sizes an agent is built from. `action_input` is the largest action of the domains it must understand; the RSSM
    reads `label` behind every action, which tells it the domain where one world model has several.

    `observes` is what its encoder reads. Where any of these domains shows states alone, batches carry states padded with
    zeros to `state_input`, the largest of them all; 0: there is none, and batches carry none."""

    action: int
    action_input: int
    reward_scale: float
    prior_heads: int = 1
    label: tuple[float, ...] = ()
    observes: Literal["image", "state"] = "image"
    state_input: int = 0

    @property
    def seen(self) -> tuple[str, ...]:
        """What batches carry of a row beside action and reward."""
        return tuple(dict.fromkeys((self.observes, *(["state"] if self.state_input else []))))

    @property
    def mask(self) -> Tensor:
        """1 for the domain's own action dimensions, 0 for padding: [A_max]."""
        return (torch.arange(self.action_input) < self.action).float()

    @classmethod
    def of(cls, domain: Domain, config: Config, others: tuple[Domain, ...] = (), prior_heads: int = 1) -> AgentSpec:
        domains = (domain, *others)
        blind = any(not each.image for each in domains)
        return cls(
            domain.action,
            max(each.action for each in domains),
            1 / domain.largest_reward if config.env.unit_reward else 1.0,
            prior_heads,
            observes="image" if domain.image else "state",
            state_input=max(each.state for each in domains) if blind else 0,
        )

    def widened(self, action_input: int, state_input: int = 0) -> AgentSpec:
        """For actions, and where it has to do with any, for states of at least these sizes."""
        wider_state = max(self.state_input, state_input) if self.state_input else 0
        return replace(self, action_input=max(self.action_input, action_input), state_input=wider_state)


class Rows(NamedTuple):
    """A batch on the device, time first: image uint8 [T, B, 64, 64, 3], action [T, B, A_max] (and the domain's label behind
    it, where it has one), reward [T, B] (scaled), state [T, B, D]; image and state where they are needed."""

    image: Tensor | None
    action: Tensor
    reward: Tensor
    state: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.reward.shape[1]

    def joined(self, other: Rows) -> Rows:
        """Both batches side by side, with what both have."""
        action, reward = torch.cat([self.action, other.action], 1), torch.cat([self.reward, other.reward], 1)
        return Rows(beside(self.image, other.image), action, reward, beside(self.state, other.state))


def beside(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    """Two batches [T, B, ...] as one, where there are two."""
    return None if one is None or two is None else torch.cat([one, two], 1)


class Seen(NamedTuple):
    """What the world model made of a batch: pixels [T * B, ...], embeddings [T, B, E], posterior states and statistics; and
    the low-dimensional states [T * B, D] of its rows, where these carry any."""

    pixels: Tensor
    embed: Tensor
    state: State
    statistics: Tensor
    vectors: Tensor | None = None

    def parted(self, batch: int) -> tuple[Seen, Seen]:
        """The first `batch` sequences, and the others."""
        rows, (deter, stoch) = len(self.embed), self.state

        def part(flat: Tensor, side: slice) -> Tensor:
            return flat.unflatten(0, (rows, -1))[:, side].flatten(0, 1)

        sides = []
        for side in (slice(None, batch), slice(batch, None)):
            state = State(deter[:, side], stoch[:, side])
            vectors = None if self.vectors is None else part(self.vectors, side)
            sides.append(Seen(part(self.pixels, side), self.embed[:, side], state, self.statistics[:, side], vectors))
        return sides[0], sides[1]


Terms = Callable[..., dict[str, Tensor]]  # see DreamerAgent.update_model
CriticTerms = Callable[[Tensor, Tensor, Tensor], tuple[dict[str, Tensor], Metrics]]  # see update_behaviour
ActorTerms = Callable[[Tensor, Tensor], tuple[dict[str, Tensor], Metrics]]  # see update_behaviour


class WorldModel(nn.Module):
    def __init__(self, config: ModelConfig, spec: AgentSpec, precision: Precision, plain: bool = False) -> None:
        super().__init__()
        self.config, self.precision, self.plain, self.observes = config, precision, plain, spec.observes
        sees, states, units = spec.observes == "image", spec.state_input, config.units
        self.encoder = image_encoder(config, plain) if sees else StateEncoder(states, units, embedding_size(config))
        self.rssm = Rssm(config, self.encoder.size, spec.action_input + len(spec.label), spec.prior_heads)
        feature = self.rssm.feature_size
        self.decoder = image_decoder(config, feature, plain) if sees else StateDecoder(feature, units, states)
        self.reward = mlp(self.rssm.feature_size, config.units, config.reward_layers, 1)

    def embed(self, observed: Tensor) -> Tensor:
        """Images uint8 [T, B, 64, 64, 3], or states [T, B, D] -> [T, B, E]."""
        return self.encode(self.encoder.pixels(observed.flatten(0, 1)), *observed.shape[:2])

    def embed_seen(self, seen: Seen) -> Tensor:
        """What this encoder makes of the rows that another world model has seen: [T, B, E]."""
        pixels = seen.pixels if self.observes == "image" else seen.vectors
        assert pixels is not None, "these rows carry no states"
        return self.encode(pixels, *seen.embed.shape[:2])

    def encode(self, pixels: Tensor, rows: int, batch: int) -> Tensor:
        """The encoder's pixels [T * B, ...] -> [T, B, E]."""
        with self.precision():
            embed = self.encoder(pixels)
        return embed.float().view(rows, batch, -1)

    def observe(self, rows: Rows, noise: Tensor) -> Seen:
        """Filter a batch from a zero state; every row's action is fed before what is observed."""
        observed = rows.image if self.observes == "image" else rows.state
        assert observed is not None, f"these rows carry no {self.observes}"
        pixels = self.encoder.pixels(observed.flatten(0, 1))
        embed = self.encode(pixels, *rows.reward.shape)
        start = self.rssm.initial(embed.shape[1])
        observe = self.rssm.observe if self.plain else self.rssm.observe_fast
        vectors = None if rows.state is None else rows.state.flatten(0, 1)
        return Seen(pixels, embed, *observe(embed, rows.action, noise, start), vectors)

    def predict_reward(self, feature: Tensor) -> Tensor:
        """[..., F] -> [...], in scaled units."""
        with self.precision():
            reward = self.reward(feature)
        return reward.float().squeeze(-1)

    def terms(self, rows: Rows, seen: Seen, member: Tensor | None) -> dict[str, Tensor]:
        """The world model's loss (Eq. 2) by name, each a mean over time and batch."""
        config, feature, fuse = self.config, seen.state.feature, self.rssm.latents.made
        with self.precision():
            observed = self.decoder.loss(feature.flatten(0, 1), seen.pixels)
        reward = fuse(WorldModel.reward_loss)(self, feature, rows.reward)
        kl = fuse(Rssm.kl_loss)(self.rssm, seen.statistics, seen.state.deter, config.kl_balance, config.free_nats, member)
        scale = 1.0 if self.observes == "image" else config.state_loss
        return {self.observes: scale * observed, "reward": config.reward_loss * reward, "kl": config.kl_scale * kl}

    def reward_loss(self, feature: Tensor, reward: Tensor) -> Tensor:
        """The head's squared error, a mean over time and batch."""
        return squared_error(self.predict_reward(feature), reward).mean()


class ActorCritic(nn.Module):
    """π and v on features; the actor has one output per input action, of which `mask` [A] keeps the domain's own."""

    def __init__(self, model: ModelConfig, feature: int, spec: AgentSpec, precision: Precision) -> None:
        super().__init__()
        self.precision = precision
        self.actor = mlp(feature, model.units, model.actor_layers, 2 * spec.action_input)
        self.critic = mlp(feature, model.units, model.value_layers, 1)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("mask", spec.mask)
        self.register_buffer("label", torch.tensor(spec.label), persistent=False)
        self.mask: Tensor
        self.label: Tensor

    def value(self, feature: Tensor) -> Tensor:
        return self._run(self.critic, feature).squeeze(-1)

    def slow_value(self, feature: Tensor) -> Tensor:
        return self._run(self.slow_critic, feature).squeeze(-1)

    def moments(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self._run(self.actor, feature).chunk(2, -1)
        return torch.tanh(mean), 2 * torch.sigmoid(raw / 2) + 0.1

    def _run(self, network: nn.Module, feature: Tensor) -> Tensor:
        with self.precision():
            out: Tensor = network(feature)
        return out.float()

    def mode(self, feature: Tensor) -> Tensor:
        return self._own(self.moments(feature)[0])

    def sample(self, feature: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """An action [..., A_max] and the entropy of its distribution [...], both over the domain's own dimensions."""
        action, entropy = truncated_normal(*self.moments(feature), uniform)
        return self._own(action), (entropy * self.mask).sum(-1)

    def draw(self, feature: Tensor, uniform: Tensor) -> Tensor:
        """The action of `sample` alone."""
        return self._own(truncated_sample(*self.moments(feature), uniform))

    def _own(self, action: Tensor) -> Tensor:
        return self.labelled(action * self.mask)

    def labelled(self, action: Tensor) -> Tensor:
        """[..., A_max] -> what the RSSM reads: the action, and the domain's label where it has one."""
        if not len(self.label):
            return action
        return torch.cat([action, self.label.expand(*action.shape[:-1], -1)], -1)


class Imagined(NamedTuple):
    """A rollout of the policy in the world model: R rows of features [R, N, F], entropies of R-1 decisions [R-1, N]."""

    feature: Tensor
    deter: Tensor
    entropy: Tensor


class Carry(NamedTuple):
    """What an acting agent remembers: its latent state and its last action [B, A_max] (labelled as in `Rows`)."""

    state: State
    action: Tensor


class DreamerAgent:
    """A world model and an actor-critic with their optimisers, counters and random stream."""

    def __init__(
        self,
        config: Config,
        spec: AgentSpec,
        seed: int,
        device: str | torch.device = "cpu",
        role: str = "",
        model: WorldModel | None = None,
    ) -> None:
        """`role` gives agents of one seed different initial weights. With the world `model` of another agent this one is an
        actor-critic in it; the other alone updates and stores it."""
        self.config, self.spec, self.device = config, spec, torch.device(device)
        self.owns_model = model is None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "weights", *([role] if role else [])))
            precision = Precision.of(config.compute.precision, self.device)
            if model is None:
                model = WorldModel(config.model, spec, precision, config.compute.plain).to(self.device)
            self.model = model
            self.behaviour = self.make_behaviour(precision).to(self.device)
        self.model.rssm.compiled = config.compute.compile
        self.generator = torch.Generator(self.device).manual_seed(torch_seed(seed, "noise"))
        self.replay = Replay(self.device, self.generator, config.compute.graph)
        self.model_updates = self.behaviour_updates = 0
        self.reset_optimisers()

    def make_behaviour(self, precision: Precision) -> ActorCritic:
        """The networks that act and judge; an agent that learns its behaviour in another way has others."""
        return ActorCritic(self.config.model, self.model.rssm.feature_size, self.spec, precision)

    def made(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled where the settings say so."""
        return made(function, self.config.compute.compile)

    def reset_optimisers(self) -> None:
        """Fresh Adam states and a fresh count of the slow critic's copies."""
        config = self.config
        self.optimisers = {
            "actor": self._adam(self.behaviour.actor, config.behaviour.actor_lr),
            "critic": self._adam(self.behaviour.critic, config.behaviour.critic_lr),
        }
        if self.owns_model:
            self.optimisers["model"] = self._adam(self.model, config.model.lr)
        self.slow_copies_due = 0

    def _adam(self, module: nn.Module, lr: float) -> torch.optim.Adam:
        capturable, eps = self.device.type == "cuda", self.config.optimiser.eps
        return torch.optim.Adam(module.parameters(), lr=lr, eps=eps, fused=True, capturable=capturable)

    # Learning

    def rows(self, batch: Batch) -> Rows:
        """A sampled batch on the device: time first, actions padded to A_max, rewards scaled; pixels stay uint8."""
        return self.prepared(on_device(batch, self.device, seen=self.spec.seen))

    def prepared(self, drawn: Drawn) -> Rows:
        """The rows of a batch that is on the device."""
        padding = self.spec.action_input - drawn.action.shape[-1]
        action = self.behaviour.labelled(F.pad(drawn.action, (0, padding)))
        state = None if drawn.state is None else self.padded(drawn.state)
        return Rows(drawn.image, action, drawn.reward * self.spec.reward_scale, state)

    def padded(self, state: Tensor) -> Tensor:
        """Zeros behind a state: [..., S] -> [..., D]."""
        return F.pad(state, (0, self.spec.state_input - state.shape[-1]))

    def see(self, rows: Rows) -> Seen:
        noise = self.model.rssm.draw(self.generator, *rows.reward.shape)
        return self.model.observe(rows, noise)

    def update_model(
        self, rows: Rows, terms: Terms | None = None, beside: Rows | None = None, given: tuple[Tensor, ...] = ()
    ) -> tuple[State, Metrics]:
        """One optimiser step on the world model; returns the states it saw [T * B, .], cut from the graph.

        `terms(seen, own, *given)` adds terms to the loss or replaces those it names; with other rows `beside`, seen in the
        same scan, it is `terms(seen, own, seen_beside, beside, *given)`. What changes from call to call must be `given`."""
        assert self.owns_model, "a shared world model is updated by the agent that owns it"
        step = partial(self._model_step, terms)
        states, metrics = self.replay(("model", terms, beside is None), step, rows, beside, *given)
        self.model_updates += 1
        return states, metrics

    def _model_step(self, extra: Terms | None, rows: Rows, beside: Rows | None, *given: Tensor) -> tuple[State, Metrics]:
        others: tuple[Any, ...] = ()
        if beside is None:
            seen = self.see(rows)
        else:
            seen, seen_beside = self.see(rows.joined(beside)).parted(rows.batch)
            others = seen_beside, beside
        terms = self.model.terms(rows, seen, self._prior_members(len(rows.reward)))
        if extra is not None:
            terms |= extra(seen, terms, *others, *given)
        norm = self._descend("model", list(self.model.parameters()), sum(terms.values()))
        metrics = {f"model/{name}": term.detach() for name, term in terms.items()}
        return seen.state.flat(), metrics | {"model/grad_norm": norm}

    def update_behaviour(
        self,
        starts: State,
        entropy_scale: float | None = None,
        terms: CriticTerms | None = None,
        penalty: Callable[[Tensor], Tensor] | None = None,
        actor_terms: ActorTerms | None = None,
    ) -> Metrics:
        """One optimiser step on actor and critic from `starts` [N, .].

        `terms(feature, value, weight)` gives terms of the critic's loss and further metrics, `actor_terms(feature, weight)`
        those of the actor's; `penalty(deter)` is taken off the reward."""
        config = self.config.behaviour
        if self.slow_copies_due % config.slow_every == 0:
            self.behaviour.slow_critic.load_state_dict(self.behaviour.critic.state_dict())
        self.slow_copies_due += 1
        scale = torch.full((), config.entropy if entropy_scale is None else entropy_scale, device=self.device)
        step = partial(self._behaviour_step, terms, actor_terms, penalty)
        metrics: Metrics = self.replay(("behaviour", terms, actor_terms, penalty), step, starts, scale)
        self.behaviour_updates += 1
        return metrics

    def _behaviour_step(
        self,
        critic_terms: CriticTerms | None,
        actor_terms: ActorTerms | None,
        penalty: Callable[[Tensor], Tensor] | None,
        starts: State,
        entropy_scale: Tensor,
    ) -> Metrics:
        config, behaviour = self.config.behaviour, self.behaviour
        imagined = self.imagine(self._some(starts))
        returns, reward = self.returns(imagined, penalty)
        weight = discount_weights(len(returns), config.discount, returns)
        actor = {"loss": self._actor_loss(returns, imagined.entropy, weight, entropy_scale)}
        feature = imagined.feature[: len(returns)].detach()
        value = behaviour.value(feature)
        critic = {"regression": (weight * squared_error(value, returns.detach())).mean()}
        metrics: Metrics = {}
        if actor_terms is not None:
            more, metrics = actor_terms(feature, weight)
            actor |= more
        if critic_terms is not None:
            more, further = critic_terms(feature, value, weight)
            critic, metrics = critic | more, metrics | further
        actor_norm = self._descend("actor", list(behaviour.actor.parameters()), sum(actor.values()))
        critic_norm = self._descend("critic", list(behaviour.critic.parameters()), sum(critic.values()))
        return metrics | {
            "actor/entropy": imagined.entropy.mean().detach(),
            "actor/grad_norm": actor_norm,
            "critic/value": value.mean().detach(),
            "critic/return": returns.mean().detach(),
            "critic/reward": reward.mean().detach(),
            "critic/grad_norm": critic_norm,
            **{f"actor/{name}": term.detach() for name, term in actor.items()},
            **{f"critic/{name}": term.detach() for name, term in critic.items()},
        }

    def imagine(self, starts: State) -> Imagined:
        """The policy in the world model from `starts` [N, .]; gradients flow through actions and dynamics."""
        config, rssm, plain = self.config.behaviour, self.model.rssm, self.config.compute.plain
        transitions = config.horizon if config.indexing == "dv2" else config.horizon - 1
        count = len(starts.deter)
        noise = rssm.draw(self.generator, transitions, count)
        uniform = torch.rand(transitions, count, self.spec.action_input, generator=self.generator, device=self.device)
        members = self._prior_members(transitions)
        imagine = self._imagine_plainly if plain else self._imagine_fast
        return imagine(starts, noise, uniform, members)

    def _imagine_plainly(self, starts: State, noise: Tensor, uniform: Tensor, members: Tensor | None) -> Imagined:
        state, states, entropies = starts, [starts], []
        for row in range(len(noise)):
            action, entropy = self.behaviour.sample(state.feature.detach(), uniform[row])
            member = None if members is None else members[row : row + 1]
            state = self.model.rssm.imagine(state, action, noise[row], member)
            states.append(state)
            entropies.append(entropy)
        deter = torch.stack([state.deter for state in states])
        stoch = torch.stack([state.stoch for state in states])
        return Imagined(State(deter, stoch).feature, deter, torch.stack(entropies))

    def _imagine_fast(self, starts: State, noise: Tensor, uniform: Tensor, members: Tensor | None) -> Imagined:
        """The rollout first, unrecorded; then the actor on all its states at once, and the dynamics' own backward pass."""
        rssm, behaviour = self.model.rssm, self.behaviour
        dynamics = rssm.dynamics(members)
        draw, sample = self.made(ActorCritic.draw), self.made(ActorCritic.sample)
        rollout = roll_out(dynamics, *starts, noise, lambda row, feature: draw(behaviour, feature, uniform[row]))
        acted_on = State(rollout.deter[:-1], rollout.stoch[:-1]).feature
        action, entropy = sample(behaviour, acted_on, uniform)
        deter, stoch = ImagineScan.apply(action, dynamics, rollout)
        return Imagined(State(deter, stoch).feature, deter, entropy)

    def returns(self, imagined: Imagined, penalty: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """λ-returns of every row but the last [R-1, N] and the rewards they were made from (Eqs. 8, 9)."""
        reward = self.model.predict_reward(imagined.feature[:-1])
        if penalty is not None:
            reward = reward - penalty(imagined.deter[:-1].flatten(0, 1)).view_as(reward)
        next_value = self.behaviour.slow_value(imagined.feature[1:])
        config = self.config.behaviour
        return self.made(lambda_returns)(reward, next_value, config.discount, config.trace), reward

    def _actor_loss(self, returns: Tensor, entropy: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """-mean[w_t (V_t + η Ent_t)]. `dv2` leaves out V_0, which no imagined action can change."""
        if self.config.behaviour.indexing == "dv2":
            objective = returns[1:] + scale * entropy[:-1]
            return -(weight[:-1] * objective).mean()
        return -(weight * (returns + scale * entropy)).mean()

    def _some(self, starts: State) -> State:
        """`behaviour.starts` of the starts, drawn with replacement; all of them when it is 0."""
        wanted, count = self.config.behaviour.starts, len(starts.deter)
        if not wanted or wanted >= count:
            return starts
        chosen = torch.randint(count, (wanted,), generator=self.generator, device=self.device)
        return State(starts.deter[chosen], starts.stoch[chosen])

    def _prior_members(self, count: int) -> Tensor | None:
        """One prior head for each of `count` rows, where there are several."""
        heads = self.spec.prior_heads
        if heads == 1:
            return None
        return torch.randint(heads, (count,), generator=self.generator, device=self.device)

    def _descend(self, name: str, parameters: list[nn.Parameter], loss: Tensor | int) -> Tensor:
        """One clipped Adam step down `loss` in these parameters alone; returns the gradient's norm."""
        assert isinstance(loss, Tensor)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # as the parameter lies in memory: fused Adam walks both flat, and channels-last convolutions give others
            parameter.grad = None if gradient is None else gradient.contiguous()
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip)
        self.optimisers[name].step()
        self.optimisers[name].zero_grad(set_to_none=True)
        return norm.detach()

    # Acting

    @torch.no_grad()
    def initial(self, batch: int = 1) -> Carry:
        action = torch.zeros(batch, self.spec.action_input, device=self.device)
        return Carry(self.model.rssm.initial(batch), self.behaviour.labelled(action))

    @torch.no_grad()
    def act(
        self, image: np.ndarray, carry: Carry, generator: torch.Generator, sample: bool = False
    ) -> tuple[np.ndarray, Carry]:
        """An action float32 [B, A] for images uint8 [B, 64, 64, 3] (or states float32 [B, S], where it observes these): the
        mode, or a sample of the policy.

        The latent is sampled in both (the released `eval_state_mean: False`), from `generator`."""
        given = torch.from_numpy(image).to(self.device).unsqueeze(0)
        observed = given if self.spec.observes == "image" else self.padded(given)
        noise = self.model.rssm.draw(generator, 1, len(image))
        states, _ = self.model.rssm.observe(self.model.embed(observed), carry.action.unsqueeze(0), noise, carry.state)
        state = State(states.deter[0], states.stoch[0])
        if sample:
            shape = len(image), self.spec.action_input
            uniform = torch.rand(shape, generator=generator, device=self.device)
            action, _ = self.behaviour.sample(state.feature, uniform)
        else:
            action = self.behaviour.mode(state.feature)
        return action[:, : self.spec.action].cpu().numpy(), Carry(state, action)

    @torch.no_grad()
    def embed(self, image: np.ndarray) -> np.ndarray:
        """What the encoder makes of images uint8 [N, 64, 64, 3]: float32 [N, E]."""
        return self.model.embed(torch.from_numpy(image).to(self.device).unsqueeze(0))[0].cpu().numpy()

    @torch.no_grad()
    def value(self, carry: Carry) -> float:
        """The critic's value of the state just observed, in scaled reward units (batch of one)."""
        return float(self.behaviour.value(carry.state.feature)[0])

    # Storing

    def weights(self) -> dict[str, Any]:
        own = {"behaviour": self.behaviour.state_dict()}
        return own | {"model": self.model.state_dict()} if self.owns_model else own

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Take over the networks of an agent of the same sizes; a different mask (domain) is kept."""
        if self.owns_model:
            self.model.load_state_dict(weights["model"])
        behaviour = {**weights["behaviour"], "mask": self.behaviour.mask}
        self.behaviour.load_state_dict(behaviour)

    def state_dict(self) -> dict[str, Any]:
        return self.weights() | {
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "generator": self.generator.get_state(),
            "counts": (self.model_updates, self.behaviour_updates, self.slow_copies_due),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.load_weights(state)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        restore_stream(self.generator, state["generator"])
        self.model_updates, self.behaviour_updates, self.slow_copies_due = state["counts"]


def read_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as numbers; this is where the host waits for the device, once for all that lie there."""
    for name, value in metrics.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise UserError(f"metric {name} is a tensor of shape {list(value.shape)}; a metric is a single number")
    lying = {name: value.float().reshape(()) for name, value in metrics.items() if isinstance(value, Tensor)}
    read = dict(zip(lying, torch.stack(list(lying.values())).tolist(), strict=True)) if lying else {}
    return {name: read[name] if name in read else float(value) for name, value in metrics.items()}
