"""`stop`, `retry` and `logs`, on drivers and runs that are real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_stores import ELSEWHERE, begun, done, failed, running, tell
from rich.console import Console

from coworld_bench.anchors import anchors_path
from coworld_bench.bench import following, steering
from coworld_bench.bench.again import failed_runs, spec_of, summary_of
from coworld_bench.bench.backends.local import Local
from coworld_bench.bench.board import PlainBoard
from coworld_bench.bench.drivers import drivers_at_work, registered
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.finding import find_job
from coworld_bench.bench.jobs import Place, jobs_of
from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.errors import SOME_FAILED, STOPPED, USAGE, UsageError
from coworld_bench.files import read_json, write_json
from coworld_bench.run_spec import RunSpec
from coworld_bench.training import OF_DRIVER, clear_run

ROOT = Path(__file__).resolve().parent.parent
PLAN = """
title = "Toy"
quality = "medium-replay"
methods = ["offline_dv2"]
seeds = { smoke = [0, 1] }
options.smoke = { "budget.updates" = %d, "evaluation.every" = 100000, "evaluation.early_every" = 100000 }
[[cells]]
target = "toy/point"
"""
SMALL = {"online.prefill": "100", "online.train_every": "25"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the one dataset."""
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options=SMALL)
    return home


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def written(folder: Path, name: str, updates: int) -> str:
    (folder / f"{name}.toml").write_text(PLAN % updates)
    return str(folder / f"{name}.toml")


