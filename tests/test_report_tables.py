from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import environment, put, put_anchors, put_failed, result

from coworld_bench.errors import UsageError
from coworld_bench.files import write_json
from coworld_bench.plans import Cell, Plan
from coworld_bench.recipes import Reference
from coworld_bench.reporting import report, table_text
from coworld_bench.reporting.selection import Selection, presets_with_results, select
from coworld_bench.reporting.store import read_store, short_commit
from coworld_bench.reporting.tables.details import diagnostics_table, duration, failures, provenance_table
from coworld_bench.reporting.tables.measured import measured_table, seeds_table, tidy
from coworld_bench.reporting.words import caveats

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
PLAN = Plan(
    name="pair",
    title="A pair",
    quality="medium-replay",
    methods=("offline_dv2", "coworld"),
    seeds={"smoke": (0,), "quick": (0, 1, 2)},
    cells=(Cell(DOOR, BUTTON), Cell(WINDOW, BUTTON)),
)
MARKED = ("paper", "quick")


def references(task: str, preset: str) -> Reference | None:
    return Reference(value=4500.0, how="stand-in") if preset == "quick" else None


def chosen(runs: Path, preset: str = "quick", plan: Plan = PLAN, **asked: dict[str, str]) -> Selection:
    return select(read_store(runs), plan, preset, **asked)


def fill(runs: Path, scores: dict[tuple[str, str], list[float]]) -> None:
    for (method, target), values in scores.items():
        for seed, score in enumerate(values):
            put(runs, result(method, target, score, seed, "" if method == "offline_dv2" else BUTTON))


def full(runs: Path) -> None:
    fill(
        runs,
        {
            ("offline_dv2", DOOR): [1000, 2000, 3000],
            ("offline_dv2", WINDOW): [500, 500, 500],
            ("coworld", DOOR): [4000, 4000, 4600],
            ("coworld", WINDOW): [90, 100, 110],
        },
    )


def rows_of(selection: Selection) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in measured_table(selection, references).rows}


def test_the_whole_table_worked_by_hand(tmp_path: Path) -> None:
    full(tmp_path)
    put_anchors(tmp_path, DOOR, 4305)
    put_anchors(tmp_path, WINDOW, 656)
    table = measured_table(chosen(tmp_path), references)
    assert table.title == "Measured · preset quick · 3 seeds"
    assert table.columns == ("method", "BP → DC* ‡", "BP → WC", "average")
    assert table.divider == 2
    assert table.rows == (
        ("Offline DV2", "2000 ± 1000 (3)", "500 ± 0 (3)", "1250"),
        ("CoWorld", "4200 ± 346 (3)", "100 ± 10 (3)", "2150"),
        ("random policy", "350 ± 71 (2 ep)", "350 ± 71 (2 ep)", "350"),
        ("untrained policy", "20.0 ± 14.1 (2 ep)", "20.0 ± 14.1 (2 ep)", "20.0"),
        ("best constant action", "4305 ± 14 (2 ep)", "656 ± 14 (2 ep)", "2480"),
        ("dataset, mean return", "860 ± 1100 (4 ep)", "860 ± 1100 (4 ep)", "860"),
    )


def test_cells_that_are_not_complete_say_so_and_are_not_averaged(tmp_path: Path) -> None:
    fill(tmp_path, {("offline_dv2", DOOR): [1000, 2000], ("offline_dv2", WINDOW): [500, 500, 500], ("coworld", DOOR): [70]})
    put_failed(tmp_path, "coworld", DOOR, 1, BUTTON)
    for seed in range(3):
        put_failed(tmp_path, "coworld", WINDOW, seed, BUTTON)
    selection = chosen(tmp_path)
    rows = rows_of(selection)
    assert rows["Offline DV2"] == ("1500 ± 707 (2/3)†", "500 ± 0 (3)", "1 of 2 cells")
    assert rows["CoWorld"] == ("70.0 (1/3, 1 failed)†", "failed", "0 of 2 cells")
    assert rows["random policy"] == ("—", "—", "0 of 2 cells")
    assert selection.seed_words == "1 to 3 seeds (3 planned)"
    assert failures(selection) == [
        "CoWorld on BP → DC*, seed 1: RuntimeError: loss is nan",
        "CoWorld on BP → WC, seed 0, 1, 2: RuntimeError: loss is nan",
    ]


