"""What work costs: counted by real processes and memory, kept through checkpoints."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from coworld_bench.bench.predictions import disk_of_run
from coworld_bench.collecting import collect, costs_path
from coworld_bench.costs import PEAKS, Meter, peak_memory
from coworld_bench.data.dataset import open_dataset
from coworld_bench.files import read_json
from coworld_bench.recipes import Reference
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.stopping import StoppedAtCheckpoint
from coworld_bench.training import train

MB = 2**20


def busy(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def hold(megabytes: int) -> int:
    """Fill memory and let go of it."""
    return len(b"\1" * (megabytes * MB))


def test_a_child_counts_while_it_works_and_after() -> None:
    """What this process itself takes is told apart by its own clock."""
    context = multiprocessing.get_context("fork")  # quick to start
    meter, own = Meter("cpu"), time.process_time()

    def of_children() -> float:
        return meter.read()["cpu_s"] - (time.process_time() - own)

    child = context.Process(target=busy, args=(0.2,), daemon=True)
    child.start()
    child.join()
    ended = of_children()
    assert ended >= 0.15
    child = context.Process(target=busy, args=(60.0,), daemon=True)
    child.start()
    began = time.monotonic()
    while of_children() < ended + 0.1 and time.monotonic() - began < 30:
        time.sleep(0.02)
    at_work = of_children()
    child.kill()
    child.join()
    assert at_work >= ended + 0.1 and of_children() >= at_work - 0.01


def test_memory_that_was_let_go_counts_and_that_of_earlier_work_does_not() -> None:
    hold(300)
    meter = Meter("cpu")
    before = meter.read()["peak_memory_bytes"]
    assert before < peak_memory() + 50 * MB
    hold(200)
    assert 150 * MB <= meter.read()["peak_memory_bytes"] - before <= 260 * MB
    assert Meter("cpu").read()["peak_memory_bytes"] < before + 100 * MB


def test_attempts_add_up_and_the_largest_memory_stays() -> None:
    first, second = Meter("cpu"), Meter("cpu")
    first.spent |= {"wall_s": 100.0, "cpu_s": 80.0, "gpu_s": 7.0, "evaluation_s": 20.0, "peak_memory_bytes": 10**12}
    second.go_on(first.read())
    told = second.times()
    assert [round(told[name]) for name in ("wall_s", "cpu_s", "gpu_s", "evaluation_s")] == [100, 80, 7, 20]
    told = second.cost(160)
    assert told["updates_per_s"] == pytest.approx(2.0, rel=0.01)
    assert told["attempts"] == 2 and [told[name] for name in PEAKS] == [10**12, 0, 0]
    third = Meter("cpu")
    third.go_on(second.read())
    assert third.cost(1)["attempts"] == 3


def test_a_checkpoint_of_an_older_version_has_only_times() -> None:
    meter = Meter("cpu")
    meter.go_on({"wall_s": 50.0, "cpu_s": 40.0, "evaluation_s": 10.0})
    assert round(meter.times()["wall_s"]) == 50 and meter.times()["gpu_s"] == 0
    assert meter.cost(80)["attempts"] == 2 and meter.cost(80)["peak_memory_bytes"] > 10 * MB


def test_work_that_was_all_evaluation_has_no_speed() -> None:
    meter = Meter("cpu")
    meter.spent["evaluation_s"] = 1.0
    assert meter.cost(5)["updates_per_s"] is None


def test_runs_source_agents_and_datasets_tell_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped once counts both attempts."""
    reference = Reference(value=30.0, how="made up for tests")
    monkeypatch.setattr("coworld_bench.collecting.need_reference", lambda task, preset: reference)
    collect("toy/point", preset="smoke", data=tmp_path)
    made = read_json(costs_path(tmp_path, "toy/point/medium-replay-smoke-v0"))
    assert made["time"]["wall_s"] >= made["time"]["evaluation_s"] and made["cost"]["peak_memory_bytes"] > 50 * MB
    spec = RunSpec("coworld", "toy/point", ("toy/point_mirrored",), preset="smoke")
    (source,) = spec.plan().source_specs()
    card = read_json(pretrain_source(source, tmp_path) / "source.json")
    assert card["cost"]["attempts"] == 1 and card["cost"]["updates_per_s"] >= 0 and card["time"]["gpu_s"] == 0
    asked = iter([False, True, True])
    with pytest.raises(StoppedAtCheckpoint):
        train(spec, data=tmp_path, runs=tmp_path / "runs", stop=lambda: next(asked, True))
    result = train(spec, data=tmp_path, runs=tmp_path / "runs")
    assert result["cost"]["attempts"] == 2 and set(PEAKS) <= result["cost"].keys()
    assert result["cost"]["peak_memory_bytes"] > 50 * MB and result["cost"]["updates_per_s"] > 0
    assert set(result["time"]) == {"wall_s", "cpu_s", "gpu_s", "evaluation_s", "started", "finished"}
    held = sum(path.stat().st_size for path in (tmp_path / "runs" / result["run"]).rglob("*") if path.is_file())
    rows = open_dataset("toy/point/medium-replay-smoke", tmp_path).rows
    assert 0.8 < disk_of_run(spec.plan(), rows) / held < 1.25
