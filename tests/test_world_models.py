"""World models by name: what is in them, how they are chosen, and that each can learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_runs import job_on_point, source_agent, take_turns

from coworld_bench.cli import main
from coworld_bench.config import WORLD_MODELS, override, parse_options, resolve, world_model
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.envs import domain_of
from coworld_bench.errors import UsageError
from coworld_bench.methods import load_method
from coworld_bench.plans import parse_plan
from coworld_bench.reporting.selection import has_settings
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.tasks import EnvSpec

WITH_A_WORLD_MODEL = (
    "coworld", "coworld_multi", "offline_dv2", "dv2_finetune", "dv2_finetune_ewc", "multitask_dv2", "lompo",
    "lompo_finetune",
)  # fmt: skip
# at least; a learner's turn must reach the behaviour
SMALL = {
    "batch.size": "2", "batch.length": "4", "behaviour.starts": "2", "behaviour.horizon": "3", "budget.warmup": "0",
    "online.pretrain": "1", "online.prefill": "50", "online.train_every": "40", "compute.precision": "float32",
}  # fmt: skip


def planned(
    method: str = "coworld", *options: str, preset: str = "paper", target: str = "metaworld/door_close"
) -> PlannedRun:
    return RunSpec(method, target, ("metaworld/button_press",), preset=preset, options=parse_options(list(options))).plan()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "code",
            {"latent": "gaussian", "stoch": 50, "deter": 200, "hidden": 200, "depth": 32, "gru_norm": False, "lr": 3e-4},
        ),
        ("code", {"reward_layers": 2, "value_layers": 3, "actor_layers": 4, "units": 400, "free_nats": 1.0}),
        ("table8", {"latent": "categorical", "stoch": 32, "classes": 32, "deter": 600, "hidden": 600, "lr": 2e-4}),
        ("table8", {"reward_layers": 4, "value_layers": 4, "actor_layers": 4, "depth": 48, "units": 400, "kl_scale": 1.0}),
        ("dv2_dmc", {"latent": "categorical", "stoch": 32, "classes": 32, "deter": 200, "hidden": 200, "lr": 3e-4}),
        ("dv2_dmc", {"reward_layers": 4, "value_layers": 4, "actor_layers": 4, "depth": 48, "gru_norm": True}),
    ],
)
def test_the_published_sizes(name: str, values: dict[str, object]) -> None:
    model = world_model(name).to_dict()
    assert {key: model[key] for key in values} == values
    assert (model["encoder"], model["kl_balance"]) == ("cnn", 0.8)


@pytest.mark.parametrize("suite", ["metaworld", "robodesk", "dmc", "toy"])
def test_the_paper_preset_has_the_released_world_model(suite: str) -> None:
    """DMC has a LayerNorm in the GRU and twice the reward loss there."""
    assert resolve("paper", suite).model == world_model("code", suite)
    assert resolve("quick", suite, {"model": "code"}).model == world_model("code", suite)


def test_offline_dv2_of_paper_size_has_that_of_dmc_vision() -> None:
    for target in ("metaworld/door_close", "dmc/walker_uphill"):
        assert planned("offline_dv2", target=target).config.model == world_model("dv2_dmc")


@pytest.mark.parametrize("method", WITH_A_WORLD_MODEL)
def test_every_world_model_method_and_its_sources_take_it(method: str) -> None:
    """Whatever preset and method say of the group `model` is replaced; the rest stays."""
    usual, other = planned(method, preset="quick"), planned(method, "model=table8", preset="quick")
    loss = {name: getattr(other.config.model, name) for name in ("kl_balance", "kl_scale", "free_nats")}
    assert other.config.model == world_model("table8").model_copy(update=loss)
    assert usual.config.model_copy(update={"model": other.config.model}) == other.config
    assert other.changes == {"model": "table8"}
    for source in other.source_specs():
        shared = world_model("table8") if other.method.experience_only else other.config.model
        assert source.config.model == shared
        assert source.digest != usual.source_specs()[0].digest


def test_lompo_keeps_its_plain_kl_unless_it_is_asked_for_another() -> None:
    """It is the method's loss, and no size of a network."""
    for method, expected in (("lompo", (0.5, 2.0, 0.0)), ("coworld", (0.8, 1.0, 0.0))):
        model = planned(method, "model=table8").config.model
        assert (model.kl_balance, model.kl_scale, model.free_nats) == expected
    assert planned("lompo", "model=table8", "model.kl_scale=3").config.model.kl_scale == 3


