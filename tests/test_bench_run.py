"""`run` on stand-in jobs: what it skips, keeps, writes down and says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coworld_bench.bench import run as bench_run
from coworld_bench.bench.board import LiveBoard, PlainBoard
from coworld_bench.bench.execution import THREADS, make_slots, parse_duration, parse_shard, parse_size
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.bench.run import needed_jobs, run
from coworld_bench.devices import GPU_SHARE
from coworld_bench.errors import DATASET, INTERRUPTED, SOME_FAILED, NotUsable, UsageError
from coworld_bench.plans import parse_plan

PLAN = parse_plan(
    "toy",
    {
        "title": "Toy",
        "quality": "medium-replay",
        "methods": ["offline_dv2"],
        "seeds": {"smoke": [0]},
        "cells": [{"target": "toy/point"}],
    },
)
MAKE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('{}')"
CRASH = "raise RuntimeError('no luck')"


def stand_in(runs: Path, name: str, code: str, kind: str = "train", needs: tuple[str, ...] = ()) -> Job:
    result = runs / name / "result.json"
    argv = (sys.executable, "-I", "-S", "-c", code, str(result))
    identity = {"method": "offline_dv2", "target": "toy/point", "sources": [], "seed": 0, "preset": "smoke"}
    return Job(kind, name, argv, result.is_file, lambda: runs / name / "stderr.log", needs, 1.0, identity=identity)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that the next `run` plans; its report is left out."""
    jobs: list[Job] = []
    monkeypatch.setattr(bench_run, "plan_jobs", lambda selection, place: jobs)
    monkeypatch.setattr(bench_run, "table_text", lambda *_: "the table")
    monkeypatch.setattr(bench_run, "report", lambda *_, **__: [tmp_path / "report.md"])
    return jobs


def do(runs: Path, **options: object) -> bench_run.RunSummary:
    return run(PLAN, "smoke", runs=runs, data=runs, jobs=2, **options)  # type: ignore[arg-type]


