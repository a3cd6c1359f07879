"""DreamerV2 in an environment: what collects datasets, what pretrains source agents, and CoWorld's source side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coworld_bench.checkpoints import load_state, restore_stream
from coworld_bench.config import Config
from coworld_bench.data.episode import Episode, EpisodeBuilder
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Metrics, Rows, Terms
from coworld_bench.envs import TaskEnv, make_env
from coworld_bench.errors import DatasetError
from coworld_bench.seeding import episode_seed, generator, torch_seed
from coworld_bench.tasks import Domain

Learn = Callable[[], Metrics]


class OnlineAgent:
    """An agent that acts in its environment, keeps every finished episode and learns from all of them.

    Episodes are reset with seeds of their own, so that work resumed at the end of an episode goes on as if it had never
    stopped."""

    def __init__(
        self, domain: Domain, config: Config, seed: int, staging: Staging, device: str = "cpu", action_input: int = 0
    ) -> None:
        self.domain, self.config, self.seed, self.staging = domain, config, seed, staging
        spec = AgentSpec.of(domain, config)
        self.agent = DreamerAgent(
            config, AgentSpec(spec.action, max(spec.action, action_input), spec.reward_scale), seed, device
        )
        self.noise = torch.Generator(self.agent.device).manual_seed(torch_seed(seed, "acting"))
        self.memory = EpisodeMemory()
        self.batches = BatchStream(self.memory, seed, config.batch.size, config.batch.length)
        self.successes = self.env_steps = 0
        self._env: TaskEnv | None = None
        for episode in staging:
            self._remember(episode)

    @property
    def env(self) -> TaskEnv:
        """The environment, made when it is first needed."""
        if self._env is None:
            self._env = make_env(self.domain.env)
        return self._env

    @property
    def updates(self) -> int:
        return self.agent.model_updates

    @property
    def prefilled(self) -> bool:
        """Whether enough random episodes are there: the asked env steps, then successes up to a limit."""
        online = self.config.online
        if self.env_steps < online.prefill:
            return False
        return self.successes >= online.prefill_successes or self.env_steps >= online.prefill_limit

    def prefill_episode(self) -> Episode:
        """One episode of uniform random actions, each held for `prefill_hold` env steps."""
        rng, hold = generator(self.seed, "prefill", len(self.staging)), self.config.online.prefill_hold
        held = np.zeros(self.domain.action, np.float32)

        def act(_: np.ndarray, env_step: int) -> np.ndarray:
            nonlocal held
            if env_step % hold == 0:
                held = rng.uniform(-1, 1, self.domain.action).astype(np.float32)
            return held

        return self._episode(act, "held" if hold > 1 else "random")

    def agent_episode(self, learn: Learn | None = None) -> tuple[Episode, Metrics]:
        """One episode of the sampling policy, an update after every `train_every` env steps; returns the last metrics.

        `learn` does an update in a method's own way, by calling `update`."""
        carry, metrics, learn = self.agent.initial(), {}, learn or self.update
        if not self.updates:
            for _ in range(self.config.online.pretrain):
                metrics = learn()

        def act(image: np.ndarray, env_step: int) -> np.ndarray:
            nonlocal carry, metrics
            if env_step and env_step % self.config.online.train_every == 0:
                metrics = learn()
            action, carry = self.agent.act(image[None], carry, self.noise, sample=True)
            return action[0]

        return self._episode(act, "agent"), metrics

    def update(self, terms: Terms | None = None, beside: Rows | None = None, given: tuple[Tensor, ...] = ()) -> Metrics:
        """One update of world model, actor and critic on the agent's own experience (plus a method's terms)."""
        rows = self.agent.rows(self.batches.next())
        states, metrics = self.agent.update_model(rows, terms, beside, given)
        return metrics | self.agent.update_behaviour(states, self.entropy_scale)

    @property
    def entropy_scale(self) -> float:
        online = self.config.online
        done = min(1.0, self.updates / online.entropy_updates) if online.entropy_updates else 0.0
        return online.entropy + done * (online.entropy_final - online.entropy)

    def _episode(self, act: Callable[[np.ndarray, int], np.ndarray], policy: str) -> Episode:
        seed = episode_seed("collect", self.seed, len(self.staging))
        began = {"seed": seed, "env_steps": self.env_steps, "updates": self.updates, "policy": policy}
        observation, _ = self.env.reset(seed=seed)
        builder = EpisodeBuilder()
        builder.start(observation)
        truncated, env_step = False, 0
        while not truncated:
            action = act(observation["image"], env_step)
            observation, reward, _, truncated, info = self.env.step(action)
            builder.add(action, observation, float(reward), bool(info.get("success", False)))
            env_step += 1
        episode = builder.finish({**began, "noise": self.domain.env.action_noise})
        self.staging.add(episode)
        self._remember(episode)
        return episode

    def _remember(self, episode: Episode) -> None:
        self.memory.append(episode)
        self.successes += episode.succeeded
        self.env_steps += episode.rows - 1

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the episodes, which are on disk; `episodes` says how many belong to this state."""
        return {
            "agent": self.agent.state_dict(),
            "noise": self.noise.get_state(),
            "batches": self.batches.state_dict(),
            "episodes": len(self.staging),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to this state; episodes collected after it are dropped. Raises DatasetError where some are missing."""
        if state["episodes"] > len(self.staging):
            raise DatasetError(
                f"{self.staging.folder} holds {len(self.staging)} episodes, the checkpoint was made with "
                f"{state['episodes']}: some were deleted since; begin again with --force"
            )
        if state["episodes"] != len(self.staging):
            self.forget(state["episodes"])
        self.take_over(state)

    def forget(self, keep: int = 0) -> None:
        """Drop all episodes but the first `keep`."""
        self.staging.truncate(keep)
        self.memory, self.successes, self.env_steps = EpisodeMemory(), 0, 0
        self.batches.memory = self.memory
        for episode in self.staging:
            self._remember(episode)

    def take_over(self, state: dict[str, Any]) -> None:
        """Take over networks, optimisers and random streams, and leave the episodes as they are."""
        self.agent.load_state_dict(state["agent"])
        restore_stream(self.noise, state["noise"])
        self.batches.load_state_dict(state["batches"])


@dataclass(frozen=True)
class SourceAgent:
    """A pretrained source agent on disk: its weights and the episodes it has collected."""

    domain: Domain
    config: Config
    seed: int
    action_input: int
    folder: Path

    def state(self) -> dict[str, Any]:
        return load_state(self.folder / "agent.pt")

    @property
    def env_steps(self) -> int:
        """What its pretraining took of its environment."""
        staging = Staging(self.folder / "episodes", read_only=True)
        return staging.rows - len(staging)

    def episodes(self) -> list[Episode]:
        return Staging(self.folder / "episodes", read_only=True).episodes()

    def online(self, folder: Path, device: str) -> OnlineAgent:
        """The agent again at work in its source environment, on a copy of its experience in `folder`."""
        staging = Staging(folder)
        if not len(staging):
            for episode in self.episodes():
                staging.add(episode)
        online = OnlineAgent(self.domain, self.config, self.seed, staging, device, self.action_input)
        online.take_over(self.state())
        return online