@pytest.mark.parametrize("order", [1, -1])
def test_single_settings_lie_on_top_in_any_order(order: int) -> None:
    run = planned("coworld", *["model=table8", "model.deter=64", "model.lr=0.0002"][::order])
    assert run.config.model == world_model("table8").model_copy(update={"deter": 64})
    assert run.changes == {"model": "table8", "model.deter": 64}
    again = RunSpec("coworld", run.env.task, run.sources, preset="paper", options=run.changes).plan()
    assert again.config == run.config, "what a result records makes the same run"


def test_the_world_model_that_a_preset_has_anyway_names_no_other_run() -> None:
    plain, named = planned(), planned("coworld", "model=code")
    assert named.config == plain.config and named.changes == {}
    assert [source.digest for source in named.source_specs()] == [source.digest for source in plain.source_specs()]


@pytest.mark.parametrize(
    ("name", "message"), [("tabel8", r"did you mean table8\? known: code, dv2_dmc, table8"), ("x", "known: code")]
)
def test_an_unknown_one_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"no world model '{name}'; {message}"):
        planned("coworld", f"model={name}")


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "presets", "--json"]) == 0
    rows = {row["preset"]: row for row in json.loads(capsys.readouterr().out)["presets"]}
    assert {f"model={name}" for name in WORLD_MODELS} | {"paper", "quick", "smoke"} == set(rows)
    table8 = rows["model=table8"]
    assert (table8["latent"], table8["deter"], table8["updates"]) == ("categorical 32x32", 600, None)


def test_a_report_finds_the_runs_of_a_plan_that_names_one() -> None:
    """By the name that the run records, or by its values where the name changed nothing."""
    plan = {"title": "t", "quality": "medium-replay", "methods": ["coworld"], "seeds": {"paper": [0]}}
    cells = [{"target": "metaworld/door_close", "source": "metaworld/button_press"}]
    wanted = parse_plan("p", plan | {"cells": cells, "options": {"paper": {"model": "table8"}}}).options_of("paper")

    class Row:
        def __init__(self, *options: str) -> None:
            from coworld_bench.config import flat

            run = planned("coworld", *options)
            self.method, self.target = "coworld", run.env.task
            self.options = json.dumps({key: str(value) for key, value in run.changes.items()})
            self.settings = flat(run.config.identity())

    assert has_settings(Row("model=table8"), wanted) and not has_settings(Row(), wanted)
    assert not has_settings(Row("model=table8", "model.deter=64"), wanted)
    assert has_settings(Row("model=table8", "model.deter=64"), wanted | {"model.deter": "64"})
    assert has_settings(Row(), {"model": "code"}) and not has_settings(Row("model=table8"), {})


@pytest.mark.parametrize("name", WORLD_MODELS)
def test_each_takes_a_turn(name: str, tmp_path: Path) -> None:
    """CoWorld's, of paper size: the source with stage B, then the target with stages A and C."""
    config = override(resolve("smoke", "toy", {"model": name, "budget.updates": "2"} | SMALL), {})
    method = load_method("coworld")
    source = source_agent("toy/point_mirrored", config, tmp_path / "source")
    settings = override(method.defaults("smoke", "toy"), {"epochs": "1", "warm_rounds": "1"})
    learner = method.learner(settings, job_on_point(config, (source,), tmp_path))
    first, second = take_turns(learner, 2)
    assert "source/model/reward" in first and {"coworld/alignment_loss", "critic/constraint"} <= set(second)
    assert np.isfinite([*first.values(), *second.values()]).all()
    embed = 32 * config.model.depth
    assert learner.agent.model.encoder.size == learner.source.agent.model.encoder.size == embed
    assert learner.agent.model.rssm.feature_size == config.model.deter + (50 if name == "code" else 1024)
    learner.source.close()


def test_an_agent_of_states_has_it_too() -> None:
    config = override(resolve("smoke", "toy", {"model": "table8"} | SMALL), {})
    domain = domain_of(EnvSpec("toy/point", observation="state"))
    agent = DreamerAgent(config, replace(AgentSpec.of(domain, config), action_input=5), 0)
    assert agent.model.encoder.size == 1536 and agent.model.encoder.layers[0].in_features == 4
