"""Tables 12 and 13: times, and the sources that were chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from report_samples import put, result

from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import read_store
from coworld_bench.reporting.tables.choices import choices_table
from coworld_bench.reporting.tables.times import times_table

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
PLAN = Plan(
    name="many",
    title="Many",
    quality="medium-replay",
    methods=("offline_dv2", "coworld_multi"),
    seeds={"quick": (0, 1)},
    cells=(Cell(DOOR, candidates=(WINDOW, BUTTON)),),
)


def multi(seed: int, share: float, entropy: float) -> dict:
    """A run that chose window_close in this share of its updates."""
    content = result("coworld_multi", DOOR, 100, seed, f"{WINDOW}+{BUTTON}", sources=[WINDOW, BUTTON])
    told = {"chosen": WINDOW if share > 0.5 else BUTTON, "share": {WINDOW: share, BUTTON: 1 - share}}
    entropies = {f"entropy/{WINDOW}": entropy, f"entropy/{BUTTON}": 5.0}
    return content | {"method_report": told | {"sources": [WINDOW, BUTTON]}, "diagnostics": entropies}


def chosen(runs: Path, plan: Plan = PLAN) -> Selection:
    return select(read_store(runs), plan, "quick")


def test_chosen_sources_by_hand(tmp_path: Path) -> None:
    """Shares of ¾ and ¼ of two seeds; the paper chose drawer_close."""
    put(tmp_path, multi(0, 0.75, 6.0))
    put(tmp_path, multi(1, 0.25, 6.5))
    table = choices_table(chosen(tmp_path))
    assert table is not None
    (row,) = table.rows
    assert row == ("CoWorld (Multi-Source)", "DC*", "2", "WC, BP", "BP 50 % · 5.00, WC 50 % · 6.25", "DC")


def test_without_a_choice_there_is_no_table(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 100))
    assert choices_table(chosen(tmp_path)) is None


def test_times_by_hand(tmp_path: Path) -> None:
    """Of 200 s 80 were six episodes; of 320 s again. The CPU was busy for 190 s."""
    for seed, wall in ((0, 200.0), (1, 320.0)):
        content = result("offline_dv2", DOOR, 100, seed)
        put(tmp_path, content | {"time": content["time"] | {"wall_s": wall, "evaluation_s": 80.0}})
    table = times_table(chosen(tmp_path))
    assert table is not None
    (row,) = table.rows
    assert row == ("Offline DV2", "DC*", "2", "1,500", "3.0", "3.2", "13.33", "cpu, 1 thread(s)")


def test_what_runs_took_stands_beside_their_times(tmp_path: Path) -> None:
    """The means of times and speeds, the largest of memories; an older result tells of none."""
    for seed, (gpu_s, speed, peak) in enumerate([(60.0, 5.0, 700e6), (180.0, 7.0, 1500e6)]):
        content = result("offline_dv2", DOOR, 100, seed)
        cost = {"updates_per_s": speed, "peak_memory_bytes": peak, "peak_gpu_bytes": 2 * peak}
        put(tmp_path, content | {"time": content["time"] | {"gpu_s": gpu_s}, "cost": cost})
    put(tmp_path, result("coworld", DOOR, 100))
    table = times_table(chosen(tmp_path))
    assert table is not None and table.columns[7:11] == ("updates/s", "GPU of the run, min", "memory, MB", "GPU memory, MB")
    cells = {row[0]: row[7:11] for row in table.rows}
    assert cells == {"Offline DV2": ("6.00", "2.0", "1,500", "3,000"), "CoWorld": ("—", "—", "—", "—")}


def test_the_papers_times_stand_in_its_plan_alone(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 100))
    table = times_table(chosen(tmp_path, replace(PLAN, published="table12.csv")))
    assert table is not None and table.columns[-2:] == ("paper: training, min", "paper: episode, s")
    assert table.rows[0][4:7] == ("—", "3.2", "—") and table.rows[0][-2:] == ("2054", "2.95")
    assert times_table(chosen(tmp_path, replace(PLAN, name="none"))).columns[-1] == "device"


def test_nothing_finished_took_no_time(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 100), "config")
    assert times_table(chosen(tmp_path)) is None
