"""What a plan will cost: predictions against finished runs, sums by hand, and what a user is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_samples import put, result

from coworld_bench.bench import jobs as bench_jobs
from coworld_bench.bench.costing import EACH, cost_lines, costs, listing
from coworld_bench.bench.job import Forecast, Job
from coworld_bench.bench.jobs import Place, plan_jobs, select
from coworld_bench.bench.predictions import (
    CPU,
    GPUS,
    Machine,
    Work,
    all_sizes,
    checkpoints,
    model_updates,
    sizes,
    total_updates,
    work_at_source,
    work_of_run,
)
from coworld_bench.bench.standing import Reader
from coworld_bench.benchmarks import plans as bench_plans
from coworld_bench.benchmarks import scaling
from coworld_bench.benchmarks import sizes as bench_sizes
from coworld_bench.cli import main
from coworld_bench.config import PRESETS
from coworld_bench.errors import USAGE, UsageError
from coworld_bench.files import read_json
from coworld_bench.methods import method_names
from coworld_bench.plans import load_plan
from coworld_bench.reporting.stores.verifying import check_run
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.tasks import EnvSpec

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "reports" / "measured"
PLAN = """
title = "Toy"
quality = "medium-replay"
methods = ["offline_dv2", "coworld"]
seeds = { smoke = [0, 1], paper = [0] }
[[cells]]
target = "toy/point"
source = "toy/point_mirrored"
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("coworld_bench.collecting.need_reference", lambda task, preset: type("R", (), {"value": 30.0})())
    path = tmp_path / "toy.toml"
    path.write_text(PLAN)
    return str(path)


def finished() -> list[Any]:
    """A committed result of every method, with its number of updates as in the preset."""
    found = {path.name.partition("--")[0]: path for path in sorted((MEASURED / "quick" / "runs").glob("*--*"))}
    return [pytest.param(path, id=method) for method, path in found.items()]


@pytest.mark.parametrize("folder", finished())
def test_predicted_updates_are_those_of_finished_runs(folder: Path) -> None:
    done = read_json(folder / "result.json")
    planned = RunSpec(
        done["method"], done["target"], tuple(done["sources"]), preset="quick", options=done["options"]
    ).plan()
    budget, (model, behaviour) = done["budget"], model_updates(planned)
    if budget["world_model_updates"]:
        assert (model, behaviour) == (budget["world_model_updates"], budget["behaviour_updates"])
    assert total_updates(planned) == done["evaluations"][-1]["updates"]
    assert checkpoints(planned.config, total_updates(planned)) == len(done["evaluations"])
    if "epochs" in done["method_config"]:
        pretrained = len(planned.sources) * planned.config.online.source_env_steps
        assert work_at_source(planned)[1] == budget["source_env_steps"] - pretrained


def paper(method: str) -> PlannedRun:
    return RunSpec(method, "toy/point", ("toy/point_mirrored",), preset="paper").plan()


def test_the_papers_schedules_are_counted_turn_by_turn() -> None:
    """80,000 updates, 20,000 of the world model alone; Offline DV2's and LOMPO's phases; LOMPO's twice with a source."""
    assert work_of_run(paper("coworld")).turns == {
        "world model": 20_000, "world model + behaviour": 60_000, "source": 120_000 // 5,
    }  # fmt: skip
    assert work_of_run(paper("offline_dv2")).turns == {"world model": 25_000, "behaviour": 275_000}
    assert work_of_run(paper("lompo")).turns == {"world model": 25_000, "behaviour": 100_000}
    assert work_of_run(paper("lompo_finetune")).turns == {"source": 25_000, "world model": 25_000, "behaviour": 200_000}
    assert work_of_run(paper("multitask_dv2")).turns == {
        "world model + source": 20_000, "world model + behaviour + source": 60_000,
    }  # fmt: skip
    assert work_of_run(paper("bc")).turns == {"behaviour": paper("bc").config.budget.updates}


def test_updates_and_drawing_by_hand() -> None:
    work = Work("bc", "quick", {"behaviour": 10}, ((EnvSpec("metaworld/window_close", profile="exact"), 53),))
    launches, flop = sizes("bc", "quick").turns["behaviour"]
    machine = Machine("made up", 1e-3, 2 * flop)
    assert work.update_s(machine) == pytest.approx(10 * (launches * 1e-3 + 0.5))
    assert work.drawing_s == pytest.approx(10.0)


