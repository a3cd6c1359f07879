"""CoWorld with several sources: which one is nearest, what follows from it, and what is told of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy_runs import job_on_point, small_config, source_agent, take_turns

from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.cli import main
from coworld_bench.coworld import CoWorld, CoWorldSettings
from coworld_bench.coworld_multi import CoWorldMulti, CoWorldMultiSettings, run_lengths
from coworld_bench.dreamer import read_metrics
from coworld_bench.errors import UsageError
from coworld_bench.files import read_json
from coworld_bench.methods import SourceAgent, load_method
from coworld_bench.run_spec import RunSpec

TASKS = ("toy/point_mirrored", "toy/point")
SHORT = {"warm_rounds": 1, "epochs": 2, "source_env_steps_per_round": 50, "source_env_steps_per_epoch": 50}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[SourceAgent, ...]:
    made = [source_agent(task, small_config(), tmp_path_factory.mktemp("source"), n) for n, task in enumerate(TASKS)]
    return tuple(made)


def make(sources: tuple[SourceAgent, ...], folder: Path, updates: int = 8, **settings) -> CoWorldMulti:
    config = small_config(budget_updates=str(updates), budget_warmup="2")
    return CoWorldMulti(CoWorldMultiSettings(**SHORT | settings), job_on_point(config, sources, folder))


def divergence(source: np.ndarray, target: np.ndarray) -> float:
    """KL[softmax(source) ‖ softmax(target)], summed over time, a mean over the batch; [T, B, E] in float64."""
    total = 0.0
    for row, other in zip(source.reshape(-1, source.shape[-1]), target.reshape(-1, target.shape[-1]), strict=True):
        p, q = np.exp(row) / np.exp(row).sum(), np.exp(other) / np.exp(other).sum()
        total += float((p * (np.log(p) - np.log(q))).sum())
    return total / source.shape[1]


@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_source_is_the_one_of_least_divergence(
    seed: int, sources: tuple[SourceAgent, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    embeds, embed = rng.normal(0, 2, (2, 4, 3, 7)), rng.normal(0, 2, (4, 3, 7))
    learner = make(sources, tmp_path)
    learner.choose(*(torch.from_numpy(array).float() for array in (embeds, embed)))
    expected = [divergence(source, embed) for source in embeds]
    assert learner.distance.tolist() == pytest.approx(expected, rel=1e-4)
    assert learner.nearest.tolist() == [int(np.argmin(expected))]
    p = np.exp(embeds) / np.exp(embeds).sum(-1, keepdims=True)
    assert learner.entropy.tolist() == pytest.approx((-(p * np.log(p)).sum(-1)).mean((1, 2)), rel=1e-4)


@pytest.mark.parametrize("same", [0, 1])
def test_the_source_whose_encoder_is_the_targets_is_nearest_and_constrains_it(
    same: int, sources: tuple[SourceAgent, ...], tmp_path: Path
) -> None:
    learner = make(sources, tmp_path)
    learner.agent.model.encoder.load_state_dict(learner.sources[same].agent.model.encoder.state_dict())
    for number, source in enumerate(learner.sources):
        last = source.agent.behaviour.critic[-1]
        with torch.no_grad():
            last.weight.zero_(), last.bias.fill_([7.0, -100.0][number])
    learner.agent.model_updates = 2  # past the warm-up
    (metrics,) = take_turns(learner, 1)
    near, far = TASKS[same], TASKS[1 - same]
    assert metrics[f"coworld/distance/{near}"] < 1e-5 < metrics[f"coworld/distance/{far}"]
    assert (metrics[f"coworld/share/{near}"], metrics[f"coworld/share/{far}"]) == (1, 0)
    assert metrics["coworld/source_value"] == [7.0, -100.0][same]
    assert learner.trace[2] == same


def test_stage_a_draws_the_target_to_the_nearest_source_alone(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    learner = make(sources, tmp_path, beta2=3.0)
    seen = learner.agent.see(learner.next_rows())
    term = learner.align_states(seen, {})["align"]
    embeds = [source.agent.model.encode(seen.pixels, *seen.embed.shape[:2]).detach().double() for source in learner.sources]
    target = seen.embed.detach().double().requires_grad_()
    terms = [(e.softmax(-1) * (e.log_softmax(-1) - target.log_softmax(-1))).sum((0, 2)).mean() for e in embeds]
    nearest = terms[int(torch.stack(terms).argmin())]
    assert term.item() == pytest.approx(3 * nearest.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(term, seen.embed)
    (expected,) = torch.autograd.grad(3 * nearest, target)
    assert torch.allclose(gradient.double(), expected, rtol=1e-3, atol=1e-7)


def put_choices(learner: CoWorldMulti, choices: list[int]) -> None:
    """As if these had been the nearest sources so far."""
    learner.trace[: len(choices)] = torch.tensor(choices)
    learner.agent.model_updates = len(choices)


def test_the_majority_of_the_block_before_is_trained(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    """Target blocks of 2, 4 and 4 updates, a source block after each but the last."""
    learner = make(sources, tmp_path, updates=10)
    assert [block.amount for block in learner.blocks if block.side == "target"] == [2, 4, 4]
    put_choices(learner, [0, 0, 1, 0, 1, 1])
    assert (learner.choices(0), learner.choices(2), learner.choices(4)) == ([2, 0], [1, 3], [0, 0])
    assert (learner.majority(0), learner.majority(2)) == (0, 1)
    put_choices(learner, [0, 0, 1, 0, 1, 0])
    assert learner.majority(2) == 0  # the first of equals
    learner.trained = [1]
    assert learner.majority(4) == 1  # nobody was chosen: it goes on


def test_only_the_chosen_source_is_trained(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    learner = make(sources, tmp_path)
    put_choices(learner, [1, 1])
    learner.block, learner.done = 0, 2  # the first target block is over
    before = [source.env_steps for source in learner.sources]
    weights = [[w.clone() for w in source.agent.model.parameters()] for source in learner.sources]
    learner.turn()
    after = [source.env_steps for source in learner.sources]
    assert (after[0] - before[0], after[1] - before[1]) == (0, 50)
    moved = [
        not all(map(torch.equal, old, source.agent.model.parameters()))
        for old, source in zip(weights, learner.sources, strict=True)
    ]
    assert moved == [False, True]


def test_an_average_over_past_distances_keeps_the_choice_from_flickering(
    sources: tuple[SourceAgent, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances (1, 3), (1, 3), (4, 3): with half the weight on the past 0.5, 1.5; 0.75, 2.25; 2.375, 2.625."""
    given = iter([(1.0, 3.0), (1.0, 3.0), (4.0, 3.0)] * 2)
    embeds, embed = torch.zeros(2, 1, 1, 4), torch.zeros(1, 1, 4)

    def choices(ema: float) -> tuple[list[int], list[float]]:
        learner, chosen = make(sources, tmp_path / str(ema), ema=ema), []
        for _ in range(3):
            pair = iter(next(given))
            monkeypatch.setattr("coworld_bench.coworld_multi.align_states", lambda *_, pair=pair: torch.tensor(next(pair)))
            learner.choose(embeds, embed)
            chosen += learner.nearest.tolist()
        return chosen, learner.compared.tolist()

    assert choices(0.0) == ([0, 0, 1], [4.0, 3.0])
    assert choices(0.5) == ([0, 0, 0], [2.375, 2.625])


