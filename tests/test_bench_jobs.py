"""A plan turned into jobs, on toy tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coworld_bench.bench import estimates
from coworld_bench.bench.claims import claimed
from coworld_bench.bench.estimates import COMMITTED, HERE, PREDICTED, SECONDS, TABLE, estimate_all, words
from coworld_bench.bench.execution import shard_of
from coworld_bench.bench.job import Job
from coworld_bench.bench.jobs import Place, plan_jobs, select
from coworld_bench.bench.predictions import CPU, TOY_FRAMES_PER_S, sizes
from coworld_bench.config import resolve
from coworld_bench.data.lock import Busy
from coworld_bench.errors import LOCKED, UsageError
from coworld_bench.files import read_json, write_json
from coworld_bench.plans import Plan, load_plan, parse_plan
from coworld_bench.recipes import Reference
from coworld_bench.run_spec import PlannedRun, RunSpec

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def known_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference(value=30.0, how="made up for tests")
    monkeypatch.setattr("coworld_bench.collecting.need_reference", lambda task, preset: reference)


def toy_plan(**changes: object) -> Plan:
    written = {
        "title": "Toy",
        "quality": "medium-replay",
        "methods": ["offline_dv2", "coworld"],
        "seeds": {"smoke": [0, 1]},
        "cells": [
            {"target": "toy/point", "source": "toy/point_mirrored"},
            {"target": "toy/point_mirrored", "source": "toy/point"},
        ],
    }
    return parse_plan("toy", written | changes)


def place(folder: Path) -> Place:
    return Place(folder / "data", folder / "runs")


def test_everything_is_made_once_and_needs_come_first(tmp_path: Path) -> None:
    jobs = plan_jobs(select(toy_plan(), "smoke"), place(tmp_path))
    kinds = [job.kind for job in jobs]
    assert {kind: kinds.count(kind) for kind in kinds} == {"collect": 2, "source": 4, "anchors": 2, "train": 8}
    seen: set[str] = set()
    for job in jobs:
        assert seen.issuperset(job.needs), job.key
        seen.add(job.key)
    assert len(seen) == len(jobs)


def test_a_method_without_source_runs_once_per_target(tmp_path: Path) -> None:
    cells = [{"target": "toy/point", "source": "toy/point_mirrored"}, {"target": "toy/point", "source": "toy/point"}]
    jobs = plan_jobs(select(toy_plan(cells=cells), "smoke", seeds=[0]), place(tmp_path))
    trains = [job.key for job in jobs if job.kind == "train"]
    assert trains == [
        "train offline_dv2 toy/point seed 0",
        "train coworld toy/point from toy/point_mirrored seed 0",
        "train coworld toy/point from toy/point seed 0",
    ]


def test_needs_of_a_run(tmp_path: Path) -> None:
    jobs = {job.key: job for job in plan_jobs(select(toy_plan(), "smoke", seeds=[0]), place(tmp_path))}
    coworld = jobs["train coworld toy/point from toy/point_mirrored seed 0"]
    offline = jobs["train offline_dv2 toy/point seed 0"]
    assert offline.needs == ("collect toy/point/medium-replay-smoke-v0",)
    assert coworld.needs[0] == offline.needs[0]
    assert [jobs[need].kind for need in coworld.needs] == ["collect", "source"]


def test_a_finished_dataset_is_not_planned_again(tmp_path: Path) -> None:
    manifest = tmp_path / "data/toy/point/medium-replay-smoke-v0/manifest.json"
    (collect,) = [
        job for job in plan_jobs(select(toy_plan(), "smoke", targets=["PT"]), place(tmp_path)) if job.kind == "collect"
    ]
    assert not collect.finished()
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    assert collect.finished()


def test_only_environment_options_reach_the_dataset(tmp_path: Path) -> None:
    options = {"budget.updates": "9", "env.action_repeat": "5", "coworld.alpha": "3"}
    jobs = plan_jobs(select(toy_plan(), "smoke", ["coworld"], ["point"], [0], options), place(tmp_path))
    told = {job.kind: json.loads(job.argv[-1]) for job in jobs}
    assert told["collect"]["options"] == {"env.action_repeat": "5"}
    assert told["train"]["spec"]["options"] == options
    assert told["source"]["spec"]["options"] == {"budget.updates": "9", "env.action_repeat": "5"}


def test_the_plans_options_lie_below_the_users() -> None:
    plan = toy_plan(options={"smoke": {"budget.updates": 20, "batch.size": 2}})
    assert select(plan, "smoke", options={"batch.size": "3"}).options == {"budget.updates": "20", "batch.size": "3"}


@pytest.mark.parametrize("target", ["toy/point", "point", "PT", "toy/point "])
def test_targets_by_id_name_or_code(target: str) -> None:
    assert [cell.target for cell in select(toy_plan(), "smoke", targets=[target]).cells] == ["toy/point"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"methods": ["coworl"]}, "did you mean coworld"),
        ({"methods": ["missing.py"]}, "no file missing.py"),
        ({"targets": ["toy/pointt"]}, "did you mean toy/point"),
        ({"seeds": [2_000]}, r"a seed must be in \[0, 2000\); got 2000"),
        ({"methods": ["offline_dv2"], "options": {"coworld.alpha": "1"}}, "of method coworld, which takes no part"),
    ],
)
def test_wrong_choices_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        select(toy_plan(), "smoke", **wrong)  # type: ignore[arg-type]


def test_a_plan_without_seeds_for_a_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="names no seeds for preset quick"):
        select(toy_plan(), "quick")
    assert select(toy_plan(), "quick", seeds=[4]).seeds == (4,)


@pytest.mark.parametrize("options", [{"coworld.alhpa": "1"}, {"budget.update": "1"}, {"budget.updates": "many"}])
def test_wrong_settings_are_refused_before_any_job(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"did you mean|budget\.updates='many'"):
        plan_jobs(select(toy_plan(), "smoke", options=options), place(tmp_path))
    assert not list(tmp_path.iterdir())


def stored(runs: Path, method: str, preset: str, *seconds: float, **more: object) -> None:
    """Finished runs of as many updates as the preset has."""
    updates = resolve(preset, "toy").budget.updates
    for index, wall_s in enumerate(seconds):
        result = {"preset": preset, "time": {"wall_s": wall_s}, "evaluations": [{"updates": updates}], **more}
        write_json(runs / f"{method}--toy-point--none--s{index}--{preset}" / "result.json", result)


def planned(method: str, preset: str = "quick", **options: str) -> PlannedRun:
    named = {key.replace("_", ".", 1): value for key, value in options.items()}
    return RunSpec(method, "toy/point", ("toy/point_mirrored",), preset=preset, options=named).plan()


def estimate(place: Place, method: str, preset: str = "quick", **options: str) -> tuple[float | None, str]:
    """Of what lies there now."""
    forecast = Place(place.data, place.runs).estimates.run(planned(method, preset, **options))
    return forecast.seconds, forecast.origin


@pytest.fixture
def nothing_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "committed", dict)


def test_estimates_come_from_the_store_first(tmp_path: Path, nothing_committed: None) -> None:
    here = place(tmp_path)
    assert estimate(here, "coworld", "smoke") == (SECONDS["smoke"]["train"], TABLE)
    stored(here.runs, "coworld", "smoke", 4.0, 6.0, 100.0)
    stored(here.runs, "coworld", "quick", 1000.0)
    assert estimate(here, "coworld", "smoke") == (pytest.approx(6.0), HERE)
    assert estimate(here, "coworld") == (pytest.approx(1000.0), HERE)
    assert estimate(here, "coworld", budget_updates="4500")[0] == pytest.approx(3000.0)
    assert estimate(here, "coworld:without_max")[0] == pytest.approx(1000.0)
    assert estimate(here, "offline_dv2") == (SECONDS["quick"]["train"], TABLE)


def test_what_was_measured_otherwise_is_no_estimate(tmp_path: Path, nothing_committed: None) -> None:
    """A file that is damaged, a changed budget, another kind of device."""
    here = place(tmp_path)
    stored(here.runs, "bc", "quick", 1.0, options={"budget.updates": "10"})
    stored(here.runs, "cql", "quick", 1.0, device="NVIDIA H200")
    (here.runs / "bc--damaged").mkdir()
    (here.runs / "bc--damaged" / "result.json").write_text("{")
    write_json(here.runs / "bc--old" / "result.json", {"preset": "quick"})
    for method in ("bc", "cql"):
        assert estimate(here, method) == (SECONDS["quick"][method], TABLE)


def test_the_checkouts_results_come_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "committed", "coworld", "quick", 700.0)
    results = sorted((tmp_path / "committed").glob("*/result.json"))
    monkeypatch.setattr(estimates, "committed", lambda: {"coworld": results})
    assert estimate(place(tmp_path), "coworld") == (pytest.approx(700.0), COMMITTED)
    stored(tmp_path / "runs", "coworld", "quick", 500.0)
    assert estimate(place(tmp_path), "coworld") == (pytest.approx(500.0), HERE)


def test_of_many_results_a_few_are_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_committed: None
) -> None:
    here, opened = place(tmp_path), []
    stored(here.runs, "coworld", "smoke", *[8.0] * 60)
    monkeypatch.setattr(estimates, "read_json", lambda path: opened.append(path) or read_json(path))
    found = plan_jobs(select(toy_plan(), "smoke", ["coworld"], seeds=list(range(9))), here)
    assert all(job.estimate_s == pytest.approx(8.0) for job in found if job.kind == "train")
    assert len([path for path in opened if path.name == "result.json"]) == estimates.ENOUGH


def test_memory_is_the_most_that_was_measured(tmp_path: Path, nothing_committed: None) -> None:
    here = place(tmp_path)
    guessed = here.estimates.run(planned("coworld"))
    assert guessed.memory_origin == guessed.gpu_origin == PREDICTED
    stored(here.runs, "coworld", "quick", 9.0, 9.0, cost={"peak_memory_bytes": 7 * 10**8, "peak_gpu_bytes": 0})
    told = Place(here.data, here.runs).estimates.run(planned("coworld"))
    assert (told.memory_bytes, told.memory_origin, told.gpu_origin) == (7 * 10**8, HERE, PREDICTED)


def test_the_scale_of_the_paper_is_predicted(tmp_path: Path) -> None:
    """Never measured: 20,000 updates of the world model alone and 60,000 of both by their counts, and of 25 checkpoints 10
    episodes of 50 env steps by frames."""
    found = place(tmp_path).estimates.run(planned("dv2_finetune", "paper"))
    assert found.origin == "predicted for one CPU core"
    assert found.drawing_s == pytest.approx(25 * 10 * 50 / TOY_FRAMES_PER_S)
    turns = sizes("dv2_finetune", "paper").turns
    each = [launches * CPU.launch_s + flop / CPU.flops for launches, flop in turns.values()]
    assert list(turns) == ["world model", "world model + behaviour"]
    assert found.seconds == pytest.approx(20_000 * each[0] + 60_000 * each[1] + found.drawing_s)


def timed(key: str, seconds: float | None, *needs: str) -> Job:
    return Job("train", key, (), bool, Path, needs, seconds)


def test_the_time_of_all_is_a_share_or_the_longest_chain() -> None:
    chain = [timed("a", 10), timed("b", 10, "a"), timed("c", 10, "b")]
    assert estimate_all(chain, 1) == 30
    assert estimate_all(chain, 3) == 30
    assert estimate_all([timed("a", 10), timed("b", 10)], 2) == 10
    assert estimate_all([timed("a", None)], 2) is None
    assert [words(80), words(600), words(7200)] == ["about 80 s", "about 10 min", "about 2.0 h"]


HOLD = """
import sys, time
from pathlib import Path
from coworld_bench.bench.claims import claimed
with claimed(Path(sys.argv[1]), "a-run"):
    print("held", flush=True)
    time.sleep(60)
