"""What a bad moment leaves: kills between two changes of the disk, a full disk, signals at the wrong time, --force."""

from __future__ import annotations

import errno
import importlib.abc
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import coworld_bench
import coworld_bench.api
from coworld_bench import training
from coworld_bench.bench import worker
from coworld_bench.checkpoints import Checkpoints
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.costs import Meter
from coworld_bench.errors import STOPPED
from coworld_bench.files import append_line, clear_folder, read_lines, write_json
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import Keeper
from coworld_bench.stopping import StoppedAtCheckpoint
from coworld_bench.training import train

HERE = Path(__file__).resolve().parent
SPEC = RunSpec(
    "offline_dv2",
    "toy/point",
    preset="smoke",
    options={"budget.updates": "6", "evaluation.early_every": "3", "evaluation.every": "3"},
)


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
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The undisturbed result."""
    return timeless(train(SPEC, data=data, runs=tmp_path_factory.mktemp("whole")))


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("time", "cost")}


# Kills


def killed(kind: str, data: Path, work: Path, *patterns: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(HERE / "killed_runs.py"), kind, str(work), str(data), *patterns]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


MOMENTS = [r"open .*metrics\.jsonl", r"rename .*\.pt\."]


def test_a_run_that_is_killed_between_two_changes_of_the_disk_ends_the_same(data: Path, tmp_path: Path) -> None:
    assert killed("train", data, tmp_path, *MOMENTS) == [{"tried": len(MOMENTS)}]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "force", "source", "collect"])
def test_whatever_is_killed_before_any_change_of_the_disk_ends_the_same(kind: str, data: Path, tmp_path: Path) -> None:
    *wrong, tried = killed(kind, data, tmp_path)
    assert wrong == [] and tried["tried"] > 40


def test_what_an_attempt_left_that_was_killed_while_it_wrote_makes_room_for_the_next(tmp_path: Path) -> None:
    half = tmp_path / ".00000001-0123456789abcdef.pt.999999.partial"
    half.write_bytes(b"half")
    kept = Checkpoints(tmp_path)
    kept.save({"number": 1})
    assert not half.exists() and kept.newest() == {"number": 1}
    half.write_bytes(b"half")
    with file_size_limit(1000), pytest.raises(OSError):
        kept.save({"large": torch.zeros(10_000)})
    assert not half.exists(), "it may be what the disk is full of"


def test_a_folder_that_is_removed_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        clear_folder(folder)
    monkeypatch.undo()
    assert not folder.exists()
    (rest,) = tmp_path.iterdir()
    assert rest.name.startswith(".folder.") and rest.suffix == ".partial"
    folder.mkdir()
    clear_folder(folder)
    assert list(tmp_path.iterdir()) == []


# A power cut, a full disk


def test_logs_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, int] = {}
    checkpoints = 0
    sync = os.fsync

    def fsync(handle: int) -> None:
        nonlocal checkpoints
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if ".pt." in path.name:
            checkpoints += 1
            for log in path.parent.parent.glob("*.jsonl"):
                assert synced.get(log.name) == log.stat().st_size, log
        synced[path.name] = os.fstat(handle).st_size
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    result = train(SPEC, data=data, runs=tmp_path)
    assert checkpoints == len(result["evaluations"]) == 3


def test_a_log_with_rubbish_at_its_end_is_read_up_to_there(tmp_path: Path) -> None:
    append_line(tmp_path / "log", {"updates": 1})
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"upd\xff\xfe\x00\x00')
    append_line(tmp_path / "log", {"updates": 2})
    assert read_lines(tmp_path / "log") == [{"updates": 1}, {"updates": 2}]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may become larger in here; that is refused as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_the_disk_has_no_room_for_is_torn_and_closed_by_the_next(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, {"updates": 1})
    with file_size_limit(20), pytest.raises(OSError) as full:
        append_line(log, {"updates": 2})
    assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(log)) and log.stat().st_size == 20
    append_line(log, {"updates": 3})
    assert read_lines(log) == [{"updates": 1}, {"updates": 3}]


def test_a_full_disk_is_said_of_a_file_and_the_run_goes_on_when_there_is_room(
    data: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(StoppedAtCheckpoint):
        train(SPEC, data=data, runs=tmp_path, stop=lambda: True)
    folder = tmp_path / whole["run"]
    with file_size_limit(1_000_000), pytest.raises(OSError) as full:
        train(SPEC, data=data, runs=tmp_path)
    assert full.value.errno == errno.EFBIG and str(full.value.filename).startswith(str(folder))
    assert timeless(train(SPEC, data=data, runs=tmp_path)) == whole
    assert [line["updates"] for line in read_lines(folder / "metrics.jsonl")] == [0, 3, 6]
    assert not list(folder.rglob("*.partial"))


# Signals


class TerminatedWhileImporting(importlib.abc.MetaPathFinder):
    """Sends SIGTERM to this process when a module is looked for."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.module:
            os.kill(os.getpid(), signal.SIGTERM)


