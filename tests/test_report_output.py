from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from report_samples import put, put_anchors, result

from coworld_bench.errors import UsageError
from coworld_bench.plans import Cell, Plan
from coworld_bench.recipes import Reference
from coworld_bench.reporting import report
from coworld_bench.reporting.figures.curves import by_cell, draw, looks_of
from coworld_bench.reporting.figures.heatmap import (
    Ratio,
    all_pairs,
    axes_of,
    colour_of,
    luminance,
    ratios,
    tick,
    unfit_targets,
)
from coworld_bench.reporting.figures.style import our_style
from coworld_bench.reporting.formats.html import html
from coworld_bench.reporting.layout import Page, Table, Words
from coworld_bench.reporting.selection import select
from coworld_bench.reporting.store import read_store

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
PLAN = Plan(
    name="pair",
    title="A pair <b>",
    quality="medium-replay",
    methods=("offline_dv2", "coworld"),
    seeds={"quick": (0, 1)},
    cells=(Cell(DOOR, BUTTON), Cell(BUTTON, DOOR), Cell(WINDOW, BUTTON)),
    published="table02.csv",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds each; CoWorld twice as good on door_close from button_press, half as good on button_press."""
    runs = tmp_path_factory.mktemp("runs")
    for seed, change in enumerate((-100, 100)):
        put(runs, result("offline_dv2", DOOR, 1000 + change, seed))
        put(runs, result("offline_dv2", BUTTON, 800 + change, seed))
        put(runs, result("coworld", DOOR, 2000 + change, seed, BUTTON))
    put(runs, result("coworld", BUTTON, 400, 0, DOOR))
    put(runs, result("coworld", DOOR, 500, 0, "metaworld/window_close"))  # a pair that no cell asks for
    put_anchors(runs, DOOR, 4305)
    return runs


@pytest.fixture(scope="module")
def written(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole report."""
    out = tmp_path_factory.mktemp("out")
    paths = report([PLAN], store, out, figures=["heatmap"])
    assert set(paths) == set((out / "pair-quick").iterdir())
    return out / "pair-quick"


def by_pair(runs: Path) -> dict[tuple[str, str], Ratio]:
    return {(entry.source, entry.target): entry for entry in ratios(select(read_store(runs), all_pairs(PLAN), "quick"))}


def test_heatmap_ratios_by_hand(store: Path) -> None:
    found = by_pair(store)
    assert found[BUTTON, DOOR].value == 2.0 and found[BUTTON, DOOR].seeds == "n=2"
    assert found[DOOR, BUTTON].value == 0.5 and found[DOOR, BUTTON].seeds == "n=1/2"
    assert found[BUTTON, WINDOW].value is None and found[DOOR, WINDOW].value is None
    assert (DOOR, DOOR) not in found


def test_a_ratio_to_nothing_is_no_ratio(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 0.0))
    put(tmp_path, result("coworld", DOOR, 100.0, 0, BUTTON))
    assert by_pair(tmp_path)[BUTTON, DOOR].value is None


def test_heatmap_axes_share_their_order(store: Path) -> None:
    sources, targets = axes_of(list(by_pair(store).values()))
    assert sources == [DOOR, BUTTON] and targets == [DOOR, BUTTON, WINDOW]


def test_heatmap_marks_targets_that_a_constant_solves(store: Path) -> None:
    selection = select(read_store(store), all_pairs(PLAN), "quick")
    assert unfit_targets(selection, lambda task, preset: Reference(value=8000.0, how="stand-in")) == {DOOR}
    assert unfit_targets(selection, lambda task, preset: Reference(value=9000.0, how="stand-in")) == set()
    assert tick(DOOR, "‡") == "DC* ‡"


def test_ink_on_dark_and_light() -> None:
    assert luminance((1, 1, 1, 1)) == pytest.approx(1) and luminance((0, 0, 0, 1)) == 0


def test_every_file_names_its_plan_and_preset(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {f"pair-quick{end}" for end in (
        ".md", ".html", ".csv", "-runs.csv", "-curves.png", "-curves.svg", "-heatmap.png", "-heatmap.svg", "-heatmap.csv",
    )}  # fmt: skip


def test_the_same_store_gives_the_same_bytes(store: Path, written: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import matplotlib; matplotlib.rcParams['axes.linewidth'] = 5;"
        "sys.path.insert(0, sys.argv[1]); from test_report_output import PLAN;"
        "from coworld_bench.reporting import report; report([PLAN], sys.argv[2], sys.argv[3], figures=['heatmap'])"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, here, str(store), str(tmp_path)], check=True)
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "pair-quick" / path.name).read_bytes(), path.name