"""
WORK = """
import sys
from pathlib import Path
from coworld_bench.bench import worker
from coworld_bench.bench.claims import claimed

def job(asked, observe, stop):
    with claimed(Path(asked["home"]), "a-run"):
        print("printed by somebody")
        observe({"updates": 1})
    return 0

worker.KINDS["test"] = job
sys.exit(worker.main('{"kind": "test", "job": "test it", "home": "%s"}' % sys.argv[1], sys.argv[1] + "/status.json"))
"""


def test_a_claimed_job_is_nobody_elses_until_its_holder_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(Busy, match="another process is making a-run"), claimed(tmp_path, "a-run"):
            pass
        with claimed(tmp_path, "another-run"):
            pass
        work = [sys.executable, "-c", WORK, str(tmp_path)]
        refused = subprocess.run(work, capture_output=True, text=True, cwd=ROOT)
        assert (refused.returncode, refused.stdout) == (LOCKED, "")
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    done = subprocess.run(work, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, '{"updates": 1}\n')
    assert "printed by somebody" in done.stderr


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_are_a_partition_and_bring_what_they_need(count: int, tmp_path: Path) -> None:
    chosen = select(load_plan("table2"), "quick", ["offline_dv2", "coworld", "drq_bc"])
    jobs = plan_jobs(chosen, Place(tmp_path / "data", tmp_path / "runs"))
    shards = [shard_of(jobs, (index, count)) for index in range(count)]
    trains = [job.key for shard in shards for job in shard if job.kind == "train"]
    assert sorted(trains) == sorted(job.key for job in jobs if job.kind == "train")
    for shard in shards:
        keys = {job.key for job in shard}
        assert all(need in keys for job in shard for need in job.needs)
        assert [job for job in shard if job.kind == "anchors"] == [job for job in jobs if job.kind == "anchors"]
        assert [job.key for job in shard] == [job.key for job in jobs if job.key in keys]
        assert len({job.identity["method"] for job in shard if job.kind == "train"}) == 3
