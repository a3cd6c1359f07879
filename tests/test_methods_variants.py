"""CoWorld's ablations: what each leaves out, how they are addressed, and that runs stored before them keep their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from report_samples import put, result
from toy_runs import job_on_point, small_config, source_agent, take_turns

from coworld_bench.bench.jobs import select as select_jobs
from coworld_bench.cli import main
from coworld_bench.coworld import CoWorld, CoWorldSettings
from coworld_bench.errors import UsageError
from coworld_bench.files import digest_of, read_json
from coworld_bench.methods import SourceAgent, load_method, method_names
from coworld_bench.paths import shipped
from coworld_bench.plans import parse_plan
from coworld_bench.reporting.selection import select
from coworld_bench.reporting.store import read_store
from coworld_bench.run_spec import ResolvedRun, RunSpec

NAMES = ["without_state_alignment", "without_reward_alignment", "without_value_constraint", "without_max"]
TARGET, SOURCE = "toy/point", "toy/point_mirrored"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceAgent:
    return source_agent(SOURCE, small_config(), tmp_path_factory.mktemp("source"))


def make(variant: str, source: SourceAgent, folder: Path, **options: str) -> CoWorld:
    method = load_method(f"coworld:{variant}" if variant else "coworld")
    settings = method.defaults("smoke", "toy")
    learner = method.learner(settings, job_on_point(small_config(**options), (source,), folder / (variant or "all")))
    assert isinstance(learner, CoWorld)
    return learner


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_without_state_alignment_the_source_does_not_see_target_images(
    source: SourceAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, whole = (make(variant, source, tmp_path) for variant in ("without_state_alignment", ""))
    before = weights(learner.agent.model).clone()
    for each in (learner, whole):
        monkeypatch.setattr(each.source.agent.model, "encode", lambda *_: pytest.fail("it was asked"))
    (metrics,) = take_turns(learner, 1)
    assert "model/align" not in metrics and not torch.equal(before, weights(learner.agent.model))
    with pytest.raises(pytest.fail.Exception, match="it was asked"):
        whole.turn()


def test_without_reward_alignment_the_source_learns_as_if_alone(source: SourceAgent, tmp_path: Path) -> None:
    """Bit for bit what DreamerV2 makes of its own experience, and no batch of target data is drawn."""
    alone = source.online(tmp_path / "alone", "cpu")
    ablated, whole = (make(variant, source, tmp_path) for variant in ("without_reward_alignment", ""))
    whole.pretrained = (-10_000, 0)  # as if co-training was long over: the relabelled rewards count most
    for _ in range(3):
        alone.update(), ablated.update_source(), whole.update_source()
    assert torch.equal(weights(ablated.source.agent.model), weights(alone.agent.model))
    assert not torch.equal(weights(whole.source.agent.model), weights(alone.agent.model))
    assert (ablated.batches.k, whole.batches.k) == (0, 3)


def test_without_value_constraint_the_critic_is_plain_dreamers(source: SourceAgent, tmp_path: Path) -> None:
    critics = []
    for folder, variant in (("a", "without_value_constraint"), ("b", "without_value_constraint"), ("c", "")):
        learner = make(variant, source, tmp_path / folder, budget_warmup="0")
        for _ in range(2):
            if folder == "b":
                learner.update(learner.next_rows(), learner.align_states)
            else:
                learner.train_target()
        critics.append(weights(learner.agent.behaviour.critic))
    assert torch.equal(critics[0], critics[1])
    assert not torch.equal(critics[0], critics[2])


@pytest.mark.parametrize(
    ("variant", "loss", "gradient"),
    # H 2, N 2, α 0.2, w (1, ½): 0.2/4 [1·max(1,3) + 1·max(5,3) + ½·max(-1,3) + ½·max(4,3)], and the same of v alone
    [("", 0.575, [0.0, 0.05, 0.0, 0.025]), ("without_max", 0.375, [0.05, 0.05, 0.025, 0.025])],
)
def test_the_constraint_by_hand(
    variant: str, loss: float, gradient: list[float], source: SourceAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(variant, source, tmp_path)
    monkeypatch.setattr(learner, "source_value", lambda feature: torch.full((2, 2), 3.0))
    value = torch.tensor([[1.0, 5.0], [-1.0, 4.0]], requires_grad=True)
    terms, metrics = learner.constrain_value(torch.zeros(2, 2, 4), value, torch.tensor([[1.0], [0.5]]))
    terms["constraint"].backward()
    assert float(terms["constraint"].detach()) == pytest.approx(loss)
    assert value.grad is not None and value.grad.flatten().tolist() == pytest.approx(gradient)
    assert (float(metrics["coworld/source_value"]), float(metrics["coworld/constraint_active"])) == (3.0, 0.5)


def test_without_max_values_fall_where_they_are_below_the_sources(source: SourceAgent, tmp_path: Path) -> None:
    """Against a source critic that says 100 everywhere, the paper's constraint does nothing and the ablated one pulls."""

    def value(variant: str) -> float:
        learner = make(variant, source, tmp_path, budget_warmup="0", budget_updates="200", behaviour_critic_lr="3e-3")
        with torch.no_grad():
            last = learner.source.agent.behaviour.critic[-1]
            last.weight.zero_(), last.bias.fill_(100.0)
        metrics = [learner.train_target() for _ in range(60)][-1]
        assert metrics["coworld/constraint_active"] == 0
        return float(metrics["critic/value"])

    free, bounded, pulled = (value(variant) for variant in ("without_value_constraint", "", "without_max"))
    assert bounded == free
    assert pulled < free - 0.1