def test_heatmap_numbers_are_written_beside_it(written: Path) -> None:
    with (written / "pair-quick-heatmap.csv").open() as file:
        rows = {(row["source"], row["target"]): row for row in csv.DictReader(file)}
    assert rows[BUTTON, DOOR] == {
        "source": BUTTON, "target": DOOR, "ratio": "2", "coworld_mean": "2000", "coworld_seeds": "2",
        "offline_dv2_mean": "1000", "offline_dv2_seeds": "2", "difference_low95": "391.513",
        "difference_high95": "1608.49", "decided": "yes",
    }  # fmt: skip
    assert rows[BUTTON, WINDOW]["ratio"] == ""


def test_pictures_are_pictures_without_dates(written: Path) -> None:
    from PIL import Image

    for name in ("curves", "heatmap"):
        image = Image.open(written / f"pair-quick-{name}.png")
        assert image.width > 600 and len(image.convert("RGB").getcolors(1 << 24)) > 20
        svg = (written / f"pair-quick-{name}.svg").read_text()
        assert svg.rstrip().endswith("</svg>") and "dc:date" not in svg


def test_a_highlighted_method_has_a_figure_of_its_own(store: Path, tmp_path: Path) -> None:
    """In colour with its seeds on the cells it has, before the others' means; the same bytes every time."""
    figures = []
    for place in ("one", "two"):
        paths = report([PLAN], store, tmp_path / place, formats=["md"], highlight=["coworld"])
        figures.append({path.name: path.read_bytes() for path in paths if "curves-coworld" in path.name})
    assert figures[0] == figures[1] and set(figures[0]) == {
        "pair-quick-curves-coworld.png",
        "pair-quick-curves-coworld.svg",
    }
    svg = figures[0]["pair-quick-curves-coworld.svg"].decode()
    assert svg.count("#0072b2") and svg.count("#c9c9c9") and not svg.count("#d55e00")
    page = (tmp_path / "one" / "pair-quick" / "pair-quick.md").read_text()
    assert "## CoWorld: return against updates · preset quick · 1 to 2 seeds (2 planned)" in page
    assert (
        "![Learning curves on BP → DC*, DC* → BP: CoWorld, other methods in grey.](pair-quick-curves-coworld.png)" in page
    )


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("coword", "no method in these plans 'coword'; did you mean coworld"), ("cql", "no finished run of cql")],
)
def test_only_what_has_results_can_be_highlighted(method: str, sentence: str, store: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, methods=(*PLAN.methods, "cql"))
    with pytest.raises(UsageError, match=sentence):
        report([plan], store, tmp_path / "out", highlight=[method])
    assert not (tmp_path / "out").exists()


def test_many_methods_are_told_apart() -> None:
    looks = looks_of({str(place): str(place) for place in range(18)}).values()
    assert len({(look.colour, look.stroke) for look in looks}) == 18
    assert len({look.colour for look in list(looks)[:6]}) == 6 and len({look.stroke for look in list(looks)[:6]}) == 1


def test_a_legend_of_long_names_is_not_cut_off(tmp_path: Path) -> None:
    labels = {f"method{place}": "A method of a rather long name " + str(place) for place in range(9)}
    for name, label in labels.items():
        put(tmp_path, result(name, DOOR, 100.0, label=label))
    selection = select(read_store(tmp_path), replace(PLAN, methods=tuple(labels), published=None), "quick")
    with our_style():
        figure = draw(selection, by_cell(selection)[:1], looks_of(labels.values()), "A title")
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert len(legend.get_texts()) == 10  # and the dataset's mean return
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0 and box.y1 < figure.axes[0].get_window_extent().y0


def test_of_many_methods_only_the_means_are_drawn(store: Path, tmp_path: Path) -> None:
    """Six methods: the title says so, and a figure of them is taller."""
    many = [f"method{place}" for place in range(6)]
    for name, seed in product(many, (0, 1)):
        put(tmp_path / "runs", result(name, DOOR, 100.0, seed))
    report([replace(PLAN, methods=tuple(many), published=None)], tmp_path / "runs", tmp_path / "out", formats=["md"])
    page = (tmp_path / "out" / "pair-quick" / "pair-quick.md").read_text()
    assert "## Return against updates, means over seeds · preset quick · 2 seeds" in page


