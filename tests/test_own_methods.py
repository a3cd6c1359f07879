"""A method of the user's own, from its file to the report; and what is said when something is wrong with it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_points import mixed_episodes, point_return
from own_methods import ACT, BROKEN, LITTLE, LOSS, Fault, in_turn, more, write
from test_checking import ALL_OK, findings, states
from test_methods_model_free import make

from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.config import resolve
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.errors import SOME_FAILED, USAGE, PartMissing, UsageError, about_fault
from coworld_bench.methods import load_method
from coworld_bench.model_free import DrqLearner

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "my_method.py"
PLAN = """
title = "Toy"
quality = "medium-replay"
methods = ["offline_dv2"]
seeds = { smoke = [0] }
[[cells]]
target = "toy/point"
"""


@pytest.fixture(scope="module", autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with one dataset."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COWORLD_BENCH_DATA", str(home / "data"))
        patch.setenv("COWORLD_BENCH_RUNS", str(home / "runs"))
        collect("toy/point", preset="smoke", reference_return=3)
        yield home


def test_the_readme_shows_the_example_as_it_is() -> None:
    listings = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [text for text in listings if "METHOD" in text] == [EXAMPLE.read_text()]
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_the_example_keeps_the_contract() -> None:
    assert states(findings(EXAMPLE)) == ALL_OK


def test_the_example_weighs_the_better_decisions_more(memory: EpisodeMemory) -> None:
    """Where the critics say that more of the first component is better, decisions with more of it count more."""
    import torch

    learner = make(str(EXAMPLE), memory)
    learner.networks.q = lambda encoded, action: torch.stack([action[..., 0]] * 2)  # type: ignore[method-assign]
    encoded, half = torch.zeros(2, learner.networks.encoder.size), torch.tensor([[0.5, 0.0], [-0.5, 0.0]])
    policy = learner.networks.mode(encoded).detach()
    advantage = half[:, 0] - policy[:, 0]
    weight = (advantage / advantage.abs().mean()).exp()
    expected = (weight * (policy - half).square().mean(-1)).mean()
    loss, metrics = learner.actor_loss(encoded, half, torch.tensor(0.1))
    assert torch.isclose(loss, expected) and torch.isclose(metrics["actor/weight"], weight.mean())
    assert weight[0] > 2 * weight[1]


@pytest.mark.slow
def test_the_example_learns_more_than_the_data_do() -> None:
    """Decisions are good with a probability of one half: the data return 31, cloning them 34, good play 45."""
    options = {"env__unit_reward": "true", "env__action_repeat": "5", "behaviour__discount": "0.5", "batch__size": "32"}
    own = {"own__stack": "1", "own__shift": "2", "own__units": "64", "own__lr": "5e-4", "own__tau": "0.1"}
    memory = EpisodeMemory().extend(mixed_episodes())
    learner = make(str(EXAMPLE), memory, budget__updates="600", **options, **own)
    for _ in range(600):
        learner.turn()
    assert point_return(learner.policy) > 36


def test_the_example_runs_to_its_row_in_the_report(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an option of its own, beside a method that has no such option."""
    plan = homes / "toy.toml"
    plan.write_text(PLAN)
    words = ["run", str(plan), "--preset", "smoke", "--methods", f"offline_dv2,{EXAMPLE}", "-o", "my_method.beta=0.5"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert {"Offline DV2", "My method"} <= {line.split("  ")[0] for line in table.splitlines()}, table
    (folder,) = (homes / "runs").glob("my_method--toy-point--none--s0--*")
    result = json.loads((folder / "result.json").read_text())
    assert result["method_config"]["beta"] == 0.5 and result["options"] == {"my_method.beta": 0.5}
    (report,) = (homes / "runs").rglob("toy-smoke-??????-runs.csv")
    scores = {row["method"]: float(row["score"]) for row in csv.DictReader(report.open())}
    assert scores["my_method"] == pytest.approx(result["score"]["mean"])
    assert main([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["finished_before"], again["jobs"]) == (2, [])


def test_a_trained_method_is_evaluated_by_its_file(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = write(homes)
    assert main(["train", str(mine), "--target", "toy/point", "--preset", "smoke", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert main(["evaluate", run, "--method", str(mine), "--episodes", "2"]) == 0


def said_by(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """The sentence of a command that fails: nothing comes after it, and before it progress at most."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    said = capsys.readouterr()
    *before, sentence = said.err.splitlines()
    assert said.out == "" and sentence.startswith("error: "), said
    assert all(line.startswith("train ") for line in before), said
    return sentence


REFUSED = [Fault(check, *found) for check in ("file", "settings") for found in BROKEN[check]]
REFUSED = [fault for fault in REFUSED if "preset paper" not in fault.said and fault.said != "cannot be stored as JSON"]
REFUSED = [fault for fault in REFUSED if "quick" not in fault.said and "online.x" not in fault.said]


@pytest.mark.parametrize("fault", REFUSED, ids=lambda fault: fault.said)
def test_a_file_that_is_no_method_is_refused_in_a_sentence(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fault.write(tmp_path)
    for verb in (["train", path, "--target", "toy/point"], ["run", "quickstart", "--dry-run", "--methods", path]):
        assert fault.said in said_by(capsys, USAGE, *verb, "--preset", "smoke")


def test_a_learner_that_lacks_a_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, LITTLE.replace("def turn(", "def turns("))
    said = said_by(capsys, USAGE, "train", path, "--target", "toy/point", "--preset", "smoke")
    assert "little.py, line 31: class Little lacks turn, which the learner of little must have" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (in_turn("self.nest.step()"), "little.py, line 55: AttributeError: 'Little' object has no attribute 'nest'"),
        ((LOSS, '"loss": loss.repeat(2)'), "metric loss is a tensor of shape [2]; a metric is a single number"),
        (
            (ACT, "        return np.full((1, 2), np.nan, np.float32), carry\n" + ACT),
            "the policy of little fails: toy/point",
        ),
        ((ACT, "        return np.ones((1, 3), np.float32), carry\n" + ACT), "after 0 updates the policy of little fails"),
    ],
)
def test_a_fault_at_work_is_a_sentence_with_its_line(
    change: tuple[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, LITTLE.replace(*change))
    assert sentence in said_by(capsys, SOME_FAILED, "train", path, "--target", "toy/point", "--preset", "smoke")


def test_a_fault_in_a_jobs_process_is_the_same_sentence(
    homes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, path = tmp_path / "toy.toml", write(tmp_path, LITTLE.replace(*in_turn("1 / 0")))
    plan.write_text(PLAN)
    runs = tmp_path / "runs"
    words = ["run", plan, "--preset", "smoke", "--methods", path, "--runs", runs, "--json"]
    assert main([str(word) for word in words]) == SOME_FAILED
    assert "error: little.py, line 55: ZeroDivisionError: division by zero" in capsys.readouterr().err
    (log,) = runs.glob("little--*/stderr.log")
    assert "Traceback" in log.read_text()


def test_two_methods_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write(tmp_path), write(tmp_path, LITTLE + "\n", "other.py")
    words = "run", "quickstart", "--preset", "smoke", "--dry-run", "--methods", f"{one},{other}"
    assert "are both called little" in said_by(capsys, USAGE, *words)


def test_options_of_two_own_methods_reach_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write(tmp_path), write(tmp_path, LITTLE.replace('name="little"', 'name="other"'), "other.py")
    words = "run", "quickstart", "--preset", "smoke", "--dry-run", "--methods", f"{one},{other}", "-o"
    assert main([*words, "little.lr=1"]) == 0
    assert "no setting 'rate'" in said_by(capsys, USAGE, *words, "little.rate=1")
    assert "no setting 'litle.lr'" in said_by(capsys, USAGE, *words, "litle.lr=1")


def test_a_method_that_imports_mujoco_leaves_it_able_to_draw(tmp_path: Path) -> None:
    """In a process of its own: how mujoco draws is decided when it is first imported."""
    file = write(tmp_path, "import mujoco\n" + LITTLE)
    code = f"""
from coworld_bench import load_method, make_env
load_method({str(file)!r})
print(make_env("dmc/cheetah_run").reset(seed=0)[0]["image"].std() > 5)
"""
    clean = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_metrics_may_be_numbers(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(homes, LITTLE.replace('"actor/rate": 1.0', '"actor/rate": self.updates').replace(*more("revision=2")))
    assert main(["train", str(path), "--target", "toy/point", "--preset", "smoke", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    lines = [json.loads(line) for line in (homes / "runs" / run / "metrics.jsonl").read_text().splitlines()]
    assert lines[1]["actor/rate"] == np.mean([1, 2, 3, 4])


def test_settings_that_are_wrong_under_one_preset_are_refused_under_that_one(tmp_path: Path) -> None:
    method = load_method(str(write(tmp_path, LITTLE.replace(*more("shared={'quick': {'batch': {'size': -1}}}")))))
    assert method.adapt(resolve("smoke", "toy"), "toy").batch.size > 0
    with pytest.raises(UsageError, match=r"method little, `shared` under preset quick: setting batch\.size=-1"):
        method.adapt(resolve("quick", "toy"), "toy")


def test_a_fault_of_ours_is_called_one() -> None:
    assert about_fault(KeyError("x")) == "KeyError: 'x' (a fault of ours; --debug shows where)"


def test_a_part_that_a_method_lacks_is_named() -> None:
    class Mine(DrqLearner):
        pass

    with pytest.raises(PartMissing, match=r"^Mine has no actor_loss; `coworld-bench check-method` tells"):
        DrqLearner.actor_loss(object.__new__(Mine), *[None] * 3)  # type: ignore[arg-type]
    assert "a fault of ours" in about_fault(NotImplementedError("no kernel for this on CPU")), "torch raises it too"
