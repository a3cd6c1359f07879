"""`explain`: naming a cell, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from report_samples import environment, put, put_anchors, put_failed, result, run_id

from coworld_bench.cli import main
from coworld_bench.config import flat, resolve
from coworld_bench.errors import OK, USAGE, UsageError
from coworld_bench.files import append_line
from coworld_bench.plans import load_plan
from coworld_bench.reporting.explain.cells import find_cell, plan_and_rest
from coworld_bench.reporting.explain.explained import explanation_text, spans
from coworld_bench.reporting.explain.explaining import explain
from coworld_bench.reporting.published import LABELS

MEASURED = Path(__file__).resolve().parent.parent / "reports" / "measured" / "quick"
WINDOW, DRAWER, BUTTON = "metaworld/window_close", "metaworld/drawer_close", "metaworld/button_press"
ROWS = {name: LABELS.get(name, name) for name in load_plan("table2").methods} | {"coworld:without_max": "CoWorld w/o max"}


@pytest.mark.parametrize(
    ("text", "row", "column"),
    [
        ("table2", None, None),
        ("table2:", None, None),
        ("table2:cql", "cql", None),
        ("table2:cql:bp", "cql", 2),
        ("table2:CQL:BP", "cql", 2),
        ("table2:cql:2", "cql", 2),
        ("table2:cql:dc-bp", "cql", 2),
        ("table2:cql:DC → BP", "cql", 2),
        ("table2:cql:dc->bp", "cql", 2),
        ("table2:cql:DC*", "cql", 1),
        ("table2:cql:dc", "cql", 5),
        ("table2/coworld/window_close", "coworld", 3),
        ("table2/coworld/metaworld/window-close", "coworld", 3),
        ("table2:coworld:drawer_close-button_press", "coworld", 2),
        ("table2:dv2-finetune:wc", "dv2_finetune", 3),
        ("table2:DV2 Finetune+EWC:wc", "dv2_finetune_ewc", 3),
        ("table2:coworld (multi-source):wc", "coworld_multi", 3),
        ("table2:coworld:without_max:wc", "coworld:without_max", 3),
        ("table2/CoWorld w/o max/wc", "coworld:without_max", 3),
        ("table10:coworld:BT → BT (w = 0.1)", "coworld", 4),
        ("table10:coworld:bt w=5", "coworld", 6),
        ("table10:coworld:video", None, None),
    ],
)
def test_names_of_cells(text: str, row: str | None, column: int | None) -> None:
    name, rest = plan_and_rest(text)
    if rest.endswith("video"):
        with pytest.raises(UsageError, match=r"fits columns 1 \(WW → WW \(video\)\), 2 .*; name one .*: table10:coworld:1"):
            find_cell(rest, load_plan(name), ROWS)
        return
    found = find_cell(rest, load_plan(name), ROWS)
    assert (found.row, found.column) == (row, column)


def test_a_plan_of_ones_own_is_named_by_its_file() -> None:
    assert plan_and_rest("my plans/mine.toml:cql:bp") == ("my plans/mine.toml", "cql:bp")
    assert plan_and_rest("a/mine.toml/cql/2") == ("a/mine.toml", "cql/2")
    assert plan_and_rest("a/mine.toml") == ("a/mine.toml", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tabel2:cql:bp", "no plan 'tabel2'; did you mean table2"),
        ("table2:cqll:bp", "no row in plan table2: 'cqll'; did you mean cql"),
        ("table2:cowrld", "did you mean coworld"),
        ("table2:cql:button_pres", "no column in plan table2: 'button_pres'; did you mean button_press"),
        ("table2:cql:7", "columns 1 to 6; got 7"),
        ("table2:cql:0", "columns 1 to 6; got 0"),
        ("figure3:coworld:bt", r"'bt' fits columns 5 \(DC\* → BT\), 10 \(BP → BT\), .* by its number: figure3:coworld:5"),
    ],
)
def test_names_that_do_not_exist(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        explain(text, tmp_path)


def full(method: str, mean: float, seed: int, source: str = "", **changes: Any) -> dict[str, Any]:
    """A finished run that tells all that a run tells."""
    config = resolve("quick", "metaworld").identity()
    content = result(method, WINDOW, mean, seed, source, config=config)
    content["time"] |= {"wall_s": 3600.0, "cpu_s": 1800.0, "evaluation_s": 900.0}
    agents = [{"task": source, "digest": f"{seed}" * 64, "return_mean": 321.0}] if source else []
    machine = {"cores": 2, "cpu": "Fast", "platform": "Linux-1", "python": "3.11.7", "MKL_CBWR": "COMPATIBLE"}
    told = {"versions": {"torch": "2.1", "robodesk": None}, "machine": machine, "source_agents": agents}
    return content | told | {"method_config": {"alpha": 0.2}} | changes


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """CoWorld on quickstart's cell: seeds 0 to 2 finished, and others that do not count for five reasons."""
    for seed, mean in enumerate([100.0, 200.0, 400.0]):
        put(tmp_path, full("coworld", mean, seed, DRAWER) | ({"commit": None} if seed == 2 else {}))
    put_failed(tmp_path, "coworld", WINDOW, 3, DRAWER)
    unfinished = full("coworld", 0, 4, DRAWER)
    put(tmp_path, {key: unfinished[key] for key in unfinished.keys() - {"score", "evaluations"}}, "config")
    append_line(tmp_path / unfinished["run"] / "metrics.jsonl", {"updates": 375})
    others = {
        "asked": {"options": {"coworld.alpha": 1}, "method_config": {"alpha": 1}},
        "data": {"dataset": unfinished["dataset"] | {"fingerprint": "cd" * 32}},
        "older": {"time": {"finished": "2024-12-31T00:00:00"}},
        "revised": {"revision": 2},
    }
    for name, changes in others.items():
        put(tmp_path, full("coworld", 900, 0, DRAWER) | {"run": f"coworld--{name}"} | changes)
    put_anchors(tmp_path, WINDOW, 600.0)
    return tmp_path