def test_same_seed_same_numbers_and_a_stored_run_goes_on_as_if_never_stopped(
    sources: tuple[SourceAgent, ...], tmp_path: Path
) -> None:
    whole = make(sources, tmp_path / "whole", ema=0.5)
    before = take_turns(whole, 5)
    stopped = make(sources, tmp_path / "stopped", ema=0.5)
    assert take_turns(stopped, 5) == before
    save_state(tmp_path / "state.pt", stopped.state_dict())
    for source in stopped.sources:
        source.staging.close()
    restored = make(sources, tmp_path / "stopped", ema=0.5)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert take_turns(restored, 5) == take_turns(whole, 5)
    assert restored.report() == whole.report()
    assert restored.trained and restored.trained == whole.trained
    assert torch.equal(restored.trace, whole.trace) and torch.equal(restored.compared, whole.compared)


def test_a_source_block_that_was_stopped_goes_on_with_its_source(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    learner = make(sources, tmp_path / "stopped", source_env_steps_per_round=100)
    put_choices(learner, [1, 1])
    learner.block, learner.done = 0, 2
    learner.turn()
    save_state(tmp_path / "state.pt", learner.state_dict())
    for source in learner.sources:
        source.staging.close()
    restored = make(sources, tmp_path / "stopped", source_env_steps_per_round=100)
    restored.load_state_dict(load_state(tmp_path / "state.pt"))
    assert (restored.block, restored.done, restored.source) == (1, 50, restored.sources[1])
    restored.turn()
    assert restored.trained == [1] and restored.sources[1].env_steps == sources[1].env_steps + 100


def test_metrics_are_left_alone_by_later_updates(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    """They are read at the next checkpoint."""
    learner = make(sources, tmp_path)
    metrics = dict(learner.turn())
    before = read_metrics(metrics)
    learner.turn()
    assert read_metrics(metrics) == before


def test_it_spends_coworlds_budget(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    def spent(learner: CoWorld) -> dict[str, int]:
        start, counts = learner.counts(), {}
        while learner.updates < learner.total:
            take_turns(learner, 1)
            counts = learner.counts()
        return {name: counts[name] - start[name] for name in counts}

    multi = make(sources, tmp_path / "multi")
    single = CoWorld(CoWorldSettings(**SHORT), job_on_point(multi.config, sources[:1], tmp_path / "single"))
    assert spent(multi) == spent(single)
    assert multi.counts()["source_env_steps"] == 2 * 100 + 2 * 50  # both pretrainings, and the co-training of one


class NoReading(TorchDispatchMode):
    """Refuses what makes the host wait for a device: a tensor read as a number, or indices that are looked for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


def test_no_update_waits_for_the_device(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    learner = make(sources, tmp_path)
    learner.agent.model_updates = 2
    with NoReading():
        learner.train_target()
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoReading():
        learner.nearest.item()


def test_a_report_tells_what_was_chosen(sources: tuple[SourceAgent, ...], tmp_path: Path) -> None:
    learner = make(sources, tmp_path, updates=10)
    put_choices(learner, [0, 0, 1, 1, 1, 1, 1, 0])
    learner.trained = [0, 1]
    report = learner.report()
    assert (report["chosen"], report["share"]) == ("toy/point", {"toy/point_mirrored": 0.375, "toy/point": 0.625})
    assert [list(counts.values()) for counts in report["choices_by_target_block"]] == [[2, 0], [0, 4], [1, 1]]
    assert report["trained_by_source_block"] == ["toy/point_mirrored", "toy/point"]
    assert report["trace"] == "0x2 1x5 0x1" and run_lengths([]) == ""


def test_it_takes_every_source_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    method = load_method("coworld_multi")
    assert main(["list", "methods", "--json"]) == 0
    listed = {row["method"]: row["sources"] for row in json.loads(capsys.readouterr().out)["methods"]}
    assert (listed["coworld_multi"], listed["coworld"]) == ("many", 1)
    assert method.sources == "many" and method.take(("a", "b", "a")) == ("a", "b")
    planned = RunSpec("coworld_multi", "toy/point", (*TASKS, TASKS[0]), preset="smoke").plan()
    assert planned.sources == TASKS and [spec.task for spec in planned.source_specs()] == list(TASKS)
    assert RunSpec("coworld", "toy/point", TASKS, preset="smoke").plan().sources == TASKS[:1]
    with pytest.raises(UsageError, match="needs 1 or more source task"):
        RunSpec("coworld_multi", "toy/point", preset="smoke").plan()
    with pytest.raises(UsageError, match="needs 1 source task"):
        RunSpec("coworld", "toy/point", preset="smoke").plan()


def test_two_sources_and_a_variant_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> dict:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    monkeypatch.setenv("COWORLD_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COWORLD_BENCH_RUNS", str(tmp_path / "runs"))
    said("collect", "toy/point", "--preset", "smoke", "--reference-return", "3")
    words = ("--target", "toy/point", "--preset", "smoke", "--source", TASKS[0])
    result = said("train", "coworld_multi", *words, "--source", TASKS[1])
    assert result["run"].startswith("coworld_multi--toy-point--2-sources--s0--")
    assert [agent["task"] for agent in result["source_agents"]] == result["sources"] == list(TASKS)
    report = result["method_report"]
    assert report["chosen"] in TASKS and sum(report["share"].values()) == 1
    assert {f"{kind}/{task}" for kind in ("distance", "entropy", "share") for task in TASKS} <= set(result["diagnostics"])
    assert read_json(tmp_path / "runs" / result["run"] / "result.json")["method_report"] == report

    ablated = said("train", "coworld:without_max", *words)
    assert ablated["run"].startswith("coworld-without_max--toy-point--toy-point_mirrored--s0--")
    assert (ablated["method"], ablated["label"]) == ("coworld:without_max", "CoWorld w/o max")
    assert ablated["method_config"]["constraint"] == "value" and "method_report" not in ablated
    for done in (result, ablated):
        assert said("evaluate", done["run"], "--episodes", "1")["run"] == done["run"]
