"""Two domains for methods that transfer: a column that an action moves, and its inverse; rewarded is to be on the right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import striped_episode

from coworld_bench.checkpoints import save_state
from coworld_bench.config import Config, override, resolve
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import DreamerAgent, read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.methods import Job, SourceAgent, load_method
from coworld_bench.online import OnlineAgent
from coworld_bench.tasks import EnvSpec

EPISODES, ROWS = 12, 20
SOURCE, TARGET = domain_of(EnvSpec("toy/point_mirrored")), domain_of(EnvSpec("toy/point"))
SMALL = override(
    resolve("smoke", "toy"),
    {"online.prefill": "50", "batch.size": "4", "batch.length": "6", "behaviour.slow_every": "4"},
)
FAST = {"model.lr": "3e-3", "budget.warmup": "0", "budget.updates": "120"}
# Networks and rates with which an actor learns to push the column within a few hundred updates.
PUSHING = FAST | {
    "budget.updates": "400", "batch.size": "8", "model.stoch": "8", "model.classes": "8", "model.units": "64",
    "model.deter": "64", "behaviour.horizon": "8", "behaviour.actor_lr": "1e-3", "behaviour.critic_lr": "3e-3",
}  # fmt: skip


def inverted(seed: int, action: int = 2, rows: int = ROWS) -> Episode:
    """A striped episode with a dark column on light ground, controlled the other way round."""
    episode = striped_episode(seed, rows, action)
    return replace(episode, image=255 - episode.image, action=-episode.action)


def targets(first: int = 20, action: int = 2) -> EpisodeMemory:
    """The target's dataset, of seeds from `first` on."""
    return EpisodeMemory().extend(inverted(seed, action) for seed in range(first, first + EPISODES))


def pretrained(config: Config, folder: Path, action_input: int = 2, updates: int = 3, **options: str) -> SourceAgent:
    """A source agent that learnt from striped episodes."""
    config = override(config, options)
    with Staging(folder / "episodes") as staging:
        for seed in range(EPISODES):
            episode = striped_episode(seed, ROWS)
            state = np.pad(episode.state, ((0, 0), (0, 2)))  # of toy's size
            staging.add(replace(episode, state=state, meta={"seed": seed, "policy": "random"}))
        online = OnlineAgent(SOURCE, config, 0, staging, action_input=action_input)
        for _ in range(updates):
            online.update()
        save_state(folder / "agent.pt", online.state_dict())
    return SourceAgent(SOURCE, config, 0, action_input, folder)


def make(name: str, config: Config, data: EpisodeMemory, source: SourceAgent, folder: Path, **own: Any) -> Any:
    method = load_method(name)
    domain = replace(TARGET, action=data.array("action").shape[1])
    job = Job(method.adapt(config, "toy"), domain, data, (source,), 0, "cpu", folder)
    return method.learner(method.defaults("smoke", "toy").model_copy(update=own), job)


def turns(learner: Any, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]


def losses_of(agent: DreamerAgent, rows: Any) -> dict[str, float]:
    """The world model's losses on these rows."""
    agent.generator.manual_seed(0)
    with torch.no_grad():
        return {name: float(term) for name, term in agent.model.terms(rows, agent.see(rows), None).items()}


def push(agent: DreamerAgent, memory: EpisodeMemory) -> float:
    """The mean first action component in the first rows of all episodes, where the column is not at an edge."""
    starts = np.flatnonzero(~memory.array("action").any(-1))
    rows = agent.rows(memory.windows(starts, np.zeros_like(starts), 6))
    agent.generator.manual_seed(0)
    with torch.no_grad():
        return float(agent.behaviour.mode(agent.see(rows).state.feature)[..., 0].mean())
