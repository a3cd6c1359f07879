"""A run from spec to result on `toy`: identity, refusal, going on after an interruption, force."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_methods import write
from PIL import Image

from coworld_bench.api import evaluate, rollout
from coworld_bench.checkpoints import Checkpoints, load_state
from coworld_bench.collecting import collect, plan_collection
from coworld_bench.data.dataset import open_dataset
from coworld_bench.envs import make_env
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.evaluation import Evaluator
from coworld_bench.files import read_json, read_lines, write_json
from coworld_bench.run_spec import ResolvedRun, RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.training import train

SMALL = {"online.prefill": "100", "online.train_every": "25"}


class Stopped(Exception):
    """Stands for a killed process."""


def stop_after(calls: int) -> Callable[[dict[str, Any]], None]:
    left = iter(range(calls))

    def observe(_: dict[str, Any]) -> None:
        if next(left, None) is None:
            raise Stopped

    return observe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one dataset and the source agent that goes with it."""
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options=SMALL)
    for source in spec("coworld").resolve(home).planned.source_specs():
        pretrain_source(source, home)
    return home


def spec(method: str, **changes: Any) -> RunSpec:
    return RunSpec(
        method, "toy/point", ("toy/point_mirrored",), preset="smoke", options=changes.pop("options", {}), **changes
    )


def scores(result: dict[str, Any]) -> list[list[float]]:
    return [[episode["return"] for episode in point["episodes"]] for point in result["evaluations"]]


@pytest.mark.parametrize("method", ["offline_dv2", "coworld"])
def test_an_interrupted_run_goes_on_to_the_same_result(method: str, data: Path, tmp_path: Path) -> None:
    whole = train(spec(method), data=data, runs=tmp_path / "whole")
    with pytest.raises(Stopped):
        train(spec(method), data=data, runs=tmp_path / "halves", observe=stop_after(1))
    folder = tmp_path / "halves" / whole["run"]
    assert not (folder / "result.json").exists() and Checkpoints(folder / "checkpoints")
    halves = train(spec(method), data=data, runs=tmp_path / "halves")
    assert scores(halves) == scores(whole)
    assert halves["diagnostics"] == whole["diagnostics"] and halves["budget"] == whole["budget"]
    lines = read_lines(folder / "eval.jsonl")
    assert [line["updates"] for line in lines] == [0, 4, 8]


def test_a_finished_run_is_read_and_force_does_it_again(data: Path, tmp_path: Path) -> None:
    first = train(spec("offline_dv2"), data=data, runs=tmp_path)
    assert train(spec("offline_dv2"), data=data, runs=tmp_path, observe=stop_after(0)) == first
    with pytest.raises(Stopped):
        train(spec("offline_dv2"), data=data, runs=tmp_path, observe=stop_after(0), force=True)


