"""The HTML of reports: what is in it, and what it does in a real browser (skipped where there is none)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import WHERE, Browser, Tab, chromium, find_chromium
from html_checks import Elements, check
from report_samples import checkpoint, put, put_anchors, put_failed, result, run_id

from coworld_bench.pages import document
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting import report
from coworld_bench.reporting.formats.html import html, places
from coworld_bench.reporting.formats.index import index_html, index_markdown
from coworld_bench.reporting.formats.markdown import markdown
from coworld_bench.reporting.formats.svg import inline
from coworld_bench.reporting.formats.text import csv_text
from coworld_bench.reporting.layout import Entry, Index, Page, Picture, Table, Words
from coworld_bench.reporting.opened import details, openable
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import read_store
from coworld_bench.reporting.tables.measured import measured_table

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
HOSTILE = '</script><b>CQL</b> & "co"'
PLAN = Plan(
    name="pair",
    title="A pair",
    quality="medium-replay",
    methods=("offline_dv2", "coworld", "cql", "curl"),
    seeds={"quick": (0, 1, 2)},
    cells=(Cell(DOOR, BUTTON), Cell(BUTTON, DOOR), Cell(WINDOW, BUTTON)),
    figures=("heatmap", "curves"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On door_close: 3 seeds of Offline DV2 (mean 900), 2 of CoWorld (2000) with a failed one, 1 of a method with a hostile
    name (100), nothing of CURL. On button_press: 1 of Offline DV2 (85), and a CoWorld that failed."""
    runs = tmp_path_factory.mktemp("runs")
    for seed, mean in enumerate((800, 900, 1000)):
        put(runs, result("offline_dv2", DOOR, mean, seed))
    for seed, mean in enumerate((1900, 2100)):
        put(runs, result("coworld", DOOR, mean, seed, BUTTON))
    put_failed(runs, "coworld", DOOR, 2, BUTTON)
    put(runs, result("cql", DOOR, 100.0, 0, label=HOSTILE))
    put(runs, result("offline_dv2", BUTTON, 85.0, 0))
    put_failed(runs, "coworld", BUTTON, 0, DOOR)
    put_anchors(runs, DOOR, 1305)
    return runs


@pytest.fixture(scope="module")
def selection(store: Path) -> Selection:
    return select(read_store(store), PLAN, "quick")