# Addressing


def test_a_variant_is_a_method_of_its_own() -> None:
    method = load_method("coworld:without_max")
    assert (method.name, method.family, method.label) == ("coworld:without_max", "coworld", "CoWorld w/o max")
    for preset in ("smoke", "quick", "paper"):
        for suite in ("metaworld", "dmc"):
            usual = load_method("coworld").defaults(preset, suite)
            assert method.defaults(preset, suite) == usual.model_copy(update={"constraint": "value"})
    changed = {name: load_method(f"coworld:{name}").defaults("paper", "dmc") for name in NAMES}
    assert changed["without_state_alignment"].beta2 == changed["without_value_constraint"].alpha == 0
    assert changed["without_reward_alignment"].eta_first == changed["without_reward_alignment"].eta_last == 1


def test_variants_are_listed_and_unknown_ones_get_the_nearest_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods", "--json"]) == 0
    listed = {row["method"]: row for row in json.loads(capsys.readouterr().out)["methods"]}
    assert {*method_names(), *(f"coworld:{name}" for name in NAMES)} <= set(listed)
    for wrong in ("coworld:without_mx", "coworld:", "offline_dv2:without_max"):
        with pytest.raises(UsageError, match="no method"):
            load_method(wrong)
    assert main(["train", "coworld:without_mx", "--target", TARGET]) == 2
    assert "did you mean coworld:without_max" in capsys.readouterr().err
    assert main(["train", "coword:without_max", "--target", TARGET]) == 2
    assert "did you mean coworld" in capsys.readouterr().err


def resolved(method: str, fingerprint: str = "ab12", **changes: Any) -> ResolvedRun:
    """A run whose dataset need not exist."""
    spec = RunSpec(**{"method": method, "target": TARGET, "sources": (SOURCE,), "preset": "smoke"} | changes)
    planned = spec.plan()
    return ResolvedRun(planned, SimpleNamespace(env_spec=planned.env, fingerprint=fingerprint))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "by_hand"),
    [
        ("without_state_alignment", {"coworld.beta2": "0"}),
        ("without_reward_alignment", {"coworld.eta_last": "1.0"}),
        ("without_value_constraint", {"coworld.alpha": "0"}),
        ("without_max", {"coworld.constraint": "value"}),
    ],
)
def test_a_variant_is_what_its_options_make(variant: str, by_hand: dict[str, str]) -> None:
    """One identity, two folders: reports know them by name and options."""
    named, made = resolved(f"coworld:{variant}"), resolved("coworld", options=by_hand)
    assert named.identity == made.identity != resolved("coworld").identity
    assert named.id.startswith(f"coworld-{variant}--toy-point--") and named.id != made.id
    assert named.id.rpartition("--")[2] == made.id.rpartition("--")[2]
    assert (named.config["method"], made.config["method"]) == (f"coworld:{variant}", "coworld")


