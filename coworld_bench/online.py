"""DreamerV2 in an environment: what collects datasets, what pretrains source agents, and CoWorld's source side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coworld_bench.checkpoints import load_state, restore_stream
from coworld_bench.config import Config
from coworld_bench.data.episode import Episode, EpisodeBuilder
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import AgentSpec, DreamerAgent, Metrics, Rows, Terms
from coworld_bench.envs import TaskEnv, make_env
from coworld_bench.envs.pool import EnvPool
from coworld_bench.errors import DatasetError
from coworld_bench.feeding import feed
from coworld_bench.seeding import episode_seed, generator, torch_seed
from coworld_bench.tasks import Domain

Learn = Callable[[], Metrics]


class OnlineAgent:
    """An agent that acts in its environment, keeps every finished episode and learns from all of them.

    Episodes are reset with seeds of their own, so that work resumed at the end of an episode goes on as if it had never
    stopped. With a `pool` it plays an episode in each of its environments at the same time and learns meanwhile; which
    episodes come out depends on how many these are, and on nothing else of the pool."""

    def __init__(
        self,
        domain: Domain,
        config: Config,
        seed: int,
        staging: Staging,
        device: str = "cpu",
        action_input: int = 0,
        pool: EnvPool | None = None,
        agent: DreamerAgent | None = None,
        state_input: int = 0,
    ) -> None:
        """Without an `agent` it makes one of its own, on `device`, that understands actions of size `action_input`, and
        states of size `state_input` where its environment shows these alone."""
        self.domain, self.config, self.seed, self.staging, self.pool = domain, config, seed, staging, pool
        spec = AgentSpec.of(domain, config).widened(action_input, state_input)
        self.agent = agent or DreamerAgent(config, spec, seed, device)
        self.observes = self.agent.spec.observes
        self.noise = torch.Generator(self.agent.device).manual_seed(torch_seed(seed, "acting"))
        self.memory = EpisodeMemory()
        self.batches = BatchStream(self.memory, seed, config.batch.size, config.batch.length)
        self.feed = feed(self.batches, self.agent.device, config.online.env_steps, self.agent.spec.seen)
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

    def episodes(self, budget: int) -> list[Episode]:
        """What comes next on the way to `budget` env steps: an episode, or one of each environment of the pool."""
        if self.pool is None:
            return [self.agent_episode()[0] if self.prefilled else self.prefill_episode()]
        online = self.config.online
        if not self.prefilled:
            first = self.env_steps < online.prefill
            budget = min(budget, online.prefill if first else online.prefill_limit)
        wanted = -(-(budget - self.env_steps) // self.domain.env.env_steps)
        count = max(1, min(self.pool.count, wanted))
        return self.agent_round(count) if self.prefilled else self.prefill_round(count)

    def prefill_episode(self) -> Episode:
        """One episode of uniform random actions, each held for `prefill_hold` env steps."""
        draw = self._random_actions(len(self.staging))
        return self._episode(lambda _, env_step: draw(env_step), self._prefill_policy)

    def agent_episode(self, learn: Learn | None = None) -> tuple[Episode, Metrics]:
        """One episode of the sampling policy, an update after every `train_every` env steps; returns the last metrics.

        `learn` does an update in a method's own way, by calling `update`."""
        learn = learn or self.update
        carry, metrics = self.agent.initial(), self._pretrain(learn)

        def act(image: np.ndarray, env_step: int) -> np.ndarray:
            nonlocal carry, metrics
            if env_step and env_step % self.config.online.train_every == 0:
                metrics = learn()
            action, carry = self.agent.act(image[None], carry, self.noise, sample=True)
            return action[0]

        return self._episode(act, "agent"), metrics

    def prefill_round(self, count: int) -> list[Episode]:
        """`count` prefill episodes at the same time; each is what it would be after the others."""
        draws = [self._random_actions(len(self.staging) + env) for env in range(count)]
        return self._round(count, lambda _, env_step: np.stack([draw(env_step) for draw in draws]), self._prefill_policy)

    def agent_round(self, count: int) -> list[Episode]:
        """`count` episodes of the sampling policy at the same time, acting in one batch. There are as many updates as in
        `agent_episode`, spread evenly and done while the environments step: a decision sees them one env step later."""
        self._pretrain(self.update)
        carry, start, last = self.agent.initial(count), self.updates, max(1, self.domain.env.env_steps - 1)
        total = count * (last // self.config.online.train_every)

        def act(images: np.ndarray, _: int) -> np.ndarray:
            nonlocal carry
            actions, carry = self.agent.act(images, carry, self.noise, sample=True)
            return actions

        def meanwhile(env_step: int) -> None:
            while self.updates - start < total * env_step // last:
                self.update()

        return self._round(count, act, "agent", meanwhile)

    def _pretrain(self, learn: Learn) -> Metrics:
        """The updates before the agent's first decision; returns the last metrics."""
        metrics: Metrics = {}
        if not self.updates:
            for _ in range(self.config.online.pretrain):
                metrics = learn()
        return metrics

    def update(self, terms: Terms | None = None, beside: Rows | None = None, given: tuple[Tensor, ...] = ()) -> Metrics:
        """One update of world model, actor and critic on the agent's own experience (plus a method's terms)."""
        states, metrics = self.agent.update_model(self.next_rows(), terms, beside, given)
        return metrics | self.agent.update_behaviour(states, self.entropy_scale)

    def next_rows(self) -> Rows:
        """The next batch of the agent's own experience, on the device."""
        return self.agent.prepared(self.feed.next())

    @property
    def entropy_scale(self) -> float:
        online = self.config.online
        done = min(1.0, self.updates / online.entropy_updates) if online.entropy_updates else 0.0
        return online.entropy + done * (online.entropy_final - online.entropy)

    def _random_actions(self, index: int) -> Callable[[int], np.ndarray]:
        """The actions of prefill episode `index` by env step, to be asked for in order: uniform, each held for a while."""
        rng, hold = generator(self.seed, "prefill", index), self.config.online.prefill_hold
        held = np.zeros(self.domain.action, np.float32)

        def draw(env_step: int) -> np.ndarray:
            nonlocal held
            if env_step % hold == 0:
                held = rng.uniform(-1, 1, self.domain.action).astype(np.float32)
            return held

        return draw

    @property
    def random_episodes(self) -> int:
        """The prefill episodes that are there; of those played at the same time only whole rounds."""
        policies = [meta["policy"] for meta in self.staging.metas]
        count = next((index for index, policy in enumerate(policies) if policy != self._prefill_policy), len(policies))
        return count - count % (self.pool.count if self.pool else 1)

    @property
    def _prefill_policy(self) -> str:
        return "held" if self.config.online.prefill_hold > 1 else "random"

    def _episode(self, act: Callable[[np.ndarray, int], np.ndarray], policy: str) -> Episode:
        """Play one episode here and keep it; `act` is given what the agent observes and the env step."""
        meta = self._meta(policy, len(self.staging))
        observation, _ = self.env.reset(seed=meta["seed"])
        builder = EpisodeBuilder()
        builder.start(observation)
        truncated, env_step = False, 0
        while not truncated:
            action = act(observation[self.observes], env_step)
            observation, reward, _, truncated, info = self.env.step(action)
            builder.add(action, observation, float(reward), bool(info.get("success", False)))
            env_step += 1
        return self._keep(builder.finish(meta))

    def _round(
        self,
        count: int,
        act: Callable[[np.ndarray, int], np.ndarray],
        policy: str,
        meanwhile: Callable[[int], None] = lambda env_step: None,
    ) -> list[Episode]:
        """Play `count` episodes of the same length in the pool and keep them, in the order of their environments.

        `act` is given all that is observed, such as pictures [count, H, W, 3]; `meanwhile` is called while the environments
        do what it said."""
        assert self.pool is not None
        envs, first = range(count), len(self.staging)
        metas, builders = [self._meta(policy, first + env) for env in envs], [EpisodeBuilder() for _ in envs]
        for env in envs:
            self.pool.reset(env, metas[env]["seed"])
        steps = [self.pool.take(env) for env in envs]
        for builder, step in zip(builders, steps, strict=True):
            builder.start(step.observation)
        for env_step in range(self.domain.env.env_steps):
            actions = act(np.stack([step.observation[self.observes] for step in steps]), env_step)
            for env in envs:
                self.pool.step(env, actions[env])
            meanwhile(env_step)
            steps = [self.pool.take(env) for env in envs]
            for builder, action, step in zip(builders, actions, steps, strict=True):
                builder.add(action, step.observation, step.reward or 0.0, step.success)
        assert all(step.truncated for step in steps), "episodes of one task have one length"
        return [self._keep(builder.finish(meta)) for builder, meta in zip(builders, metas, strict=True)]

    def _meta(self, policy: str, index: int) -> dict[str, Any]:
        """What is noted of episode `index` when it begins."""
        began = {"seed": episode_seed("collect", self.seed, index), "env_steps": self.env_steps, "updates": self.updates}
        return began | {"policy": policy, "noise": self.domain.env.action_noise}

    def _keep(self, episode: Episode) -> Episode:
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
        self.restore_streams(state)

    def restore_streams(self, state: dict[str, Any]) -> None:
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
    state_input: int = 0

    def state(self) -> dict[str, Any]:
        return load_state(self.folder / "agent.pt")

    @property
    def env_steps(self) -> int:
        """What its pretraining took of its environment."""
        staging = Staging(self.folder / "episodes", read_only=True)
        return staging.rows - len(staging)

    def episodes(self) -> list[Episode]:
        return Staging(self.folder / "episodes", read_only=True).episodes()

    def agent(self, device: str, label: tuple[float, ...] = ()) -> DreamerAgent:
        """Its networks and counts in an agent with fresh optimisers; the weights that read a `label` begin at zero."""
        spec = AgentSpec.of(self.domain, self.config).widened(self.action_input, self.state_input)
        spec = replace(spec, label=label)
        agent = DreamerAgent(self.config, spec, self.seed, device)
        stored, reads = self.state()["agent"], "rssm.from_action.weight"
        stored["model"][reads] = F.pad(stored["model"][reads], (0, len(label)))
        agent.load_weights(stored)
        agent.model_updates, agent.behaviour_updates, _ = stored["counts"]
        return agent

    def online(self, folder: Path, device: str, agent: DreamerAgent | None = None) -> OnlineAgent:
        """The agent, or another `agent` in its place, again at work in its source environment, on a copy of its experience
        in `folder`."""
        staging = Staging(folder)
        if not len(staging):
            for episode in self.episodes():
                staging.add(episode)
        online = OnlineAgent(
            self.domain, self.config, self.seed, staging, device, self.action_input, agent=agent,
            state_input=self.state_input,
        )  # fmt: skip
        if agent is None:
            online.take_over(self.state())
        else:
            online.restore_streams(self.state())
        return online