@pytest.fixture(scope="module")
def written(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    report([PLAN], store, out, formats=["html", "md"])
    return out / "pair-quick" / "pair-quick.html"


# What is in the file


def test_a_report_is_one_well_formed_file(written: Path) -> None:
    text = written.read_text()
    page = check(text)
    links = page.all("href") + page.all("src")
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[\w./]*", text)) == {"http://www.w3.org/2000/svg"}  # a namespace
    assert [tag for tag, _ in page.found].count("svg") == 2
    assert {"measured", "what-this-can-and-cannot-tell", "pair-quick-heatmap", "pair-quick-curves", "runs"} <= set(
        page.all("id")
    )
    assert len(text) < 1_500_000
    policy = next(attributes["content"] for tag, attributes in page.found if attributes.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'; ") and "http" not in policy


def test_the_check_finds_what_is_wrong() -> None:
    for wrong in ("<p><b></p></b>", "<i id=a></i><i id=a></i>", '<a href="#b">b</a>', "<p onclick=x>y</p>", "<div/>"):
        with pytest.raises(AssertionError):
            check(wrong)


def test_what_a_cell_opens_by_hand(selection: Selection) -> None:
    found = details(selection)
    assert found["grids"] == [[0, 750, 1500]]
    assert list(found["cells"]) == ["offline_dv2/0", "coworld/0", "cql/0", "offline_dv2/1", "coworld/1"]
    coworld = found["cells"]["coworld/0"]
    assert (
        coworld["title"] == "CoWorld on BP → DC*"
        and coworld["command"] == "coworld-bench explain pair:coworld:1 --preset quick"
    )
    assert dict(coworld["facts"]) == {
        "target": DOOR,
        "source": BUTTON,
        "preset": "quick",
        "mean ± std over seeds (seeds)": "2000 ± 141 (2/3, 1 failed)†",
        "95 % interval": "729 to 3271 (Student t over 2 seeds; wide, because little is known)",  # 12.706 * 141.42 / sqrt(2)
        "success": "50 %",
        "seed 2 failed": "RuntimeError: loss is nan",
    }
    assert "source" not in dict(found["cells"]["offline_dv2/0"]["facts"])
    assert dict(found["cells"]["offline_dv2/1"]["facts"])["not begun"] == "seed 1, 2 of 3 planned"
    door = found["columns"][0]
    assert door["lines"] == [["random policy", 350], ["best constant action", 1305], ["dataset, mean return", 860]]
    runs = [found["runs"][place] for place in door["runs"]["coworld"]]
    assert [run["returns"] for run in runs] == [[10, 1850, 1950], [10, 2050, 2150]] and [run["seed"] for run in runs] == [
        0,
        1,
    ]
    told = dict(zip(found["facts"], runs[0]["facts"], strict=True))
    assert told == {
        "seed": "0", "score": "1900", "checkpoints": "2 × 2 episodes", "dataset": "ab12ab12ab", "commit": "0123456+",
        "device": "cpu, 1 thread(s)", "wall time": "3 min 20 s", "run": run_id("coworld", DOOR, 0, BUTTON, "quick"),
    }  # fmt: skip


def test_numbers_are_no_finer_than_a_screen_and_never_no_numbers(tmp_path: Path) -> None:
    odd = checkpoint(0, 123.456789)
    broken = checkpoint(375, float("nan"))
    content = result("offline_dv2", DOOR, 1234.5678)
    put(tmp_path, content | {"evaluations": [odd, broken, *content["evaluations"][1:]]})
    selection = select(read_store(tmp_path), PLAN, "quick")
    assert details(selection)["runs"][0]["returns"] == [123.5, None, 1185, 1285]
    assert "NaN" not in html(Page("P", "L", (openable(measured_table(selection), selection),), details=details(selection)))


def test_a_run_of_many_columns_is_told_once(store: Path) -> None:
    plan = replace(PLAN, cells=(Cell(DOOR, BUTTON), Cell(DOOR, WINDOW)))
    found = details(select(read_store(store), plan, "quick"))
    assert found["columns"][0]["runs"]["offline_dv2"] == found["columns"][1]["runs"]["offline_dv2"]
    assert len(found["runs"]) == 6


def test_what_is_on_its_way_opens_and_says_so(tmp_path: Path) -> None:
    begun = {key: value for key, value in result("curl", DOOR, 0.0, 1).items() if key != "score"}
    put(tmp_path, begun, "config")
    selection = select(read_store(tmp_path), PLAN, "quick")
    (cell,) = details(selection)["cells"].values()
    assert cell["facts"][-3:] == [
        ["mean ± std over seeds (seeds)", "0/3"], ["not finished", "seed 1"], ["not begun", "seed 0, 2 of 3 planned"],
    ]  # fmt: skip
    assert openable(measured_table(selection), selection).opens == {(3, 1): "curl/0"}


def test_nothing_begun_opens_nothing(tmp_path: Path) -> None:
    selection = select(read_store(tmp_path), PLAN, "quick")
    assert details(selection) == {} and openable(measured_table(selection), selection).opens == {}
    text = html(Page("P", "L", (measured_table(selection),)))
    assert "data-opens" not in text.split("</script>", 1)[1].split("<script")[0] and 'id="details"' not in text


def test_other_formats_know_nothing_of_what_opens(selection: Selection) -> None:
    plain = measured_table(selection)
    table = openable(plain, selection)
    assert table.opens[0, 1] == "offline_dv2/0" and (2, 2) not in table.opens and (3, 1) not in table.opens
    assert csv_text(table) == csv_text(plain)
    assert markdown(Page("P", "L", (table,), details=details(selection))) == markdown(Page("P", "L", (plain,)))


def test_data_cannot_end_its_element(selection: Selection) -> None:
    text = html(Page("P", "L", (openable(measured_table(selection), selection),), details=details(selection)))
    check(text)
    (held,) = re.findall(r'<script type="application/json" id="details">(.*?)</script>', text)
    assert json.loads(held)["methods"]["cql"] == HOSTILE


def test_a_figure_takes_the_inks_of_the_page_and_keeps_those_of_data() -> None:
    svg = b"""<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
    viewBox="0 0 100 50" width="100pt" height="50pt"><metadata>x</metadata><defs><style>*{fill: red}</style></defs>
    <g id="figure_1"><g id="patch_1"><path d="M0" style="fill: #ffffff"/></g><g id="axes_1">
    <g id="patch_2"><path d="M1" style="fill: #ffffff"/></g>
    <g id="text_1" style="fill: #1a1a1a"><defs><path id="glyph" d="M2"/></defs><use xlink:href="#glyph"/></g>
    <g id="text_2" style="fill: #111111"/><g id="text_3" style="fill: #ffffff"/>
    <path d="M3" clip-path="url(#clip)" style="stroke: #0072b2; fill: none"/><path style="fill: #ffffff; stroke: #0072b2"/>
    <clipPath id="clip"><rect fill="#f1f1f1"/></clipPath></g></g></svg>"""
    found = inline(svg, "a", 'both < "and"')
    page = Elements(found)
    root = page.found[0][1]
    assert root == {"viewbox": "0 0 100 50", "width": "160", "height": "80", "role": "img", "aria-label": 'both < "and"'}
    assert (
        page.all("id") == ["a-glyph", "a-clip"] and page.all("href") == ["#a-glyph"] and 'clip-path="url(#a-clip)"' in found
    )
    assert page.all("style") == [
        "fill: none", "fill: none", "fill: currentColor", "fill: #111111", "fill: #ffffff", "stroke: #0072b2; fill: none",
        "fill: var(--page); stroke: #0072b2",
    ]  # fmt: skip
    assert page.all("fill") == ["var(--pale)"] and "style>" not in found and "metadata" not in found


def test_ids_of_parts_are_unique_and_their_links_are_short() -> None:
    table = Table("runs", "A plan · published", ("a",), (("x",),))
    parts = (
        table,
        table,
        Words("What & why?", ("b",)),
        Picture("p", "Curves · of it", "alt"),
        Words("A plan · preset x", ()),
    )
    assert [place for place, _ in places(parts)] == ["runs", "runs-more", "what-why", "p", "a-plan-preset-x"]
    text = html(Page("A plan · preset", "L", parts))
    check(text)
    assert re.findall(r'<a href="#(.*?)">(.*?)</a>', text) == [
        ("runs", "Published"), ("runs-more", "Published"), ("what-why", "What &amp; why?"), ("p", "Curves"),
        ("a-plan-preset-x", "A plan"),
    ]  # fmt: skip
    assert "<p>alt (p.png)</p>" in text  # without its SVG, a picture is named


def test_many_links_are_folded_and_sentences_set_in_lines() -> None:
    table = Table("t", "T", ("name", "number", "said"), (("x" * 60, "5", "a sentence " * 6), ("y", "7", "no")))
    text = html(Page("P", "L", (table,) * 21))
    check(text)
    assert "<details><summary>21 sections</summary><ul>" in text and "<details>" not in html(Page("P", "L", (table,) * 20))
    assert '<td>7</td><td class="words">no</td></tr>' in text and '<th scope="col" class="words">said</th>' in text


INDEX = Index(
    "All <of> it",
    "The lead.",
    (
        Entry("figure3", "Figure 3", "figures", "nothing", "figure3/page.html"),
        Entry(
            "table2", "Table 2 & more", "tables", "54 of 60 cells", "table2/page.html", "table2/a b.png", ("5 of 9 differ",)
        ),
    ),
    ("A note.",),
)


def test_an_index_groups_its_entries() -> None:
    text = index_html(INDEX)
    page = check(text)
    assert text.index('<section id="tables">') < text.index("Table 2 &amp; more</a>") < text.index('<section id="figures">')
    assert page.all("src") == ["table2/a b.png"] and "<script type" not in text
    assert '<a href="figure3/page.html">Figure 3</a>' in text and '<div class="thumbnail"></div>' in text
    assert index_markdown(INDEX) == (
        "# All <of> it\n\nThe lead.\n\n## Tables\n\n- [Table 2 & more](table2/page.html): 54 of 60 cells; 5 of 9 differ\n\n"
        "## Figures\n\n- [Figure 3](figure3/page.html): nothing\n\n- A note.\n"
    )


def test_an_entry_is_a_table_or_a_figure() -> None:
    with pytest.raises(AssertionError):
        replace(INDEX.entries[0], kind="films")


# What it does


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(f"no Chromium on this machine; {WHERE} names one")
    with chromium(path) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, written: Path) -> Iterator[Tab]:
    """The report from its file; whatever a test does, nothing may be asked for or complained of."""
    found = browser.open(written.as_uri())
    found.evaluate("localStorage.clear()")
    yield found
    assert found.faults == []
    assert found.requests == [written.as_uri()]
    found.close()


def column(tab: Tab, place: int) -> list[str]:
    return list(
        tab.evaluate(f"[...document.querySelectorAll('#measured tbody tr')].map((row) => row.cells[{place}].textContent)")
    )


def sort_of(tab: Tab) -> list[str | None]:
    return list(
        tab.evaluate("[...document.querySelectorAll('#measured thead th')].map((head) => head.getAttribute('aria-sort'))")
    )


BELOW = ["random policy", "untrained policy", "best constant action", "dataset, mean return"]


def test_a_click_on_a_heading_sorts_by_the_mean(tab: Tab) -> None:
    before = column(tab, 0)
    assert before[:4] == ["Offline DV2", "CoWorld", HOSTILE, "CURL"] and before[4:] == BELOW
    tab.click("#measured thead th:nth-child(2) button")
    assert column(tab, 0) == ["CoWorld", "Offline DV2", HOSTILE, "CURL", *BELOW]
    assert sort_of(tab) == [None, "descending", None, None, None]
    tab.click("#measured thead th:nth-child(2) button")
    assert column(tab, 0) == [HOSTILE, "Offline DV2", "CoWorld", "CURL", *BELOW]  # what says nothing stays last
    assert sort_of(tab) == [None, "ascending", None, None, None]
    tab.click("#measured thead th:nth-child(2) button")
    assert column(tab, 0) == before and sort_of(tab) == [None] * 5


def test_keys_sort_too_and_one_column_at_a_time(tab: Tab) -> None:
    tab.click("#measured thead th:nth-child(2) button")
    tab.evaluate("document.querySelector('#measured thead th button').focus()")
    tab.press("Enter")
    assert column(tab, 0)[:4] == [HOSTILE, "CoWorld", "CURL", "Offline DV2"]
    tab.press(" ")
    assert column(tab, 0)[:4] == ["Offline DV2", "CURL", "CoWorld", HOSTILE]
    assert sort_of(tab) == ["descending", None, None, None, None]
    tab.click("#measured thead th:nth-child(2) button")
    assert sort_of(tab) == [None, "descending", None, None, None]  # each column begins anew


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (
            ["893 ± 351 (3)", "—", "1,500 ± 2 (1/3)†", "failed", "85"],
            ["1,500 ± 2 (1/3)†", "893 ± 351 (3)", "85", "—", "failed"],
        ),
        (["3 min 20 s", "50 s", "1 h 2 min"], ["1 h 2 min", "3 min 20 s", "50 s"]),
        (["2 of 6 cells", "-3.5", "+0.25", "0/3"], ["+0.25", "-3.5", "2 of 6 cells", "0/3"]),
        (["seed 10", "seed 9", "—"], ["seed 9", "seed 10", "—"]),
        (["12e4ab", "9", "BP → DC"], ["9", "12e4ab", "BP → DC"]),
        (["21.7 %", "100 %", "3 %"], ["100 %", "21.7 %", "3 %"]),
    ],
)
def test_what_columns_are_sorted_by(texts: list[str], first: list[str], browser: Browser, tmp_path: Path) -> None:
    page = Page("P", "L", (Table("t", "T", ("name", "of"), tuple((str(place), text) for place, text in enumerate(texts))),))
    (tmp_path / "page.html").write_text(html(page))
    tab = browser.open((tmp_path / "page.html").as_uri())
    tab.click("thead th:nth-child(2) button")
    assert tab.evaluate("[...document.querySelectorAll('tbody td')].map((cell) => cell.textContent)") == first
    assert tab.faults == []
    tab.close()


