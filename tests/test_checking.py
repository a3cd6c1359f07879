"""`check-method`: every shipped method keeps the contract, a good little one too, and every way to break it is found."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from own_methods import FAULTS, LITTLE, Fault, in_turn, more, write

from coworld_bench.checking.checks import CHECKS, FAILED, OK, OPENING, SKIPPED, WARNING, Finding, check_methods
from coworld_bench.checking.guards import GlobalStreams, scramble_streams, streams_kept, watched_doors
from coworld_bench.cli import main
from coworld_bench.envs import make_env
from coworld_bench.errors import SOME_FAILED, USAGE
from coworld_bench.methods import COUNTS, method_names
from coworld_bench.offline import TargetLearner


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where source agents are kept, so that methods with the same ones share them."""
    return tmp_path_factory.mktemp("home")


def findings(method: str | Path, home: Path | None = None, **options: str) -> list[Finding]:
    given = {key.replace("__", "."): value for key, value in options.items()}
    ((_, found),) = check_methods([str(method)], given, "cpu", home)
    return list(found)


def states(found: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in found}


ALL_OK = dict.fromkeys([check.name for check in (*OPENING, *CHECKS)], OK)


@pytest.mark.parametrize("name", method_names())
def test_a_shipped_method_keeps_the_contract(name: str, home: Path) -> None:
    found = findings(name, home)
    assert states(found) == ALL_OK, [finding for finding in found if finding.state != OK]


def test_a_little_method_keeps_it(tmp_path: Path) -> None:
    found = findings(write(tmp_path))
    assert states(found) == ALL_OK, [finding for finding in found if finding.state != OK]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check}-{FAULTS.index(fault)}")
def test_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    """By its own check, in words that name it; and not by checks before it."""
    found = {finding.check: finding for finding in findings(fault.write(tmp_path))}
    state = WARNING if fault.check == "global streams" else FAILED
    assert found[fault.check].state == state and fault.said in found[fault.check].said, found
    before = list(found)[: list(found).index(fault.check)]
    assert all(found[name].state == OK for name in before), found


def test_checks_that_need_a_failed_one_are_not_made(tmp_path: Path) -> None:
    unloadable = states(findings(write(tmp_path, "1 / 0\n", "bad.py")))
    assert unloadable == ALL_OK | {"file": FAILED} | dict.fromkeys([*ALL_OK][1:], SKIPPED)


def test_a_source_may_be_opened_and_the_target_may_not(tmp_path: Path) -> None:
    start = LITTLE.replace(*more("sources=1"))
    for domain, state in (("self.job.sources[0].domain", OK), ("self.job.target", FAILED)):
        opening = in_turn("from coworld_bench import make_env", f"make_env({domain}.env)")
        found = findings(write(tmp_path, start.replace(*opening), f"{state}.py"))
        assert states(found) == ALL_OK | {"environments": state}, found


def test_every_check_is_broken_by_some_fault() -> None:
    assert {fault.check for fault in FAULTS} == set(ALL_OK)


def test_doors_are_seen_however_they_are_called() -> None:
    import gymnasium

    early = gymnasium.make
    with watched_doors({"toy/point_mirrored"}) as opened:
        make_env("toy/point_mirrored").close()
        assert not opened
        early("coworld_bench.envs:coworld/toy-point-v0").close()
        early("CartPole-v1").close()
    make_env("toy/point").close()
    assert list(opened) == ["toy/point", "CartPole-v1"]


def test_global_streams_are_watched_and_kept() -> None:
    before = random.getstate(), torch.get_rng_state()
    with streams_kept():
        streams = GlobalStreams()
        assert streams.moved() == []
        random.random(), np.random.rand()
        assert streams.moved() == ["random", "numpy.random"]
        scramble_streams(3)
        assert streams.moved() == ["random", "numpy.random", "torch"]
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_the_counts_are_those_of_the_shared_learner() -> None:
    learner = TargetLearner.__new__(TargetLearner)
    learner.agent = type("Agent", (), {"model_updates": 1, "behaviour_updates": 2})()  # type: ignore[assignment]
    assert tuple(learner.counts()) == COUNTS


def test_the_command_says_a_line_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path), write(tmp_path, LITTLE.replace("loss.detach()", "loss"), "bad.py")
    assert main(["check-method", str(good)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(good) and len(lines) == 1 + len(ALL_OK)
    assert all(re.match(r"  ok +[a-z ]+: \w", line) for line in lines[1:])
    assert main(["check-method", str(bad), str(good), "--json"]) == SOME_FAILED
    document = json.loads(capsys.readouterr().out)
    wrong = [check for method in document["methods"] for check in method["checks"] if check["state"] == FAILED]
    assert [check["check"] for check in wrong] == ["metrics"] and not document["kept"]


def test_options_reach_the_method(tmp_path: Path) -> None:
    assert states(findings(write(tmp_path), little__lr="0.5", budget__updates="3")) == ALL_OK
    large = findings(write(tmp_path), batch__length="4", budget__updates="2000")
    assert [finding.check for finding in large if finding.state == FAILED] == ["learner"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("{}/none.py", "there is no file"),
        ("coword", "no method 'coword'; did you mean coworld"),
        ("{}/little.py -o little.rate=1", "no setting 'rate'"),
        ("{}/little.py -o batch.sise=1", "did you mean batch.size"),
        ("{}/little.py offline_dv3", "did you mean offline_dv2"),
        ("{}/little.py --device gpu", "no device 'gpu'"),
        ("", "Missing argument"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    words: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert main(["check-method", *words.format(tmp_path).split()]) == USAGE
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and sentence in said.err