def begin(plan: str, store: Path, data: Path, *words: str) -> subprocess.Popen[bytes]:
    """A driver in a process of its own."""
    asked = ["run", plan, "--preset", "smoke", "--jobs", "1", "--device", "cpu", *words]
    command = [sys.executable, "-m", "coworld_bench.cli", *asked, "--runs", str(store), "--data", str(data)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(found: Callable[[], object]) -> None:
    while not found():
        time.sleep(0.1)


def at_work(store: Path) -> list[Standing]:
    return [found for found in Reader(store).read() if found.state == "running" and found.is_run and found.progress]


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are not to outlive their test."""
    begun: list[subprocess.Popen[bytes]] = []
    yield begun
    for process in begun:
        process.terminate()
        process.wait()


def test_a_run_and_then_its_plan_are_stopped_at_checkpoints(
    tmp_path: Path, store: Path, data: Path, ended: list[subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    ended.append(begin(written(tmp_path, "long", 1_000_000), store, data))
    until(lambda: at_work(store))
    (first,) = at_work(store)
    assert main(["stop", first.name[:-3], "--runs", str(store)]) == 0
    assert capsys.readouterr().out == f"stopped: train offline_dv2 toy/point seed 0 on {first.status['host']}\n"
    until(lambda: at_work(store))  # the driver goes on with the other seed
    assert {found.state for found in Reader(store).read()} == {"stopped", "running"}
    assert main(["stop", "long", "--runs", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "stopped": ["long (preset smoke)"], "asked": []}
    assert ended[0].wait() == STOPPED and drivers_at_work(store) == []
    for found in Reader(store).read():
        assert (found.state, found.status["code"]) == ("stopped", STOPPED) and found.progress["updates"] > 0
        assert list((found.log.parent / "checkpoints").iterdir()) and found.spent["cpu_s"] > 0
    assert main(["stop", "long", "--runs", str(store)]) == USAGE
    assert "no run 'long' in the store" in capsys.readouterr().err


def test_a_failed_run_is_done_again_as_it_was_asked_for(
    tmp_path: Path, store: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--runs", str(store), "--data", str(data)]
    words = ["run", written(tmp_path, "short", 4), "--preset", "smoke", "--seeds", "0", "--device", "cpu", *places]
    write_json(anchors_path("toy/point", "smoke", store), {"task": "toy/point", "preset": "smoke"})  # not of this test
    assert main([*words, "--memory", "50MB", "--retries", "0"]) == SOME_FAILED
    (found,) = [found for found in Reader(store).read() if found.is_run]
    assert found.state == "failed" and "more than --memory" in found.error
    assert main(["logs", found.name, "--runs", str(store)]) == 0
    assert "more than --memory" in capsys.readouterr().out
    assert main(["retry", "--failed", "--dry-run", *places]) == 0 and not (found.log.parent / "result.json").exists()
    assert main(["retry", found.name, "--jobs", "1", "--device", "cpu", *places]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == "done"
    (now,) = [found for found in Reader(store).read() if found.is_run]
    assert (now.state, now.name) == ("done", found.name)
    assert main(["retry", "--failed", *places]) == 0 and "nothing failed" in capsys.readouterr().out
    assert main(["retry", found.name, *places]) == USAGE and "is done" in capsys.readouterr().err


def test_a_finished_run_is_done_again_by_force_beside_the_log_that_its_driver_reads(
    tmp_path: Path, store: Path, data: Path
) -> None:
    options = {"budget.updates": "4", "evaluation.every": "100000", "evaluation.early_every": "100000"}
    spec, place = RunSpec("offline_dv2", "toy/point", preset="smoke", options=options), Place(data, store)
    (job,) = [job for job in jobs_of(spec, place) if job.kind == "train"]
    job = replace(job, again=True, argv=(*job.argv[:-1], job.argv[-1].replace('"force": false', '"force": true')))
    job.log().parent.mkdir()
    for name in ("result.json", "eval.jsonl", "metrics.jsonl"):
        (job.log().parent / name).write_text("{}")
    executor = Executor(Local([{}]), PlainBoard(1, Console(quiet=True)))
    assert executor.run([job])[job.key].state == "done"
    assert job.log().is_file() and read_json(job.log().parent / "result.json")["seed"] == 0


def test_a_run_done_again_by_force_keeps_what_its_driver_reads(tmp_path: Path) -> None:
    for name in (*OF_DRIVER, "result.json", "eval.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "1.pt").touch()
    clear_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OF_DRIVER)


def test_what_cannot_be_done_again_is_said(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(store, seed=0)
    assert main(["retry", "--runs", str(store)]) == USAGE
    assert "--failed for all that failed; in" in capsys.readouterr().err
    assert main(["retry", "offline_dv2--s0", "--runs", str(store)]) == USAGE
    assert "does not tell how it was asked for" in capsys.readouterr().err
    assert main(["retry", "--failed", "--runs", str(store)]) == SOME_FAILED
    said = capsys.readouterr()
    assert "left out: offline_dv2--s0" in said.err and "done" not in said.out
    done(store, seed=1)
    with pytest.raises(UsageError, match="offline_dv2--s1 did not fail but is done"):
        failed_runs(store, ["offline_dv2--s1"], False)
    with pytest.raises(UsageError, match="give runs, or --failed"):
        failed_runs(store, ["offline_dv2--s0"], True)


def test_runs_of_two_presets_whose_words_are_the_same_are_both_done_again(tmp_path: Path, store: Path, data: Path) -> None:
    specs = [RunSpec("offline_dv2", "toy/point", preset=preset) for preset in ("smoke", "quick", "smoke")]
    for seed, spec in enumerate(specs):
        failed(store, seed=seed, spec=vars(spec) | {"sources": []})
    found = [spec_of(each) for each in failed_runs(store, (), True)]
    assert found == specs
    summary = summary_of([spec for spec in found if spec], Place(data, store), 1)
    trains = [job for job in summary.jobs if job.kind == "train"]
    assert [job.spec["preset"] for job in trains] == ["smoke", "quick"] and len({job.key for job in trains}) == 2
    assert (summary.runs, summary.before, summary.preset) == (2, 0, "smoke, quick")


def test_what_does_not_stop_in_time_is_said(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = running(store, seed=0)
    assert main(["stop", "offline_dv2--s0", "--wait", "0", "--runs", str(store)]) == SOME_FAILED
    said = capsys.readouterr()
    assert "asked to stop: train offline_dv2--s0 on far" in said.out and "1 still at work" in said.err
    assert (folder / "stop").exists()


def test_a_driver_is_asked_by_its_plan_and_preset(store: Path) -> None:
    told = {"plan": "/somewhere/mine.toml", "preset": "smoke"}
    with registered(store, told) as mine, registered(store, told | {"preset": "quick"}) as other:
        asked = steering.ask_to_stop(store, "mine.toml", "quick")
        assert [each.words for each in asked] == ["mine (preset quick)"]
        stops = {path.stem for path in (store / ".drivers").glob("*.stop")}
        assert stops == {other.path.stem} and other.path != mine.path
        said: list[str] = []
        threading.Timer(0.3, lambda: other.path.unlink()).start()
        assert steering.wait_for(asked, 60, said.append) == [] and said == []
        assert [each.words for each in steering.ask_to_stop(store, None, None, True)] == ["mine (preset smoke)"]


def test_a_driver_is_asked_by_its_file_as_it_was_given(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    with registered(store, {"plan": str(store.parent / "mine.toml"), "preset": "smoke"}):
        assert [each.words for each in steering.ask_to_stop(store, "./mine.toml")] == ["mine (preset smoke)"]
        with pytest.raises(UsageError, match=r"nobody is at work on plan other/mine\.toml"):
            steering.ask_to_stop(store, "other/mine.toml")


def test_only_what_runs_can_be_stopped(store: Path) -> None:
    done(store, seed=0)
    tell(store / "logs", name="anchors-a.status.json", kind="anchors", job="anchors a", **ELSEWHERE)
    for name, sentence in [
        ("offline_dv2--s0", "is not running but done"),
        ("anchors a", "has no checkpoint"),
        ("table2", "nobody is at work on plan table2; at work on .*: no driver"),
        ("nothing", "no run 'nothing'"),
        (None, "give a plan or a run, or --all"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            steering.ask_to_stop(store, name)
    assert steering.ask_to_stop(store, None, everything=True) == []


def test_runs_that_no_driver_began_are_stopped_with_all(store: Path) -> None:
    folder = running(store, seed=0)
    tell(store / "logs", name="anchors-a.status.json", kind="anchors", job="anchors a", **ELSEWHERE)
    assert [each.place for each in steering.ask_to_stop(store, None, everything=True)] == ["far"]
    assert (folder / "stop").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("offline_dv2--s1", "offline_dv2--s1"), ("train offline_dv2--s1", "offline_dv2--s1"),
        ("coworld toy/point from toy/point_mirrored seed 1", "coworld--s1"), ("cow", "coworld--s1"),
        ("collect a", "collect-a"), ("collect-a", "collect-a"),
    ],
)  # fmt: skip
def test_a_job_is_named_by_its_id_its_beginning_or_its_words(name: str, expected: str, store: Path) -> None:
    for seed in (0, 1):
        running(store, seed=seed)
    begun(store, "coworld", 1)
    tell(store / "logs", "ended", "collect-a.status.json", kind="collect", job="collect a", code=0)
    assert find_job(store, name).name == expected


def test_of_namesakes_the_one_at_work_is_meant(store: Path) -> None:
    words = "train offline_dv2 toy/point seed 0"
    begun(store)
    tell(begun(store, seed=1), "ended", code=STOPPED, job=words)
    with pytest.raises(UsageError, match=r"may be offline_dv2--s0 \(interrupted\), offline_dv2--s1 \(stopped\)"):
        find_job(store, words)
    with pytest.raises(UsageError, match=r"may be offline_dv2--s0 \(interrupted\), offline_dv2--s1 \(stopped\)"):
        find_job(store, "offline")
    tell(store / "offline_dv2--s1", job=words, **ELSEWHERE)
    assert find_job(store, words).name == "offline_dv2--s1"
    with pytest.raises(UsageError, match="did you mean offline_dv2--s"):
        find_job(store, "oflline_dv2--s1")


def test_the_end_of_a_log_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BLOCK", 7)
    path = tmp_path / "log"
    path.write_text("".join(f"line {index}\n" for index in range(50)) + "torn")
    assert following.last_lines(path, 3) == ["line 48", "line 49", "torn"]
    assert len(following.last_lines(path, 100)) == 51 and following.last_lines(path, 0) == []
    assert following.last_lines(tmp_path / "none", 3) == []


def test_logs_tell_how_a_run_stands(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = running(store, seed=0, share=0.5)
    (folder / "stderr.log").write_text("one\ntwo\nthree\n")
    (folder / "metrics.jsonl").write_text('{"updates": 40, "model/kl": 9}\n{"updates": 50, "model/kl": 1.25}\n{"upd')
    (folder / "eval.jsonl").write_text("".join(f'{{"updates": 50, "return": {value}}}\n' for value in (1, 2)))
    with (folder / "eval.jsonl").open("a") as file:
        file.write('{"updates": 60, "return": 100}\n')  # of an evaluation whose metrics are still to be written
    assert main(["logs", "offline", "-n", "2", "--runs", str(store)]) == 0
    told = capsys.readouterr().out
    assert "running at 50% on far, attempt 1" in told and "two\nthree" in told and "one" not in told
    assert "metrics after 50 updates:\nmodel/kl 1.25  evaluation 1.5" in told
    assert main(["logs", "offline", "--json", "--runs", str(store)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"] == {"updates": 50, "model/kl": 1.25, "evaluation": 1.5}
    assert (found["state"], found["lines"]) == ("running", ["one", "two", "three"])
    failed(store, "coworld", 0)
    assert main(["logs", "coworld", "--runs", str(store)]) == 0
    assert "failed at 0%\n\nTraceback\nValueError: bees\n\n" in capsys.readouterr().out


def test_following_tells_what_comes_until_the_end(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = running(store, seed=0, share=0.5)
    (folder / "stderr.log").write_text("before\n")
    (folder / "eval.jsonl").write_text('{"updates": 9, "return": 4}\n')

    def write(text: str, name: str = "stderr.log") -> Callable[[], object]:
        def add() -> None:
            with (folder / name).open("a") as file:
                file.write(text)

        return add

    steps = iter(
        [
            write("a war"),
            write("ning\n"),
            write('{"updates": 9}\n', "metrics.jsonl"),
            lambda: tell(folder, "ended", code=STOPPED),  # its driver begins it again
            lambda: (folder / "stderr.log").write_text("anew\n"),
            lambda: done(store, seed=0),
        ]
    )
    monkeypatch.setattr(following.time, "sleep", lambda seconds: next(steps)())
    said: list[str] = []
    with registered(store, {"plan": "mine", "preset": "smoke"}):
        end = following.follow(store, find_job(store, "offline"), said.append)
    assert said == ["a warning", "after 9 updates: evaluation 4", "anew"] and end.state == "done"
    assert next(steps, None) is None


@pytest.mark.parametrize("state", ["failed", "stopped alone", "left by all"])
def test_following_ends_where_nobody_will_go_on(state: str, store: Path) -> None:
    folder = failed(store) if state == "failed" else begun(store)
    tell(folder, "ended", code=STOPPED)
    if state == "left by all":
        assert following.has_ended(store, find_job(store, "offline"))
        return
    with registered(store, {"plan": "mine", "preset": "smoke"}):
        if state == "stopped alone":
            assert not following.has_ended(store, find_job(store, "offline"))
            (folder / "stop").touch()
        assert following.has_ended(store, find_job(store, "offline"))