def test_unfinished_and_missing_cells(tmp_path: Path) -> None:
    begun = result("coworld", DOOR, 0, 0, BUTTON)
    put(tmp_path, begun | {"dataset": begun["dataset"]["fingerprint"]}, "config")
    rows = rows_of(chosen(tmp_path))
    assert rows["CoWorld"] == ("0/3", "—", "0 of 2 cells")
    assert rows["Offline DV2"] == ("—", "—", "0 of 2 cells")


def test_only_signs_that_occur_are_explained(tmp_path: Path) -> None:
    def last(preset: str = "quick") -> str:
        return measured_table(chosen(tmp_path, preset), references).notes[-1]

    fill(tmp_path, {("offline_dv2", DOOR): [1000, 2000]})
    assert last() == ("— not started; k/n: k of the n planned seeds are finished; an average needs all cells complete.")
    full(tmp_path)
    assert "k/n" not in last() and "not started" not in last()
    assert last("smoke") == "— not started; an average needs all cells complete."


def test_a_finished_retry_outranks_the_failure(tmp_path: Path) -> None:
    full(tmp_path)
    put_failed(tmp_path, "coworld", DOOR, 1, BUTTON)  # left beside its result
    assert rows_of(chosen(tmp_path))["CoWorld"][0] == "4200 ± 346 (3)"


def test_presets_never_mix(tmp_path: Path) -> None:
    full(tmp_path)
    put(tmp_path, result("offline_dv2", DOOR, 7, 0, preset="smoke"))
    put(tmp_path, result("offline_dv2", DOOR, 9000, 3, preset="paper"))
    assert presets_with_results(read_store(tmp_path), PLAN) == ["paper", "quick", "smoke"]
    assert rows_of(chosen(tmp_path))["Offline DV2"][0] == "2000 ± 1000 (3)"
    assert rows_of(chosen(tmp_path, "smoke"))["Offline DV2"][0] == "7.00 (1)†"


def test_protocols_never_mix(tmp_path: Path) -> None:
    full(tmp_path)
    put(tmp_path, result("offline_dv2", DOOR, 10, 0, protocol=2, run="newer"))
    selection = chosen(tmp_path)
    assert rows_of(selection)["Offline DV2"][0] == "10.0 (1/3)†"
    assert selection.notes[0] == "12 run(s) of an older evaluation protocol than 2 are left out"


def test_other_settings_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    full(tmp_path)
    put(
        tmp_path,
        result("coworld", DOOR, 10, 0, BUTTON, options={"coworld.alpha": "2"}, method_config={"alpha": 2}, run="a2"),
    )
    selection = chosen(tmp_path)
    assert rows_of(selection)["CoWorld"][0] == "4200 ± 346 (3)"
    assert selection.notes == ('1 run(s) with other settings are left out: {"coworld.alpha":"2"}',)
    asked = chosen(tmp_path, options={"coworld.alpha": "2"})
    assert rows_of(asked)["CoWorld"][0] == "10.0 (1/3)†"
    assert rows_of(asked)["Offline DV2"][0] == "2000 ± 1000 (3)"  # an option of CoWorld is none of its


def test_a_plans_own_options_are_its_default(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 10, options={"budget.updates": "30"}))
    plan = replace(PLAN, options={"quick": {"budget.updates": "30"}})
    assert rows_of(chosen(tmp_path, plan=plan))["Offline DV2"][0] == "10.0 (1/3)†"
    assert rows_of(chosen(tmp_path))["Offline DV2"][0] == "—"


def test_options_that_change_no_number_choose_no_runs(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 10, options={"budget.updates": "30"}))
    neutral = {"compute.checkpoint_minutes": "0.1", "compute.memory": "packed"}
    plan = replace(PLAN, options={"quick": {"budget.updates": "30", **neutral}})
    by_plan = select(read_store(tmp_path), plan, "quick")
    by_user = select(read_store(tmp_path), PLAN, "quick", {"budget.updates": "30", **neutral})
    for found in (by_plan, by_user):
        assert len(found.measurements["offline_dv2", plan.cells[0]].runs) == 1
        assert found.options == {"budget.updates": "30"}


def test_seeds_on_another_dataset_are_not_averaged_in(tmp_path: Path) -> None:
    full(tmp_path)
    other = {"id": "x", "fingerprint": "ffff" * 16, "return_mean": 1.0, "return_std": 1.0, "episodes": 1, "fired": True}
    put(tmp_path, result("offline_dv2", DOOR, 9, 3, dataset=other))
    selection = chosen(tmp_path)
    assert rows_of(selection)["Offline DV2"][0] == "2000 ± 1000 (3)"
    assert selection.notes == ("1 run(s) of Offline DV2 on BP → DC* with other settings or data are left out",)


