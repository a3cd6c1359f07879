"""LOMPO Finetune (CoWorld's paper, appendix E): LOMPO on a source dataset, then the whole of it again on the target's.

Phase 1 is `lompo` on all that the source agent has seen (its replay; the paper does not say which data it used). Phase 2
keeps world model, actor, critics and slow critics, and begins everything else anew: both latent buffers are empty, Adam's
states and the counts are fresh.

Budgets. Under preset paper both phases have the same, LOMPO's own, and the source agent is that of DV2 Finetune. Under
quick phase 1 has 740 updates: as many as the source agent itself has had on the same data, which is what DV2 Finetune
starts from. Phase 1 is no part of `updates`; its updates are reported as `source_updates`.

Actions are padded to the larger of both domains in both phases, and masked by the domain of the phase. Rewards are scaled
by the domain of the phase. Only the source agent's experience is used, so it has the shared world model, not LOMPO's: it is
the same agent that the other methods start from.

Phase 1 comes before the first checkpoint that counts updates, so its state is kept in the run's folder as well, and a
killed run goes on inside it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import Natural, merge, override
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.dreamer import Metrics
from coworld_bench.latent import LatentAgent
from coworld_bench.lompo import LOSS, OWN, SHARED, Lompo, LompoSettings
from coworld_bench.methods import Job, Method


class LompoFinetuneSettings(LompoSettings):
    source_updates: Natural = 0  # world-model updates of phase 1; 0: as many as the target's


class LompoFinetune:
    def __init__(self, settings: LompoFinetuneSettings, job: Job) -> None:
        source = job.sources[0]
        self.job, self.source_env_steps, self.source_updates = job, source.env_steps, 0
        config = job.config
        if settings.source_updates:
            config = override(config, {"budget.updates": str(settings.source_updates)})
        experience = EpisodeMemory().extend(source.episodes())
        on_source = replace(job, config=config, target=source.domain, data=experience)
        self.first: Lompo | None = Lompo(settings, on_source, beside=(job.target,))
        self.second = Lompo(settings, job)

    @property
    def policy(self) -> LatentAgent:
        return self.second.agent

    @property
    def updates(self) -> int:
        return self.second.updates

    @property
    def total(self) -> int:
        return self.second.total

    def turn(self) -> Metrics:
        """LOMPO on the source's data to the end of its budget, then on the target's."""
        first = self.first
        if first is None:
            return self.second.turn()
        metrics = {f"source/{name}": value for name, value in first.turn().items()}
        self.source_updates = first.agent.model_updates
        if first.updates % self.job.config.evaluation.early_every == 0 or first.updates == first.total:
            save_state(self.kept, first.state_dict())
        self.go_over_when_done(first)
        return metrics

    def go_over_when_done(self, first: Lompo) -> None:
        """Phase 2 takes over all networks at the end of phase 1, and nothing else."""
        if first.updates == first.total:
            self.second.agent.load_weights(first.agent.weights())
            self.first = None

    @property
    def kept(self) -> Path:
        """Where phase 1 is kept between the checkpoints of the run."""
        return self.job.folder / "phase1.pt"

    def counts(self) -> dict[str, int]:
        return self.second.counts() | {
            "source_updates": self.source_updates, "source_env_steps": self.source_env_steps
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        first = None if self.first is None else self.first.state_dict()
        return {"first": first, "second": self.second.state_dict(), "source_updates": self.source_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to this state; inside phase 1, to the last one kept where that is later."""
        self.second.load_state_dict(state["second"])
        self.source_updates = state["source_updates"]
        first, self.first = self.first, None
        if state["first"] is None:
            return
        assert first is not None, "phase 1 is over; a state from inside it is for a new learner"
        first.load_state_dict(later(state["first"], load_state(self.kept)) if self.kept.is_file() else state["first"])
        self.first, self.source_updates = first, first.agent.model_updates
        self.go_over_when_done(first)


def later(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The state of more updates."""
    return max(one, other, key=lambda state: state["agent"]["counts"])


METHOD = Method(
    name="lompo_finetune",
    label="LOMPO Finetune",
    learner=LompoFinetune,
    settings=LompoFinetuneSettings,
    sources=1,
    experience_only=True,
    shared=SHARED,
    loss=LOSS,
    own=merge(OWN, {"quick": {"source_updates": 740}, "smoke": {"source_updates": 4}}),
    source={
        "paper": {"online.source_env_steps": "160_000"},
        "paper/dmc": {"online.source_env_steps": "600_000"},
    },
)