VERBS = {
    "coworld_bench.api": ["train", "offline_dv2", "--target", "toy/point"],
    "coworld_bench.collecting": ["collect", "toy/point"],
}


@pytest.mark.parametrize("module", VERBS)
def test_a_signal_while_modules_are_loaded_ends_the_command_before_any_work(
    module: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = module.rpartition(".")[2]
    monkeypatch.setattr(coworld_bench, name, getattr(coworld_bench, name))
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [TerminatedWhileImporting(module), *sys.meta_path])
    places = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert main([*VERBS[module], "--preset", "smoke", *places]) == STOPPED
    assert "stopped before it began; give the same command again" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def asked_after(count: int) -> Any:
    """True when asked once more than `count` times: a signal in between."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > count

    return stop


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_that_says_it_stopped_has_a_checkpoint_of_then(count: int, data: Path, tmp_path: Path) -> None:
    rarely = RunSpec(**vars(SPEC) | {"options": {**SPEC.options, "compute.checkpoint_minutes": "9"}})
    with pytest.raises(StoppedAtCheckpoint) as stopped:
        train(rarely, data=data, runs=tmp_path, stop=asked_after(count))
    (folder,) = tmp_path.glob("*--*/checkpoints")
    (updates,) = map(int, re.findall(r"stopped after (\d+) updates", str(stopped.value)))
    assert Checkpoints(folder).newest()["learner"]["agent"]["counts"][0] == updates


def test_a_source_agent_that_says_it_stopped_has_a_checkpoint_of_then(tmp_path: Path) -> None:
    config = SimpleNamespace(compute=SimpleNamespace(checkpoint_minutes=9))
    online = SimpleNamespace(config=config, env_steps=7, state_dict=lambda: {"env_steps": 7})
    keeper = Keeper(online, Checkpoints(tmp_path), Meter("cpu"), asked_after(1))
    keeper.look()
    with pytest.raises(StoppedAtCheckpoint, match="after 7 env steps"):
        keeper.look()
    assert Checkpoints(tmp_path).newest()["online"] == {"env_steps": 7}


def test_progress_that_nobody_reads_any_more_is_no_error() -> None:
    code = (
        "import sys; from coworld_bench.bench.worker import progress_channel; tell = progress_channel(); sys.stdin.read()\n"
        "for _ in range(3): tell({'updates': 1})"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout and process.stdin and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.wait() == 0, process.stderr.read().decode()


# Done again


def test_a_forced_run_that_stops_says_how_to_go_on_and_keeps_what_its_process_writes(
    data: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    train(SPEC, data=data, runs=tmp_path)
    folder = tmp_path / whole["run"]
    for name in ("stderr.log", "status.json"):
        (folder / name).write_text("of its process")
    with pytest.raises(StoppedAtCheckpoint, match=r"goes on from there \(without --force\)"):
        train(SPEC, data=data, runs=tmp_path, force=True, stop=lambda: True)
    assert not (folder / "result.json").exists() and [line["updates"] for line in read_lines(folder / "eval.jsonl")] == [0]
    assert {(folder / name).read_text() for name in ("stderr.log", "status.json")} == {"of its process"}
    assert timeless(train(SPEC, data=data, runs=tmp_path)) == whole


def test_while_a_run_is_cleared_its_result_says_that_it_is_to_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("checkpoints/1.pt", "result.json", "rollout.png", "stderr.log", "a", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    removed: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **how: (removed.append(path.name), unlink(path, **how))[1])
    training.clear_run(tmp_path)
    assert removed[-1] == "result.json" and [path.name for path in tmp_path.iterdir()] == ["stderr.log"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_repeated_attempt_at_a_forced_run_begins_anew_only_where_the_first_did_not(
    finished: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(worker, "attempt", lambda: 2)
    monkeypatch.setattr(training, "train", lambda spec, *, force, **how: seen.append(force))
    if finished:
        write_json(tmp_path / SPEC.resolve(data).id / "result.json", {})
    place = {"data": str(data), "runs": str(tmp_path), "device": "cpu", "track": "none"}
    worker.do_train({"spec": vars(SPEC), "place": place, "force": True}, lambda progress: None, lambda: False)
    assert seen == [finished]