def test_the_page_is_one_file(written: Path) -> None:
    page = (written / "pair-quick.html").read_text()
    assert page.count("<figure") == page.count("</svg></figure>") == 2
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and not re.search(r"url\((?!#)", page)
    assert "A pair &lt;b&gt; · preset quick · 1 to 2 seeds (2 planned)" in page
    assert "color-scheme: light dark" in page and 'name="viewport"' in page


def test_published_and_measured_have_tables_of_their_own(written: Path) -> None:
    text = (written / "pair-quick.md").read_text()
    sections = {part.split("\n")[0]: part for part in text.split("\n## ")[1:]}
    measured = sections["Measured · preset quick · 1 to 2 seeds (2 planned)"]
    published = sections["A pair <b> · published (paper preset, 3 seeds, RTX 3090)"]
    assert "2000 ± 141 (2)†" in measured and "3967" not in measured
    assert "3967 ± 312" in published and "2000 ± 141" not in published


def test_formats_are_written_as_asked(store: Path, tmp_path: Path) -> None:
    names = {path.name for path in report([PLAN], store, tmp_path, formats=["csv"])}
    assert names == {"pair-quick.csv", "pair-quick-runs.csv"}


def test_the_default_place_is_in_the_store(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", DOOR, 10.0))
    report([PLAN], tmp_path, formats=["md"])
    assert (tmp_path / "report" / "pair-quick" / "pair-quick.md").is_file()
    report([PLAN], tmp_path, formats=["md"])  # what it wrote is not read back as a run


def test_other_options_have_a_report_of_their_own(tmp_path: Path) -> None:
    """Those that change no number have none."""
    put(tmp_path, result("offline_dv2", DOOR, 10.0))
    asked: list[dict[str, str]] = [{}, {"compute.memory": "ram"}, {"env.sparse": "true"}, {"behaviour.horizon": "5"}]
    written = [report([PLAN], tmp_path, formats=["md"], preset="quick", options=options) for options in asked]
    names = [paths[0].parent.name for paths in written]
    assert names[:2] == ["pair-quick"] * 2 and len(set(names)) == 3
    assert all(name.startswith("pair-quick-") for name in names[2:])
    assert all(f"{name}.md" in {path.name for path in paths} for name, paths in zip(names, written, strict=True))


def test_without_plans_every_plan_with_results_is_reported(tmp_path: Path) -> None:
    put(tmp_path, result("offline_dv2", WINDOW, 10.0))  # a target of both shipped plans
    folders = {path.parent.name for path in report([], tmp_path, formats=["md"])}
    assert {"table2-quick", "quickstart-quick"} <= folders


def test_html_marks_the_divider_and_escapes() -> None:
    table = Table("t", "T", ("a",), (("x",), ("<y>",)), divider=1)
    page = html(Page("P", "L", (table, Words("W", ("a & b",)))))
    assert '<tbody class="below">\n<tr><th scope="row">&lt;y&gt;</th></tr>' in page and "<p>a &amp; b</p>" in page


def test_a_report_loads_neither_torch_nor_a_simulator(store: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from coworld_bench.reporting import report; assert 'pandas' not in sys.modules;"
        "from coworld_bench.plans import load_plan; report(['table2'], sys.argv[1], sys.argv[2], figures=['heatmap']);"
        "bad = {'torch', 'mujoco', 'gymnasium', 'dm_control', 'seaborn'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(store), str(tmp_path)], check=True)


def test_colours_are_centred_on_one_and_end_at_the_limit() -> None:
    assert luminance(colour_of(1.0, 1.0)) > 0.9
    assert colour_of(2.0, 1.0) == colour_of(100.0, 1.0) != colour_of(1.5, 1.0)
    assert colour_of(0.5, 1.0) == colour_of(0.0, 1.0) != colour_of(2.0, 1.0)


def test_measured_and_published_stand_beside_each_other_in_columns_of_their_own(written: Path) -> None:
    """The paper's CoWorld row is called differently in table 2; it must still be found, and in its own column."""
    text = (written / "pair-quick.md").read_text()
    section = text[text.index("## Measured beside published") :]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")]
    assert rows[0][2:] == ["measured, preset quick", "published (paper preset, 3 seeds, RTX 3090)"]
    assert ["CoWorld", "BP → DC*", "2000 ± 141 (2)†", "3967 ± 312"] in rows
    with (written / "pair-quick.csv").open() as file:
        records = [row for row in csv.DictReader(file) if row["row"] == "CoWorld" and row["target"].endswith("door_close")]
    assert {(row["published_mean"], row["published_std"]) for row in records} == {("3967", "312")}
    assert all(row["mean"] != row["published_mean"] for row in records)
