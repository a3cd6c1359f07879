"""The procedure that `lompo` follows on a dataset, and `lompo_finetune` on two: see their files for paper and settings."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from coworld_bench.config import Count, Natural, Settings, Share, Weight
from coworld_bench.dreamer import AgentSpec, Metrics, Rows
from coworld_bench.latent import LatentAgent, LatentBuffer
from coworld_bench.methods import Job
from coworld_bench.offline import TargetLearner
from coworld_bench.rssm import State
from coworld_bench.tasks import Domain

ENCODED_AT_ONCE = 8  # episodes, when all are encoded


class LompoSettings(Settings):
    """The published values."""

    prior_heads: int = Field(7, ge=2)
    penalty: Weight = 5.0  # λ_p, in units of the reward of one decision
    exploration: Weight = 0.2  # standard deviation of the noise on imagined actions
    latent_batch: Count = 256  # transitions of an update from the real and from the imagined buffer, each
    slow_rate: Share = 0.005  # τ of the slow critics
    schedule: Literal["phased", "joint"] = "phased"
    behaviour_updates: Count = 100_000  # of the phased schedule, after `budget.updates` of the world model
    refresh_every: Count = 200  # behaviour updates between two refreshments of the buffers: with one imagined batch ...
    refresh_episodes: Count = 1  # ... and so many episodes encoded anew
    least_imagined: Natural = 50_000  # imagined transitions before the first behaviour update, or a full buffer


class Lompo(TargetLearner):
    """World model, real and imagined latent buffers, actor and critics on both."""

    agent: LatentAgent

    def __init__(self, settings: LompoSettings, job: Job, beside: tuple[Domain, ...] = ()) -> None:
        self.settings = settings
        super().__init__(job, settings.prior_heads, beside=beside)
        capacity = job.data.rows - job.data.episodes
        self.real, self.imagined = LatentBuffer(capacity), LatentBuffer(capacity)
        self.next_episode = 0

    def make_agent(self, spec: AgentSpec, role: str) -> LatentAgent:
        return LatentAgent(self.config, spec, self.job.seed, self.job.device, self.settings.slow_rate)

    @property
    def updates(self) -> int:
        """Joint: batches; phased: world-model and behaviour updates one after the other."""
        agent = self.agent
        return agent.model_updates + (0 if self.joint else agent.behaviour_updates)

    @property
    def total(self) -> int:
        return self.config.budget.updates + (0 if self.joint else self.settings.behaviour_updates)

    @property
    def joint(self) -> bool:
        return self.settings.schedule == "joint"

    def turn(self) -> Metrics:
        """Phased: an update of the world model, later of the behaviour; joint: of both, after the warm-up."""
        if self.joint:
            warming_up = self.warming_up
            states, metrics = self.agent.update_model(self.next_rows())
            return metrics if warming_up else metrics | self.train_behaviour(states)
        if self.agent.model_updates < self.config.budget.updates:
            return self.agent.update_model(self.next_rows())[1]
        return self.train_behaviour(None)

    def train_behaviour(self, states: State | None) -> Metrics:
        """Fill or refresh the buffers, then one update on as many real as imagined transitions.

        Imagination starts from `states`, or where there are none, from those of another batch."""
        metrics = self.refresh(states)
        size, generator = self.settings.latent_batch, self.agent.generator
        given = self.real.sample(size, generator).joined(self.imagined.sample(size, generator))
        return metrics | self.agent.learn(given)

    def refresh(self, states: State | None) -> Metrics:
        """At first every episode is encoded and a share of the other buffer imagined; later a part of both made anew."""
        if not self.real.filled:
            while self.real.filled < self.real.capacity:
                self.encode(ENCODED_AT_ONCE)
            metrics = self.imagine(states)
            while self.imagined.filled < min(self.settings.least_imagined, self.imagined.capacity):
                metrics = self.imagine(None)
            return metrics
        if self.agent.behaviour_updates % self.settings.refresh_every:
            return {}
        self.encode(self.settings.refresh_episodes)
        return self.imagine(states)

    def encode(self, count: int) -> None:
        """The transitions of the next episodes under the world model as it is, in the place of their older ones.

        At most `count` episodes: those that follow each other with one length."""
        lengths, first = self.job.data.lengths, self.next_episode
        count = sum(1 for _ in takewhile(lambda length: length == lengths[first], lengths[first : first + count]))
        self.real.add(self.agent.encode(self.episodes(first, count)))
        self.next_episode = (first + count) % self.job.data.episodes

    def episodes(self, first: int, count: int) -> Rows:
        """All rows of `count` episodes of one length."""
        memory, length = self.job.data, int(self.job.data.lengths[first])
        starts = memory.lengths[:first].sum() + length * np.arange(count)
        return self.agent.rows(memory.windows(starts, np.zeros(count, np.int64), length))

    def imagine(self, states: State | None) -> Metrics:
        """One imagined batch."""
        if states is None:
            with torch.no_grad():
                states = self.agent.see(self.next_rows()).state.flat()
        settings = self.settings
        made, metrics = self.agent.imagine_transitions(states, settings.exploration, settings.penalty)
        self.imagined.add(made)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        buffers = {"real": self.real.state_dict(), "imagined": self.imagined.state_dict()}
        return super().state_dict() | buffers | {"next_episode": self.next_episode}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.real.load_state_dict(state["real"], self.agent.device)
        self.imagined.load_state_dict(state["imagined"], self.agent.device)
        self.next_episode = state["next_episode"]


# The world-model loss is the plain KL: with balance ½ and scale 2 the two halves' gradients are those of KL[q ‖ p].
PLAIN_KL: dict[str, Any] = {"kl_balance": 0.5, "kl_scale": 2.0, "free_nats": 0.0}
SHARED: dict[str, dict[str, Any]] = {
    "paper": {
        "model": PLAIN_KL | {
            "latent": "gaussian", "stoch": 64, "deter": 256, "hidden": 256, "units": 256, "depth": 32, "gru_norm": False,
            "reward_layers": 2, "value_layers": 3, "actor_layers": 4, "reward_loss": 1.0, "lr": 6e-4,
        },
        "behaviour": {"horizon": 5, "actor_lr": 3e-4, "critic_lr": 3e-4},
        "optimiser": {"eps": 1e-7},
        "batch": {"size": 64, "length": 50},
        "budget": {"updates": 25_000, "warmup": 0},
    },
    "quick": {"model": PLAIN_KL, "behaviour": {"horizon": 5, "starts": 0, "critic_lr": 1e-3}},
    "smoke": {"model": PLAIN_KL},
}  # fmt: skip
LOSS = {f"model.{name}": value for name, value in PLAIN_KL.items()}  # whatever world model is named
OWN: dict[str, dict[str, Any]] = {
    # rewards are divided by the largest of one decision: 10 on Meta-World, 2 on DMC, 1 on RoboDesk under paper
    "quick": {
        "schedule": "joint", "penalty": 0.5, "slow_rate": 0.05,  # 1,350 updates are 7 time constants of the published rate
        "refresh_every": 10, "refresh_episodes": 8, "least_imagined": 0,
    },
    "quick/dmc": {"penalty": 2.5},
    "quick/robodesk": {"penalty": 5.0},
    "smoke": {
        "schedule": "joint", "penalty": 0.5, "prior_heads": 3, "latent_batch": 16, "refresh_every": 1, "least_imagined": 0,
    },
}  # fmt: skip
