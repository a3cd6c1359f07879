"""The pages on methods say what the code says: settings, commands, links and names are read out of them and tried."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer.main
from report_samples import put, put_anchors, result

from coworld_bench.bench.jobs import run_spec
from coworld_bench.bench.jobs import select as choose
from coworld_bench.cli import main
from coworld_bench.cli.app import app
from coworld_bench.cli.common import names, numbers
from coworld_bench.config import flat, keys, parse_options, resolve
from coworld_bench.errors import OK, UsageError
from coworld_bench.methods import load_method, method_names
from coworld_bench.plans import Cell, Plan, list_plans, load_plan
from coworld_bench.reporting import report
from coworld_bench.reporting.method_pages import NOTHING, find_pages
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.tasks import find_task

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "methods"
SHIPPED = method_names()
PAGES = [FOLDER / f"{name}.md" for name in [*SHIPPED, "README", "shared"]]
HEADINGS = [
    "Equations", "Settings", "Differences from the published code", "Not stated anywhere", "Budget", "Commands", "Measured",
]  # fmt: skip
CELLS = {  # a target and its source on each suite
    "metaworld": ("metaworld/door_close", "metaworld/button_press"),
    "dmc": ("dmc/walker_uphill", "dmc/walker_walk"),
    "robodesk": ("robodesk/push_green", "metaworld/button_press"),
}
GIVEN = {"r3m": {"r3m.weights": "random"}}  # what a method is not planned without; not compared
DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
by_method = pytest.mark.parametrize("method", SHIPPED)


# The pages as they are


@by_method
def test_every_method_has_a_page_of_the_same_order(method: str) -> None:
    text = (FOLDER / f"{method}.md").read_text()
    title, *headings = re.findall(r"^#+ (.*)", text, re.M)
    assert title.endswith(f"(`{method}`)")
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS
    assert set(find_pages(FOLDER)) >= set(SHIPPED)
    source = load_method(method).learner.__module__.replace(".", "/")
    assert f"{method}.py)" in text or f"{source}.py)" in text


def test_the_index_tells_what_the_code_tells() -> None:
    rows = {cells[0].strip("`"): cells for cells in table_rows((FOLDER / "README.md").read_text())}
    loaded = [load_method(name) for name in SHIPPED]
    every = [found for method in loaded for found in (method, *map(method.variant, method.variants))]
    for method in every:
        _, label, _, sources, plans, page = rows[method.name]
        assert label == method.label and sources == str(method.sources)
        assert plans.replace("none", "") == ", ".join(plans_of(method.name)), method.name
        assert f"({method.family}.md" in page


def plans_of(method: str) -> list[str]:
    plans = [load_plan(name) for name in list_plans()]
    return [plan.name for plan in plans if method in [plan.arm(row).method for row in plan.methods]]


@by_method
def test_settings_are_those_of_the_code(method: str) -> None:
    """Every number of every settings table, under the preset and suite that heads its column."""
    said = settings_tables((FOLDER / f"{method}.md").read_text())
    for (key, preset, suite), value in said.items():
        assert_same(value, setting(planned(method, preset, suite), key), f"{method}: {key} under {preset}/{suite}")
    for preset in ("paper", "quick"):
        told = {key for key, *column in said if column == [preset, "metaworld"]}
        assert wanted_keys(method) <= told, sorted(wanted_keys(method) - told)


@by_method
def test_settings_that_differ_on_another_suite_are_told(method: str) -> None:
    said = settings_tables((FOLDER / f"{method}.md").read_text())
    for key, preset, suite in product(wanted_keys(method), ("paper", "quick"), ("dmc", "robodesk")):
        if key.startswith("budget.") and not layered(method, key):
            continue  # the presets' own differences are told once, in shared.md
        usual = setting(planned(method, preset, "metaworld"), key)
        differs = setting(planned(method, preset, suite), key) != usual
        assert not differs or (key, preset, suite) in said, (key, preset, suite)


def wanted_keys(method: str) -> set[str]:
    """What a page must tell: the method's own settings, what it changes of the shared ones, and its budget."""
    found, defaults = load_method(method), load_method(method).defaults("paper", "metaworld")
    own = {f"{method}.{key}" for key in keys(defaults)} - set(GIVEN.get(method, {}))
    changed = {key for preset in ("paper", "quick") for key in flat(found.shared.get(preset, {}))}
    return own | changed | {"budget.updates", "budget.warmup", "batch.size"}


