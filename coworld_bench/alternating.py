"""A source agent online and a target agent offline, by turns: the loops of Algorithm 1, for every method that has both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from coworld_bench.config import Config, Count, Natural, Settings
from coworld_bench.dreamer import DreamerAgent, Metrics
from coworld_bench.errors import PartMissing
from coworld_bench.methods import Job
from coworld_bench.offline import TargetLearner
from coworld_bench.online import OnlineAgent


class ScheduleSettings(Settings):
    """The released schedule, by role."""

    warm_rounds: Count = 2  # rounds of (target world model, source) before the epochs
    epochs: Count = 6
    source_env_steps_per_round: Natural = 10_000
    source_env_steps_per_epoch: Natural = 20_000


SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "paper/dmc": {"epochs": 30, "source_env_steps_per_round": 5_000, "source_env_steps_per_epoch": 10_000},
    "quick": {"source_env_steps_per_round": 250, "source_env_steps_per_epoch": 250},
    "quick/dmc": {"source_env_steps_per_round": 500, "source_env_steps_per_epoch": 500},
    "smoke": {
        "warm_rounds": 1, "epochs": 2, "source_env_steps_per_round": 50, "source_env_steps_per_epoch": 50,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A part of the schedule: `amount` target updates, or source env steps."""

    side: Literal["target", "source"]
    amount: int


def schedule(settings: ScheduleSettings, config: Config) -> list[Block]:
    """Algorithm 1's loops unrolled: warm rounds (target world model, then source), then epochs; the target ends."""
    rounds, epochs = settings.warm_rounds, settings.epochs
    warm = split(config.budget.warmup, rounds)
    train = split(config.budget.updates - config.budget.warmup, epochs)
    blocks = []
    for amount in warm:
        blocks += [Block("target", amount), Block("source", settings.source_env_steps_per_round)]
    for amount in train:
        blocks += [Block("target", amount), Block("source", settings.source_env_steps_per_epoch)]
    return blocks[:-1]


def split(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers that differ by one at most."""
    return [total // parts + (part < total % parts) for part in range(parts)]


class AlternatingLearner(TargetLearner):
    """Subclasses write `train_target`, one target update, and `train_source`, one episode of the source agent.

    `source` is the one of `sources` that is at work now."""

    def __init__(
        self,
        settings: ScheduleSettings,
        job: Job,
        sources: Sequence[OnlineAgent],
        role: str = "",
        agent: DreamerAgent | None = None,
    ) -> None:
        super().__init__(job, role=role, agent=agent)
        self.sources, self.source = list(sources), sources[0]
        self.blocks = schedule(settings, job.config)
        self.block, self.done = 0, 0
        self.pretrained = self.source_env_steps, self.source_updates

    def turn(self) -> Metrics:
        """The next unit of the schedule: a target update, or an episode of the source agent."""
        self._skip_finished_blocks()
        if self.blocks[self.block].side == "source":
            metrics = self.train_source()
            self.done += self.source.domain.env.env_steps
        else:
            metrics = self.train_target()
            self.done += 1
        return metrics

    def train_target(self) -> Metrics:
        raise PartMissing(self, "train_target")

    def train_source(self) -> Metrics:
        raise PartMissing(self, "train_source")

    @property
    def source_env_steps(self) -> int:
        return sum(source.env_steps for source in self.sources)

    @property
    def source_updates(self) -> int:
        return sum(source.updates for source in self.sources)

    def _skip_finished_blocks(self) -> None:
        while self.done >= self.blocks[self.block].amount:
            self.block, self.done = self.block + 1, 0

    def counts(self) -> dict[str, int]:
        return super().counts() | {"source_updates": self.source_updates, "source_env_steps": self.source_env_steps}

    def state_dict(self) -> dict[str, Any]:
        place = {"place": (self.block, self.done), "pretrained": self.pretrained}
        return super().state_dict() | self.source_states() | place

    def source_states(self) -> dict[str, Any]:
        return {"source": self.source.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.load_source_states(state)
        self.block, self.done = state["place"]
        self.pretrained = tuple(state["pretrained"])

    def load_source_states(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state["source"])