def test_the_counts_know_every_method_under_every_preset() -> None:
    """Where this fails: coworld-bench bench sizes --sizes smoke,quick,paper"""
    assert {(preset, method) for preset in PRESETS for method in method_names()} <= set(all_sizes())


def test_a_method_of_ones_own_is_counted_as_the_plain_agent(tmp_path: Path) -> None:
    assert sizes("mine", "quick") == sizes("dv2_finetune", "quick")


def job(kind: str, number: int, seconds: float | None = 3600.0, **told: Any) -> Job:
    forecast = Forecast(seconds, told.pop("origin", "measured here"), **told)
    identity = {"method": "bc"} if kind == "train" else {}
    return Job(kind, f"{kind} {number}", (), bool, Path, estimate_s=seconds, identity=identity, forecast=forecast)


def test_costs_are_sums_and_the_largest_memory() -> None:
    told = costs([
        job("collect", 0, 60.0, disk_bytes=5 * 10**9, memory_bytes=10**9, memory_origin="predicted", drawing_s=40.0),
        job("train", 0, 600.0, origin="predicted", disk_bytes=10**9, memory_bytes=2 * 10**9, memory_origin="measured here"),
        job("train", 1, 600.0, disk_bytes=10**9, gpu_bytes=3 * 10**9, gpu_origin="predicted"),
    ])  # fmt: skip
    assert told["jobs"] == {"collect": 1, "train": 2} and told["seconds"] == 1260.0 and told["drawing_s"] == 40.0
    assert told["seconds_from"] == {"measured here": 2, "predicted": 1}
    assert told["disk_bytes"] == {"collect": 5 * 10**9, "source": 0, "anchors": 0, "train": 2 * 10**9}
    assert told["memory_bytes"] == {"largest": 2 * 10**9, "from": "measured here"}
    assert told["gpu_memory_bytes"] == {"largest": 3 * 10**9, "from": "predicted"}
    assert costs([job("train", 0), job("train", 1, None)])["seconds"] is None
    assert costs([])["memory_bytes"] is None


def test_few_jobs_are_listed_and_many_by_kind_and_method() -> None:
    few = [job("train", number) for number in range(EACH)]
    rows, header = listing(few)
    assert header[0] == "job" and rows[3] == ["train 3", "3600", "measured here"]
    rows, _ = listing([*few, job("train", EACH, disk_bytes=2 * 10**9), job("source", 0, None, origin="")])
    assert rows == [
        ["runs", "bc", "41", "1.00", "41.0", "2.00", "measured here"],
        ["source agents", "", "1", "?", "?", "0.00", ""],
    ]


def test_the_lines_below_name_where_each_number_is_from() -> None:
    lines = cost_lines([
        job("train", 0, 7200.0, disk_bytes=1_500_000_000, memory_bytes=700_000_000, memory_origin="measured here"),
        job("source", 0, 3600.0, origin="predicted for H200", drawing_s=1800.0, disk_bytes=2_000_000),
    ], 5400.0)  # fmt: skip
    assert lines[0] == "time        about 1.5 h; 3.0 h of processes (1 job measured here, 1 job predicted for H200)"
    assert "0.5 h of a processor" in lines[1]
    assert lines[2] == "disk        about 1.5 GB: source agents 2 MB, runs 1.5 GB; counted"
    assert lines[3] == "memory      at most about 700 MB a process; measured here" and len(lines) == 4


