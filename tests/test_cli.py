"""The command line: exit codes, sentences, what goes to stdout. Everything wrong is refused before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coworld_bench import __version__
from coworld_bench.cli import main
from coworld_bench.cli.common import names, numbers, table
from coworld_bench.cli.watching import lines, news
from coworld_bench.errors import DATASET, INTERRUPTED, NOT_USABLE, OK, USAGE, NotUsable, UsageError

ROOT = Path(__file__).resolve().parent.parent
WRONG = [
    ("colect toy/point", USAGE, "did you mean 'collect'"),
    ("collect", USAGE, "task"),
    ("collect toy/pint", USAGE, "no task 'toy/pint'; did you mean toy/point"),
    ("collect toy/point --quality medium", USAGE, "did you mean medium-replay or medium-expert"),
    ("collect toy/point --preset quik", USAGE, "no preset 'quik'; did you mean quick"),
    (
        "collect toy/point --preset smoke --format hdf5",
        USAGE,
        "no format 'hdf5'; known: d4rl, lerobot, minari, npz, vd4rl84",
    ),
    ("collect dmc/walker_flies --reference-return 1", USAGE, "no task 'dmc/walker_flies'; did you mean"),
    ("collect toy/point --seed one", USAGE, "'--seed'"),
    ("collect toy/point --seed -1", USAGE, "a seed must be in [0, 2000); got -1"),
    ("collect toy/point --reference-return nan", USAGE, "a reference return must be a number above 0; got nan"),
    ("collect toy/point --reference-return -5", USAGE, "must be a number above 0; got -5"),
    ("collect toy/point --preset smoke --out /proc/here", 1, "/proc/here"),
    ("train offline_dv2 --target toy/point --seed -1", USAGE, "a seed must be in [0, 2000); got -1"),
    ("run quickstart -o evaluation.episodes=0", USAGE, "evaluation.episodes=0"),
    ("anchors toy/point -o model.lr=1", USAGE, "anchors depend on the environment alone"),
    ("collect toy/point -o online", USAGE, "an option is written key=value; got 'online'"),
    ("collect toy/point --reference-return 9 -o online.env_stepz=3", USAGE, "did you mean online.env_steps"),
    ("run tabel2", USAGE, "no plan 'tabel2'; did you mean table2"),
    ("run quickstart --methods coword", USAGE, "no method 'coword'; did you mean coworld"),
    ("run quickstart --seeds 3-1", USAGE, "seeds are written 0,1,2 or 0-2; got '3-1'"),
    ("run quickstart --targets metaworld/window", USAGE, "did you mean metaworld/window_close"),
    ("run quickstart --jobs -1", USAGE, "--jobs must be at least 0; got -1"),
    ("run quickstart -o coworld.alpa=1", USAGE, "did you mean alpha"),
    ("report tabel2", USAGE, "no plan 'tabel2'"),
    ("report table2 --format pdf", USAGE, "no report format 'pdf'"),
    ("report table2", USAGE, "there is no folder of results"),
    ("report table2 --highlight ,", USAGE, "a list is written a,b,c; got ','"),
    ("list task", USAGE, "no list 'task'; did you mean tasks"),
    ("train coworld --target toy/point", USAGE, "coworld needs 1 source task"),
    ("train coworld", USAGE, "--target"),
    ("train r3m --target toy/point", USAGE, "github.com/facebookresearch/r3m"),
    ("train r3m --target toy/point --weights nowhere.pt", USAGE, "there is no file /"),
    ("train offline_dv2 --target toy/point --weights nowhere.pt", USAGE, "--weights is for method r3m"),
    ("run table11 --methods r3m --weights nowhere.pt --dry-run", USAGE, "there is no file /"),
    ("run quickstart --weights nowhere.pt", USAGE, "of method r3m, which takes no part"),
    ("train offline_dv2 --target toy/point --preset smoke", DATASET, "coworld-bench collect toy/point"),
    ("evaluate coworld--nothing", USAGE, "no finished run 'coworld--nothing'"),
    ("evaluate coworld--nothing --rollout", USAGE, "no finished run 'coworld--nothing'"),
    ("evaluate any --rollout --episodes 3", USAGE, "leave --episodes 3 away"),
    ("anchors toy/pint", USAGE, "did you mean toy/point"),
    ("status", USAGE, "there is no folder of results"),
    ("status tabel2", USAGE, "there is no folder of results"),
    ("logs coworld", USAGE, "there is no folder of results"),
    ("stop table2", USAGE, "there is no folder of results"),
    ("retry --failed", USAGE, "there is no folder of results"),
    ("retry any --jobs -1", USAGE, "there is no folder of results"),
    ("retry any --timeout soon", USAGE, "--timeout is written like"),
    ("run quickstart --nonsense", USAGE, "--nonsense"),
    ("train offline_dv2 --target toy/point --workers -1", USAGE, "'--workers'"),
    ("collect toy/point --preset smoke --workers -1", USAGE, "'--workers'"),
]


@pytest.fixture(autouse=True)
def empty_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COWORLD_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COWORLD_BENCH_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize(("line", "code", "sentence"), WRONG, ids=[line for line, *_ in WRONG])
def test_a_mistake_is_one_sentence_and_changes_nothing(
    line: str, code: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and sentence.lower() in said.err.lower(), said.err
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tabel2", "--debug"]) == USAGE
    said = capsys.readouterr().err
    assert "Traceback" in said and said.splitlines()[-1].startswith("error: no plan")


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("coworld_bench.plans.list_plans", interrupted)
    assert main(["list", "plans"]) == INTERRUPTED
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.startswith("error: interrupted; what is done is kept")


def test_a_fault_of_ours_hides_its_traceback_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> list[str]:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("coworld_bench.plans.list_plans", broken)
    assert main(["list", "plans"]) == 1
    assert capsys.readouterr().err == "error: ZeroDivisionError: oh (a fault of ours; --debug shows where)\n"
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "list", "plans"])


def test_the_module_runs_and_prints_its_version() -> None:
    command = [sys.executable, "-m", "coworld_bench.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (OK, f"coworld-bench {__version__}\n")


def test_the_installed_program_is_there() -> None:
    program = Path(sys.executable).with_name("coworld-bench")
    done = subprocess.run([program, "list", "plans", "--json"], capture_output=True, text=True, cwd="/", check=True)
    assert {"quickstart", "table2"} <= {row["plan"] for row in json.loads(done.stdout)["plans"]}


@pytest.mark.parametrize(
    ("what", "row"),
    [
        ("tasks", {"task": "metaworld/window_close", "code": "WC", "frames": 500, "action_repeat": 1}),
        ("methods", {"method": "coworld", "label": "CoWorld", "sources": 1}),
        ("settings", {"setting": "batch.size", "value": 16}),
        ("settings", {"setting": "coworld.k", "value": 0.3}),
    ],
)
def test_lists_are_one_json_document(what: str, row: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1 and row in document[what]


@pytest.mark.parametrize(("what", "word"), [("plans", "quickstart"), ("presets", "smoke"), ("datasets", "no datasets")])
def test_lists_for_people(what: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == OK
    assert word in capsys.readouterr().out


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nothing_draws() -> dict[str, str]:
        raise NotUsable("no OpenGL; install it with: apt-get install libegl1")

    monkeypatch.setattr("coworld_bench.envs.check_opengl", nothing_draws)
    assert main(["doctor"]) == NOT_USABLE
    assert "OpenGL" in (said := capsys.readouterr().out) and "apt-get install libegl1" in said


def test_doctor_is_content_without_cuda_and_robodesk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = {"backend": "egl", "renderer": "a card", "version": "4.5"}
    monkeypatch.setattr("coworld_bench.envs.check_opengl", lambda: drawn)
    monkeypatch.setattr("coworld_bench.health.version", lambda package: None)
    monkeypatch.setattr("coworld_bench.health.packages", lambda: {"torch": "2.9", "robodesk": None})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("coworld_bench.health.FREE_GIB", 0.0)
    assert main(["doctor", "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    verdicts = {check["name"]: check["verdict"] for check in document["checks"]}
    assert document["usable"] and (verdicts["CUDA"], verdicts["RoboDesk"], verdicts["torch"]) == ("absent", "absent", "ok")


@pytest.mark.parametrize(("text", "seeds"), [("0-2", [0, 1, 2]), ("0,2", [0, 2]), ("1,0-1,7", [1, 0, 7]), (None, None)])
def test_seeds_are_written_as_ranges_and_lists(text: str | None, seeds: list[int] | None) -> None:
    assert numbers(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "2-1", "0-99999999"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        numbers(text)


def test_names_lose_their_spaces() -> None:
    assert names("coworld, offline_dv2") == ["coworld", "offline_dv2"]


def test_a_table_lines_up() -> None:
    assert table([["a", "1"], ["bcd", "22"]], ["x", "long"]) == "x    long\na    1\nbcd  22"


def test_news_names_the_goal_and_the_speed() -> None:
    progress = {"evaluation": 1234.5, "threshold": 1500.0, "env_steps_per_s": 61.4}
    assert news(progress) == "evaluation 1234, stops at 1500, 61 env steps/s"
    assert news({"updates": 3, "updates_total": 8}) == ""


def test_plain_progress_says_every_evaluation_but_not_every_episode(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    observe = lines("collect x", Console(stderr=True))
    for step in range(1, 5):
        observe({"env_steps": step, "env_steps_total": 4, "episode_return": 7.0})
    observe({"env_steps": 4, "env_steps_total": 4, "episode_return": 7.0, "evaluation": 9.0})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("collect x:  25%  return 7, at most")
    assert said[1] == "collect x: 100%  evaluation 9"