def count(tab: Tab, selector: str) -> int:
    return int(tab.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))


def opened(tab: Tab) -> str:
    tab.painted()
    return str(tab.evaluate("document.querySelector('dialog[open]')?.innerText ?? ''"))


def check_closed(tab: Tab) -> None:
    """The dialog is gone, once its event was heard."""
    tab.until("!document.querySelector('dialog')")


COWORLD = "#measured td[data-opens='coworld/0'] button"


def test_a_click_on_a_number_opens_its_curves(tab: Tab) -> None:
    tab.click(COWORLD)
    words = opened(tab)
    for expected in (
        "CoWorld on BP → DC*", "2000 ± 141 (2/3, 1 failed)†", "729 to 3271", "RuntimeError: loss is nan",
        "mean over 2 seeds",
        "means of the other methods (2)", "ab12ab12ab", "0123456+", "3 min 20 s", "coworld-bench explain pair:coworld:1",
        "updates", "return", "best constant action 1305", "random policy 350",
    ):  # fmt: skip
        assert expected in words, expected
    labels = "[...document.querySelectorAll('.chart .label')].map((label) => label.textContent)"
    assert tab.evaluate(labels) == ["random policy 350", "dataset, mean return 860", "best constant action 1305"]
    kinds = {kind: count(tab, f".chart path.{kind}") for kind in ("seed", "mean", "other", "line")}
    assert kinds == {"seed": 2, "mean": 1, "other": 2, "line": 3}
    assert tab.evaluate("[...document.querySelectorAll('.chart .other title')].map((title) => title.textContent)") == [
        "Offline DV2", HOSTILE,
    ]  # fmt: skip


