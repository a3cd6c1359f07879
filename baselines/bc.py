"""Behaviour cloning from pixels, as V-D4RL (Lu et al. 2023) has it: DrQ's encoder and deterministic actor, both trained on

    L = mean (π(s) - a_data)²

over randomly shifted stacks of pictures. There is no critic, and rewards are never looked at.

Under preset paper the network is DrQ's for 64 pixels, for 300,000 updates (the paper's budget of the model-free methods; it
has no row of BC). Quick and smoke use the world models' patch encoder on every picture of the stack: for a batch of 128 the
convolutions alone take 0.3 s a pass with its gradient on a CPU core, a whole update with patches 0.04 s.
"""

from __future__ import annotations

from torch import Tensor

from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.model_free import QUICK, SHARED, SMOKE, PixelLearner, Transitions, descend
from coworld_bench.pixel_nets import PixelSettings


class BehaviourCloning(PixelLearner):
    def __init__(self, settings: PixelSettings, job: Job) -> None:
        super().__init__(settings, job)
        self.optimisers = {"actor": self.adam(self.networks.parameters(), settings.lr)}

    def step(self, batch: Transitions, done: Tensor, phase: int) -> Metrics:
        (now,) = self.look(batch.image, 0)
        action = self.networks.mode(self.networks.encode(now))
        loss = (action - batch.action).square().mean()
        descend(self.optimisers["actor"], loss)
        return {"actor/loss": loss.detach()}


METHOD = Method(
    name="bc",
    label="BC",
    learner=BehaviourCloning,
    settings=PixelSettings,
    shared=SHARED,
    own={"quick": QUICK, "smoke": SMOKE},
)
