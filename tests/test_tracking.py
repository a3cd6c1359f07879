"""Trackers are told what a run logs, each point once however often it was stopped, and change nothing of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import pytest
import torch

from coworld_bench import run, tracking, train, training
from coworld_bench.bench import run as bench_run
from coworld_bench.bench.jobs import Place, plan_jobs, select
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.errors import NOT_USABLE, USAGE, UsageError
from coworld_bench.files import read_json, read_lines
from coworld_bench.plans import parse_plan
from coworld_bench.stopping import StoppedAtCheckpoint
from coworld_bench.tracking import TrackedRun, Values, points

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {"budget.updates": "4", "evaluation.early_every": "2", "evaluation.every": "1", "evaluation.episodes": "2"}
EVALUATED = [0, 2, 3, 4]
WANDB_HEADER, BLOCK, PART = 7, 32768, Struct("<IHB")
Point = tuple[int, str, float]


@pytest.fixture(scope="module", autouse=True)
def without_tsne() -> Iterator[None]:
    """Half of what so small a run takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "describe", lambda groups, seed: {})
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options={"online.prefill": "100", "online.env_steps": "150"})
    return home


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result without any tracker."""
    return do(data, tmp_path_factory.mktemp("plain"), "none")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")


def do(data: Path, runs: Path, track: Any = None, **how: Any) -> dict[str, Any]:
    return train("offline_dv2", "toy/point", preset="smoke", options=OPTIONS, data=data, runs=runs, track=track, **how)


def stopped(data: Path, runs: Path, track: str, evaluations: int) -> Path:
    """The folder of a run that stopped behind so many evaluations."""

    def enough() -> bool:
        return any(len(read_lines(path)) >= 2 * evaluations for path in runs.glob("*/eval.jsonl"))

    with pytest.raises(StoppedAtCheckpoint):
        do(data, runs, track, stop=enough)
    return next(runs.glob("*/eval.jsonl")).parent


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("time", "cost")}


def expected(folder: Path) -> list[Point]:
    """What a tracker is to hold, from the run's own files."""
    told = [(updates, name, value) for updates, values in points(folder) for name, value in values.items()]
    score = read_json(folder / "result.json")["score"]
    return sorted([*told, (EVALUATED[-1], "score/mean", score["mean"]), (EVALUATED[-1], "score/success", score["success"])])


def same_points(found: list[Point], wanted: list[Point]) -> bool:
    """Event files hold single precision."""
    names = [point[:2] for point in found] == [point[:2] for point in wanted]
    return names and np.allclose([point[2] for point in found], [point[2] for point in wanted], rtol=1e-6)


def event_points(folder: Path) -> list[Point]:
    """All that event files hold, point by point, whatever a reader would drop."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader", reason="needs tensorboard")
    (path,) = folder.glob("events.out.tfevents.*")
    events = [event for event in loader.EventFileLoader(str(path)).Load() if event.HasField("summary")]
    values = [
        (event.step, value) for event in events for value in event.summary.value if value.tag != "config/text_summary"
    ]
    return sorted((step, value.tag, value.tensor.float_val[0]) for step, value in values)


def wandb_records(folder: Path) -> Iterator[Any]:
    pytest.importorskip("wandb", reason="needs wandb").teardown()  # its own process may still be writing
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return map(Record.FromString, journal_records(path.read_bytes()))


def journal_records(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, in blocks: checksum, length, kind (whole, first, middle, last part)."""
    place, record = WANDB_HEADER, b""
    while place < len(content):
        if BLOCK - place % BLOCK < PART.size:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = PART.unpack_from(content, place)
        place += PART.size + length
        record += content[place - length : place]
        if kind in (1, 4):
            yield record
            record = b""


def wandb_points(folder: Path) -> list[Point]:
    found = []
    for record in wandb_records(folder):
        items = {item.nested_key[0] if item.nested_key else item.key: item.value_json for item in record.history.item}
        own = {name: json.loads(value) for name, value in items.items() if not name.startswith("_")}
        found += [(record.history.step.num, name, float(value)) for name, value in own.items()]
    return sorted(found)


READERS = {"tensorboard": event_points, "wandb": wandb_points}