def test_the_mean_is_drawn_where_it_is(tab: Tab) -> None:
    """CoWorld's mean curve is (10, 1950, 2050) at 0, 750 and 1500 updates; its ends and the lines fix the scale."""
    tab.click(COWORLD)
    tab.painted()
    path = tab.evaluate("document.querySelector('.chart path.mean').getAttribute('d')")
    points = [tuple(map(float, point.split())) for point in path.strip("Mh0").split("L")]
    levels = [
        float(tab.evaluate(f"document.querySelector('.chart path.{kind}').getBBox().y")) for kind in ("random", "best")
    ]
    scale = (levels[0] - levels[1]) / (1305 - 350)  # pixels for a return of 1
    assert [round((levels[0] - y) / scale + 350, -1) for _, y in points] == [10, 1950, 2050]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)


def test_curves_are_read_by_keys_and_by_pointing(tab: Tab) -> None:
    tab.evaluate(f"document.querySelector({json.dumps(COWORLD)}).focus()")
    tab.press("Enter")
    assert "CoWorld on" in opened(tab)
    tab.evaluate("document.querySelector('.chart svg').focus()")
    told = "document.querySelector('.told').textContent"
    assert tab.evaluate(told) == "1,500 updates · mean: 2050 · seed 0: 1950 · seed 1: 2150"
    tab.press("ArrowLeft")
    assert tab.evaluate(told) == "750 updates · mean: 1950 · seed 0: 1850 · seed 1: 2050"
    assert tab.evaluate("document.querySelector('.chart svg').getAttribute('aria-valuetext')") == tab.evaluate(told)
    assert count(tab, ".pointer circle") == 3
    tab.press("Home")
    tab.press("ArrowLeft")
    assert tab.evaluate(told) == "0 updates · mean: 10 · seed 0: 10 · seed 1: 10"
    x, y = tab.place(".chart svg")
    tab.mouse("mouseMoved", x + 20, y)
    assert tab.evaluate(told).startswith("750 updates")
    tab.press("Escape")
    check_closed(tab)
    assert tab.evaluate("document.activeElement.closest('td').dataset.opens") == "coworld/0"