def test_of_two_runs_with_one_seed_the_newest_counts(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 10, time={"finished": "2025-01-02"}, run="newer"))
    put(tmp_path, result("offline_dv2", DOOR, 20, time={"finished": "2025-01-01"}, run="older"))
    selection = chosen(tmp_path)
    assert rows_of(selection)["Offline DV2"][0] == "10.0 (1/3)†"
    assert selection.notes == ("of several runs of Offline DV2 on BP → DC* with the same seed the newest counts",)


def test_methods_that_saw_different_data_are_named(tmp_path: Path) -> None:
    full(tmp_path)
    put(tmp_path, result("offline_dv2", WINDOW, 9, 0, quality="medium-expert", run="expert"))
    odd = result("mine", DOOR, 5000, 0)
    put(tmp_path, odd | {"dataset": odd["dataset"] | {"fingerprint": "ffff" * 16, "fired": False}, "label": "Mine"})
    selection = chosen(tmp_path)
    assert rows_of(selection)["Mine"] == ("5000 (1/3)†", "—", "0 of 2 cells")  # not of the plan, yet on its cells
    assert rows_of(selection)["Offline DV2"][1] == "500 ± 0 (3)"  # the other quality stays out
    assert selection.notes == (
        "the methods on BP → DC* did not learn from the same dataset; do not compare them",
        "the dataset of BP → DC* ended at its budget, before its stop rule fired",
    )


def test_another_source_is_another_cell(tmp_path: Path) -> None:
    put(tmp_path, result("coworld", DOOR, 9, 0, "metaworld/drawer_close"))
    assert rows_of(chosen(tmp_path))["CoWorld"] == ("—", "—", "0 of 2 cells")


def test_a_store_of_committed_results_reads_the_same(tmp_path: Path) -> None:
    full(tmp_path / "store")
    full(tmp_path / "measured" / "runs")
    for runs in ("store", "measured"):
        put_anchors(tmp_path / runs, DOOR, 4305)
    assert rows_of(chosen(tmp_path / "store")) == rows_of(chosen(tmp_path / "measured"))


def test_every_seed_and_its_interval(tmp_path: Path) -> None:
    full(tmp_path)
    table = seeds_table(chosen(tmp_path))
    assert table is not None
    # 4.302653 * 1000 / sqrt(3) = 2484
    assert table.rows[0] == (
        "Offline DV2", "BP → DC*", "0: 1000, 1: 2000, 2: 3000", "2000", "1000", "-484 to 4484", "12", "50", "50 %",
    )  # fmt: skip


def test_diagnostics(tmp_path: Path) -> None:
    sick = {"source_value": 77.0, "constraint_active": 0.003, "alignment_loss": 0.0234}
    put(tmp_path, result("coworld", DOOR, 100, 0, BUTTON, diagnostics=sick))
    put(tmp_path, result("coworld", DOOR, 100, 1, BUTTON, diagnostics=sick | {"source_value": 79.0}))
    without = result("offline_dv2", DOOR, 100)
    for evaluation in without["evaluations"]:
        for episode in evaluation["episodes"]:
            del episode["value_predicted"], episode["value_realised"]
    put(tmp_path, without)
    table = diagnostics_table(chosen(tmp_path))
    assert table is not None
    # each episode pair: predicted 30, realised 20 and 40, so the gaps cancel and their sizes do not
    assert table.rows == (("CoWorld", "BP → DC*", "2", "30.0", "30.0", "+0.00", "10.0", "78.0", "0.3 %", "0.0234"),)


def test_who_made_this(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 893, 2))
    table = provenance_table(chosen(tmp_path))
    assert table is not None
    assert table.rows == (
        (
            "quick00000",
            "Offline DV2",
            "BP → DC*",
            "2",
            "893",
            "2",
            "4",
            "ab12ab12ab",
            "0123456+",
            "cpu, 1 thread(s)",
            "3 min 20 s",
        ),
    )
    assert short_commit(None) == "—" and short_commit({"commit": "0123456789", "dirty": False}) == "0123456"
    assert [duration(value) for value in (None, 59.6, 200_000)] == ["—", "1 min 0 s", "55 h 33 min"]


