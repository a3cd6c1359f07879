"""Off-policy actor-critic on transitions between latent states, real and imagined: what LOMPO learns its behaviour by.

The tensors of a transition and where they come from in an episode's rows (see `data/episode.py`):

    feature [N, F]   action [N, A_max]   reward [N]         next_feature [N, F]
    f_t              row t + 1           row t + 1, scaled  f_(t+1)
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from coworld_bench.config import Config, ModelConfig
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Metrics, Rows
from coworld_bench.nets import Precision, mlp
from coworld_bench.rssm import State
from coworld_bench.scans import roll_out


class Transitions(NamedTuple):
    """N transitions between latent states, as drawn above."""

    feature: Tensor
    action: Tensor
    reward: Tensor
    next_feature: Tensor

    def joined(self, other: Transitions) -> Transitions:
        """These transitions, then the others."""
        return Transitions(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class LatentBuffer:
    """A ring of transitions on the device; the oldest make room for new ones. It takes its memory with the first."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.filled, self.place = capacity, 0, 0
        self.ring: Transitions | None = None

    def add(self, given: Transitions) -> None:
        """Write behind what was written last; of more than the capacity only the last are kept."""
        given = Transitions(*(part[-self.capacity :] for part in given))
        if self.ring is None:
            self.ring = Transitions(*(part.new_zeros(self.capacity, *part.shape[1:]) for part in given))
        count = len(given.reward)
        index = (self.place + torch.arange(count, device=given.reward.device)) % self.capacity
        for kept, new in zip(self.ring, given, strict=True):
            kept.index_copy_(0, index, new)
        self.place = (self.place + count) % self.capacity
        self.filled = min(self.filled + count, self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """`count` of the transitions, drawn uniformly with replacement."""
        assert self.ring is not None, "nothing was written yet"
        index = torch.randint(self.filled, (count,), generator=generator, device=generator.device)
        return Transitions(*(part[index] for part in self.ring))

    def state_dict(self) -> dict[str, Any]:
        ring = None if self.ring is None else tuple(part[: self.filled].clone() for part in self.ring)
        return {"ring": ring, "place": self.place}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.ring, self.filled, self.place = None, 0, 0
        if state["ring"] is not None:
            self.add(Transitions(*(part.to(device) for part in state["ring"])))
            self.place = state["place"]


class LatentActorCritic(nn.Module):
    """A deterministic tanh actor π and two critics Q on features, with a slowly moving copy of the critics.

    The actor has one output per input action, of which `mask` [A] keeps the domain's own."""

    def __init__(self, model: ModelConfig, feature: int, spec: AgentSpec, precision: Precision) -> None:
        super().__init__()
        self.precision = precision
        self.actor = mlp(feature, model.units, model.actor_layers, spec.action_input)
        inputs = feature + spec.action_input
        self.critic = nn.ModuleList(mlp(inputs, model.units, model.value_layers, 1) for _ in range(2))
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("mask", spec.mask)
        self.mask: Tensor

    def mode(self, feature: Tensor) -> Tensor:
        """π(s): [..., F] -> [..., A_max]."""
        with self.precision():
            raw = self.actor(feature)
        return torch.tanh(raw.float()) * self.mask

    def labelled(self, action: Tensor) -> Tensor:
        """What the RSSM reads: the action alone, since no domain has a label here."""
        return action

    def q(self, feature: Tensor, action: Tensor) -> Tensor:
        """Both critics: [..., F], [..., A_max] -> [2, ...]."""
        return self._judge(self.critic, feature, action)

    def slow_q(self, feature: Tensor, action: Tensor) -> Tensor:
        return self._judge(self.slow_critic, feature, action)

    def value(self, feature: Tensor) -> Tensor:
        """min Q(s, π(s)): [..., F] -> [...]."""
        return self.q(feature, self.mode(feature)).amin(0)

    def _judge(self, critics: nn.ModuleList, feature: Tensor, action: Tensor) -> Tensor:
        inputs = torch.cat([feature, action], -1)
        with self.precision():
            values = torch.stack([critic(inputs) for critic in critics])
        return values.float().squeeze(-1)

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Q̄ <- (1 - rate) Q̄ + rate Q."""
        torch._foreach_lerp_(list(self.slow_critic.parameters()), list(self.critic.parameters()), rate)


class LatentAgent(DreamerAgent):
    """A DreamerAgent's world model with a behaviour learnt from transitions: `imagine_transitions` and `learn` take the
    place of `imagine` and `update_behaviour`."""

    behaviour: LatentActorCritic  # type: ignore[assignment]
    value_counts_arrival = False  # Q(s, π(s)) begins with the reward after s; a DreamerV2 critic's v(s) with that of s

    def __init__(self, config: Config, spec: AgentSpec, seed: int, device: str, slow_rate: float) -> None:
        super().__init__(config, spec, seed, device)
        self.slow_rate = slow_rate

    def make_behaviour(self, precision: Precision) -> LatentActorCritic:  # type: ignore[override]
        return LatentActorCritic(self.config.model, self.model.rssm.feature_size, self.spec, precision)

    @torch.no_grad()
    def encode(self, rows: Rows) -> Transitions:
        """The transitions between the posterior states of whole episodes [T, B, ...]: [B * (T - 1)], in order."""
        feature = self.see(rows).state.feature
        parts = feature[:-1], rows.action[1:], rows.reward[1:], feature[1:]
        return Transitions(*(part.transpose(0, 1).flatten(0, 1) for part in parts))

    def imagine_transitions(self, starts: State, exploration: float, penalty: float) -> tuple[Transitions, Metrics]:
        """The transitions of `behaviour.horizon` imagined rows from `starts` [N, .]: H * N of them.

        Actions are clip(π(s) + N(0, exploration²)); one prior head drawn for each row gives the next state; the reward is
        that of the next state less `penalty` times the spread of ln p_k(z') over the heads."""
        step = partial(self._imagine_transitions, exploration, penalty)
        result: tuple[Transitions, Metrics] = self.replay("imagine", step, self._some(starts))
        return result

    @torch.no_grad()
    def _imagine_transitions(self, exploration: float, penalty: float, starts: State) -> tuple[Transitions, Metrics]:
        rssm, rows, count = self.model.rssm, self.config.behaviour.horizon, len(starts.deter)
        noise = rssm.draw(self.generator, rows, count)
        normal = torch.randn(rows, count, self.spec.action_input, generator=self.generator, device=self.device)
        actions: list[Tensor] = []

        def policy(row: int, feature: Tensor) -> Tensor:
            explored = self.behaviour.mode(feature) + exploration * normal[row]
            actions.append(explored.clamp(-1, 1) * self.behaviour.mask)
            return actions[-1]

        rollout = roll_out(rssm.dynamics(self._prior_members(rows)), *starts, noise, policy)
        feature = State(rollout.deter, rollout.stoch).feature
        reached = State(rollout.deter[1:].flatten(0, 1), rollout.stoch[1:].flatten(0, 1))
        predicted, spread = self.model.predict_reward(reached.feature), rssm.log_prob_spread(reached)
        made = Transitions(
            feature[:-1].flatten(0, 1), torch.stack(actions).flatten(0, 1), predicted - penalty * spread, reached.feature
        )
        return made, {"critic/reward": predicted.mean(), "critic/penalty": penalty * spread.mean()}

    def learn(self, given: Transitions) -> Metrics:
        """One optimiser step on actor and critics from transitions."""
        metrics: Metrics = self.replay("learn", self._learn, given)
        self.behaviour_updates += 1
        return metrics

    def _learn(self, given: Transitions) -> Metrics:
        behaviour = self.behaviour
        target = self.bootstrapped(given)
        q = behaviour.q(given.feature, given.action)
        critic_loss = (q - target).square().mean(-1).sum()
        actor_loss = -behaviour.value(given.feature).mean()
        # both losses are of the critics before their step, as published
        actor_norm = self._descend("actor", list(behaviour.actor.parameters()), actor_loss)
        critic_norm = self._descend("critic", list(behaviour.critic.parameters()), critic_loss)
        behaviour.follow(self.slow_rate)
        return {
            "actor/loss": actor_loss.detach(),
            "actor/grad_norm": actor_norm,
            "critic/value": q.detach().mean(),
            "critic/return": target.mean(),
            "critic/regression": critic_loss.detach(),
            "critic/grad_norm": critic_norm,
        }

    @torch.no_grad()
    def bootstrapped(self, given: Transitions) -> Tensor:
        """r + γ min Q̄(s', π(s')): [N]. No transition ends a task: all episodes end by time limit."""
        following = self.behaviour.slow_q(given.next_feature, self.behaviour.mode(given.next_feature)).amin(0)
        return given.reward + self.config.behaviour.discount * following