def test_a_dry_run_tells_costs_and_makes_nothing(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(["run", plan, "--preset", "smoke", "--dry-run", *places]) == 0
    said = capsys.readouterr().out
    assert "disk        about" in said and "time        about" in said
    assert main(["run", plan, "--preset", "paper", "--dry-run", "--json", *places]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["costs"]["seconds_from"] == {"predicted for one CPU core": 5}
    assert told["costs"]["jobs"] == {"collect": 1, "source": 1, "anchors": 1, "train": 2}
    run = next(job for job in told["jobs"] if job["kind"] == "train")
    assert run["estimate"]["seconds"] == run["estimate_s"] > run["estimate"]["drawing_s"] > 0
    assert run["estimate"]["gpu_bytes"] > 10**9 and run["estimate"]["disk_bytes"] > 10**8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.toml"]


def test_a_dataset_is_opened_once_for_all_seeds(plan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    made = type("Made", (), {"rows": 50, "env_spec": EnvSpec("toy/point"), "fingerprint": "f" * 64, "id": "x"})()
    monkeypatch.setattr(bench_jobs, "open_dataset", lambda name, data: opened.append(name) or made)
    place = Place(tmp_path / "data", tmp_path / "runs")
    manifest = tmp_path / "data/toy/point/medium-replay-smoke-v0/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    chosen = select(load_plan(plan), "smoke", seeds=list(range(20)))
    made.env_spec = next(run for run in [RunSpec("bc", "toy/point", preset="smoke").plan()]).env
    assert not any(job.finished() for job in plan_jobs(chosen, place) if job.kind == "train")
    assert len(opened) == 1


def test_plans_are_costed_for_gpus_that_are_not_here(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plans, "list_plans", lambda: [plan])
    rows = {row["what"]: row for row in bench_plans.measure()["rows"]}
    assert set(rows) == {plan, "all plans", "one run of offline_dv2", "one run of coworld"}
    assert rows[plan] == rows["all plans"] | {"what": plan} and rows[plan]["runs"] == 2
    assert 0 < rows["one run of coworld"]["H200 h"] < rows["one run of coworld"]["4090 h"] < rows[plan]["4090 h"]
    assert all(row["from"] == "predicted" for row in rows.values())
    assert rows["one run of coworld"]["drawing h"] == round((25 * 10 * 50 + 120_000) / 2000 / 3600, 1)


@pytest.mark.parametrize(
    "words",
    ["bench plans --sizes quick,paper", "bench plans --sizes quik", "bench scale --sizes many", "bench sizes --sizes P"],
)
def test_what_cannot_be_measured_is_refused_at_once(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == USAGE
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_sizes_of_a_method_are_those_that_are_committed() -> None:
    """Where this fails: coworld-bench bench sizes --sizes smoke,quick,paper"""
    rows = bench_sizes.measure(["dv2_finetune"], ["smoke"])["rows"]
    known = [row for row in read_json(MEASURED / "bench" / "sizes.json")["rows"] if row["preset"] == "smoke"]
    known = [row for row in known if row["method"] == "dv2_finetune"]
    assert [row["turn"] for row in rows] == [row["turn"] for row in known]
    for name in ("launches", "checkpoint_mb", "source_mb"):
        assert [row[name] for row in rows] == pytest.approx([row[name] for row in known], rel=0.2)


def test_rows_of_a_buffer_are_told_apart_from_weights() -> None:
    import torch

    state = {"weights": torch.zeros(400, 3), "ring": (torch.zeros(350, 2), [torch.zeros(350)]), "count": 350}
    assert bench_sizes.bytes_of_rows(state, 350) == 12


def test_a_command_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    told = scaling.timed(["store", "verify", str(tmp_path)])
    assert told["code"] == 0 and told["peak_mb"] > 20 and told["wall_s"] >= 0
    assert scaling.timed(["store", "verify", str(tmp_path / "none")])["code"] == USAGE


@pytest.mark.slow
def test_a_store_that_grows(tmp_path: Path) -> None:
    rows = scaling.measure(["4"])["rows"]
    assert [row.get("code", 0) for row in rows] == [0, 0, 0, 0, 0, 0, 3, 0, 0]  # made-up results do not verify


def test_a_machine_is_chosen_by_its_name() -> None:
    assert GPUS["H200"].flops > GPUS["4090"].flops > 1000 * CPU.flops
    with pytest.raises(UsageError, match="numbers of results"):
        scaling.measure(["1e3"])


@pytest.mark.parametrize("table", ["plans", "scale"])
def test_the_page_shows_the_committed_tables(table: str) -> None:
    """Where this fails: copy the table of reports/measured/bench/TABLE.md between the marks in docs/scaling.md."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    shown = page.split(f"<!-- {table}:begin -->\n")[1].split(f"<!-- {table}:end -->")[0]
    lines = (MEASURED / "bench" / f"{table}.md").read_text().splitlines()
    assert shown.splitlines() == [line for line in lines if line.startswith("|")]


def test_of_each_result_only_what_is_compared_stays_in_memory(tmp_path: Path) -> None:
    """In `store verify` and, where no configuration lies beside it, in `status`: most of a result are its checkpoints."""
    folder = put(tmp_path, result("coworld", "metaworld/door_close", 100.0)).parent
    run, _ = check_run(tmp_path, folder)
    (standing,) = Reader(tmp_path).read()
    assert run is not None and run.content["dataset"]["rows"] == 1004 and standing.content["seed"] == 0
    assert standing.state == "done" and not {"evaluations"} & {*run.content, *standing.content}