def layered(method: str, key: str) -> bool:
    """Whether a method says something of a shared setting under some preset."""
    return any(key in flat(layer) for layer in load_method(method).shared.values())


def planned(method: str, preset: str, suite: str) -> PlannedRun:
    target, source = CELLS[suite]
    return RunSpec(method, target, (source,), preset=preset, options=GIVEN.get(method, {})).plan()


def setting(run: PlannedRun, key: str) -> Any:
    """A shared or own setting of a planned run, or `source's` of its source agents."""
    if key.startswith("source's "):
        return flat(run.source_specs()[0].config.to_dict())[key.removeprefix("source's ")]
    return (flat(run.config.to_dict()) | flat(run.settings.to_dict(), f"{run.method.family}."))[key]


def test_the_shared_settings_are_the_presets() -> None:
    said = settings_tables((FOLDER / "shared.md").read_text())
    assert {key.split(".")[0] for key, *_ in said} == {
        "env", "model", "behaviour", "optimiser", "batch", "budget", "online", "evaluation",
    }  # fmt: skip
    for (key, preset, suite), value in said.items():
        assert_same(value, flat(resolve(preset, suite).to_dict())[key], f"{key} under {preset}")


def settings_tables(text: str) -> dict[tuple[str, str, str], str]:
    """Values as written, by setting, preset and suite; a row may hold several settings and as many values."""
    said: dict[tuple[str, str, str], str] = {}
    for head, *body in tables(text):
        if head[0] != "setting":
            continue
        for first, *cells in body:
            prefix = "source's " if first.startswith("source's ") else ""
            for column, cell in zip(head[1:], cells, strict=True):
                preset, _, suite = column.partition("/")
                for key, value in zip(re.findall(r"`([^`]+)`", first), cell.split(", "), strict=True):
                    said[prefix + key, preset, suite or "metaworld"] = value
    return said