def test_a_variants_options_carry_the_methods_name() -> None:
    planned = resolved("coworld:without_max", options={"coworld.alpha": "3"}).planned
    assert (planned.settings.alpha, planned.settings.constraint) == (3, "value")  # type: ignore[attr-defined]
    back = resolved("coworld:without_max", options={"coworld.constraint": "max"})
    assert back.identity == resolved("coworld").identity


def test_a_users_own_method_has_variants_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from coworld_bench.coworld import CoWorld, CoWorldSettings\n"
        "from coworld_bench.methods import Method, Variant\n"
        "METHOD = Method(name='mine', label='Mine', learner=CoWorld, settings=CoWorldSettings, sources=1,\n"
        "                variants={'mild': Variant('Mine, mild', {'alpha': 0.1})})\n"
    )
    run = resolved(f"{mine}:mild", options={"mine.k": "0.5"})
    assert (run.planned.method.label, run.config["method"]) == ("Mine, mild", "mine:mild")
    assert (run.planned.settings.alpha, run.planned.settings.k) == (0.1, 0.5)  # type: ignore[attr-defined]
    assert run.identity["method_file"] == resolved(str(mine)).identity["method_file"] is not None


PLAN = {
    "title": "Ablations",
    "quality": "medium-replay",
    "methods": ["coworld", "coworld:without_max"],
    "seeds": {"quick": [0]},
    "cells": [{"target": "metaworld/door_close", "source": "metaworld/button_press"}],
}


def test_a_variant_has_a_row_of_its_own(tmp_path: Path) -> None:
    plan = parse_plan("ablations", PLAN)
    ((cell,), seeds) = plan.cells, {"coworld": 100.0, "coworld:without_max": 40.0}
    for method, mean in seeds.items():
        label = load_method(method).label
        run = result(method, cell.target, mean, source=cell.source or "", label=label)
        put(tmp_path, run, folder=run["run"].replace(":", "-"))
    selection = select(read_store(tmp_path), plan, "quick")
    assert selection.labels == {"coworld": "CoWorld", "coworld:without_max": "CoWorld w/o max"}
    assert {method: found.scores[0] for (method, _), found in selection.measurements.items()} == seeds
    planned = select_jobs(plan, "quick", ["coworld:without_max"], options={"coworld.alpha": "1"})
    assert planned.methods == ("coworld:without_max",)


# Runs that were stored before


def stored_runs() -> Iterator[Path]:
    return (shipped("reports") / "measured").glob("*/runs/coworld--*/result.json")


def test_stored_runs_keep_their_names() -> None:
    """Planned today, from what a result says was asked, each comes out under the name that it has."""
    found = [read_json(path) for path in stored_runs()]
    assert len(found) > 20
    for stored in found:
        asked = {key: stored[key] for key in ("target", "seed", "preset", "quality", "options")}
        run = resolved("coworld", stored["dataset"]["fingerprint"], sources=tuple(stored["sources"]), **asked)
        assert run.id == stored["run"]
        assert {key: run.identity[key] for key in run.identity if key != "dataset"}.items() <= stored.items()


def test_the_name_of_a_stored_run_is_the_digest_of_what_it_holds() -> None:
    keys = resolved("coworld").identity
    for stored in map(read_json, stored_runs()):
        settings = CoWorldSettings.model_validate(stored["method_config"])
        assert settings.constraint == "max" and "constraint" not in settings.identity()
        identity = {key: stored[key] for key in keys} | {"dataset": stored["dataset"]["fingerprint"]}
        identity |= {"method_config": settings.identity()}
        assert stored["run"].endswith(digest_of(identity)[:10])
        identity |= {"method_config": settings.to_dict()}
        assert not stored["run"].endswith(digest_of(identity)[:10])
