"""CoWorld's stages and the baselines at work on `toy`, and the door through which methods come in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import striped_episode

from coworld_bench.alternating import Block, schedule
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import Config, override
from coworld_bench.coworld import CoWorld, CoWorldSettings
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.dreamer import read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.files import write_json
from coworld_bench.methods import Job, SourceAgent, load_method, method_names
from coworld_bench.online import OnlineAgent
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import train_online
from coworld_bench.tasks import EnvSpec


@pytest.fixture(scope="module")
def toy() -> Config:
    from coworld_bench.config import resolve

    small = {"online.prefill": "100", "online.train_every": "10", "batch.size": "3", "batch.length": "6"}
    return override(resolve("smoke", "toy"), small)


@pytest.fixture(scope="module")
def source(toy: Config, tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    """A source agent of three episodes on the mirrored task."""
    folder = tmp_path_factory.mktemp("source")
    domain = domain_of(EnvSpec("toy/point_mirrored"))
    with Staging(folder / "episodes") as staging:
        online = OnlineAgent(domain, toy, 0, staging, action_input=2)
        train_online(online, 150)
        save_state(folder / "agent.pt", online.state_dict())
        online.close()
    write_json(folder / "source.json", {})
    return SourceAgent(domain, toy, 0, 2, folder)


@pytest.fixture(scope="module")
def target(toy: Config, tmp_path_factory: pytest.TempPathFactory) -> EpisodeMemory:
    """Two random episodes of the target task."""
    with Staging(tmp_path_factory.mktemp("target")) as staging:
        online = OnlineAgent(domain_of(EnvSpec("toy/point")), toy, 1, staging)
        for _ in range(2):
            online.prefill_episode()
        online.close()
        return online.memory


def job_of(config: Config, target: EpisodeMemory, sources: tuple[SourceAgent, ...], folder: Path) -> Job:
    return Job(config, domain_of(EnvSpec("toy/point")), target, sources, 0, "cpu", folder)


def make(name: str, toy: Config, target: EpisodeMemory, source: SourceAgent, folder: Path):
    method = load_method(name)
    sources = (source,) * method.sources
    return method.learner(method.defaults("smoke", "toy"), job_of(method.adapt(toy, "toy"), target, sources, folder))


def turns(learner, count: int) -> list[dict[str, float]]:
    return [read_metrics(dict(learner.turn())) for _ in range(count)]


@pytest.mark.parametrize("name", ["offline_dv2", "dv2_finetune", "coworld"])
def test_a_method_spends_the_same_budget_to_the_end(
    name: str, toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Every method of the table: the same world-model and behaviour updates, the warm-up counted."""
    learner = make(name, toy, target, source, tmp_path)
    while learner.updates < learner.total:
        metrics = read_metrics(dict(learner.turn()))
        assert np.isfinite(list(metrics.values())).all()
    counts = learner.counts()
    assert counts["world_model_updates"] == toy.budget.updates
    assert counts["behaviour_updates"] == toy.budget.updates - toy.budget.warmup


