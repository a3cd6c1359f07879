"""Small source agents, target data and jobs on `toy`, for tests of methods."""

from __future__ import annotations

from pathlib import Path

from conftest import striped_episode

from coworld_bench.checkpoints import save_state
from coworld_bench.config import Config, override, resolve
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.files import write_json
from coworld_bench.methods import Job, SourceAgent
from coworld_bench.online import OnlineAgent
from coworld_bench.sources import train_online
from coworld_bench.tasks import EnvSpec


def small_config(**options: str) -> Config:
    """The smoke preset on `toy`, at its smallest; `budget_updates` stands for `budget.updates`."""
    small = {"online.prefill": "50", "online.train_every": "10", "batch.size": "3", "batch.length": "6"}
    return override(resolve("smoke", "toy"), small | {key.replace("_", ".", 1): value for key, value in options.items()})


def source_agent(task: str, config: Config, folder: Path, seed: int = 0, state_input: int = 0) -> SourceAgent:
    """An agent of two episodes, one of them random; with a `state_input` it sees states alone."""
    domain = domain_of(EnvSpec(task, observation="state" if state_input else "image"))
    with Staging(folder / "episodes") as staging:
        online = OnlineAgent(domain, config, seed, staging, action_input=2, state_input=state_input)
        train_online(online, 100)
        save_state(folder / "agent.pt", online.state_dict())
        online.close()
    write_json(folder / "source.json", {})
    return SourceAgent(domain, config, seed, 2, folder, state_input)


def striped_memory() -> EpisodeMemory:
    memory = EpisodeMemory()
    for seed in range(3):
        memory.append(striped_episode(seed))
    return memory


def job_on_point(config: Config, sources: tuple[SourceAgent, ...], folder: Path) -> Job:
    return Job(config, domain_of(EnvSpec("toy/point")), striped_memory(), sources, 0, "cpu", folder)


def take_turns(learner, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]