def test_what_is_no_number_is_not_drawn(browser: Browser, tmp_path: Path) -> None:
    content = result("offline_dv2", DOOR, 1000.0)
    put(tmp_path / "runs", content | {"evaluations": [checkpoint(375, float("nan")), *content["evaluations"]]})
    paths = report([PLAN], tmp_path / "runs", tmp_path / "out", formats=["html"])
    tab = browser.open(next(path for path in paths if path.suffix == ".html").as_uri())
    tab.click("#measured td button")
    tab.painted()
    assert tab.evaluate("document.querySelector('.chart path.mean').getAttribute('d')").count("L") == 2
    assert tab.faults == []
    tab.close()


def test_one_seed_and_no_seed_open_as_well(tab: Tab) -> None:
    tab.click("#measured td[data-opens='cql/0'] button")
    words = opened(tab)
    assert HOSTILE in words and "none from one seed" in words and "seed 1, 2 of 3 planned" in words
    assert (count(tab, ".chart path.seed"), count(tab, ".chart path.mean")) == (0, 1)
    tab.press("Escape")
    check_closed(tab)
    tab.click("#measured td[data-opens='coworld/1'] button")
    assert "RuntimeError: loss is nan" in opened(tab) and count(tab, ".chart") == 0
    assert count(tab, "#measured td[data-opens]") == 5 == count(tab, "#measured td button")


