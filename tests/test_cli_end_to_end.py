"""The three commands, on the toy task with the smoke preset: collect, run, report. Then again: nothing is done twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from coworld_bench.cli import main

PLAN = """
title = "Toy: point_mirrored to point"
quality = "medium-replay"
methods = ["offline_dv2", "dv2_finetune", "coworld"]
seeds = { smoke = [0] }
[[cells]]
target = "toy/point"
source = "toy/point_mirrored"
"""


def command(*words: object, code: int = 0) -> None:
    assert main([str(word) for word in words]) == code


def outputs(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    command(*words, "--json")
    return json.loads(capsys.readouterr().out)


def test_collect_run_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COWORLD_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COWORLD_BENCH_RUNS", str(tmp_path / "runs"))
    plan, smoke = tmp_path / "toy.toml", ("--preset", "smoke")
    plan.write_text(PLAN)

    made = outputs(capsys, "collect", "toy/point", *smoke, "--reference-return", 3)
    assert made["dataset_id"] == "toy/point/medium-replay-smoke-v0" and made["fired"]
    command("collect", "toy/point", *smoke, "--reference-return", 3, code=2)
    (listed,) = outputs(capsys, "list", "datasets")["datasets"]
    assert (listed["dataset"], listed["episodes"]) == (made["dataset_id"], made["episodes"])

    capsys.readouterr()
    command("run", plan, *smoke)
    table = capsys.readouterr().out
    results = {path.parent: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*--*/result.json")}
    assert sorted(result["method"] for result in results.values()) == ["coworld", "dv2_finetune", "offline_dv2"]
    assert all(result["dataset"]["fingerprint"] == made["fingerprint"] for result in results.values())
    assert all(f"{folder.name}" == result["run"] for folder, result in results.items())
    check_table(table)

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*--*/result.json")}
    again = outputs(capsys, "run", plan, *smoke)
    assert (again["runs"], again["finished_before"], again["jobs"]) == (3, 3, [])
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}

    check_report(tmp_path, capsys, plan, results)
    check_evaluation(capsys, results)


def check_table(table: str) -> None:
    rows = {line.split("  ")[0] for line in table.splitlines()}
    assert {"Offline DV2", "DV2 Finetune", "CoWorld", "random policy", "best constant action"} <= rows
    assert "smoke" in table and "report: " in table


def check_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: Path, results: dict[Path, dict]) -> None:
    written = outputs(capsys, "report", plan, "--heatmap", "--out", tmp_path / "report")["files"]
    files = {Path(path).name: Path(path) for path in written}
    assert all(path.stat().st_size for path in files.values())
    assert {"toy-smoke.md", "toy-smoke.html", "toy-smoke.csv", "toy-smoke-heatmap.png"} <= set(files)
    runs = list(csv.DictReader(files["toy-smoke-runs.csv"].open()))
    scores = {result["method"]: result["score"]["mean"] for result in results.values()}
    assert {row["method"]: float(row["score"]) for row in runs} == pytest.approx(scores)


def check_evaluation(capsys: pytest.CaptureFixture[str], results: dict[Path, dict]) -> None:
    for folder, result in results.items():
        found = outputs(capsys, "evaluate", folder, "--episodes", 2)
        used = {record["seed"] for evaluation in result["evaluations"] for record in evaluation["episodes"]}
        assert len(found["episodes"]) == 2 and not used & {record["seed"] for record in found["episodes"]}
        assert found["updates"] == result["budget"]["world_model_updates"]
        stored = json.loads((folder / "rollout.json").read_text())
        assert outputs(capsys, "evaluate", folder, "--rollout") == stored and stored["seed"] not in used
        assert json.loads((folder / "result.json").read_text()) == result