@pytest.mark.parametrize("tracker", READERS)
def test_a_tracker_holds_what_the_run_logs_and_the_result_is_the_same(
    tracker: str, data: Path, plain: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip(tracker, reason=f"needs {tracker}")
    result = do(data, tmp_path, tracker)
    folder = tmp_path / result["run"]
    assert timeless(result) == timeless(plain)
    found = READERS[tracker](folder)
    assert same_points(found, expected(folder))
    assert [step for step, name, _ in found if name == "evaluation/return"] == EVALUATED
    assert {name for _, name, _ in found} >= {"model/kl", "critic/value", "world_model_updates", "evaluation/success"}


@pytest.mark.parametrize("tracker", READERS)
def test_a_run_that_goes_on_holds_each_point_once(tracker: str, data: Path, plain: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip(tracker, reason=f"needs {tracker}")
    folder = stopped(data, tmp_path, tracker, evaluations=3)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    assert READERS[tracker](folder)[-1][0] == 3
    newest.unlink()  # as if it was killed before it was written: the tracker knows more than the checkpoint
    result = do(data, tmp_path, tracker)
    assert timeless(result) == timeless(plain)
    assert same_points(READERS[tracker](folder), expected(folder))


def test_a_tracker_that_comes_late_is_told_everything(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    folder = stopped(data, tmp_path, "none", evaluations=2)
    assert not list(folder.glob("events.*"))
    do(data, tmp_path, "tensorboard")
    assert same_points(event_points(folder), expected(folder))


def test_points_keep_the_time_at_which_they_were_first_told(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    folder = stopped(data, tmp_path, "tensorboard", evaluations=3)
    before = tracking.wall_times(list(folder.glob("events.*")))
    do(data, tmp_path, "tensorboard")
    after = tracking.wall_times(list(folder.glob("events.*")))
    assert {step: after[step] for step in (2, 3)} == {step: before[step] for step in (2, 3)} and after[4] > after[3]


def test_trackers_hold_the_configuration(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    pytest.importorskip("wandb", reason="needs wandb")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = do(data, tmp_path, "wandb, tensorboard")
    folder = tmp_path / result["run"]
    config = read_json(folder / "config.json")
    events = EventAccumulator(str(folder)).Reload()
    (text,) = events.Tensors("config/text_summary")
    assert json.loads(text.tensor_proto.string_val[0].decode().strip("`").removeprefix("json")) == config
    (told,) = [record.run for record in wandb_records(folder) if record.HasField("run")]
    assert (told.run_id, told.project) == (result["run"], "coworld-bench")
    held = {item.key: json.loads(item.value_json) for item in told.config.update}
    assert {name: held[name] for name in config} == config


class Meddler:
    """Is told in this process, and does what no tracker should."""

    def __init__(self) -> None:
        self.runs: list[TrackedRun] = []
        self.told: list[tuple[int, Values]] = []
        self.closed = False

    def start(self, run: TrackedRun) -> None:
        self.runs.append(run)

    def log(self, updates: int, values: Values) -> None:
        self.told.append((updates, dict(values)))
        self.runs[0].config["config"]["budget"].clear()
        values.clear()
        torch.manual_seed(updates)
        np.random.seed(updates)
        random.seed(updates)

    def close(self) -> None:
        self.closed = True


def test_trackers_may_meddle_and_change_nothing(
    data: Path, plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Meddler(), Meddler()
    monkeypatch.setattr(tracking, "KNOWN", {"one": lambda: one, "other": lambda: other})
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    result = do(data, tmp_path, "one,other")
    folder = tmp_path / result["run"]
    assert timeless(result) == timeless(plain)
    for mine in (one, other):
        assert [updates for updates, _ in mine.told] == [*EVALUATED, EVALUATED[-1]] and mine.closed
        assert (mine.runs[0].name, mine.runs[0].folder, mine.runs[0].goes_on) == (result["run"], folder, False)
        told = [(updates, name, value) for updates, values in mine.told for name, value in values.items()]
        assert sorted(told) == expected(folder)


class Failing(Meddler):
    """Raises where it is told to, once; whoever asked it again would see that."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self.where, self.error, self.asked = where, error, 0

    def _may_fail(self, where: str) -> None:
        if where == self.where:
            self.asked += 1
            raise self.error

    def start(self, run: TrackedRun) -> None:
        self._may_fail("start")

    def log(self, updates: int, values: Values) -> None:
        self._may_fail("log")

    def close(self) -> None:
        self._may_fail("close")


FAILURES = [
    ("start", RuntimeError("no server")),
    ("log", OSError(28, "no space")),
    ("log", SystemExit(1)),
    ("close", ValueError()),
]


@pytest.mark.parametrize(("where", "error"), FAILURES, ids=str)
def test_a_tracker_that_raises_is_warned_of_once(
    where: str, error: BaseException, data: Path, plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, other = Failing(where, error), Meddler()
    monkeypatch.setattr(tracking, "KNOWN", {"bad": lambda: failing, "good": lambda: other})
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    with pytest.warns(UserWarning, match=f"tracker bad failed .{type(error).__name__}.*the run goes on") as warned:
        result = do(data, tmp_path, "bad,good")
    assert timeless(result) == timeless(plain)
    assert len([each for each in warned if "tracker" in str(each.message)]) == 1 and failing.asked == 1
    assert len(other.told) == len(EVALUATED) + 1 and other.closed


def test_a_tracker_that_cannot_even_be_made_is_warned_of(data: Path, plain: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def TRACKER():\n    raise ConnectionError('nobody there')\n")
    with pytest.warns(UserWarning, match="ConnectionError: nobody there"):
        assert timeless(do(data, tmp_path / "runs", str(tmp_path / "mine.py"))) == timeless(plain)


def test_a_stop_of_the_user_is_no_failure_of_a_tracker(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        do(data, tmp_path, Failing("log", KeyboardInterrupt()))


OWN = """
import os

class TRACKER:
    def start(self, run):
        self.file = (run.folder / "told.txt").open("a")
        print(f"{run.name} {run.goes_on} {os.getpid()}", file=self.file)

    def log(self, updates, values):
        print(updates, sorted(values)[:1], file=self.file, flush=True)

    def close(self):
        self.file.close()
"""


PLAN = {
    "title": "Toy",
    "quality": "medium-replay",
    "methods": ["offline_dv2"],
    "seeds": {"smoke": [0]},
    "cells": [{"target": "toy/point"}],
}


def test_the_runs_of_a_plan_are_tracked_in_their_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    place = Place(data, tmp_path / "runs", track=tracking.whole_names("./mine.py"))
    asked = select(parse_plan("toy", PLAN), "smoke", options={"budget.updates": "3"})
    (job,) = [job for job in plan_jobs(asked, place) if job.kind == "train"]
    command = [*job.argv, str(tmp_path / "status.json")]
    subprocess.run(command, check=True, cwd="/", env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    first, *rest = (job.log().parent / "told.txt").read_text().splitlines()
    name, goes_on, pid = first.split()
    assert (name, goes_on) == (job.log().parent.name, "False") and pid != str(os.getpid())
    assert [line.split()[0] for line in rest] == ["0", "3", "3"]


@pytest.mark.parametrize(("asked", "variable"), [("./mine.py", ""), (None, "mine.py"), ("mine.py", "wandb")])
def test_run_hands_the_trackers_that_were_asked_for_to_its_jobs(
    asked: str | None, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(tracking.VARIABLE, variable)
    places: list[Place] = []
    monkeypatch.setattr(bench_run, "plan_jobs", lambda selection, place: places.append(place) or [])
    run(parse_plan("toy", PLAN), "smoke", runs=tmp_path, data=tmp_path, dry_run=True, quiet=True, track=asked)
    assert places[0].track == places[0].words["track"] == str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("tensorbord", "no tracker 'tensorbord'; did you mean tensorboard"),
        ("missing.py", "there is no file .*missing.py; give a tracker"),
        ("empty.py", "empty.py defines no TRACKER"),
        ("value.py", "value.py defines no TRACKER"),
        ("broken.py", "broken.py, line 1: it cannot be loaded: ZeroDivisionError"),
    ],
)
def test_what_is_no_tracker_is_refused_before_any_work(
    asked: str, sentence: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"empty.py": "", "value.py": "TRACKER = 3", "broken.py": "1 / 0"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=sentence):
        do(data, tmp_path / "runs", asked)
    with pytest.raises(UsageError, match=sentence):
        run("quickstart", "smoke", runs=tmp_path / "runs", data=data, dry_run=True, track=asked)
    assert not (tmp_path / "runs").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    words = ["train", "offline_dv2", "--target", "toy/point", "--preset", "smoke"]
    places = ["--runs", str(tmp_path / "runs"), "--data", str(data)]
    assert main([*words, *places, "--track", "wandb"]) == NOT_USABLE
    assert 'wandb is not installed; install it with: pip install "coworld-bench[tracking]"' in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv(tracking.VARIABLE, "nobody")
    assert main([*words, *places]) == USAGE
    assert main([*words, *places, "--track", "none", "-o", "budget.updates=3"]) == 0


ONLINE = """
import sys, warnings
from pathlib import Path
from coworld_bench.tracking import TrackedRun, WandB
tracker = WandB()
tracker.start(TrackedRun("a--b--c--s0--1", {}, Path(sys.argv[1]), False))
tracker.log(3, {"x": 1.0})
tracker.close()
"""


@pytest.mark.parametrize(
    "key",
    [pytest.param({}, id="no key"), pytest.param({"WANDB_API_KEY": "a" * 40}, id="no server", marks=pytest.mark.slow)],
)
def test_wandb_that_cannot_be_online_is_offline_and_asks_nothing(key: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb")
    nowhere = {"WANDB_MODE": "online", "HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", ONLINE, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | nowhere | key, capture_output=True, text=True, check=True, timeout=120)
    assert "W&B cannot be online" in done.stderr
    assert wandb_points(tmp_path) == [(3, "x", 1.0)]