def test_the_number_of_evaluating_processes_changes_no_score_and_no_name(data: Path, tmp_path: Path) -> None:
    two = {"options": {"evaluation.episodes": "2"}}
    alone = train(spec("offline_dv2", **two), data=data, runs=tmp_path / "alone")
    together = train(spec("offline_dv2", **two), data=data, runs=tmp_path / "together", workers=2)
    assert together["run"] == alone["run"] and together["evaluations"] == alone["evaluations"]
    again = [evaluate(together["run"], episodes=2, runs=tmp_path / "alone", data=data, workers=n) for n in (0, 2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("method", ["offline_dv2", "coworld"])
def test_where_pictures_lie_changes_no_score_and_no_name(method: str, data: Path, tmp_path: Path) -> None:
    kinds = [spec(method, options={"compute.memory": kind}) for kind in ("ram", "packed")]
    ram, packed = (train(kind, data=data, runs=tmp_path / kind.options["compute.memory"]) for kind in kinds)
    assert packed["run"] == ram["run"] == spec(method).resolve(data).id
    assert packed["evaluations"] == ram["evaluations"] and packed["diagnostics"] == ram["diagnostics"]


def test_a_result_explains_itself(data: Path, tmp_path: Path) -> None:
    result = train(spec("coworld"), data=data, runs=tmp_path)
    dataset = open_dataset("toy/point/medium-replay-smoke", data)
    assert result["dataset"]["fingerprint"] == dataset.fingerprint
    assert {"coworld", "torch"} & set(result["versions"]) and result["device"].startswith("cpu")
    assert {"source_value", "constraint_active", "alignment_loss"} <= set(result["diagnostics"])
    assert result["source_agents"][0]["task"] == "toy/point_mirrored"
    assert read_json(tmp_path / result["run"] / "config.json")["method_config"]["alpha"] == 0.2


@pytest.mark.parametrize(("method", "groups"), [("coworld", {"data", "policy", "source"}), ("drq_bc", {"data", "policy"})])
def test_a_result_tells_where_the_encoder_puts_domains(method: str, groups: set[str], data: Path, tmp_path: Path) -> None:
    """The same however many processes evaluate, and where the pictures lie."""
    told = train(spec(method), data=data, runs=tmp_path / "one")["domains"]
    assert set(told["map"]) == groups and {name for each in told["distances"] for name in each["between"]} == groups
    assert told["pictures"]["data"] == 64 and told["pictures"]["policy"] == 50
    packed = train(spec(method, options={"compute.memory": "packed"}), data=data, runs=tmp_path / "two", workers=2)
    assert packed["domains"] == told
    strips = [path.read_bytes() for path in tmp_path.rglob("rollout.png")]
    assert len(strips) == 2 and strips[0] == strips[1]


@pytest.mark.parametrize("own", [False, True], ids=["with an encoder", "without one"])
def test_a_run_stores_one_episode_to_be_looked_at(
    own: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins as its seed says and is played once; `rollout` gives the same files and leaves the result as it is."""
    played: list[dict[str, Any]] = []
    visit = Evaluator.visit

    def counted(judge: Evaluator, policy: Any, seed: int, count: int) -> Any:
        played.append(judge.episode(policy, seed))
        return visit(judge, policy, seed, count)

    monkeypatch.setattr(Evaluator, "visit", counted)
    method = str(write(tmp_path)) if own else "offline_dv2"
    result = train(spec(method), data=data, runs=tmp_path)
    folder = tmp_path / result["run"]
    told, picture, stored = (folder / name for name in ("rollout.json", "rollout.png", "result.json"))
    found, (episode,) = read_json(told), played
    assert {key: found[key] for key in ("seed", "return", "length", "success")} == {
        key: episode[key] for key in ("seed", "return", "length", "success")
    }
    assert (found["run"], found["updates"], found["seed"]) == (result["run"], 8, 800_000_000)
    assert found["env_steps"] == [0, 7, 14, 21, 28, 35, 42, 49]
    assert (found["file"], found["sha256"]) == ("rollout.png", sha256(picture.read_bytes()).hexdigest())
    pixels = np.asarray(Image.open(picture))
    with make_env(spec(method).plan().env) as env:
        assert np.array_equal(pixels[:, :64], env.reset(seed=found["seed"])[0]["image"]) and pixels.shape == (64, 512, 3)
    before = {path: path.read_bytes() for path in (told, picture, stored)}
    picture.unlink()
    told.unlink()
    assert rollout(folder, method=method if own else None, data=data) == found
    assert before == {path: path.read_bytes() for path in before} and not (folder / "domains.json").exists()


def test_of_an_older_result_domains_are_written_beside_it(data: Path, tmp_path: Path) -> None:
    """As the run would have recorded them."""
    result = train(spec("drq_bc"), data=data, runs=tmp_path)
    folder, domains = tmp_path / result["run"], result.pop("domains")
    write_json(folder / "result.json", result)
    rollout(result["run"], runs=tmp_path, data=data)
    assert read_json(folder / "domains.json") == {"schema": 1, "run": result["run"], "domains": domains}
    assert read_json(folder / "result.json") == result


def test_all_that_determines_a_result_is_in_its_name(data: Path) -> None:
    names = {
        spec("coworld").resolve(data).id,
        spec("coworld", seed=1).resolve(data).id,
        spec("coworld", options={"coworld.alpha": "3"}).resolve(data).id,
        spec("coworld", options={"model.lr": "0.1"}).resolve(data).id,
        spec("dv2_finetune").resolve(data).id,
    }
    assert len(names) == 5
    assert spec("coworld").resolve(data).id in names


def test_data_from_another_environment_are_refused(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset toy/point/medium-replay-smoke__exact-v0"):
        spec("offline_dv2", options={"env.profile": "exact"}).resolve(data)
    usual, other = spec("offline_dv2"), spec("offline_dv2", options={"env.profile": "exact"})
    with pytest.raises(UsageError, match=r"another environment.*profile 'fast' against 'exact'"):
        ResolvedRun(other.plan(), usual.resolve(data).dataset)


def test_missing_data_and_sources_are_named_with_what_makes_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="coworld-bench collect toy/point"):
        train(spec("offline_dv2"), data=tmp_path / "nothing", runs=tmp_path)
    with pytest.raises(DatasetError, match="source agent"):
        train(spec("coworld", seed=7), data=data, runs=tmp_path)


def test_a_method_that_needs_a_source_says_so() -> None:
    with pytest.raises(UsageError, match="needs 1 source"):
        RunSpec("coworld", "toy/point", preset="smoke").plan()


def test_an_interrupted_collection_goes_on_to_the_same_dataset(tmp_path: Path) -> None:
    options = SMALL | {"online.evaluate_every": "50", "online.env_steps": "250"}

    def made(home: Path, **how: Any) -> str:
        return collect("toy/point", preset="smoke", data=home, options=options, reference_return=1e9, **how).fingerprint

    whole = made(tmp_path / "whole")
    with pytest.raises(Stopped):
        made(tmp_path / "halves", observe=stop_after(3))
    with pytest.raises(UsageError, match="--resume goes on with it"):
        made(tmp_path / "halves")
    assert made(tmp_path / "halves", resume=True) == whole
    dataset = open_dataset("toy/point/medium-replay-smoke", tmp_path / "halves")
    assert not dataset.fired and dataset.card["quality"]["reference_how"].startswith("given")
    with pytest.raises(UsageError, match="--force"):
        made(tmp_path / "halves")


def test_random_episodes_of_an_interrupted_prefill_are_kept(tmp_path: Path) -> None:
    options = SMALL | {"online.prefill": "200", "online.env_steps": "250"}
    seen: list[int] = []

    def made(home: Path, **how: Any) -> str:
        return collect("toy/point", preset="smoke", data=home, options=options, reference_return=1e9, **how).fingerprint

    with pytest.raises(Stopped):
        made(tmp_path, observe=stop_after(2))
    again = made(tmp_path, resume=True, observe=lambda progress: seen.append(progress["env_steps"]))
    assert seen[0] == 4 * 50, "three episodes were there"
    assert again == made(tmp_path / "whole")


def test_a_damaged_source_agent_is_a_sentence(data: Path, tmp_path: Path) -> None:
    agent = tmp_path / "agent.pt"
    for content in (None, b"", b"nothing of the kind"):
        if content is not None:
            agent.write_bytes(content)
        with pytest.raises(DatasetError, match=r"agent\.pt cannot be read"):
            load_state(agent)


def test_the_rule_stops_at_the_first_evaluation_that_reaches_it(tmp_path: Path) -> None:
    made = collect("toy/point", preset="smoke", data=tmp_path, options=SMALL, reference_return=1e-3)
    dataset = open_dataset(made.folder)
    curve = dataset.card["quality"]["curve"]
    assert made.fired and len(curve) == 1 and curve[0]["mean"] >= dataset.card["quality"]["threshold"]
    assert dataset.rows == made.episodes * 51


def test_collection_refuses_what_does_not_exist_before_any_work() -> None:
    for wrong in ({"quality": "medium-rare"}, {"preset": "quik"}, {"options": {"model.detre": "1"}}):
        with pytest.raises(UsageError, match="did you mean"):
            plan_collection("toy/point", **{"preset": "smoke"} | wrong)
