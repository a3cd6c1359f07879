from __future__ import annotations

from pathlib import Path

import pytest

from coworld_bench.errors import UsageError
from coworld_bench.plans import Cell, list_plans, load_plan
from coworld_bench.reporting.published import LABELS

GOOD = """
title = "T"
quality = "medium-replay"
methods = ["offline_dv2", "coworld"]
seeds = { smoke = [0], quick = [3, 4] }
options.quick = { "budget.updates" = 3000, "env.profile" = "near" }
[[cells]]
target = "toy/point-mirrored"
source = "toy/point"
[[cells]]
target = "toy/point"
"""


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_a_plan_of_the_users_own(tmp_path: Path) -> None:
    plan = load_plan(written(tmp_path, GOOD))
    assert plan.name == "mine" and plan.published is None
    assert plan.cells == (Cell("toy/point_mirrored", "toy/point"), Cell("toy/point"))
    assert [cell.code for cell in plan.cells] == ["PT → PM", "PT"]
    assert plan.seeds_of("quick") == (3, 4)
    assert plan.options_of("quick") == {"budget.updates": "3000", "env.profile": "near"} and plan.options_of("smoke") == {}
    with pytest.raises(UsageError, match="no seeds for preset paper, only for smoke, quick"):
        plan.seeds_of("paper")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('title = "T"', 'titel = "T"', "did you mean title"),
        ("target =", "taget =", "did you mean target"),
        ("quick = [3, 4]", "quik = [3]", "did you mean quick"),
        ("[3, 4]", "[-1]", "whole numbers in"),
        ("[3, 4]", "[true]", "whole numbers in"),
        ("[3, 4]", "[]", "whole numbers in"),
        ('["offline_dv2", "coworld"]', '"coworld"', "list of names"),
        ('source = "toy/point"', 'source = "toy/pint"', "did you mean toy/point"),
        ('source = "toy/point"', "source = 3", "a cell is"),
        ('quality = "medium-replay"', 'published = "table99.csv"', "needs quality"),
        ('title = "T"', 'title = "T"\npublished = "table99.csv"', "no published table"),
        ("options.quick = {", "options.quik = {", "did you mean quick"),
        ('title = "T"', "title = ", "not valid TOML"),
        ('title = "T"', 'title = "T"\nfigures = ["curve"]', "did you mean curves"),
        ('title = "T"', 'title = "T"\npanels = ["coworld"]', "panels are lists of methods by name"),
        ('title = "T"', 'title = "T"\npanels.a = []', "panels are lists of methods by name"),
        ('title = "T"', 'title = "T"\npanels.a = ["coworlt"]', "did you mean coworld"),
        ('title = "T"', 'title = "T"\npanels.a = ["coworld"]', "none of them has offline_dv2"),
    ],
)
def test_what_a_plan_may_not_say(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=sentence):
        load_plan(written(tmp_path, GOOD.replace(old, new)))


def test_rows_may_share_panels(tmp_path: Path) -> None:
    text = GOOD.replace('title = "T"', 'title = "T"\npanels = { one = ["coworld"], two = ["offline_dv2", "coworld"] }')
    assert load_plan(written(tmp_path, text)).panels == {"one": ("coworld",), "two": ("offline_dv2", "coworld")}
    assert load_plan(written(tmp_path, GOOD)).panels == {}


def test_an_unknown_plan_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no plan 'tabel2'; did you mean table2"):
        load_plan("tabel2")


def test_table2_has_the_papers_columns() -> None:
    plan = load_plan("table2")
    assert [cell.code for cell in plan.cells] == ["BP → DC*", "DC → BP", "BT → WC", "BP → HP", "WC → DC", "HP → BT"]
    assert plan.published == "table02.csv" and plan.seeds_of("quick") == (0, 1, 2)


@pytest.mark.parametrize("name", list_plans())
def test_every_shipped_plan_asks_for_methods_that_exist(name: str) -> None:
    from coworld_bench.methods import load_method

    plan = load_plan(name)
    for arm in map(plan.arm, plan.methods):
        assert arm.label or LABELS[arm.method] == load_method(arm.method).label
    assert set(plan.seeds) == {"smoke", "quick", "paper"}