def test_a_click_beside_a_dialog_and_its_button_close_it(tab: Tab) -> None:
    tab.click(COWORLD)
    tab.mouse("mousePressed", 5, 5, button="left", clickCount=1)
    tab.mouse("mouseReleased", 5, 5, button="left", clickCount=1)
    check_closed(tab)
    tab.click(COWORLD)
    tab.click("dialog .close")
    check_closed(tab)


VIEW = "document.querySelector('.stage svg').getAttribute('viewBox').split(' ').map(Number)"
ENLARGE = "#pair-quick-heatmap .enlarge"


def test_a_figure_is_enlarged_and_comes_back(tab: Tab) -> None:
    whole = tab.evaluate("document.querySelector('#pair-quick-heatmap svg').getAttribute('viewBox')")
    tab.evaluate(f"document.querySelector('{ENLARGE}').focus()")
    tab.press("Enter")
    assert "Transfer matrix" in opened(tab) and count(tab, "#pair-quick-heatmap svg") == 0
    x, y, width, height = tab.evaluate(VIEW)
    tab.press("+")
    nearer = tab.evaluate(VIEW)
    assert nearer[2] == pytest.approx(width / 1.4) and nearer[3] == pytest.approx(height / 1.4)
    assert nearer[0] + nearer[2] / 2 == pytest.approx(x + width / 2, rel=0.01)  # about the middle
    tab.press("ArrowRight")
    assert tab.evaluate(VIEW)[0] == pytest.approx(nearer[0] + 0.1 * nearer[2])
    tab.press("-")
    assert tab.evaluate(VIEW)[2] == pytest.approx(width)
    tab.click("dialog button[aria-label='Zoom in']")
    assert tab.evaluate("document.querySelector('.scale').textContent") == "140 %"
    tab.press("0")
    assert tab.evaluate(VIEW) == [x, y, width, height]
    tab.press("+")
    tab.press("Escape")
    check_closed(tab)
    assert tab.evaluate("document.querySelector('#pair-quick-heatmap svg').getAttribute('viewBox')") == whole
    assert tab.evaluate("document.activeElement.className") == "enlarge"


