"""Every shipped plan: all of it can be planned under every preset, and a cell or two of it run to the end on the simulators
that it is about. Plans share datasets, source agents and runs here as they do for a user, so that nothing is made twice,
and all jobs share this process."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from coworld_bench.bench.jobs import Place, count_runs, plan_jobs, select
from coworld_bench.bench.run import run
from coworld_bench.config import PRESETS
from coworld_bench.methods import load_method
from coworld_bench.plans import list_plans, load_plan

# rows x cells x 3 seeds, less what cells share: methods without a source, and those with many, differ by target alone
RUNS = {
    "figure3": 3 * (30 + 6 + 6), "figure4": 3 * 4 * 4, "figure5a": 3 * 5, "figure5b": 3 * 5 * 6, "figure6": 3 * 14,
    "figure8": 3 * 3 * 6, "figure9": 3 * 3 * 10, "figure10": 3 * 8, "figure11": 3 * 3 * 2,
    "table2": 3 * 10 * 6, "table3": 3 * 8 * 6, "table4": 3 * 2 * 2, "table5": 3 * 2 * 2, "table6": 3 * 2 * 2,
    "table9": 3 * 5 * 6, "table10": 3 * 2 * 6, "table11": 3 * 3 * 3, "table12": 3 * 9, "table13": 3 * 10,
    "quickstart": 3 * 3,
}  # fmt: skip
SMOKE = {  # what of each plan runs to the end here, as far as possible the same, and how many of its cells that is
    "figure3": (["button_press_topdown"], 5), "figure4": (["push_green"], 1), "figure5a": (["push_green"], 1),
    "figure5b": (["button_press_topdown"], 1), "figure6": (["button_press"], 1), "figure8": (["button_press_topdown"], 1),
    "figure9": (["push_green"], 1), "figure10": (["button_press"], 1), "figure11": (["button_press"], 1),
    "table2": (["button_press_topdown"], 1), "table3": (["walker_downhill"], 1), "table4": (["push_green"], 1),
    "table5": (["push_green"], 1), "table6": (["push_green"], 1), "table9": (["walker_downhill"], 1),
    "table10": (["walker_walk", "push_green"], 2), "table11": (["button_press_topdown"], 1),
    "table12": (["button_press_topdown"], 1), "table13": (["button_press_topdown"], 1), "quickstart": (["window_close"], 1),
}  # fmt: skip


def test_all_plans_are_tested_here() -> None:
    assert set(list_plans()) == set(RUNS) == set(SMOKE)
    assert list_plans().index("table2") < list_plans().index("table10")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", RUNS)
def test_a_plan_resolves_and_plans_every_run_once(name: str, preset: str, tmp_path: Path) -> None:
    plan = load_plan(name)
    jobs = plan_jobs(select(plan, preset), Place(tmp_path / "data", tmp_path / "runs"))
    runs = [job for job in jobs if job.kind == "train"]
    assert len({job.argv for job in runs}) == len({job.key for job in runs}) == len(runs) == count_runs(plan, preset)
    if preset == "paper":
        assert len(runs) == RUNS[name]


def test_every_method_of_the_paper_is_in_a_plan() -> None:
    planned = {plan.arm(row).method for plan in map(load_plan, list_plans()) for row in plan.methods}
    coworld = load_method("coworld")
    assert planned >= {"coworld", "coworld_multi", *coworld.variant_names()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.mark.parametrize("name", SMOKE)
def test_a_plan_runs_to_the_end(name: str, shared: Path) -> None:
    targets, cells = SMOKE[name]
    plan, places = load_plan(name), {"data": shared / "data", "runs": shared / "runs"}
    done = run(name, "smoke", targets=targets, jobs=0, quiet=True, **places)
    assert done.exit_code == 0, done.failed
    table = next(path for path in done.report if path.name == f"{name}-smoke.csv")
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["target"].partition("/")[2] in targets]
    scored = Counter(row["row"] for row in rows if row["mean"] and row["over"] == "seeds")
    arms = [plan.arm(row) for row in plan.methods]
    labels = [arm.label or load_method(arm.method).label for arm in arms]
    assert len(set(labels)) == len(labels) and {label: scored[label] for label in labels} == dict.fromkeys(labels, cells)
    again = run(name, "smoke", targets=targets, dry_run=True, quiet=True, **places)
    assert (again.before, again.jobs) == (again.runs, ())
