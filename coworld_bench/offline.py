"""What every world-model method does with the offline target data: sample, update, count, store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from coworld_bench.data.memory import BatchStream
from coworld_bench.dreamer import ActorTerms, AgentSpec, CriticTerms, DreamerAgent, Metrics, Rows, Terms
from coworld_bench.feeding import feed
from coworld_bench.methods import Job
from coworld_bench.tasks import Domain


class TargetLearner:
    """A DreamerV2 agent on the target's dataset. Subclasses write `turn`, one unit of their schedule."""

    def __init__(
        self,
        job: Job,
        prior_heads: int = 1,
        role: str = "",
        agent: DreamerAgent | None = None,
        beside: tuple[Domain, ...] = (),
    ) -> None:
        """Without an `agent` it makes one of its own, with `prior_heads` and the initial weights of `role`; it understands
        the actions of the sources and of the domains `beside` them, too."""
        self.job, self.config = job, job.config
        others = (*beside, *(source.domain for source in job.sources))
        self.agent = agent or self.make_agent(AgentSpec.of(job.target, job.config, others, prior_heads), role)
        self.batches = BatchStream(job.data, job.seed, job.config.batch.size, job.config.batch.length)
        self.feed = feed(self.batches, self.agent.device, seen=self.agent.spec.seen)

    def make_agent(self, spec: AgentSpec, role: str) -> DreamerAgent:
        return DreamerAgent(self.config, spec, self.job.seed, self.job.device, role)

    @property
    def policy(self) -> DreamerAgent:
        return self.agent

    @property
    def updates(self) -> int:
        return self.agent.model_updates

    @property
    def total(self) -> int:
        return self.config.budget.updates

    @property
    def warming_up(self) -> bool:
        return self.updates < self.config.budget.warmup

    def next_rows(self) -> Rows:
        """The next batch of target data, on the device."""
        return self.agent.prepared(self.feed.next())

    def update(
        self,
        rows: Rows,
        terms: Terms | None = None,
        critic_terms: CriticTerms | None = None,
        penalty: Callable[[Tensor], Tensor] | None = None,
        actor_terms: ActorTerms | None = None,
    ) -> Metrics:
        """A world-model update, and after the warm-up a behaviour update from the states it saw."""
        warming_up = self.warming_up
        states, metrics = self.agent.update_model(rows, terms)
        if warming_up:
            return metrics
        return metrics | self.agent.update_behaviour(states, terms=critic_terms, penalty=penalty, actor_terms=actor_terms)

    def counts(self) -> dict[str, int]:
        return {
            "world_model_updates": self.agent.model_updates,
            "behaviour_updates": self.agent.behaviour_updates,
            "source_updates": 0,
            "source_env_steps": 0,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"agent": self.agent.state_dict(), "batches": self.batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        self.batches.load_state_dict(state["batches"])


class FinetunedLearner(TargetLearner):
    """Begins with all weights of the run's source agent (encoder, RSSM, heads, actor, critic, slow critic); Adam states and
    the count of slow-critic copies are fresh."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        source = job.sources[0]
        agent = source.state()["agent"]
        self.agent.load_weights(agent)
        self.spent = {"source_updates": agent["counts"][0], "source_env_steps": source.env_steps}

    def counts(self) -> dict[str, int]:
        return super().counts() | self.spent


# Methods that are finetuned do nothing in the source environment but pretrain: under preset paper for as long as the paper
# says, 160,000 env steps (DMC 600,000); else with the source agent that every method starts from.
FINETUNED_SOURCE = {
    "paper": {"online.source_env_steps": "160_000"},
    "paper/dmc": {"online.source_env_steps": "600_000"},
}
