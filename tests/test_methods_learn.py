"""Every method with a world model learns toy/point from pixels, and EWC's anchor keeps one from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_points import POINT, mirrored_agent, mixed_episodes, point_return

from coworld_bench.config import override, resolve
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.dreamer import read_metrics
from coworld_bench.envs import domain_of
from coworld_bench.methods import Job, Learner, SourceAgent, load_method

OPTIONS = {
    "env.unit_reward": "true", "env.action_repeat": "5", "batch.size": "24", "batch.length": "6", "budget.warmup": "100",
    "behaviour.discount": "0.7", "behaviour.horizon": "4", "behaviour.entropy": "1e-3", "behaviour.slow_every": "20",
    "behaviour.actor_lr": "1e-3", "behaviour.critic_lr": "2e-3", "model.lr": "3e-3",
}  # fmt: skip
CONFIG = override(resolve("quick", "toy"), OPTIONS)
LEARNING: dict[str, tuple[int, dict[str, str], float]] = {  # updates, settings of its own, return to be passed
    "offline_dv2": (450, {}, 20),
    "dv2_finetune": (300, {}, 20),
    "dv2_finetune_ewc": (300, {"penalty": "0.1", "sequences": "32"}, 20),
    "multitask_dv2": (300, {}, 14),
    "coworld": (350, {}, 14),
    "coworld_multi": (350, {}, 14),
    "lompo": (550, {}, 20),
    "lompo_finetune": (450, {"source_updates": "150"}, 14),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return mirrored_agent(CONFIG, tmp_path_factory.mktemp("source"), updates=250)


HEART = {"batch.size": "8", "budget.warmup": "20", "budget.updates": "250"}
FEW_SOURCE_STEPS = {"source_env_steps_per_round": "10", "source_env_steps_per_epoch": "10"}
BY_HEART: dict[str, dict[str, str]] = {  # settings of its own
    "offline_dv2": {},
    "dv2_finetune": {},
    "dv2_finetune_ewc": {"penalty": "0.01", "sequences": "4"},
    "multitask_dv2": FEW_SOURCE_STEPS,
    "coworld": FEW_SOURCE_STEPS,
    "coworld_multi": FEW_SOURCE_STEPS,
    "lompo": {},
    "lompo_finetune": {"source_updates": "40"},
}


def trained(name: str, updates: int, own: dict[str, str], source: SourceAgent, folder: Path) -> Learner:
    """The method after all its updates."""
    method = load_method(name)
    config = override(method.adapt(CONFIG, "toy"), {**OPTIONS, "budget.updates": str(updates)})
    settings = override(method.defaults("quick", "toy"), own)
    data = EpisodeMemory().extend(mixed_episodes())
    sources = (source,) if method.sources else ()
    learner = method.learner(settings, Job(config, domain_of(POINT), data, sources, 0, "cpu", folder))
    assert point_return(learner.policy) < 12
    while learner.updates < learner.total:
        learner.turn()
    return learner


@pytest.mark.parametrize("name", LEARNING)
def test_a_method_learns_to_reach_the_target_from_pixels(name: str, source: SourceAgent, tmp_path: Path) -> None:
    updates, own, wanted = LEARNING[name]
    learner = trained(name, updates, own, source, tmp_path)
    assert point_return(learner.policy) > wanted


@pytest.mark.parametrize("name", BY_HEART)
def test_a_small_dataset_is_learnt_by_heart(name: str, tmp_path: Path) -> None:
    """Two episodes of ten decisions: the world model draws every picture and knows every reward. A picture's loss is about
    900 at first; that of one model of two domains is of both, and the source's are sixty episodes."""
    config = override(CONFIG, HEART)
    method = load_method(name)
    source = mirrored_agent(config, tmp_path / "source", updates=2)
    data = EpisodeMemory().extend(mixed_episodes(count=2))
    settings = override(method.defaults("quick", "toy"), BY_HEART[name])
    sources = (source,) if method.sources else ()
    adapted = override(method.adapt(config, "toy"), HEART)
    learner = method.learner(settings, Job(adapted, domain_of(POINT), data, sources, 0, "cpu", tmp_path))
    while learner.updates < learner.total:
        metrics = learner.turn()
    last = read_metrics(dict(metrics))
    image, reward = (40, 1.5) if name == "multitask_dv2" else (12, 0.2)
    assert last["model/image"] < image and last["model/reward"] < reward


def test_a_strong_anchor_keeps_the_mirrored_control(source: SourceAgent, tmp_path: Path) -> None:
    """As above with λ a thousand times as large: what was right in the source is wrong here, and stays."""
    updates, own, wanted = LEARNING["dv2_finetune_ewc"]
    learner = trained("dv2_finetune_ewc", updates, own | {"penalty": "100"}, source, tmp_path)
    assert point_return(learner.policy) < wanted - 8
