"""CQL (Kumar et al. 2020) on DrQ-v2's networks and targets, as V-D4RL (Lu et al. 2023) has it.

Critics and targets are DrQ-v2's (see `DrqLearner`), with one-step returns, and for each critic the penalty

    w [ τ mean log Σ_a exp(Q_j(s, a) / τ) - mean Q_j(s, a_data) ]

over 31 actions at s: 10 uniform ones, the data's, 10 of the policy at s and 10 of the policy at s' (sampled with its noise
and without a gradient). This is the variant without importance weights and without a Lagrange multiplier. The actor's loss
is -mean min_j Q_j(s, a), a = noisy π(s). All 31 actions, the data's included, go through both critics in one pass.

w is 10 (V-D4RL's README); under quick, whose updates are few, it is 1 (V-D4RL's configuration). Budget, networks and
encoder are as in `drq_bc`; actor and critics under quick are smaller still, for these are evaluated 31 times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from coworld_bench.config import Count, Rate, Weight
from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.model_free import QUICK, SHARED, SMOKE, DrqLearner, DrqSettings


class CqlSettings(DrqSettings):
    weight: Weight = 10.0  # w
    temperature: Rate = 1.0  # τ
    actions: Count = 10  # of each of the three kinds


def conservative_penalty(q: Tensor, temperature: float) -> Tensor:
    """Σ_j [τ mean log Σ_a exp(Q_j(s, a) / τ) - mean Q_j(s, a_data)]: q [2, K, B], the data's action first of K."""
    soft_maximum = temperature * (q / temperature).logsumexp(1)
    return (soft_maximum - q[:, 0]).mean(1).sum()


class Cql(DrqLearner):
    def __init__(self, settings: CqlSettings, job: Job) -> None:
        super().__init__(settings, job)
        self.cql = settings

    @torch.no_grad()
    def critic_actions(self, encoded: Tensor, next_encoded: Tensor, action: Tensor, std: Tensor) -> Tensor:
        """The data's actions, then uniform ones, then the policy's at s and at s': [1 + 3 * actions, B, A]."""
        shape = (self.cql.actions, *action.shape)
        uniform = 2 * torch.rand(shape, generator=self.generator, device=self.device) - 1
        of_policy = [self.noised(self.networks.mode(at), std, self.cql.actions) for at in (encoded, next_encoded)]
        return torch.cat([action.unsqueeze(0), uniform, *of_policy])

    def critic_terms(self, q: Tensor) -> dict[str, Tensor]:
        return {"conservative": self.cql.weight * conservative_penalty(q, self.cql.temperature)}

    def actor_loss(self, encoded: Tensor, action: Tensor, std: Tensor) -> tuple[Tensor, Metrics]:
        q = self.networks.q(encoded, self.noised(self.networks.mode(encoded), std)).amin(0)
        return -q.mean(), {}


METHOD = Method(
    name="cql",
    label="CQL",
    learner=Cql,
    settings=CqlSettings,
    shared=SHARED,
    own={"quick": QUICK | {"units": 128, "weight": 1.0}, "smoke": SMOKE},
)