def test_what_made_a_number(store: Path) -> None:
    """100, 200 and 400: mean 233.3, sd 152.75, and t = 4.303 for 2 degrees of freedom gives ± 379.5."""
    found = explain("quickstart:coworld:wc", store)
    assert (found["preset"], found["label"], found["code"], found["target"]) == ("quick", "CoWorld", "DC → WC", WINDOW)
    assert found["number"]["mean"] == pytest.approx(233.3333)
    assert found["number"]["std"] == pytest.approx(152.7525)
    assert (found["number"]["low95"], found["number"]["high95"]) == pytest.approx((-146.12, 612.79), abs=0.01)
    assert found["seeds"] == {
        "planned": [0, 1], "finished": [0, 1, 2], "failed": [3], "unfinished": [4], "not_started": []
    }  # fmt: skip
    assert found["hours"] == {"wall": 3.0, "cpu": 1.5, "training": 2.25}
    assert [run["score"] for run in found["runs"]] == [100.0, 200.0, 400.0]
    assert found["runs"][1]["updates"] == [750, 1500] and found["runs"][1]["episode_seeds"] == [1, 2, 1, 2]
    assert found["rule"] == "mean over the checkpoints of the last half of training" and found["protocol"] == 1
    assert found["dataset"]["fingerprint"] == "ab12" * 16 and found["dataset"]["recipe"]["seed"] == 0
    assert [(group["seeds"], group["commit"]) for group in found["made_by"]] == [
        ([0, 1], {"commit": "0123456789abcdef", "dirty": True}),
        ([2], None),
    ]
    assert found["beside"]["best constant action"]["mean"] == 600.0
    assert found["beside"]["constant_share"] == pytest.approx(600 / 3583)
    assert found["command"] == (
        f"coworld-bench run quickstart --preset quick --methods coworld --targets {WINDOW} --seeds 0,1,2,3,4 --runs {store}"
    )


def test_what_was_left_out_and_why(store: Path) -> None:
    told = {each["run"].split("--", 1)[1]: each["why"] for each in explain("quickstart:coworld:1", store)["left_out"]}
    ending = "--metaworld-drawer_close--s{}--quick00000".format
    assert told == {
        "asked": 'other settings: {"coworld.alpha":"1"}',
        "data": "another dataset: fingerprint cdcdcdcdcd",
        "older": "a newer run of this seed counts",
        "revised": "settings that the others do not have, or another revision of the method",
        f"metaworld-window_close{ending(3)}": "failed: RuntimeError: loss is nan",
        f"metaworld-window_close{ending(4)}": "unfinished: 375 of 1,500 updates",
    }


def test_an_older_protocol_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, full("coworld", 100, 0, DRAWER))
    put(tmp_path, full("offline_dv2", 100, 0, protocol=2))
    found = explain("quickstart:coworld:1", tmp_path)
    assert found["number"]["n"] == 0
    assert [each["why"] for each in found["left_out"]] == ["evaluation protocol 1; 2 is the newest here"]