def test_words_name_scale_power_and_shortcuts(tmp_path: Path) -> None:
    full(tmp_path)
    put_anchors(tmp_path, DOOR, 4305)
    words = caveats(chosen(tmp_path), references).paragraphs
    assert words[0].startswith("Preset quick is neither the paper's network nor its budget: 1,500 world-model updates")
    # spreads 0.5, 0, 0.0825, 0.1: median 0.0912; three seeds need 3.07 sds
    assert "sd/mean, is 0.09. At that spread 3 seeds per method can show a difference of about 28 %" in words[1]
    assert "(BP → DC*: 4305 of 4500, 96 %)" in words[2]
    assert words[3].startswith("Not known for BP → WC")


def test_words_without_any_spread(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 893, 0, preset="smoke"))
    words = " ".join(caveats(chosen(tmp_path, "smoke"), references).paragraphs)
    assert "nothing is known of the spread between seeds" in words
    assert "the parts run, and no more" in words


def test_tidy_rows_are_unrounded(tmp_path: Path) -> None:
    full(tmp_path)
    put_anchors(tmp_path, DOOR, 4305)
    found = {(row["row"], row["target"]): row for row in tidy(chosen(tmp_path))}
    assert found["CoWorld", DOOR]["std"] == pytest.approx(346.4101615)
    assert found["CoWorld", DOOR]["n"] == found["CoWorld", DOOR]["planned"] == 3
    assert found["random policy", DOOR]["over"] == "episodes" and found["random policy", WINDOW]["n"] == 0


def test_an_empty_store_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="coworld-bench run table2 --preset quick"):
        report(["table2"], tmp_path, preset="quick")
    with pytest.raises(UsageError, match="holds no run of any plan"):
        report([], tmp_path)
    with pytest.raises(UsageError, match="no folder of results"):
        report(["table2"], tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file; a store of results is a folder"):
        report(["table2"], tmp_path / "file")
    assert "CoWorld" in table_text(PLAN, tmp_path)


def test_what_report_refuses(tmp_path: Path) -> None:
    full(tmp_path)
    with pytest.raises(UsageError, match="no report format 'htm'; did you mean html"):
        report([PLAN], tmp_path, formats=["htm"])
    with pytest.raises(UsageError, match="no plan 'tabel2'"):
        report(["tabel2"], tmp_path)
    with pytest.raises(UsageError, match=re.escape("no run of plan pair under preset paper (it has quick)")):
        report([PLAN], tmp_path, preset="paper")
    with pytest.raises(UsageError, match="no preset 'quik'"):
        table_text(PLAN, tmp_path, "quik")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "is not a file of this project"),
        ("{}", "must hold method, target, seed, preset, score, evaluations"),
    ],
)
def test_a_damaged_result_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text(content)
    with pytest.raises(UsageError, match=sentence):
        read_store(tmp_path)


def test_a_score_that_is_no_number_is_a_failed_run(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, math.nan))
    row = read_store(tmp_path).runs.iloc[0]
    assert (row["state"], row["error"]) == ("failed", "its score is not a number")


def test_anchors_of_another_environment_stand_beside_no_run(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 400.0))
    put_anchors(tmp_path, DOOR, 4305)
    other = put(tmp_path, result("offline_dv2", WINDOW, 400.0, env=environment(WINDOW) | {"action_repeat": 5}))
    assert other.is_file()
    put_anchors(tmp_path, WINDOW, 656)
    door, window = (Cell(task, BUTTON) for task in (DOOR, WINDOW))
    selection = select(read_store(tmp_path), PLAN, "quick")
    assert selection.anchor(door, "constant") and not len(selection.measurements["offline_dv2", window].runs)
    slower = replace(window, target_options=(("env.action_repeat", "5"),))
    selection = select(read_store(tmp_path), replace(PLAN, cells=(door, slower)), "quick")
    assert len(selection.measurements["offline_dv2", slower].runs) == 1 and selection.anchor(slower, "constant") is None


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 1, schema=2))
    with pytest.raises(UsageError, match=r"has schema 2, this version reads up to 1"):
        read_store(tmp_path)


def test_folders_that_hold_no_run_are_passed_over(tmp_path: Path) -> None:
    full(tmp_path)
    write_json(tmp_path / "report" / "x.json", {})
    (tmp_path / "notes.txt").write_text(json.dumps({}))
    assert len(read_store(tmp_path).runs) == 12
