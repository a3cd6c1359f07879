from __future__ import annotations

import math

import pytest

from coworld_bench.plans import load_plan
from coworld_bench.reporting.formats.markdown import markdown
from coworld_bench.reporting.formats.text import csv_text, plain
from coworld_bench.reporting.layout import Page, Table, Words, number
from coworld_bench.reporting.published import averages, published_cell, published_table, read_published
from coworld_bench.reporting.stats import detectable_difference, detectable_effect, seeds_needed, summarise


def test_mean_sd_and_interval_by_hand() -> None:
    found = summarise([1.0, 2.0, 6.0])
    # deviations -2, -1, 3: sd = sqrt(14 / 2); half width 4.302653 (t table, 2 degrees) * sd / sqrt(3)
    assert found.mean == 3 and found.n == 3
    assert found.sd == pytest.approx(math.sqrt(7))
    assert found.high is not None and found.high - 3 == pytest.approx(4.302653 * math.sqrt(7) / math.sqrt(3), abs=1e-5)
    assert found.low == pytest.approx(6 - found.high)


def test_one_seed_has_no_spread() -> None:
    found = summarise([5.0])
    assert (found.mean, found.sd, found.low, found.high, found.spread) == (5.0, None, None, None, None)


def test_detectable_difference_agrees_with_simulation() -> None:
    import numpy as np
    from scipy.stats import ttest_ind

    effect = detectable_effect(3)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 20_000))
    power = float((ttest_ind(a, b + effect).pvalue < 0.05).mean())
    assert power == pytest.approx(0.8, abs=0.015)


def test_power_for_many_seeds_is_the_textbooks() -> None:
    assert detectable_effect(64) == pytest.approx(0.5, abs=0.005)  # Cohen's table: d = 0.5 takes 64 a group
    assert seeds_needed(0.38, 0.3) == 27  # 25 by the normal approximation
    assert detectable_difference(0.2, 1) is None
    assert detectable_difference(0.2, 64) == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (99.96, "100.0"), (12.34, "12.3"), (0.123, "0.12"), (-0.001, "0.00"), (None, "—")]
)
def test_numbers_as_a_table_shows_them(value: float | None, text: str) -> None:
    assert number(value) == text


def test_numbers_take_the_decimals_of_their_mean() -> None:
    assert number(12.34, like=2000) == "12"
    assert number(float("nan")) == "—"


def test_five_published_averages_are_not_the_mean_of_their_cells() -> None:
    wrong = {
        (name, average.method): (average.printed, round(average.recomputed, 1))
        for name in ("table02.csv", "table03.csv", "table09.csv")
        for average in averages(read_published(name))
        if average.disagrees
    }
    assert wrong == {
        ("table02.csv", "LOMPO"): (1712, 2209.8),
        ("table02.csv", "DV2 Finetune"): (3781, 3482.8),
        ("table02.csv", "CoWorld (Best-Source)"): (4241, 4235.8),
        ("table02.csv", "CoWorld (Multi-Source)"): (4094, 4118.0),
        ("table03.csv", "DrQ+BC"): (355, 317.5),
    }


@pytest.mark.parametrize("name", ["table02.csv", "table03.csv", "table09.csv"])
def test_our_recomputed_averages_are_those_stored(name: str) -> None:
    rows = read_published(name)
    stored = rows[rows["metric"] == "episode_return_avg_recomputed"].set_index("method")["mean"]
    for average in averages(rows):
        assert average.recomputed == pytest.approx(stored[average.method], abs=0.006)


def test_published_cells_join_on_target_and_source() -> None:
    rows, plan = read_published("table02.csv"), load_plan("table2")
    assert published_cell(rows, "CoWorld (Best-Source)", plan.cells[2]) == (4521, 367)
    assert published_cell(rows, "CoWorld (Multi-Source)", plan.cells[2]) == (4507, 59)
    assert published_cell(rows, "CoWorld (Best-Source)", load_plan("quickstart").cells[0]) is None  # another source
    cell = load_plan("table11").cells[0]
    (mean, _) = published_cell(read_published("table11.csv"), "R3M (our data)", cell) or (0, 0)
    assert mean == 311, "its source is no task"


def test_the_published_table_keeps_every_method() -> None:
    table = published_table(load_plan("table2"))
    assert table is not None and len(table.rows) == 10
    assert table.rows[4] == (
        "LOMPO", "2883 ± 183", "446 ± 458", "2983 ± 569", "2230 ± 223", "2756 ± 331", "1961 ± 287", "1712 ≠", "2210",
    )  # fmt: skip
    assert published_table(load_plan("quickstart")) is None


TABLE = Table("t", "Title", ("a", "b|c"), (("x", "1"), ("long", "22")), ("a note",), divider=1)


def test_a_table_as_text() -> None:
    assert plain(TABLE) == "Title\n\na     b|c\n────  ───\nx       1\n────  ───\nlong   22\n\na note\n"


def test_a_table_as_markdown() -> None:
    assert markdown(Page("P", "Lead.", (TABLE, Words("W", ("one", "two"))))) == (
        "# P\n\nLead.\n\n## Title\n\n"
        "| a    | b\\|c |\n|------|-----:|\n| x    | 1    |\n| long | 22   |\n\n- a note\n\n## W\n\none\n\ntwo\n"
    )


def test_a_table_as_csv() -> None:
    assert csv_text(TABLE) == "a,b|c\nx,1\nlong,22\n"