def test_settings_that_are_not_the_presets(tmp_path: Path) -> None:
    asked = {"model.deter": 64}
    config = resolve("quick", "metaworld", {"model.deter": "64"}).identity()
    noisy = environment(WINDOW) | {"action_noise": 0.5}
    put(
        tmp_path,
        full("coworld", 100, 0, DRAWER, options=asked, config=config, source_options={"env.sparse": True}, env=noisy),
    )
    plan = tmp_path / "mine.toml"
    plan.write_text(
        'title = "Mine"\nquality = "medium-replay"\nmethods = ["coworld"]\nseeds = { quick = [0] }\n'
        f'options.quick = {{ "model.deter" = 64 }}\n[[cells]]\ntarget = "{WINDOW}"\nsource = "{DRAWER}"\n'
        'target_options = { "env.action_noise" = 0.5 }\nsource_options = { "env.sparse" = true }\n'
    )
    found = explain(f"{plan}:coworld:1", tmp_path)
    assert found["settings"]["changed"] == {"model.deter": [128, 64]}
    assert found["settings"]["environment"] == {"action_noise": [0.0, 0.5]}
    text = explanation_text(found)
    assert "asked for         model.deter=64; source: env.sparse=True\n" in text
    assert "not the preset's  model.deter 64 instead of 128\n" in text
    assert "environment       action_noise 0.5 instead of 0.0\n" in text
    assert f"--targets {WINDOW} --runs {tmp_path}" in found["command"]


def test_runs_of_another_environment_or_source_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, full("coworld", 100, 0, DRAWER, env=environment(WINDOW) | {"action_noise": 0.5}))
    put(tmp_path, full("coworld", 100, 1, DRAWER, source_options={"env.sparse": True}))
    found = explain("quickstart:coworld:1", tmp_path)
    assert found["number"]["n"] == 0
    first, second = (each["why"] for each in found["left_out"])
    assert first.startswith("another environment: digest ")
    assert second == 'other options of its source: {"env.sparse":true} instead of {}'


def test_published_numbers_come_with_their_notes(tmp_path: Path) -> None:
    told = explain("table2:offline_dv2:hp", tmp_path)["published"]
    assert [(row["mean"], row["std"]) for row in told] == [(278.0, 128.0)]
    assert "implausibly low" in told[0]["note"]
    assert [row["method"] for row in explain("table2:coworld:hp", tmp_path)["published"]] == ["CoWorld (Best-Source)"]
    assert explain("quickstart:coworld:1", tmp_path)["published"] == []
    for column, (mean, w) in {4: (3752, "0.1"), 5: (3567, "1"), 6: (951, "5")}.items():
        (row,) = explain(f"table10:coworld:{column}", tmp_path)["published"]
        assert (row["mean"], row["std"]) == (mean, None) and row["note"].startswith(f"action noise w={w} in")


def test_nothing_measured_is_explained_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "table2:cql:bp", "--runs", str(tmp_path)]) == OK
    out = capsys.readouterr().out
    assert out.startswith("CQL on DC → BP: —\nTable 2: Meta-World, medium-replay · preset quick\n")
    assert "number  none: no run of this cell has finished\nseeds   0, 1, 2 not started (planned: 0, 1, 2)\n" in out
    assert f"run table2 --preset quick --methods cql --targets {BUTTON} --runs {tmp_path}\n" in out


def test_the_text_of_a_cell(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "quickstart:coworld:wc", "--runs", str(store)]) == OK
    out = capsys.readouterr().out
    for line in [
        "number            233: mean of 3 seeds",
        "±                 153: standard deviation over seeds (n - 1) of the score of a run",
        "interval          -146 to 613: 95 %, Student's t over seeds",
        "seeds             0, 1, 2 finished; 3 failed; 4 unfinished (planned: 0, 1)",
        "checkpoints       after 750, 1500 updates",
        "episodes          2 per checkpoint, 4 a seed, 12 in all",
        "                  its stop rule fired",
        "asked for         nothing on top of the preset",
        "not the preset's  no setting",
        "of the method     alpha=0.2",
        f"source agents     seed 0: {DRAWER}, 0000000000, its last episodes 321",
        "made by           seed 0, 1: commit 0123456789abcdef, files were changed in it",
        "                  cpu, 1 thread(s), Fast, 2 cores, Linux-1, Python 3.11.7, MKL_CBWR=COMPATIBLE",
        "made by           seed 2: commit not recorded",
        "time              3 h 0 min wall, 1 h 30 min cpu, 2 h 15 min training; dataset and source agents not counted",
        "  best constant action  600 ± 14 (2 episodes)",
        "  The best constant action reaches 17 % of the reference: the column can carry a claim.",
        f"  seed 3, {run_id('coworld', WINDOW, 3, DRAWER, 'quick')}: failed: RuntimeError: loss is nan",
    ]:
        assert f"\n{line}\n" in out, line
    assert max(map(len, out.split("\nseed  score")[0].splitlines())) <= 130
    assert explanation_text(explain("quickstart:coworld:wc", store)) + "\n" == out


