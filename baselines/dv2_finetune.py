"""DV2 Finetune (paper, appendix E): DreamerV2 trained online on the source, then trained offline on the target's data.

Phase 1 under presets quick and smoke is the source agent that CoWorld starts from too; CoWorld's goes on learning in the
source environment while this one stays as it is. Under preset paper it has the paper's own 160,000 env steps (DMC 600,000),
about what CoWorld's source has in the end. Phase 2 keeps all its weights (encoder, RSSM, heads, actor, critic, slow critic)
and updates everything on target batches.

Differences from the paper, which leaves them open: fresh Adam states and a fresh slow-critic count in phase 2; actions are
padded to the larger of both domains in both phases; the warm-up of world-model updates that every method of the table has.
"""

from __future__ import annotations

from coworld_bench.config import Settings
from coworld_bench.dreamer import Metrics
from coworld_bench.methods import Job, Method
from coworld_bench.offline import FINETUNED_SOURCE, FinetunedLearner


class Dv2Finetune(FinetunedLearner):
    def __init__(self, settings: Settings, job: Job) -> None:
        super().__init__(job)

    def turn(self) -> Metrics:
        return self.update(self.next_rows())


METHOD = Method(
    name="dv2_finetune",
    label="DV2 Finetune",
    learner=Dv2Finetune,
    sources=1,
    source=FINETUNED_SOURCE,
)
