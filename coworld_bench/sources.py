"""Source agents: pretrained online once per task, preset and seed, and shared by every run that starts from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.checkpoints import Checkpoints, save_state
from coworld_bench.config import Config, merge, resolve
from coworld_bench.costs import Meter
from coworld_bench.data.staging import Staging
from coworld_bench.devices import choose_device
from coworld_bench.envs import domain_of
from coworld_bench.envs.pool import env_pool
from coworld_bench.files import canonical, clear_folder, digest_of, read_json, write_json
from coworld_bench.methods import SourceAgent
from coworld_bench.online import OnlineAgent
from coworld_bench.paths import data_home
from coworld_bench.provenance import git_state, machine, packages
from coworld_bench.stopping import Stop, StoppedAtCheckpoint, Timer, never
from coworld_bench.tasks import Domain, EnvSpec, find_task

Observe = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class SourceSpec:
    """Which source agent: `model` are the target's world-model settings, which both agents must share; `state_input` is the
    size of the states it understands, where its environment shows these alone."""

    task: str
    preset: str
    seed: int
    action_input: int
    model: Mapping[str, Any]
    options: Mapping[str, str] = field(default_factory=dict)
    state_input: int = 0

    @property
    def config(self) -> Config:
        return _config(self.preset, find_task(self.task).suite, canonical(self.options), canonical(self.model))

    @property
    def env(self) -> EnvSpec:
        return self.config.env.spec(self.task)

    @cached_property
    def digest(self) -> str:
        trained_by = self.config.part("env", "model", "behaviour", "optimiser", "batch", "online", "compute")
        of_states = [self.state_input, self.config.model.state_loss] if self.env.observation == "state" else []
        return digest_of([self.env.to_dict(), trained_by, self.seed, self.action_input, *of_states])

    def folder(self, data: Path | None = None) -> Path:
        suite, name = self.env.task.split("/")
        return data_home(data) / "sources" / f"{suite}-{name}-{self.preset}-s{self.seed}-{self.digest[:10]}"

    def ready(self, data: Path | None = None) -> bool:
        return all((self.folder(data) / name).is_file() for name in ("source.json", "agent.pt"))

    def open(self, data: Path | None = None) -> SourceAgent:
        """The agent as a method receives it; it must be ready."""
        folder = self.folder(data)
        return SourceAgent(domain_of(self.env), self.config, self.seed, self.action_input, folder, self.state_input)

    def card(self, data: Path | None = None) -> dict[str, Any]:
        """What a result says of the agent it started from."""
        made = read_json(self.folder(data) / "source.json")
        return {"task": self.env.task, "digest": self.digest, "return_mean": made["return_mean_last"]}


@lru_cache(maxsize=256)
def _config(preset: str, suite: str, options: bytes, model: bytes) -> Config:
    """Of a source agent, told as canonical JSON."""
    settings = resolve(preset, suite, json.loads(options))
    return Config.model_validate(merge(settings.model_dump(), {"model": json.loads(model)}))


def pretrain_source(
    spec: SourceSpec,
    data: Path | None = None,
    device: str = "auto",
    observe: Observe | None = None,
    stop: Stop = never,
) -> Path:
    """Train the source agent online for `online.source_env_steps`, unless it is there; returns its folder.

    An interrupted training goes on from its newest checkpoint; when `stop` says so it ends at one, with
    StoppedAtCheckpoint. `online.workers` environment processes act together."""
    folder = spec.folder(data)
    if spec.ready(data):
        return folder
    domain: Domain = domain_of(spec.env)
    device = choose_device(device)
    meter = Meter(device)
    with Staging(folder / "episodes") as staging, env_pool(spec.env, spec.config.online.workers) as pool:
        checkpoints = Checkpoints(folder / "checkpoints")
        state = checkpoints.newest()
        if state is None:
            staging.truncate(0)
        sizes = spec.action_input, pool, None, spec.state_input
        with closing(OnlineAgent(domain, spec.config, spec.seed, staging, device, *sizes)) as online:
            keeper = Keeper(online, checkpoints, meter, stop, state)
            returns = train_online(online, spec.config.online.source_env_steps, observe, keeper)
        save_state(folder / "agent.pt", online.state_dict())
        write_json(folder / "source.json", describe(spec, online, returns, meter))
    clear_folder(checkpoints.folder)
    return folder


class Keeper:
    """Stores an agent and the returns of its episodes now and then, and goes back to what it stored."""

    def __init__(
        self, online: OnlineAgent, checkpoints: Checkpoints, meter: Meter, stop: Stop, state: dict[str, Any] | None = None
    ) -> None:
        self.online, self.checkpoints, self.meter, self.stop = online, checkpoints, meter, stop
        self.timer = Timer(online.config.compute.checkpoint_minutes)
        self.returns: list[float] = []
        if state is not None:
            online.load_state_dict(state["online"])
            self.returns = state["returns"]
            meter.go_on(state.get("spent", {}))

    def look(self) -> None:
        """Called between episodes. Raises StoppedAtCheckpoint where the work is to stop."""
        stopping = self.stop()
        if self.timer.due() or stopping:
            state = {"online": self.online.state_dict(), "returns": self.returns, "spent": self.meter.read()}
            self.checkpoints.save(state)
        if stopping:
            raise StoppedAtCheckpoint(
                f"stopped after {self.online.env_steps} env steps; the same command goes on from there"
            )


def train_online(
    online: OnlineAgent, env_steps: int, observe: Observe | None = None, keeper: Keeper | None = None
) -> list[float]:
    """Prefill, then act and learn until `env_steps` are collected; returns every episode's return."""
    returns = [] if keeper is None else keeper.returns
    while online.env_steps < env_steps or not online.prefilled:
        returns += [episode.ret for episode in online.episodes(env_steps)]
        if keeper is not None:
            keeper.look()
        if observe is not None:
            progress = {"env_steps": online.env_steps, "env_steps_total": env_steps, "updates": online.updates}
            observe(progress | {"episode_return": returns[-1]})
    return returns


def describe(spec: SourceSpec, online: OnlineAgent, returns: list[float], meter: Meter) -> dict[str, Any]:
    meter.read()
    return {
        "task": spec.env.task,
        "preset": spec.preset,
        "seed": spec.seed,
        "digest": spec.digest,
        "config": spec.config.to_dict(),
        "env": spec.env.to_dict(),
        "env_steps": online.env_steps,
        "updates": online.updates,
        "returns": returns,
        "return_mean_last": float(np.mean(returns[-5:])),
        "time": meter.times(),
        "cost": meter.cost(online.updates),
        "versions": packages(),
        "commit": git_state(),
        "machine": machine(),
    }