def test_few_seeds_are_called_few(tmp_path: Path) -> None:
    put(tmp_path, full("coworld", 100, 0, DRAWER))
    text = explanation_text(explain("quickstart:coworld:1", tmp_path))
    assert "number            100: mean of 1 seed; fewer than 3 seeds say little\n" in text
    assert "interval" not in text


def test_what_a_plan_has_and_what_a_row_has(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "quickstart", "--runs", str(store)]) == OK
    out = capsys.readouterr().out
    assert "1       DC → WC  metaworld/window_close  metaworld/drawer_close\n" in out
    assert "coworld       CoWorld       1 of 1\n" in out and "offline_dv2   Offline DV2   0 of 1\n" in out
    assert main(["explain", "table2:coworld", "--runs", str(store), "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in told["rows"]] == ["coworld"] and len(told["columns"]) == 6


def test_the_preset_is_the_largest_with_results(store: Path) -> None:
    smoke = result("coworld", WINDOW, 5, 0, DRAWER, preset="smoke")
    put(store, smoke)
    found = explain("quickstart:coworld:1", store)
    assert (found["preset"], found["measured_presets"]) == ("quick", ["quick", "smoke"])
    assert "preset quick (results under smoke too)" in explanation_text(found)
    assert explain("quickstart:coworld:1", store, "smoke")["number"]["mean"] == 5


def test_options_choose_other_runs(store: Path) -> None:
    found = explain("quickstart:coworld:1", store, options={"coworld.alpha": "1"})
    assert [run["score"] for run in found["runs"]] == [900]
    assert found["command"].endswith(f"-o coworld.alpha=1 --runs {store}")
    told = {each["run"].split("--", 1)[1]: each["why"] for each in found["left_out"]}
    assert len(told) == 8 and told["older"] == "other settings: none on top of the preset"


def test_a_measured_number_is_that_of_its_files() -> None:
    found = explain("table2:offline_dv2:window_close", MEASURED)
    files = sorted((MEASURED / "runs").glob("offline_dv2--metaworld-window_close--none--*/result.json"))
    results = [json.loads(path.read_text()) for path in files]
    scores = [content["score"]["mean"] for content in results]
    assert len(scores) == 5
    assert (found["number"]["mean"], found["number"]["std"]) == pytest.approx((fmean(scores), stdev(scores)))
    assert [run["file"] for run in found["runs"]] == [str(path) for path in files]
    assert found["hours"]["wall"] == pytest.approx(sum(content["time"]["wall_s"] for content in results) / 3600)
    assert found["settings"]["changed"] == {} and found["left_out"] == []
    assert found["runs"][4]["episode_seeds"] == list(range(200400006, 200400026))
    assert found["command"].endswith(f"--seeds 0,1,2,3,4 --runs {MEASURED / 'runs'}")


def test_a_run_in_a_folder_of_another_name_is_found(tmp_path: Path) -> None:
    put(tmp_path, full("coworld", 100, 0, DRAWER), folder="renamed")
    assert explain("quickstart:coworld:1", tmp_path)["runs"][0]["file"] == str(tmp_path / "renamed" / "result.json")


def test_what_explain_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "table2:cqll:bp", "--runs", str(tmp_path)]) == USAGE
    assert main(["explain", "table2:cql:bp", "--runs", str(tmp_path / "nowhere")]) == USAGE
    assert main(["explain", "table2:cql:bp", "--runs", str(tmp_path), "--preset", "quik"]) == USAGE
    assert main(["explain"]) == USAGE
    assert "did you mean quick" in capsys.readouterr().err


def test_spans() -> None:
    assert spans([3, 4, 5, 9, 11, 12]) == "3-5, 9, 11-12"
    assert spans([]) == ""


def test_settings_are_told_as_options_name_them() -> None:
    assert "model.deter" in flat(resolve("quick", "metaworld").to_dict())