def test_the_wheel_zooms_where_it_points_and_dragging_moves(tab: Tab) -> None:
    tab.click(ENLARGE)
    tab.painted()
    start = tab.evaluate(VIEW)
    x, y = tab.place(".stage")
    corner = "(() => {{ const at = new DOMPoint({x}, {y}).matrixTransform(document.querySelector('.stage svg').getScreenCTM().inverse()); return [at.x, at.y]; }})()"  # noqa: E501
    there, behind = corner.format(x=x - 100, y=y - 60), tab.evaluate("scrollY")
    before = tab.evaluate(there)
    tab.mouse("mouseWheel", x - 100, y - 60, deltaX=0, deltaY=-400)
    tab.painted()
    assert tab.evaluate(VIEW)[2] < start[2] / 1.5
    assert tab.evaluate(there) == pytest.approx(before, abs=0.5)  # what was pointed at stays there
    tab.drag((x, y), (x + 30, y + 10))
    moved = tab.evaluate(corner.format(x=x - 70, y=y - 50))
    assert moved == pytest.approx(before, abs=0.5)
    for _ in range(12):
        tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-1000)
    assert tab.evaluate(VIEW)[2] == pytest.approx(start[2] / 40)
    for _ in range(12):
        tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=1000)
    assert tab.evaluate(VIEW) == pytest.approx(start)
    assert tab.evaluate("scrollY") == behind  # the page did not move below it


def test_two_fingers_zoom(browser: Browser, written: Path) -> None:
    tab = browser.open(written.as_uri(), 360, 740)
    tab.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    tab.click(ENLARGE)
    tab.painted()
    start = tab.evaluate(VIEW)[2]
    tab.touch("touchStart", (160, 400), (200, 400))
    for step in range(1, 5):
        tab.touch("touchMove", (160 - 10 * step, 400), (200 + 10 * step, 400))
    tab.touch("touchEnd")
    tab.painted()
    assert tab.evaluate(VIEW)[2] == pytest.approx(start / 3, rel=0.05)  # 40 pixels apart became 120
    assert tab.faults == []
    tab.close()


def test_figures_do_not_share_ids_nor_styles(tab: Tab) -> None:
    assert tab.evaluate(
        "[...document.querySelectorAll('use')].every((use) => document.querySelector(use.getAttribute('href')))"
    )
    assert tab.evaluate("document.querySelectorAll('svg style').length") == 0


def shade(tab: Tab, selector: str, name: str = "color") -> float:
    """How light the computed colour of an element is, 0 to 1."""
    script = (
        f"getComputedStyle(document.querySelector({json.dumps(selector)})).{name}.match(/[\\d.]+/g).slice(0, 3).map(Number)"
    )
    red, green, blue = tab.evaluate(script)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_light_and_dark_follow_the_system_and_the_reader(browser: Browser, written: Path) -> None:
    tab = browser.open(written.as_uri(), dark=True)
    tab.evaluate("localStorage.clear()")
    text = "#pair-quick-heatmap g[style='fill: currentColor']"
    assert shade(tab, "body", "backgroundColor") < 0.2 and shade(tab, "body") > 0.8 and shade(tab, text, "fill") > 0.8
    assert tab.evaluate("document.querySelector('.theme').textContent") == "Light"
    tab.click(".theme")
    assert shade(tab, "body", "backgroundColor") > 0.9 and shade(tab, text, "fill") < 0.2
    tab.load(written.as_uri())
    assert shade(tab, "body", "backgroundColor") > 0.9  # it was kept
    tab.click(".theme")
    assert shade(tab, "body", "backgroundColor") < 0.2 and tab.evaluate("localStorage.length") == 0
    tab.prefer("light")
    assert shade(tab, "body", "backgroundColor") > 0.9  # the system's again
    tab.click(".theme")
    tab.prefer("light", "print")
    assert shade(tab, "body", "backgroundColor") > 0.9 and tab.faults == []
    tab.evaluate("localStorage.clear()")
    tab.close()


def test_without_storage_the_theme_changes_all_the_same(browser: Browser, written: Path) -> None:
    tab = browser.open("about:blank")
    forbid = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=forbid)
    tab.load(written.as_uri())
    tab.click(".theme")
    assert shade(tab, "body", "backgroundColor") < 0.2 and tab.faults == []
    tab.close()


