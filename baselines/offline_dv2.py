"""Offline DV2 (Lu et al. 2023, "Challenges and Opportunities in Offline Reinforcement Learning from Visual Observations").

DreamerV2 on a fixed dataset, made pessimistic: seven prior heads share the GRU, one is drawn for each row, and imagined
rewards are lowered by their disagreement,

    r(s) - λ_p (1/K) Σ_k ‖ m_k(h) - m̄(h) ‖,   m_k the class probabilities of head k      (`meandis` in their code)

Schedules. `phased` is the published one: the world model first, then actor and critic with the world model frozen.
`joint` updates both on every batch, as the other methods of the table do; quick uses it, so that at every checkpoint all
methods have had the same number of updates of each kind.

Differences from the published code: λ-returns, targets and slow critic are the shared ones (preset `dv2_dmc`), the slow
critic copied before an update instead of after it; no weight decay (theirs is 1e-6, multiplicative) and PyTorch's
initialisation instead of Glorot's; evaluation is the shared evaluator's, not one episode. The penalty is on by default: in
their configuration its type is `none`. Under preset paper the schedule is theirs, 25,000 updates of the world model and
275,000 of the behaviour, where the other methods have 80,000 and 60,000.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from coworld_bench.config import WORLD_MODELS, Count, Settings, Weight
from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.offline import TargetLearner


class OfflineDv2Settings(Settings):
    prior_heads: int = Field(7, ge=2)
    penalty: Weight = 10.0  # λ_p, in units of the reward of one decision
    schedule: Literal["phased", "joint"] = "phased"
    behaviour_updates: Count = 275_000  # of the phased schedule, after `budget.updates` of the world model


class OfflineDv2(TargetLearner):
    def __init__(self, settings: OfflineDv2Settings, job: Job) -> None:
        super().__init__(job, settings.prior_heads)
        self.settings = settings

    @property
    def updates(self) -> int:
        """Joint: batches; phased: world-model and behaviour updates one after the other."""
        agent = self.agent
        return agent.model_updates + (agent.behaviour_updates if self.settings.schedule == "phased" else 0)

    @property
    def total(self) -> int:
        extra = self.settings.behaviour_updates if self.settings.schedule == "phased" else 0
        return self.config.budget.updates + extra

    def turn(self) -> Metrics:
        rows = self.next_rows()
        if self.settings.schedule == "joint":
            return self.update(rows, penalty=self.penalty)
        if self.agent.model_updates < self.config.budget.updates:
            return self.agent.update_model(rows)[1]
        with torch.no_grad():
            starts = self.agent.see(rows).state.flat()
        return self.agent.update_behaviour(starts, penalty=self.penalty)

    def penalty(self, deter: Tensor) -> Tensor:
        """λ_p times the disagreement of the prior heads: [N, D] -> [N]."""
        return self.settings.penalty * self.agent.model.rssm.disagreement(deter)


DV2_DMC: dict[str, Any] = {
    "model": WORLD_MODELS["dv2_dmc"],
    "behaviour": {"horizon": 5, "indexing": "dv2"},
    "batch": {"size": 64, "length": 50},
    "budget": {"updates": 25_000, "warmup": 0},  # all of these are of the world model alone
}
METHOD = Method(
    name="offline_dv2",
    label="Offline DV2",
    learner=OfflineDv2,
    settings=OfflineDv2Settings,
    shared={"paper": DV2_DMC},
    own={
        # rewards are divided by the largest of one decision: 10 on Meta-World, 2 on DMC, 1 on RoboDesk under paper
        "quick": {"schedule": "joint", "penalty": 1.0},
        "quick/dmc": {"penalty": 5.0},
        "quick/robodesk": {"penalty": 10.0},
        "smoke": {"schedule": "joint", "penalty": 1.0, "prior_heads": 3},
    },
)
