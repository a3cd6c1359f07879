"""Critic-regularised regression (Wang et al. 2020): imitate the decisions in the data, the better ones more.

    L = mean w (π(s) - a)²,   w = min(20, exp(A / (β mean |A|))),   A = Q(s, a) - Q(s, π(s))

Critics, networks and batches are those of the other model-free methods; only the actor's loss is its own.
"""

import torch

from coworld_bench.config import Rate
from coworld_bench.methods import Method
from coworld_bench.model_free import QUICK, SHARED, SMOKE, DrqLearner, DrqSettings


class MySettings(DrqSettings):
    beta: Rate = 1.0  # on the command line: -o my_method.beta=0.5


class MyLearner(DrqLearner):
    def __init__(self, settings, job):
        super().__init__(settings, job)
        self.beta = settings.beta

    def actor_loss(self, encoded, action, std):
        """From encoded pictures [B, E] and the data's actions [B, A]: the loss, and what to log."""
        policy = self.networks.mode(encoded)
        with torch.no_grad():
            better, usual = self.networks.q(encoded, torch.stack([action, policy])).amin(0)  # [B] each
            advantage = better - usual
            weight = (advantage / (self.beta * advantage.abs().mean().clamp(min=1e-6))).exp().clamp(max=20)
        loss = (weight * (policy - action).square().mean(-1)).mean()
        return loss, {"actor/weight": weight.mean()}


METHOD = Method("my_method", "My method", MyLearner, MySettings, shared=SHARED, own={"quick": QUICK, "smoke": SMOKE})
