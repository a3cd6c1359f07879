"""Multi-Task DV2 (paper, Table 6): one world model learns both domains, each with an actor-critic of its own.

The world model is the source agent's and goes on from its weights. Every update takes half a batch of the source's
experience and half a batch of the target's dataset, side by side:

    world model     one L_wm over both halves, with one reward head; actions padded to the larger size
    actor-critic S  imagines from the posterior states of the source half
    actor-critic T  imagines from those of the target half, after the warm-up; it alone is evaluated

There are no stages A, B, C. Budgets are CoWorld's: as many updates of the target's parts, and as many source env steps at
the same places of the schedule. The paper says no more than "multi-task"; these are our choices:
- In a source block actor S collects episodes and nothing is updated, since every update is a joint one and counts as the
  target's. The source's parts get one update with each of the target's.
- Fresh Adam states and slow critic's count when the joint loss begins; actor-critic T has fresh weights.
- `domain_onehot`: the RSSM also reads which domain a row is of, behind its action. Its weights for that begin at zero.
"""

from __future__ import annotations

from dataclasses import replace

from coworld_bench.alternating import SCHEDULES, AlternatingLearner, ScheduleSettings
from coworld_bench.config import Config
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Metrics
from coworld_bench.errors import UsageError
from coworld_bench.methods import Job, Method
from coworld_bench.online import SourceAgent
from coworld_bench.rssm import State


class MultiTaskSettings(ScheduleSettings):
    """The schedule, which is CoWorld's."""

    domain_onehot: bool = False


class MultiTaskDv2(AlternatingLearner):
    """`source.agent` owns the world model; `agent`, the target's, acts and imagines in it."""

    def __init__(self, settings: MultiTaskSettings, job: Job) -> None:
        job, source = halved(job)
        labels = ((1.0, 0.0), (0.0, 1.0)) if settings.domain_onehot else ((), ())
        owner = source.agent(job.device, labels[0])
        spec = AgentSpec.of(job.target, job.config).widened(owner.spec.action_input)
        agent = DreamerAgent(job.config, replace(spec, label=labels[1]), job.seed, job.device, "target", owner.model)
        online = source.online(job.folder / "source", job.device, owner)
        super().__init__(settings, job, [online], agent=agent)

    @property
    def updates(self) -> int:
        """Joint updates of the world model, without those of the source agent before."""
        return self.source.updates - self.pretrained[1]

    def train_target(self) -> Metrics:
        """A joint update of the world model, then of each actor-critic from its own domain's states."""
        warming_up, owner = self.warming_up, self.source.agent
        source_rows, target_rows = self.source.next_rows(), self.next_rows()
        states, metrics = owner.update_model(source_rows.joined(target_rows))
        source_states, target_states = parted(states, source_rows.batch, target_rows.batch)
        learnt = owner.update_behaviour(source_states, self.source.entropy_scale)
        metrics |= {f"source/{name}": value for name, value in learnt.items()}
        return metrics if warming_up else metrics | self.agent.update_behaviour(target_states)

    def train_source(self) -> Metrics:
        """An episode of actor S in the shared world model."""
        self.source.agent_episode(learn=lambda: {})
        return {}

    def counts(self) -> dict[str, int]:
        return super().counts() | {"world_model_updates": self.updates}


def halved(job: Job) -> tuple[Job, SourceAgent]:
    """The job with half of the batch, and its source agent with the rest."""
    size, source = job.config.batch.size, job.sources[0]
    if size < 2:
        raise UsageError(f"multitask_dv2 shares a batch between two domains; batch.size must be at least 2, got {size}")
    mine, theirs = with_batch(job.config, size - size // 2), with_batch(source.config, size // 2)
    return replace(job, config=mine), replace(source, config=theirs)


def with_batch(config: Config, size: int) -> Config:
    return config.model_copy(update={"batch": config.batch.model_copy(update={"size": size})})


def parted(states: State, source: int, target: int) -> tuple[State, State]:
    """The states [T * (source + target), .] that a joint update saw, by domain: [T * source, .] and [T * target, .]."""
    sides = [part.unflatten(0, (-1, source + target)).split([source, target], 1) for part in states]
    source_states, target_states = (State(*parts).flat() for parts in zip(*sides, strict=True))
    return source_states, target_states


METHOD = Method(
    name="multitask_dv2",
    label="Multi-Task DV2",
    learner=MultiTaskDv2,
    settings=MultiTaskSettings,
    sources=1,
    own=SCHEDULES,
)