@pytest.mark.parametrize("name", ["offline_dv2", "dv2_finetune", "coworld"])
def test_a_stored_method_goes_on_as_if_never_stopped(
    name: str, toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    whole = make(name, toy, target, source, tmp_path / "whole")
    before = turns(whole, 4)
    stopped = make(name, toy, target, source, tmp_path / "stopped")
    assert turns(stopped, 4) == before
    save_state(tmp_path / "state.pt", stopped.state_dict())
    if name == "coworld":
        stopped.source.staging.close()
    restored = make(name, toy, target, source, tmp_path / "stopped")
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert turns(restored, 4) == turns(whole, 4)


def test_the_schedule_is_algorithm_1() -> None:
    settings = CoWorldSettings(warm_rounds=2, epochs=3, source_env_steps_per_round=7, source_env_steps_per_epoch=9)
    config = Config.model_validate({"budget": {"warmup": 5, "updates": 15}})
    expected = [("target", 3), ("source", 7), ("target", 2), ("source", 7)]
    expected += [("target", 4), ("source", 9), ("target", 3), ("source", 9), ("target", 3)]
    assert schedule(settings, config) == [Block(side, amount) for side, amount in expected]  # type: ignore[arg-type]


def test_the_target_of_paper_size_gets_what_the_released_schedule_gives() -> None:
    """Meta-World: 20,000 world-model updates, then 6 x 10,000; the source 20,000 + 100,000 env steps of co-training."""
    blocks = schedule(CoWorldSettings(), Config())
    assert sum(block.amount for block in blocks if block.side == "target") == 80_000
    assert sum(block.amount for block in blocks if block.side == "source") == 2 * 10_000 + 5 * 20_000


def test_stage_a_trains_the_target_encoder_towards_the_source(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    def alignment(beta2: float) -> float:
        settings = CoWorldSettings(beta2=beta2, epochs=1, warm_rounds=1, source_env_steps_per_round=0)
        config = override(toy, {"budget.warmup": "60", "budget.updates": "61"})
        learner = CoWorld(settings, job_of(config, target, (source,), tmp_path / str(beta2)))
        turns(learner, 60)
        from coworld_bench.losses import align_states

        rows = learner.next_rows()
        with torch.no_grad():
            theirs, ours = (agent.model.embed(rows.image) for agent in (learner.source.agent, learner.agent))
        return float(align_states(theirs, ours))

    assert alignment(10.0) < 0.5 * alignment(0.0)


def test_stage_b_informs_the_source_of_target_rewards(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """With all weight on relabelled target rewards (η 0, k 1) the source's head must learn rewards only the target has."""
    settings = CoWorldSettings(eta_first=0.0, eta_last=0.0, k=1.0, epochs=1, warm_rounds=1)
    learner = CoWorld(settings, job_of(toy, target, (source,), tmp_path))
    learner.batches.memory = EpisodeMemory()
    for seed in range(3):
        episode = striped_episode(seed)
        learner.batches.memory.append(replace(episode, reward=3 * (episode.reward > 0).astype(np.float32)))

    def error() -> float:
        rows = learner.next_rows()
        with torch.no_grad():
            feature = learner.source.agent.see(rows).state.feature
            return float((learner.source.agent.model.predict_reward(feature) - rows.reward).square().mean())

    before = np.mean([error() for _ in range(5)])
    for _ in range(60):
        learner.update_source()
    assert np.mean([error() for _ in range(5)]) < 0.5 * before


def test_stage_c_pulls_the_target_critic_down_where_it_exceeds_the_source(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Against a source critic that says -100 everywhere, the constraint is active everywhere and values fall."""

    def value(alpha: float) -> tuple[float, float]:
        settings = CoWorldSettings(alpha=alpha, epochs=1, warm_rounds=1, source_env_steps_per_round=0)
        config = override(toy, {"budget.warmup": "0", "budget.updates": "60", "behaviour.critic_lr": "3e-3"})
        learner = CoWorld(settings, job_of(config, target, (source,), tmp_path / str(alpha)))
        with torch.no_grad():
            last = learner.source.agent.behaviour.critic[-1]
            last.weight.zero_(), last.bias.fill_(-100.0)
        metrics = turns(learner, 60)[-1]
        return metrics["critic/value"], metrics["coworld/constraint_active"]

    constrained, active = value(1.0)
    free, _ = value(0.0)
    assert active == 1.0
    assert constrained < free - 0.3


def test_nothing_of_the_source_is_inside_the_target(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """A peer registered as a submodule would be trained, stored and clipped with the agent (trap T10)."""
    learner = make("coworld", toy, target, source, tmp_path)
    before = [parameter.clone() for parameter in learner.source.agent.model.parameters()]
    names = set(learner.agent.model.state_dict())
    learner.train_target()
    assert names == set(make("offline_dv2", toy, target, source, tmp_path).agent.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(before, learner.source.agent.model.parameters(), strict=True))


def test_source_and_target_agent_start_from_weights_of_their_own(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """Equal ones would tie the two latent spaces before stage A has done anything."""
    learner = make("coworld", toy, target, source, tmp_path)
    fresh = OnlineAgent(source.domain, toy, 0, Staging(tmp_path / "fresh"), action_input=2)
    theirs = torch.cat([weight.flatten() for weight in fresh.agent.model.parameters()])
    ours = torch.cat([weight.flatten() for weight in learner.agent.model.parameters()])
    assert torch.cosine_similarity(ours, theirs, 0).abs() < 0.1
    learner.source.close(), fresh.close()


def test_finetune_starts_from_the_source_and_keeps_learning(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("dv2_finetune", toy, target, source, tmp_path)
    theirs = source.state()["agent"]["model"]["encoder.embed.weight"]
    assert torch.equal(learner.agent.model.encoder.embed.weight, theirs)
    assert learner.counts()["source_env_steps"] == source.env_steps == 150
    assert learner.counts()["source_updates"] > 0
    learner.turn()
    assert not torch.equal(learner.agent.model.encoder.embed.weight, theirs)


def test_offline_dv2_is_pessimistic_where_its_heads_disagree(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    learner = make("offline_dv2", toy, target, source, tmp_path)
    rows = learner.next_rows()
    starts = learner.agent.see(rows).state.flat()
    plain = learner.agent.update_behaviour(starts)["critic/reward"]
    lowered = learner.agent.update_behaviour(starts, penalty=lambda deter: 50 * learner.penalty(deter))["critic/reward"]
    assert lowered < plain - 0.1


def test_finetune_of_paper_size_has_the_papers_source_agent() -> None:
    spec = RunSpec("dv2_finetune", "metaworld/door_close", ("metaworld/button_press",), preset="paper")
    coworld = RunSpec("coworld", spec.target, spec.sources, preset="paper")
    assert spec.plan().source_specs()[0].config.online.source_env_steps == 160_000
    assert coworld.plan().source_specs()[0].config.online.source_env_steps == 35_000


@pytest.mark.parametrize("key", ["coworld.epochs", "coworld.warm_rounds"])
def test_a_schedule_without_rounds_is_refused(key: str) -> None:
    """It would lose updates."""
    with pytest.raises(UsageError, match="greater than or equal to 1"):
        RunSpec("coworld", "metaworld/door_close", ("metaworld/button_press",), options={key: "0"}).plan()


def test_a_checkpoint_whose_episodes_were_deleted_is_refused(toy: Config, source: SourceAgent, tmp_path: Path) -> None:
    online = OnlineAgent(source.domain, toy, 0, Staging(tmp_path / "episodes"))
    online.prefill_episode()
    with pytest.raises(DatasetError, match="some were deleted"):
        online.load_state_dict(online.state_dict() | {"episodes": 2})
    online.close()


def test_actions_of_different_sizes_are_padded_and_masked(
    toy: Config, target: EpisodeMemory, source: SourceAgent, tmp_path: Path
) -> None:
    """The source's agent understands a third action that its own domain does not have."""
    online = OnlineAgent(source.domain, toy, 0, Staging(tmp_path / "episodes"), action_input=3)
    online.prefill_episode()
    online.prefill_episode()
    episode, _ = online.agent_episode()
    assert episode.action.shape[1] == 2 and online.agent.spec.action_input == 3
    online.close()


def test_unknown_methods_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean coworld"):
        load_method("coword")
    with pytest.raises(UsageError, match="there is no file"):
        load_method(str(tmp_path / "mine.py"))
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match="defines no METHOD"):
        load_method(str(tmp_path / "empty.py"))


def test_every_shipped_method_loads_under_its_own_name() -> None:
    assert {"coworld", "dv2_finetune", "offline_dv2"} <= set(method_names())
    for name in method_names():
        assert load_method(name).name == name


def test_a_users_own_file_comes_in_through_the_same_door(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from coworld_bench.methods import Method\n"
        "from coworld_bench.offline import TargetLearner\n"
        "class Mine(TargetLearner):\n"
        "    def __init__(self, settings, job):\n"
        "        super().__init__(job)\n"
        "    def turn(self):\n"
        "        return self.update(self.next_rows())\n"
        "METHOD = Method(name='mine', label='Mine', learner=Mine)\n"
    )
    assert load_method(str(mine)).label == "Mine"
