"""`compare`: which cells of two stores are the same, better or worse, and which cannot be compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from report_samples import put, put_failed, result

from coworld_bench.cli import main
from coworld_bench.errors import OK, SOME_FAILED, USAGE, UsageError
from coworld_bench.plans import Cell, Plan, list_plans
from coworld_bench.reporting.stores.compared import comparison_text, write_comparison
from coworld_bench.reporting.stores.comparing import Comparison, compare, every_plan

WINDOW, DRAWER, BUTTON = "metaworld/window_close", "metaworld/drawer_close", "metaworld/button_press"
PLAN = Plan(
    name="pair",
    title="Pair",
    quality="medium-replay",
    methods=("offline_dv2", "coworld"),
    seeds={"quick": (0, 1, 2)},
    cells=(Cell(WINDOW, DRAWER),),
)


def put_runs(store: Path, scores: list[float], method: str = "offline_dv2", version: str = "", **changes: Any) -> None:
    """A run for each seed; `version` stands for whatever gives the runs of a store other names."""
    source = "" if method == "offline_dv2" else DRAWER
    for seed, score in enumerate(scores):
        content = result(method, WINDOW, score, seed, source, **changes)
        put(store, content | {"run": content["run"] + version})


def compared(tmp_path: Path, **asked: Any) -> Comparison:
    return compare(tmp_path / "a", tmp_path / "b", [PLAN], **asked)


def test_the_interval_by_hand(tmp_path: Path) -> None:
    """1, 2, 3 against 5, 7, 9: variances 1 and 4 over n = 3, so se² = 5/3 and (5/3)² / (1/18 + 16/18) = 2.94 degrees of
    freedom, where t is 3.219; half the interval is 3.219 · √(5/3) = 4.155."""
    put_runs(tmp_path / "a", [1, 2, 3])
    put_runs(tmp_path / "b", [5, 7, 9], version="b")
    (cell,) = compared(tmp_path).cells
    assert (cell.low, cell.high) == pytest.approx((5 - 4.155, 5 + 4.155), abs=1e-3)


@pytest.mark.parametrize(
    ("scores", "tolerance", "verdict"),
    [
        ([200, 210, 220], 0.0, "better"),  # + 90 to + 110 more
        ([200, 210, 220], 0.5, "better"),  # of 110: 55
        ([200, 210, 220], 0.75, "undecided"),  # 82.5 lies inside
        ([10, 20, 30], 0.0, "worse"),
        ([10, 20, 30], 0.75, "undecided"),
        ([50, 60, 70], 0.7, "same"),
        ([100, 110, 121], 0.0, "undecided"),
        ([100, 110, 121], 0.3, "same"),
        ([0, 110, 220], 0.3, "undecided"),
    ],
)
def test_verdicts(tmp_path: Path, scores: list[float], tolerance: float, verdict: str) -> None:
    """Against 100, 110, 120: both have an sd of 10, so the interval is ± 22.7 around the difference."""
    put_runs(tmp_path / "a", [100, 110, 120])
    put_runs(tmp_path / "b", scores, version="b")
    found = compared(tmp_path, tolerance=tolerance)
    (cell,) = found.cells
    assert cell.verdict == verdict
    assert cell.difference == pytest.approx(sum(scores) / 3 - 110)
    assert found.ok == (verdict != "worse")


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    put_runs(tmp_path / "a", [100, 110])
    put_runs(tmp_path / "b", [900], version="b")
    (cell,) = compared(tmp_path).cells
    assert (cell.verdict, cell.difference, cell.low) == ("undecided", pytest.approx(795), None)
    assert cell.reasons == ("a single seed tells nothing of the spread",)


def test_the_same_runs_are_the_same(tmp_path: Path) -> None:
    """Without a tolerance, and with one seed."""
    for store in "ab":
        put_runs(tmp_path / store, [100])
    found = compared(tmp_path)
    assert (found.cells[0].verdict, found.cells[0].difference, found.shared, found.unequal) == ("same", 0.0, 1, {})
    put(tmp_path / "b", result("offline_dv2", WINDOW, 150, 1))
    put(tmp_path / "b", result("offline_dv2", WINDOW, 190, 2))
    put(tmp_path / "a", result("offline_dv2", WINDOW, 150, 1))
    (cell,) = compared(tmp_path).cells
    assert (cell.verdict, cell.reasons) == ("undecided", ("runs in both: 2",))


def test_one_name_and_other_numbers_is_a_difference_in_determinism(tmp_path: Path) -> None:
    put_runs(tmp_path / "a", [100, 110, 120])
    put_runs(tmp_path / "b", [100, 111, 120], device="cuda", time={"wall_s": 1.0})
    found = compared(tmp_path)
    (name,) = found.unequal
    assert "--s1--" in name and found.shared == 3
    assert [(each.path, each.ours, each.theirs) for each in found.unequal[name]][:2] == [
        ("score.mean", 110, 111),
        ("evaluations[1].episodes[0].return", -40.0, -39.0),
    ]
    (cell,) = found.cells
    assert cell.verdict == "undecided" and cell.reasons == ("runs in both: 2", "of one name with other numbers: 1")
    text = comparison_text(found)
    assert "Of 3 runs that are in both stores 1 came out otherwise in B:" in text
    assert "score.mean: 110 against 111; evaluations[1].episodes[0].return: -40.0 against -39.0" in " ".join(text.split())


@pytest.mark.parametrize(
    ("changes", "reason", "anyway"),
    [
        ({"protocol": 2}, "protocol 1 against 2", False),
        ({"score": {"mean": 9.0, "rule": "the best", "checkpoints": 2, "episodes": 4}}, "against the best", False),
        ({"dataset": {"id": "x", "fingerprint": "cd" * 32}}, "dataset ab12ab12ab against cdcdcdcdcd", True),
        ({"config": {"model": {"deter": 200}}}, "model.deter 128 against 200", True),
        ({"method_config": {"alpha": 3}}, "", True),
    ],
)
def test_what_two_cells_do_not_share_is_named(tmp_path: Path, changes: dict[str, Any], reason: str, anyway: bool) -> None:
    """A setting that one of them does not know is at its default; all others forbid a comparison unless it is asked for,
    and another protocol or rule forbids it anyway."""
    put_runs(tmp_path / "a", [100, 110, 120])
    put_runs(tmp_path / "b", [10, 20, 30], version="b", **changes)
    (cell,) = compared(tmp_path).cells
    assert (cell.verdict == "not comparable") == bool(reason)
    assert any(reason in each for each in cell.reasons)
    assert cell.difference is None or not reason
    assert compared(tmp_path).ok == bool(reason)
    (cell,) = compared(tmp_path, anyway=True).cells
    assert (cell.verdict == "worse") == anyway
    assert any(reason in each for each in cell.reasons)


def test_another_revision_is_compared_and_other_source_agents_are_not(tmp_path: Path) -> None:
    put_runs(tmp_path / "a", [100, 110, 120], "coworld")
    put_runs(tmp_path / "b", [10, 20, 30], "coworld", version="b", revision=2)
    (cell,) = compared(tmp_path).cells
    assert (cell.verdict, cell.reasons) == (
        "worse",
        ("the method's code has another revision, or its file another content",),
    )
    put_runs(tmp_path / "c", [10, 20, 30], "coworld", version="c")
    (cell,) = compare(tmp_path / "a", tmp_path / "c", [PLAN]).cells
    assert (cell.verdict, cell.reasons) == ("not comparable", ("other source agents",))


def test_cells_that_one_store_lacks(tmp_path: Path) -> None:
    put_runs(tmp_path / "a", [100, 110])
    put_runs(tmp_path / "b", [10, 20, 30], "coworld")
    found = compared(tmp_path)
    assert [(cell.row, cell.verdict) for cell in found.cells] == [("offline_dv2", "only in A"), ("coworld", "only in B")]
    assert found.ok
    put_failed(tmp_path / "b", "offline_dv2", WINDOW, 0)
    found = compared(tmp_path)
    assert (found.cells[0].verdict, found.cells[0].reasons) == ("failed in B", ("B: seed 0 failed",))
    assert not found.ok and found.counts == {"failed in B": 1, "only in B": 1}


def test_a_cell_that_several_plans_show_is_told_once(tmp_path: Path) -> None:
    """Under the first of them, and tables come before figures."""
    for store in "ab":
        put_runs(tmp_path / store, [100, 110])
    found = compare(tmp_path / "a", tmp_path / "b", ["quickstart", "table2"])
    assert [(cell.plan, cell.row) for cell in found.cells] == [("quickstart", "offline_dv2")]
    assert found.repeated == {("table2", "quick"): 1}
    names = [plan.name.startswith("figure") for plan in every_plan()]
    assert names == sorted(names) and len(names) == len(list_plans())


def test_what_compare_refuses(tmp_path: Path) -> None:
    put_runs(tmp_path / "a", [100])
    put(tmp_path / "b", result("offline_dv2", BUTTON, 100))
    (tmp_path / "c").mkdir()
    for stores, asked, sentence in [
        ("ab", {"plans": ["table3"]}, "do not both hold runs of plan table3"),
        ("ab", {"plans": ["table2"], "preset": "paper"}, "under preset paper"),
        ("ab", {"plans": ["tabel2"]}, "no plan 'tabel2'"),
        ("ab", {"plans": ["table2"], "preset": "papper"}, "no preset 'papper'; did you mean paper"),
        ("ac", {}, "do not both hold runs of any plan"),
        ("aa", {}, "both stores are"),
        ("ad", {}, "there is no folder of results"),
        ("ab", {"tolerance": 1.0}, "from 0 to below 1; got 1.0"),
        ("ab", {"tolerance": -0.1}, "from 0 to below 1; got -0.1"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            compare(tmp_path / stores[0], tmp_path / stores[1], **asked)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """CoWorld is worse in B; Offline DV2 is the same."""
    for store, scores in (("a", [1000, 1010, 1020.5]), ("b", [100, 110, 120])):
        put_runs(tmp_path / store, [100, 110, 120])
        put_runs(tmp_path / store, scores, "coworld", source_digests=["x"])
    return tmp_path


def test_compare_on_the_command_line(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["compare", str(stores / "a"), str(stores / "b"), "--plan", "quickstart"]
    assert main(given) == SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split("  ") for line in lines if line.startswith("CoWorld"))
    cells = [cell.strip() for cell in row if cell.strip()]
    assert cells[:4] == ["CoWorld", "DC → WC", "1010 ± 10 (3)", "110 ± 10 (3)"]
    assert cells[4:7] == ["-900", "-923 to -877", "worse"]
    assert lines[0] == f"A is {stores / 'a'}, B is {stores / 'b'}." and lines[-1] == "2 cells: 1 same, 1 worse."
    assert main([*given, "--tolerance", "0.9"]) == OK  # 909 lies in the interval
    assert main([*given[:2], *given[1:2], *given[3:]]) == USAGE
    assert main([*given, "--out", str(stores / "c.pdf")]) == USAGE
    assert "no kind of comparison '.pdf'" in capsys.readouterr().err
    assert not (stores / "c.pdf").exists()
    assert main([*given, "--json"]) == SOME_FAILED
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["verdicts"]["worse"], len(told["cells"])) == (False, 1, 2)
    assert told["cells"][1]["difference"] == pytest.approx(110 - 1010.1666666)


def test_a_comparison_as_files(stores: Path) -> None:
    """The same bytes each time; CSV unrounded, one row a cell."""
    found = compare(stores / "a", stores / "b", [PLAN])
    again = compare(stores / "a", stores / "b", [PLAN])
    for suffix in ("md", "html", "csv"):
        path, second = (write_comparison(each, stores / f"{name}.{suffix}") for each, name in ((found, "c"), (again, "d")))
        assert path.read_bytes() == second.read_bytes()
    markdown = (stores / "c.md").read_text()
    row = [cell.strip() for cell in markdown.splitlines()[9].split("|")]
    assert row[1:6] == ["CoWorld", "DC → WC", "1010 ± 10 (3)", "110 ± 10 (3)", "-900"]
    assert "<td>worse</td>" in (stores / "c.html").read_text()
    with (stores / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["same", "worse"]
    assert rows[1]["mean_a"] == "1010.166667" and rows[0]["low95"] == "" and rows[1]["n_b"] == "3"


def test_measured_results_are_the_same_as_themselves(tmp_path: Path) -> None:
    measured = Path(__file__).resolve().parent.parent / "reports" / "measured" / "quick"
    (tmp_path / "link").symlink_to(measured / "runs")
    found = compare(measured, tmp_path / "link", ["quickstart"])
    assert set(found.counts) == {"same"} and found.unequal == {}