def tables(text: str) -> list[list[list[str]]]:
    """Every Markdown table as rows of cells, the line below its head left out."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.M)
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in found]
    return [[head, *body] for head, _, *body in rows]


def table_rows(text: str) -> list[list[str]]:
    return [row for _, *body in tables(text) for row in body]


def assert_same(written: str, value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        assert written == str(value).lower(), where
    else:
        assert float(written.replace(",", "")) == pytest.approx(value, rel=2e-3), where


@by_page
def test_commands_of_a_page_can_be_planned(page: Path) -> None:
    lines = [line for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S) for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("coworld-bench ")]
    assert commands, "a page shows how it is run"
    for line in commands:
        plan_command(shlex.split(line.replace("model.pt", "random"), comments=True)[1:])


def plan_command(words: list[str]) -> None:
    """Parse a command line as the program does, and plan what it asks for. Raises where the program would refuse it."""
    verb = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    asked = verb.make_context(words[0], words[1:]).params
    weights = {"r3m.weights": str(asked["weights"])} if asked.get("weights") else {}
    if words[0] == "train":
        options = parse_options(asked["option"] or [])
        spec = RunSpec(
            asked["method"], asked["target"], tuple(asked["source"] or ()), preset=asked["preset"], options=options
        )
        assert spec.plan().source_specs() or not asked["source"]
    elif words[0] == "run":
        plan, options = load_plan(asked["plan"]), parse_options(asked["option"] or []) | weights
        chosen = choose(plan, asked["preset"], names(asked["methods"]), None, numbers(asked["seeds"]), options)
        for cell, row in product(chosen.cells, chosen.methods):
            run_spec(chosen, cell, row, chosen.seeds[0]).plan()
    elif words[0] == "report":
        rows = {row for plan in asked["plans"] for row in load_plan(plan).methods}
        assert set(names(asked["highlight"]) or ()) <= rows
        assert asked["pages"] is None or (ROOT / asked["pages"]).is_dir()
    else:
        assert words[0] == "collect" and find_task(asked["task"])


@by_page
def test_links_and_pictures_of_a_page_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.is_file(), link
        assert not anchor or anchor in anchors_of(other), link


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page
def test_settings_that_a_page_names_exist(page: Path) -> None:
    known = set(keys(resolve("quick", "metaworld")))
    for method in SHIPPED:
        known |= {f"{method}.{key}" for key in keys(load_method(method).defaults("quick", "metaworld"))}
    groups = {key.split(".")[0] for key in known}
    named = re.findall(r"`(?:-o )?(\w+\.\w+)(?:=[^`]*)?`", page.read_text())
    assert {key for key in named if key.split(".")[0] in groups} <= known


def test_measured_sections_are_what_is_stored(tmp_path: Path) -> None:
    """Where this fails: coworld-bench report table2 --runs reports/measured/quick --pages docs/methods"""
    pages = copied(FOLDER, tmp_path)
    report(["table2"], ROOT / "reports" / "measured" / "quick", tmp_path / "out", "quick", formats=["csv"], pages=pages)
    for path in sorted(FOLDER.glob("*.md")):
        assert (pages / path.name).read_text() == path.read_text(), path.name
    for picture in (tmp_path / "pictures" / "methods").iterdir():
        assert (FOLDER.parent / "pictures" / "methods" / picture.name).is_file()


def copied(folder: Path, place: Path) -> Path:
    pages = place / "methods"
    pages.mkdir()
    for path in folder.glob("*.md"):
        (pages / path.name).write_text(path.read_text())
    return pages


# How they are filled

PAGE = "# A page\n\nBefore.\n\n<!-- measured:begin -->\nold\n<!-- measured:end -->\n\nAfter.\n"


PLAN = Plan(
    name="pair",
    title="A pair",
    quality="medium-replay",
    methods=("offline_dv2", "dv2_finetune", "coworld"),
    seeds={"quick": (0, 1, 2)},
    cells=(Cell(DOOR, BUTTON), Cell(WINDOW, BUTTON)),
)


def made_store(place: Path) -> Path:
    """Two seeds: CoWorld far above the constant action on window_close and below it on door_close; DV2 Finetune never
    above; Offline DV2 above by less than its std; CQL, which the plan does not ask for, below on one cell alone."""
    runs = place / "runs"
    for seed, change in enumerate((-200, 200)):
        put(runs, result("coworld", WINDOW, 2000 + change, seed, BUTTON))
        put(runs, result("coworld", DOOR, 1500 + change, seed, BUTTON))
        put(runs, result("dv2_finetune", DOOR, 3000 + change, seed, BUTTON))
        put(runs, result("dv2_finetune", WINDOW, 300 + change, seed, BUTTON))
        put(runs, result("offline_dv2", DOOR, 600 + change, seed))
        put(runs, result("offline_dv2", WINDOW, 600 + change, seed))
        put(runs, result("cql", DOOR, 600 + change, seed))
    put_anchors(runs, WINDOW, 500)
    put_anchors(runs, DOOR, 4305)
    return runs


def made_pages(place: Path) -> Path:
    folder = place / "docs" / "methods"
    folder.mkdir(parents=True)
    for name in ("coworld", "cql", "dv2_finetune", "offline_dv2", "lompo"):
        (folder / f"{name}.md").write_text(PAGE)
    (folder / "README.md").write_text("# No section\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return made_store(tmp_path)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return made_pages(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Pages filled once, to be read, and what was written."""
    place = tmp_path_factory.mktemp("filled")
    pages = made_pages(place)
    return pages, fill(made_store(place), pages)


def fill(store: Path, pages: Path, *plans: str | Plan) -> set[str]:
    """Fill the pages from plans; returns what was written of docs."""
    written = report(plans or (PLAN,), store, store.parent / "out", formats=["csv"], pages=pages)
    docs = pages.parent
    return {path.relative_to(docs).as_posix() for path in written if docs in path.parents}


def section(pages: Path, name: str) -> str:
    text = (pages / f"{name}.md").read_text()
    assert text.startswith("# A page\n\nBefore.\n") and text.endswith("\nAfter.\n")
    return text.split("<!-- measured:begin -->\n")[1].split("\n<!-- measured:end -->")[0]


def test_a_page_tells_row_floors_and_what_they_mean(filled: tuple[Path, set[str]]) -> None:
    pages, written = filled
    measured = {"coworld", "cql", "dv2_finetune", "offline_dv2"}
    assert written == {f"methods/{name}.md" for name in measured | {"lompo"}} | {
        f"pictures/methods/{name}.png" for name in measured
    }
    text = section(pages, "coworld")
    rows = {row[0]: row for row in table_rows(text)}
    assert rows["CoWorld"][1:3] == ["1500 ± 283 (2/3)†", "2000 ± 283 (2/3)†"]
    assert (
        rows["best constant action"][2] == "500 ± 14 (2 ep)" and "random policy" in rows and "dataset, mean return" in rows
    )
    assert "Offline DV2" not in rows
    assert text.startswith("A pair · preset quick · 2 seeds (3 planned).")
    assert "std over seeds in 1 of 2 cells (BP → WC); value predicted minus realised +0.0 (mean over 2 cells" in text
    assert "](../pictures/methods/coworld.png)" in text and "other methods in grey" in text
    assert (pages.parent / "pictures" / "methods" / "coworld.png").stat().st_size > 10_000