@pytest.mark.parametrize("width", [360, 1200])
def test_a_page_is_never_wider_than_its_window(width: int, tab: Tab, browser: Browser, tmp_path: Path) -> None:
    tab.resize(width, 740)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert width > 400 or tab.evaluate("document.querySelector('#measured .scroll').scrollWidth > 400")  # it scrolls inside
    tab.click(COWORLD)
    tab.painted()
    assert tab.evaluate("document.querySelector('dialog').scrollWidth") <= width
    chart = tab.evaluate("document.querySelector('.chart svg').clientWidth")
    assert 250 < chart < width
    assert count(tab, ".chart .label") == (3 if width > 640 else 0)  # in the legend they are always
    assert count(tab, ".legend .line") == 3
    (tmp_path / "index.html").write_text(index_html(INDEX))
    index = browser.open((tmp_path / "index.html").as_uri(), width, 740)
    assert index.evaluate("document.documentElement.scrollWidth") == width
    index.close()


def test_the_first_column_and_the_headings_stay_in_sight(browser: Browser, tmp_path: Path) -> None:
    rows = tuple((f"row {place}", *(["1234 ± 5678 (3)"] * 12)) for place in range(60))
    table = Table("t", "T", ("method", *(f"column {place}" for place in range(12))), rows)
    (tmp_path / "page.html").write_text(html(Page("P", "L", (table,))))
    tab = browser.open((tmp_path / "page.html").as_uri(), 360, 740)
    places = "['thead th', 'tbody th', 'thead th:nth-child(3)'].map((name) => document.querySelector(name))"
    where = f"{places}.map((found) => found.getBoundingClientRect().toJSON())"
    corner, name, heading = tab.evaluate(where)
    tab.evaluate("document.querySelector('.scroll').scrollTo({left: 300, top: 500, behavior: 'instant'})")
    after = tab.evaluate(where)
    assert after[0] == corner and after[1]["x"] == name["x"] and after[2]["y"] == heading["y"]
    assert after[1]["y"] == name["y"] - 500 and after[2]["x"] == heading["x"] - 300
    tab.close()


def test_keys_reach_everything_and_the_focus_is_seen(tab: Tab) -> None:
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().x") >= 0
    tab.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(12):
        tab.press("Tab")
        seen.append(
            tab.evaluate("[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]")
        )
    assert [name for name, _ in seen][:7] == ["scroll", *["sort"] * 5, "opens"]
    assert {style for _, style in seen} == {"solid"}


def test_without_scripts_everything_is_there(browser: Browser, written: Path) -> None:
    tab = browser.open("about:blank")
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.load(written.as_uri())
    tab.call("DOM.enable")
    root = tab.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    find = lambda selector: tab.call("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"]  # noqa: E731
    assert not find("button") and len(find("#measured tbody tr")) == 8 and len(find("figure svg")) == 2
    (hint,) = find(".hint")
    with pytest.raises(RuntimeError, match="box model"):  # nothing is promised that needs them
        tab.call("DOM.getBoxModel", nodeId=hint)
    assert tab.faults == []
    tab.close()


def test_an_index_shows_the_pictures_beside_it(browser: Browser, tmp_path: Path) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    (tmp_path / "table2").mkdir()
    (tmp_path / "table2/a b.png").write_bytes(base64.b64decode(pixel))
    (tmp_path / "index.html").write_text(index_html(INDEX))
    tab = browser.open((tmp_path / "index.html").as_uri())
    tab.until("document.querySelector('img').naturalWidth === 1")
    assert tab.faults == [] and len(tab.requests) == 2
    tab.close()


def test_a_page_cannot_load_anything(browser: Browser, tmp_path: Path) -> None:
    """Even if something slipped into it."""
    body = '<img src="https://example.com/a.png"><p style="background: url(https://example.com/b.png)">x</p>'
    (tmp_path / "page.html").write_text(document("T", "L", body))
    tab = browser.open((tmp_path / "page.html").as_uri())
    tab.painted()
    refused = [fault for fault in tab.faults if "Content Security Policy" in fault]
    assert len(refused) == 2
    tab.close()
