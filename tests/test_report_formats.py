"""LaTeX and JSON of a report, and the report of every plan at once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_samples import put, put_anchors, put_failed, result

from coworld_bench.cli import main
from coworld_bench.errors import UsageError
from coworld_bench.plans import Cell, Plan, list_plans, load_plan
from coworld_bench.reporting import report
from coworld_bench.reporting.formats.latex import escaped, latex
from coworld_bench.reporting.indexing import write_index
from coworld_bench.reporting.layout import Page, Table, Words
from coworld_bench.reporting.processes import in_processes
from coworld_bench.reporting.selection import select
from coworld_bench.reporting.store import read_store

TARGET, SOURCE = "metaworld/window_close", "metaworld/drawer_close"
PLAN = Plan(
    name="pair",
    title="A pair & more",
    quality="medium-replay",
    methods=("offline_dv2", "coworld"),
    seeds={"quick": (0, 1, 2)},
    cells=(Cell(TARGET, SOURCE),),
)
TABLE = Table("t", "Some_title · more", ("method", "α → β"), (("A&B", "1 ± 2 (3)†"), ("below", "50 %")), ("a # note",), 1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    for seed, mean in enumerate((100.0, 200.0, 330.0)):
        put(runs, result("offline_dv2", TARGET, mean, seed))
    put(runs, result("coworld", TARGET, 500.0, 0, SOURCE))
    put_failed(runs, "coworld", TARGET, 1, SOURCE)
    put_anchors(runs, TARGET, 492.0)
    return runs


def test_latex_escapes_what_would_be_a_command() -> None:
    assert escaped(r"50 % of a_b & {c} \d") == r"50 \% of a\_b \& \{c\} \textbackslash{}d"
    assert escaped("1 ± 2 → DC*") == r"1 $\pm$ 2 $\rightarrow$ DC*"


def test_latex_has_every_row_once_and_a_rule_at_the_divider() -> None:
    text = latex(Page("T", "", (TABLE, Words("w", ("p",))), "pair-quick"))
    assert text.count(r"A\&B & 1 $\pm$ 2 (3)\dag{} \\") == 1
    assert re.search(r"\\midrule\nbelow & 50 \\% \\\\", text)
    assert r"\label{tab:pair-quick-t}" in text and r"a \# note" in text and "Some\\_title" in text


def test_latex_leaves_the_list_of_runs_to_files(store: Path, tmp_path: Path) -> None:
    (path,) = report([PLAN], store, tmp_path / "out", formats=["latex"])
    text = path.read_text()
    assert text.isascii()
    assert r"Offline DV2 & 210 $\pm$ 115 (3)" in text
    assert "Who made this" not in text and "Every seed" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_is_set_without_a_complaint(store: Path, tmp_path: Path) -> None:
    (path,) = report([PLAN], store, tmp_path / "out", formats=["latex"])
    paper = tmp_path / "paper.tex"
    head = "\\documentclass{article}\\usepackage{booktabs, longtable}"
    paper.write_text(head + "\\begin{document}\\input{" + str(path) + "}\\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", paper.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_json_has_every_seed_unrounded_and_what_is_missing(store: Path, tmp_path: Path) -> None:
    (path,) = report([PLAN], store, tmp_path / "out", formats=["json"])
    content = json.loads(path.read_text())
    (cell,) = content["cells"]
    offline, coworld = cell["rows"]
    assert offline["scores"] == {"0": 100.0, "1": 200.0, "2": 330.0} and offline["mean"] == pytest.approx(210)
    assert offline["low95"] == pytest.approx(210 - 4.302652729696 * 115.3256259467 / 3**0.5, rel=1e-6)
    assert coworld["n"] == 1 and coworld["failed"] == [1] and coworld["planned"] == 3 and coworld["std"] is None
    assert cell["beside"]["best constant action"]["mean"] == 492.0
    assert content["preset"] == "quick" and cell["target"] == TARGET


def test_published_numbers_without_a_spread_are_no_faulty_json(tmp_path: Path) -> None:
    target = "metaworld/button_press_topdown"
    put(tmp_path / "runs", result("r3m", target, 100.0))
    (path,) = report(["table11"], tmp_path / "runs", tmp_path / "out", formats=["json"])
    row = next(row for row in json.loads(path.read_text())["cells"][0]["rows"] if row["method"] == "r3m")
    assert row["published"] == {"mean": 311.0, "std": None}


def test_all_makes_a_page_for_every_plan_measured_or_not(store: Path, tmp_path: Path) -> None:
    paths = report(runs=store, out=tmp_path / "out", formats=["csv"], everything=True)
    folders = {path.parent.name for path in paths if path.parent != tmp_path / "out"}
    assert folders == {f"{name}-quick" for name in list_plans()}


def test_all_and_a_plan_exclude_each_other(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="all plans are asked for and table2 as well"):
        report(["table2"], store, tmp_path, everything=True)


def test_processes_give_what_one_would() -> None:
    assert in_processes(lambda number: number**2, 5) == [0, 1, 4, 9, 16]
    assert in_processes(lambda number: number, 0) == []


def test_a_failure_in_a_process_reaches_the_caller() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise UsageError("the fourth cannot be done")
        return number

    with pytest.raises(UsageError, match="fourth"):
        in_processes(work, 4)


def test_shipped_plans_need_no_sign_that_latex_lacks() -> None:
    for name in list_plans():
        plan = load_plan(name)
        texts = [plan.title, *(arm.label for arm in plan.arms.values()), *(cell.code for cell in plan.cells)]
        assert all(escaped(text).isascii() for text in texts), texts


def test_the_index_says_how_much_was_measured_and_what_the_paper_has(store: Path, tmp_path: Path) -> None:
    read = read_store(store)
    made = [
        (select(read, load_plan(name), "quick"), f"{name}-quick") for name in ("table2", "table3", "figure8", "quickstart")
    ]
    paths = write_index(made, ["quick"], tmp_path, ("md", "html"))
    lines = {line.partition("]")[0]: line for line in paths[1].read_text().splitlines() if line.startswith("- [")}
    told = {name: next(line for start, line in lines.items() if start.startswith(f"- [{name}")) for name in TOLD}
    assert all(text in told[name] for name, text in TOLD.items()), told
    page = paths[0].read_text()
    assert 'href="table2-quick/table2-quick.html"' in page and 'href="claims-quick/claims-quick.html"' in page
    assert write_index(made, [], tmp_path, ("csv",)) == []


TOLD = {
    "Table 2": "1 of 60 cells complete, 3 runs; published averages that are not the mean of their cells: LOMPO",
    "Table 3": "not measured yet; published averages that are not the mean of their cells: DrQ+BC",
    "Figure 8": "the paper has pictures alone",
    "Quickstart": "1 failed; not in the paper",
    "Claims": "every statement of the paper that can be tested",
}


def test_without_results_of_ones_own_the_checkouts_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COWORLD_BENCH_RUNS", raising=False)
    assert main(["report", "quickstart", "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert "there is no folder runs of results; reading this checkout's measured ones" in said.err
    assert (tmp_path / "report" / "quickstart-quick" / "quickstart-quick.csv").is_file()
    (tmp_path / "runs").mkdir()
    assert main(["report", "quickstart", "--format", "csv"]) == 2, "one's own, though empty"
    assert main(["report", "quickstart", "--format", "csv", "--runs", str(tmp_path / "other")]) == 2