def test_above_by_less_than_its_std_does_not_count(filled: tuple[Path, set[str]]) -> None:
    assert "in 0 of 2 cells;" in section(filled[0], "offline_dv2")


@pytest.mark.parametrize(
    ("name", "hopeless"), [("coworld", False), ("dv2_finetune", True), ("offline_dv2", False), ("cql", False)]
)
def test_only_a_curve_that_is_never_above_cannot_learn(name: str, hopeless: bool, filled: tuple[Path, set[str]]) -> None:
    """CoWorld and Offline DV2 are above in one cell of two, DV2 Finetune in none; CQL was not run on both."""
    assert ("cannot learn at quick scale here" in section(filled[0], name)) == hopeless


def test_nothing_is_said_of_learning_without_the_constant_action(store: Path, pages: Path) -> None:
    (store / "anchors" / "metaworld-door_close-quick.json").unlink()
    fill(store, pages)
    text = section(pages, "dv2_finetune")
    assert "cannot learn" not in text and "in 0 of 1 cell;" in text


def test_filling_again_changes_nothing(filled: tuple[Path, set[str]]) -> None:
    pages, _ = filled
    before = {path: path.read_bytes() for path in pages.parent.rglob("*.*")}
    assert {path.suffix for path in before} == {".md", ".png"}
    fill(pages.parent.parent / "runs", pages)
    assert {path: path.read_bytes() for path in pages.parent.rglob("*.*")} == before


def test_without_a_result_a_page_says_so(filled: tuple[Path, set[str]]) -> None:
    pages, _ = filled
    assert section(pages, "lompo") == NOTHING
    assert (pages / "README.md").read_text() == "# No section\n"


def test_a_result_of_another_plan_leaves_the_page_alone(store: Path, pages: Path) -> None:
    put(store, result("lompo", "dmc/walker_uphill", 100.0))
    assert "methods/lompo.md" not in fill(store, pages)
    assert section(pages, "lompo") == "old"


def test_several_plans_have_a_picture_each(store: Path, pages: Path) -> None:
    put(store, result("coworld", WINDOW, 900.0, 0, "metaworld/drawer_close"))
    written = fill(store, pages, PLAN, "quickstart")
    assert {"pictures/methods/coworld.png", "pictures/methods/coworld-quickstart-quick.png"} <= written
    text = section(pages, "coworld")
    assert text.index("A pair") < text.index("Quickstart") and "coworld-quickstart-quick.png)" in text


def test_ablations_stand_on_the_page_of_their_method_where_a_plan_asks_for_them(store: Path, pages: Path) -> None:
    put(store, result("coworld:without_max", DOOR, 1000.0, 0, BUTTON, run="ablation", label="CoWorld w/o max"))
    fill(store, pages, PLAN, replace(PLAN, name="ablated", methods=(*PLAN.methods, "coworld:without_max")))
    first, second = section(pages, "coworld").split("A pair")[1:]
    assert "CoWorld w/o max" not in {row[0] for row in table_rows(first)}
    assert {"CoWorld", "CoWorld w/o max"} <= {row[0] for row in table_rows(second)}
    assert "- CoWorld w/o max: nothing to compare" in second


def test_the_program_passes_both_on(store: Path, pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--highlight", "coworld", "--pages", str(pages), "--out", str(store.parent / "out"), "--format", "csv"]
    assert main(["report", "table2", "--runs", str(store), *asked]) == OK
    said = capsys.readouterr().out.split()
    assert {
        str(pages / "coworld.md"),
        str(store.parent / "out" / "table2-quick" / "table2-quick-curves-coworld.png"),
    } <= set(said)


def test_a_folder_without_pages_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no page of a method"):
        report(["table2"], store, tmp_path / "out", pages=tmp_path)
    assert not (tmp_path / "out").exists()