def test_a_crash_is_written_down_and_the_rest_is_done(
    tmp_path: Path, planned: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    planned += [stand_in(tmp_path, "good", MAKE), stand_in(tmp_path, "bad", CRASH)]
    summary = do(tmp_path)
    assert (summary.exit_code, list(summary.failed), summary.tables) == (SOME_FAILED, ["bad"], "the table")
    failed = json.loads((tmp_path / "bad" / "failed.json").read_text())
    assert failed["run"] == "bad" and failed["error"].endswith("RuntimeError: no luck")
    assert {key: failed[key] for key in ("method", "target", "sources", "seed", "preset")} == planned[1].identity
    said = capsys.readouterr()
    assert said.out == "" and "failed: bad: RuntimeError: no luck" in said.err


def test_a_plan_that_only_lacks_its_data_says_so_with_its_exit_code(tmp_path: Path, planned: list[Job]) -> None:
    planned += [stand_in(tmp_path, "bad", "import sys; sys.exit(3)")]
    assert do(tmp_path).exit_code == DATASET
    planned += [stand_in(tmp_path, "worse", CRASH)]
    assert do(tmp_path).exit_code == SOME_FAILED


def test_run_again_does_only_what_failed(tmp_path: Path, planned: list[Job]) -> None:
    planned += [stand_in(tmp_path, "good", MAKE), stand_in(tmp_path, "bad", CRASH)]
    do(tmp_path)
    planned[1] = stand_in(tmp_path, "bad", MAKE)
    summary = do(tmp_path)
    assert (summary.exit_code, summary.before, list(summary.outcomes)) == (0, 1, ["bad"])
    assert not (tmp_path / "bad" / "failed.json").exists()
    assert do(tmp_path).jobs == ()


def test_what_only_finished_runs_need_is_not_made(tmp_path: Path) -> None:
    source = stand_in(tmp_path, "source", MAKE, kind="source")
    other = stand_in(tmp_path, "other", MAKE, kind="source")
    run_ = stand_in(tmp_path, "run", MAKE, needs=("source",))
    assert needed_jobs((source, other, run_)) == (source, run_)


@pytest.mark.parametrize("option", ["runs", "data"])
def test_folders_that_cannot_be_written_are_named_before_any_work(
    tmp_path: Path, planned: list[Job], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planned += [replace(stand_in(tmp_path, "data", MAKE), kind="collect")]
    planned += [replace(stand_in(tmp_path, "good", MAKE), needs=("data",))]
    (tmp_path / "file").touch()
    places = {"runs": tmp_path / "runs", "data": tmp_path / "data"}
    with pytest.raises(UsageError, match=rf"file is a file; --{option} names a folder"):
        run(PLAN, "smoke", jobs=1, **places | {option: tmp_path / "file"})
    with pytest.raises(NotUsable, match=rf"--{option} /proc/nowhere cannot be written: no such file"):
        run(PLAN, "smoke", jobs=1, **places | {option: Path("/proc/nowhere")})
    assert "started" not in capsys.readouterr().err


def test_a_part_without_runs_makes_no_report(tmp_path: Path, planned: list[Job]) -> None:
    summary = run(PLAN, "smoke", runs=tmp_path / "runs", data=tmp_path / "data", jobs=1)
    assert (summary.runs, summary.exit_code, summary.report, list(tmp_path.glob("runs/*"))) == (0, 0, (), [])


def test_a_dry_run_does_nothing(tmp_path: Path, planned: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    planned += [stand_in(tmp_path / "runs", "good", MAKE)]
    summary = run(PLAN, "smoke", runs=tmp_path / "runs", data=tmp_path / "data", jobs=1, dry_run=True)
    assert [job.key for job in summary.jobs] == ["good"]
    assert not list(tmp_path.iterdir())
    assert "toy (preset smoke): 1 run, 0 finished already" in capsys.readouterr().err


def test_an_interrupt_is_told_apart_from_a_failure(tmp_path: Path, planned: list[Job]) -> None:
    kill_parent = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    planned += [stand_in(tmp_path, "asks to stop", kill_parent)]
    summary = do(tmp_path)
    assert (summary.exit_code, summary.interrupted, summary.tables) == (INTERRUPTED, True, "")
    assert not (tmp_path / "asks to stop" / "failed.json").exists()


def test_a_summary_is_one_json_document(tmp_path: Path, planned: list[Job]) -> None:
    planned += [stand_in(tmp_path, "bad", CRASH), stand_in(tmp_path, "after", MAKE, needs=("bad",))]
    document = json.loads(json.dumps(do(tmp_path, quiet=True).to_dict()))
    assert [(job["job"], job["state"]) for job in document["jobs"]] == [("bad", "failed"), ("after", "not started")]
    assert document["runs"] == 2


def test_nothing_finished_and_something_failed_gives_no_report_and_no_second_error(
    tmp_path: Path, planned: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> str:
        raise UsageError("the store holds no run")

    monkeypatch.setattr(bench_run, "table_text", nothing)
    planned += [stand_in(tmp_path, "bad", CRASH)]
    summary = do(tmp_path)
    assert (summary.exit_code, summary.tables) == (SOME_FAILED, "no report: the store holds no run")


@pytest.mark.parametrize(("wrong", "sentence"), [({"jobs": -1}, "at least 0"), ({"device": "tpu"}, "no device 'tpu'")])
def test_wrong_options_are_refused(tmp_path: Path, wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(PLAN, "smoke", runs=tmp_path, **wrong)  # type: ignore[arg-type]


def test_work_in_this_process_is_the_same_work(tmp_path: Path) -> None:
    """The same runs, with the same numbers; and a failed one does not stop the others."""
    results = []
    for jobs in (0, 1):
        runs, data = tmp_path / f"runs{jobs}", tmp_path / f"data{jobs}"
        made = run(PLAN, "smoke", runs=runs, data=data, jobs=jobs, quiet=True)
        assert made.exit_code == 0, made.failed
        results.append([json.loads(path.read_text()) for path in sorted(runs.rglob("result.json"))])
    for name in ("run", "score", "evaluations", "dataset"):
        assert [each[name] for each in results[0]] == [each[name] for each in results[1]]
    spoilt = next((tmp_path / "data0").rglob("frames/image/c/0/0/0/0"))
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    failed = run(PLAN, "smoke", seeds=[1, 2], runs=tmp_path / "runs0", data=tmp_path / "data0", jobs=0, quiet=True)
    assert len(failed.failed) == 2 and "is damaged" in next(iter(failed.outcomes.values())).note


def test_cpu_slots_are_one_thread_each() -> None:
    assert make_slots("cpu", 3) == [{name: "1" for name in THREADS} | {"COWORLD_BENCH_PROCESSES": "3"}] * 3


def test_gpu_slots_go_round_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in make_slots("cuda", None)] == ["4", "6"]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in make_slots("cuda", 3)] == ["4", "6", "4"]
    assert GPU_SHARE not in make_slots("cuda", None)[0]


def test_processes_that_share_a_gpu_get_a_part_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    four = make_slots("cuda", None, per_gpu=2)
    assert [(slot["CUDA_VISIBLE_DEVICES"], slot[GPU_SHARE]) for slot in four] == [("4", "0.5000"), ("6", "0.5000")] * 2
    assert len(make_slots("cuda", 3, per_gpu=2)) == 3
    assert len(make_slots("cuda", 9, per_gpu=4)) == 8


@pytest.mark.parametrize(
    ("function", "text", "value"),
    [
        (parse_duration, "90", 90.0), (parse_duration, "90s", 90.0), (parse_duration, "1.5h", 5400.0),
        (parse_duration, "2d", 172800.0), (parse_size, "8GB", 8 * 10**9), (parse_size, "1.5 GiB", 3 * 2**29),
        (parse_shard, "0/2", (0, 2)), (parse_shard, "3/4", (3, 4)),
    ],
)  # fmt: skip
def test_quantities_are_read(function: Callable[[str], Any], text: str, value: object) -> None:
    assert function(text) == value


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (parse_duration, "soon"), (parse_duration, "0"), (parse_duration, "-3h"), (parse_size, "8"), (parse_size, "8 m"),
        (parse_shard, "2/2"), (parse_shard, "1"), (parse_shard, "-1/2"), (parse_shard, "0/0"),
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(function: Callable[[str], Any], text: str) -> None:
    with pytest.raises(UsageError, match="is written"):
        function(text)


@pytest.mark.parametrize("kind", [PlainBoard, LiveBoard])
def test_boards_say_how_each_job_ended(kind: type[PlainBoard], tmp_path: Path) -> None:
    written = StringIO()
    console = Console(file=written, width=120, force_terminal=kind is LiveBoard, color_system=None)
    ends = {
        "good": Outcome("done", seconds=12),
        "short": Outcome("done", seconds=3, code=SOME_FAILED),
        "bad": Outcome("failed", "Traceback\nRuntimeError: no [luck]"),
        "after": Outcome("not started", "bad"),
        "late": Outcome("interrupted"),
    }
    with kind(len(ends), console) as shown:
        for name, outcome in ends.items():
            job = stand_in(tmp_path, name, MAKE)
            shown.started(job)
            shown.progressed(job, {"updates": 5, "updates_total": 10, "evaluation": 3.0})
            shown.ended(job, outcome)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", written.getvalue())
    lines = [line.rstrip() for line in re.findall(r"\[\d/5\] .*", plain)]
    assert [line for line in lines if "started: " not in line or "not started" in line] == [
        "[1/5] done: good in 12 s",
        "[2/5] done: short in 3 s, but its stop rule did not fire: the budget ended first",
        "[3/5] failed: bad: RuntimeError: no [luck]",
        "[4/5] not started: after: bad failed",
    ]
