"""DrQ+BC: DrQ-v2 (Yarats et al. 2022) with the behaviour-cloning term of TD3+BC, as V-D4RL (Lu et al. 2023) has it.

Critics and targets are DrQ-v2's (see `DrqLearner`), with three-step returns; the actor's loss is

    L_π = -λ mean Q(s, a) + mean (π(s) - a_data)²,   Q = min_j Q_j,   λ = 2.5 / mean |Q| (no gradient),   a = noisy π(s)

Differences from the published code: the cloning term takes the action before the noise, which has the same gradient on
average and less variance; pictures have 64 pixels, so that the encoder ends in 32 x 25 x 25; encoder and critic share one
Adam, which is the same as two. Under preset paper 300,000 updates: the CoWorld paper counts 300,000 iterations, and whether
each of them has an update (in V-D4RL's loop every second one has) it does not say. Quick and smoke use the world models'
patch encoder on every picture of the stack, and smaller actors and critics.
"""

from __future__ import annotations

from torch import Tensor

from coworld_bench.config import Count, Weight
from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.model_free import QUICK, SHARED, SMOKE, DrqLearner, DrqSettings


class DrqBcSettings(DrqSettings):
    n_step: Count = 3
    alpha: Weight = 2.5  # of λ


def improve_and_clone(q: Tensor, policy: Tensor, action: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """-λ mean Q with λ = α / mean |Q|, and mean (π - a_data)²: q [B], policy and action [B, A]."""
    scale = alpha / q.detach().abs().mean().clamp(min=1e-6)
    return -scale * q.mean(), (policy - action).square().mean()


class DrqBc(DrqLearner):
    def __init__(self, settings: DrqBcSettings, job: Job) -> None:
        super().__init__(settings, job)
        self.alpha = settings.alpha

    def actor_loss(self, encoded: Tensor, action: Tensor, std: Tensor) -> tuple[Tensor, Metrics]:
        policy = self.networks.mode(encoded)
        q = self.networks.q(encoded, self.noised(policy, std)).amin(0)
        improve, clone = improve_and_clone(q, policy, action, self.alpha)
        return improve + clone, {"actor/cloning": clone.detach()}


METHOD = Method(
    name="drq_bc",
    label="DrQ+BC",
    learner=DrqBc,
    settings=DrqBcSettings,
    shared=SHARED,
    own={"quick": QUICK, "smoke": SMOKE},
)
