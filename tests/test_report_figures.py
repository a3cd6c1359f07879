"""The figures of a report: what is in them, worked by hand, and that they can be read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from report_samples import put, put_anchors, put_failed, result

from coworld_bench.plans import Cell, Plan, load_plan
from coworld_bench.reporting.figures import curves, draw, heatmap, sweeps, values
from coworld_bench.reporting.figures.sheet import legend_columns, width_of, wrapped
from coworld_bench.reporting.figures.style import COLUMN, LINES, TEXT, our_style
from coworld_bench.reporting.published import LABELS, published_table
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import read_store
from coworld_bench.reporting.tables.side_by_side import side_by_side

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
DRAWER, HANDLE, TOPDOWN = "metaworld/drawer_close", "metaworld/handle_press", "metaworld/button_press_topdown"
Make = Callable[[Selection, Sequence[float]], list[Figure]]
PLAN = Plan(
    name="pair",
    title="A pair",
    quality="medium-replay",
    methods=("offline_dv2", "coworld"),
    seeds={"quick": (0, 1)},
    cells=(Cell(DOOR, BUTTON), Cell(WINDOW, BUTTON)),
)


def chosen(runs: Path, plan: Plan = PLAN) -> Selection:
    runs.mkdir(exist_ok=True)
    return select(read_store(runs), plan, "quick")


def with_values(content: dict[str, Any], predicted: float | None, realised: float | None) -> dict[str, Any]:
    for evaluation in content["evaluations"]:
        for episode in evaluation["episodes"]:
            episode |= {"value_predicted": predicted, "value_realised": realised}
    return content


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


# What is in the transfer matrix.


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CoWorld clearly better on door_close, unclear on window_close, one seed alone from there; and with many sources."""
    runs = tmp_path_factory.mktemp("matrix")
    for seed in range(3):
        put(runs, result("offline_dv2", DOOR, 1000 + seed, seed))
        put(runs, result("offline_dv2", WINDOW, 500 + 300 * seed, seed))
        put(runs, result("coworld", DOOR, 2000 + seed, seed, BUTTON))
        put(runs, result("coworld", WINDOW, 900 + 200 * seed, seed, BUTTON))
        put(runs, result("coworld_multi", DOOR, 500 + seed, seed, f"{BUTTON}+{WINDOW}"))
    put(runs, result("coworld", DOOR, 4000, 0, WINDOW))
    return runs


MATRIX = replace(
    PLAN,
    methods=("offline_dv2", "coworld", "coworld_multi"),
    cells=(Cell(DOOR, BUTTON, (BUTTON, WINDOW)), Cell(WINDOW, BUTTON), Cell(DOOR, WINDOW, (BUTTON, WINDOW))),
    published="table02.csv",
)


def test_the_matrix_says_which_ratios_are_decided(matrix: Path, tmp_path: Path) -> None:
    found = draw("heatmap", chosen(matrix, MATRIX), tmp_path, "pair-quick")
    assert found is not None
    rows = {(row["source"], row["target"]): row for row in rows_of(tmp_path / "pair-quick-heatmap.csv")}
    assert {pair: (row["ratio"], row["decided"]) for pair, row in rows.items()} == {
        (WINDOW, DOOR): ("3.996", "no"),  # one seed: nothing is known of its spread
        (BUTTON, DOOR): ("1.999", "yes"),
        (BUTTON, WINDOW): ("1.375", "no"),
        ("multi", DOOR): ("0.5005", "yes"),
        ("multi", WINDOW): ("", ""),
    }
    door = rows[BUTTON, DOOR]  # 1000 ± t(4) sqrt(2/3)
    assert float(door["difference_low95"]) == pytest.approx(1000 - 2.7764 * (2 / 3) ** 0.5, abs=0.01)
    assert (rows[WINDOW, DOOR]["difference_low95"], rows[WINDOW, DOOR]["coworld_seeds"]) == ("", "1")
    assert "3 of 3 pairs measured, 3 above 1, 1 decided. Beside it" in found.picture.alt


def test_undecided_and_unknown_squares_are_hatched_and_the_legend_says_so(matrix: Path) -> None:
    figure = heat_figure(chosen(matrix, MATRIX))
    measured, published = figure.axes[:2]
    hatches = [patch.get_hatch() for patch in measured.patches]
    assert hatches.count(heatmap.UNDECIDED) == 2 and hatches.count(heatmap.NOTHING) == 1
    assert heatmap.UNDECIDED not in {patch.get_hatch() for patch in published.patches}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(heatmap.HATCHES)
    assert measured.get_title() == "measured: 3 of 3 above 1, 1 decided"


def test_published_ratios_have_a_matrix_of_their_own(matrix: Path) -> None:
    figure = heat_figure(chosen(matrix, MATRIX))
    measured, published = figure.axes[:2]
    assert published.get_title() == "published: derived from the paper's table 2"
    assert {text.get_text() for text in published.texts} >= {"1.85", "1.80", "1.15"}
    assert not {text.get_text() for text in measured.texts} & {"1.85", "1.80"}
    assert [text.get_text() for text in published.get_yticklabels()] == ["WC", "BP", "multi"]
    assert "26 of 30 single-source pairs above 1" in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


@pytest.mark.parametrize("published", [None, "table10.csv"])
def test_other_plans_have_no_published_matrix(published: str | None, matrix: Path) -> None:
    selection = chosen(matrix, replace(MATRIX, published=published))
    assert heatmap.published_ratios(selection.plan, heatmap.matrix_of(selection)[1]) == {}


def heat_figure(selection: Selection) -> Figure:
    return heat_figures(selection, [TEXT])[0]


def heat_figures(selection: Selection, widths: Sequence[float]) -> list[Figure]:
    pairs, found = heatmap.matrix_of(selection)
    printed = heatmap.published_ratios(selection.plan, found)
    with our_style():
        return [
            heatmap.draw(found, f"CoWorld / Offline DV2 · {pairs.circumstances}", {DOOR}, printed, width)
            for width in widths
        ]


# What is in the curves.


def test_panels_by_group_by_target_and_by_cell(matrix: Path) -> None:
    grouped = replace(MATRIX, panels={"a": ("offline_dv2", "coworld"), "b": ("coworld_multi",)})
    found = curves.panels_of(chosen(matrix, grouped))
    assert [(panel.title, list(panel.finished)) for panel in found] == [
        ("a, BP → DC*", ["Offline DV2", "CoWorld"]),
        ("a, BP → WC", ["Offline DV2", "CoWorld"]),
        ("a, WC → DC*", ["Offline DV2", "CoWorld"]),
        ("b, BP → DC*", ["CoWorld (Multi-Source)"]),
        ("b, BP → WC", []),
        ("b, WC → DC*", ["CoWorld (Multi-Source)"]),
    ]
    assert [panel.title for panel in curves.panels_of(chosen(matrix, MATRIX))] == ["BP → DC*", "BP → WC", "WC → DC*"]


def test_targets_with_many_sources_share_a_panel(matrix: Path) -> None:
    """Offline DV2 has no source and the method with many chooses: a line each, while CoWorld has one per source."""
    cells = (*MATRIX.cells, Cell(DOOR, DRAWER, (BUTTON, WINDOW)))
    door, window = curves.panels_of(chosen(matrix, replace(MATRIX, cells=cells)))
    assert door.title == "DC*: door close" and list(door.finished) == [
        "Offline DV2", "CoWorld from BP", "CoWorld from WC", "CoWorld (Multi-Source)",
    ]  # fmt: skip
    assert set(door.finished["CoWorld from WC"].runs["score"]) == {4000.0}
    assert list(window.finished) == ["Offline DV2", "CoWorld from BP"]


def test_rows_of_one_label_have_a_line_each(tmp_path: Path) -> None:
    for name, score in (("mine", 5.0), ("yours", 9.0)):
        put(tmp_path, result(name, DOOR, score, label="New"))
    panel = curves.panels_of(chosen(tmp_path, replace(PLAN, methods=("mine", "yours"))))[0]
    assert {label: found.scores for label, found in panel.lines.items()} == {
        "New (mine)": {0: 5.0},
        "New (yours)": {0: 9.0},
    }


def test_a_mean_is_over_the_updates_that_all_seeds_have() -> None:
    assert curves.mean_of([{0: 1.0, 10: 5.0, 20: 9.0}, {0: 3.0, 20: 11.0}]) == {0: 2.0, 20: 10.0}
    assert curves.mean_of([]) == {}


def test_panels_of_cells_without_results_say_why(tmp_path: Path) -> None:
    put_failed(tmp_path, "coworld", DOOR, 0, BUTTON)
    begun = result("coworld", WINDOW, 0, 0, BUTTON)
    put(tmp_path, begun | {"dataset": begun["dataset"]["fingerprint"]}, "config")
    cells = (*PLAN.cells, Cell(HANDLE, BUTTON))
    (figure,) = curve_figures(chosen(tmp_path, replace(PLAN, cells=cells)), [TEXT])
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["failed", "not finished", "not measured"]


def curve_figures(selection: Selection, widths: Sequence[float]) -> list[Figure]:
    panels, looks = curves.panels_of(selection), curves.looks_of(curves.labels_of(selection), seeds=False)
    title = f"Return against updates · {selection.circumstances}"
    with our_style():
        return [curves.draw(selection, panels, looks, title, width) for width in widths]


# What is in the values.


def test_gaps_of_values_by_hand(tmp_path: Path) -> None:
    """Seeds 0 and 1 of Offline DV2 on both cells, CoWorld on one; BC has no critic."""
    runs = tmp_path / "runs"
    for target, shift in ((DOOR, 0.0), (WINDOW, 10.0)):
        put(runs, with_values(result("offline_dv2", target, 1.0, 0), 30.0 + shift, 10.0))
        put(runs, with_values(result("offline_dv2", target, 1.0, 1), 50.0 + shift, 10.0))
    put(runs, with_values(result("coworld", DOOR, 1.0, 0, BUTTON), 5.0, 12.0))
    put(runs, with_values(result("bc", DOOR, 1.0, 0), None, None))
    plan = replace(PLAN, methods=("offline_dv2", "coworld", "bc", "cql"))
    found = draw("values", chosen(runs, plan), tmp_path, "pair-quick")
    assert found is not None
    told = {(row["cell"], row["method"]): row for row in rows_of(tmp_path / "pair-quick-values.csv")}
    assert {row["method"] for row in told.values()} == {"Offline DV2", "CoWorld", "CQL"}
    door, mean = told["BP → DC*", "Offline DV2"], told[values.MEAN, "Offline DV2"]
    assert (door["seeds"], door["gap_mean"], door["gap_by_seed"]) == ("2", "30", "0: 20; 1: 40")
    assert float(door["gap_low95"]) == pytest.approx(30 - 12.7062 * 10, abs=0.01)
    assert mean["gap_by_seed"] == "0: 25; 1: 45"  # of 20 and 30, of 40 and 50
    assert (told["BP → DC*", "CoWorld"]["gap_mean"], told[values.MEAN, "CoWorld"]["gap_mean"]) == ("-7", "")
    assert found.picture.alt == (
        "Value predicted minus realised, mean over cells: Offline DV2 +35. Without a number there: CoWorld, CQL."
    )
    rows = {row.label: row.words for row in dict(values.panels_of(chosen(runs, plan)))[values.MEAN]}
    assert rows == {"Offline DV2": "", "CoWorld": "1 of 2 cells", "CQL": "not measured"}


def test_an_interval_wider_than_its_panel_ends_in_arrows() -> None:
    rows = [values.Row("A", {0: 0.0, 1: 10.0}), values.Row("B", {0: 5.0, 1: 5.1, 2: 4.9})]
    with our_style():
        figure = values.draw([("cell", rows)], "T")
    arrows = {line.get_marker(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert arrows["<"] == arrows[">"] == [-0.12]  # A's, not B's


def test_the_papers_words_on_values_stand_apart(tmp_path: Path) -> None:
    words = values.facts_of(chosen(tmp_path, load_plan("figure5b")))
    assert words.startswith("Published, in units of its own: ") and "axis -300..700, 500-step discounted value" in words
    assert values.facts_of(chosen(tmp_path, PLAN)) == ""


# What is in the sweeps.


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of figure 6: CoWorld as it is, β2 = 10 twice, α = 0.3, and DV2 Finetune."""
    runs, source = tmp_path_factory.mktemp("swept"), DRAWER
    own = {"beta2": 1.0, "k": 0.3, "alpha": 0.2}
    for seed, score in enumerate((300.0, 500.0)):
        put(runs, result("coworld", BUTTON, score, seed, source, method_config=own))
        changed = {"method_config": own | {"beta2": 10.0}, "options": {"coworld.beta2": "10"}, "run": f"beta{seed}"}
        put(runs, result("coworld", BUTTON, score + 1000, seed, source, **changed))
        put(runs, result("dv2_finetune", BUTTON, score + 50, seed, source))
    changed = {"method_config": own | {"alpha": 0.3}, "options": {"coworld.alpha": "0.3"}, "run": "alpha"}
    put(runs, result("coworld", BUTTON, 7.0, 0, source, **changed))
    return runs


def test_sweeps_find_what_the_arms_change(swept: Path, tmp_path: Path) -> None:
    selection = chosen(swept, load_plan("figure6"))
    found = {sweep.option: sweep for sweep in sweeps.sweeps_of(selection)}
    assert {option: (sweep.values, sweep.own, sweep.sign) for option, sweep in found.items()} == {
        "coworld.beta2": ([0.1, 0.5, 1, 2, 10], 1.0, "β2"),
        "coworld.k": ([0.1, 0.3, 0.5, 0.7, 0.9], 0.3, "k"),
        "coworld.alpha": ([0.05, 0.1, 0.2, 0.3, 0.5], 0.2, "α"),
    }
    draw("sweeps", selection, tmp_path, "figure6-quick")
    rows = {(row["option"], row["value"]): row for row in rows_of(tmp_path / "figure6-quick-sweeps.csv")}
    high = rows["coworld.beta2", "10"]
    assert (high["seeds"], high["mean"], high["score_by_seed"]) == ("2", "1400", "0: 1300; 1: 1500")
    assert float(high["std"]) == pytest.approx(141.421, abs=1e-3)
    assert [rows[option, value]["mean"] for option, value in (("coworld.k", "0.3"), ("coworld.k", "0.5"))] == ["400", ""]
    assert [value for (option, value), row in rows.items() if row["own"] == "yes"] == ["1", "0.3", "0.2"]


def test_sweeps_draw_the_other_method_as_a_band_and_the_paper_in_strips(swept: Path) -> None:
    (figure,) = sweep_figures(chosen(swept, load_plan("figure6")), [TEXT])
    beta, k, alpha, *strips = figure.axes
    assert [axes.get_xscale() for axes in (beta, k, alpha)] == ["log", "linear", "log"]
    (band,) = beta.patches  # 450 ± 141
    assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([450 - 141.42, 450 + 141.42], abs=0.01)
    assert [strip.get_title() for strip in strips] == ["published, β2", "published, k", "published, α"]
    good = [[patch.get_x(), patch.get_x() + patch.get_width()] for strip in strips for patch in strip.patches]
    assert good == [pytest.approx([0.1, 0.7]), pytest.approx([1, 3])]
    assert not any("2456" in text.get_text() for axes in figure.axes for text in axes.texts)
    assert any("DV2 Finetune 2456 ± 661" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_any_plan_whose_arms_change_a_number_can_be_swept(tmp_path: Path) -> None:
    written = """
title = "T"
quality = "medium-replay"
methods = ["coworld", "slow", "fast", "both", "named"]
seeds = { quick = [0] }
figures = ["sweeps"]
[arms.slow]
method = "coworld"
options = { "actor.rate" = 1e-5 }
[arms.fast]
method = "coworld"
options = { "actor.rate" = 1e-3 }
[arms.both]
method = "coworld"
options = { "actor.rate" = 1, "coworld.k" = 1 }
[arms.named]
method = "coworld"
options = { "model" = "table8" }
[[cells]]
target = "metaworld/door_close"
source = "metaworld/button_press"
"""
    (tmp_path / "mine.toml").write_text(written)
    (sweep,) = sweeps.sweeps_of(chosen(tmp_path / "runs", load_plan(str(tmp_path / "mine.toml"))))
    assert (sweep.option, sweep.values, sweep.own) == ("actor.rate", [1e-5, 1e-3], None)
    assert draw("sweeps", chosen(tmp_path / "runs"), tmp_path, "pair") is None  # no arms


def test_of_crowded_values_those_are_named_that_fit() -> None:
    """Over an inch from 0 to 10, `1` and `1.5` lie a twentieth of an inch apart."""
    axes = Figure(figsize=(COLUMN, 2)).add_subplot()
    axes.set_xlim(0, 10)
    assert sweeps.that_fit(axes, [1.0, 1.5, 5.0, 9.0], 1.0) == [1.0, 5.0, 9.0]
    assert sweeps.that_fit(axes, [1.0, 1.5, 5.0, 9.0], 10.0) == [1.0, 1.5, 5.0, 9.0]


def sweep_figures(selection: Selection, widths: Sequence[float]) -> list[Figure]:
    found, title = sweeps.sweeps_of(selection), f"Return against β2, k, α · {selection.circumstances}"
    with our_style():
        return [sweeps.draw(selection, found, title, width) for width in widths]


# What the paper's figures are known to say.


def test_the_papers_figures_are_listed_line_by_line() -> None:
    table = published_table(load_plan("figure6"))
    assert table is not None and table.columns == ("what", "method", "source → target", "number", "note")
    assert table.rows[0] == ("return", "DV2 Finetune", "DC → BP", "2456 ± 661", "reference quoted in the text")
    assert [row[3] for row in table.rows] == ["2456 ± 661", "0.1", "0.7", "1", "3", "—"]
    whole = published_table(load_plan("figure3"))
    assert whole is not None and whole.rows[0][2:4] == ("metaworld/* → metaworld/*", "26")
    counts = {}
    for name in ("figure3", "figure4", "figure5a", "figure10"):
        listed = published_table(load_plan(name))
        assert listed is not None
        counts[name] = len(listed.rows)
    assert counts == {"figure3": 14, "figure4": 8, "figure5a": 1, "figure10": 2}


def test_numbers_of_one_figure_do_not_stand_beside_another(swept: Path) -> None:
    """The paper's 2456 for DV2 Finetune is quoted with its figure 6, not with figures 5b and 10 of the same pair."""
    beside = side_by_side(chosen(swept, load_plan("figure6")))
    assert beside is not None and ("DV2 Finetune", "DC → BP", "450 ± 141 (2/3)†", "2456 ± 661") in beside.rows
    assert side_by_side(chosen(swept, load_plan("figure10"))) is None


def test_what_was_not_printed_is_no_number() -> None:
    table = published_table(load_plan("table11"))
    assert table is not None and not any("nan" in cell for row in table.rows for cell in row)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["R3M (our data)"][:3] == ("311", "4616", "1603") and rows["R3M (expert data)"][1:3] == ("—", "—")


def test_tables_of_other_things_than_returns_are_listed() -> None:
    table = published_table(load_plan("table13"))
    assert table is not None and table.rows[0][:4] == ("chosen source", "CoWorld (Multi-Source)", "DC → DC*", "—")


# That they can be read.


MANY = replace(
    load_plan("table2"), name="figure5b", published="figures.csv", seeds={"quick": tuple(range(5))},
    methods=(*list(LABELS)[:9], *list(LABELS)[11:15]),
)  # fmt: skip


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 methods × 6 tasks × 5 seeds."""
    runs, rng = tmp_path_factory.mktemp("crowd"), np.random.default_rng(0)
    for method, cell, seed in product(MANY.methods, MANY.cells, range(5)):
        content = result(method, cell.target, float(rng.normal(2500, 900)), seed, str(cell.source))
        put(runs, with_values(content, float(rng.normal(0, 300)), 0.0))
    for cell in MANY.cells:
        put_anchors(runs, cell.target, 4300)
    return runs


def value_figures(selection: Selection, widths: Sequence[float]) -> list[Figure]:
    panels, facts = values.panels_of(selection), values.facts_of(selection)
    with our_style():
        return [values.draw(panels, f"Value · {selection.circumstances}", facts, width) for width in widths]


WIDTHS = COLUMN, TEXT


@pytest.fixture(scope="module")
def crowded(crowd: Path) -> Selection:
    assert len(MANY.methods) == 13 and len(MANY.cells) == 6
    return chosen(crowd, MANY)


@pytest.mark.parametrize("make", [curve_figures, value_figures, heat_figures])
def test_nothing_overlaps_or_is_cut_off(make: Make, crowded: Selection) -> None:
    for width, figure in zip(WIDTHS, make(crowded, WIDTHS), strict=True):
        readable(figure, width)


EMPTY = [
    (curve_figures, "figure10"), (curve_figures, "figure3"), (heat_figures, "figure3"), (value_figures, "figure5b"),
    (sweep_figures, "figure6"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "plan"), EMPTY)
def test_figures_of_nothing_can_be_read(make: Make, plan: str, tmp_path: Path) -> None:
    for width, figure in zip(WIDTHS, make(chosen(tmp_path, load_plan(plan)), WIDTHS), strict=True):
        readable(figure, width)
        words = {text.get_text() for axes in figure.axes for text in axes.texts}
        hatches = {patch.get_hatch() for axes in figure.axes for patch in axes.patches}
        assert "not measured" in words or heatmap.NOTHING in hatches


def test_sweeps_can_be_read(swept: Path) -> None:
    for width, figure in zip(WIDTHS, sweep_figures(chosen(swept, load_plan("figure6")), WIDTHS), strict=True):
        readable(figure, width)


def readable(figure: Figure, width: float) -> None:
    """No text is small, touches another or leaves the figure, and none is hidden by the legend."""
    boxes = [(text, text.get_window_extent()) for text in drawn_texts(figure)]
    assert figure.get_figwidth() == width and len(boxes) > 7
    for text, box in boxes:
        assert text.get_fontsize() >= 6, text
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, (text, box)
    for (text, box), (other, beside) in combinations(boxes, 2):
        assert not overlap(box, beside), (text, other)
    for axes in figure.axes:
        for legend in figure.legends:
            assert not overlap(axes.get_window_extent(), legend.get_window_extent()), (axes, legend)


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts that are drawn: not those of ticks outside their axis."""
    found: list[Text] = []
    plain = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer: (found.append(self), plain(self, renderer)))
        figure.draw_without_rendering()
    return [text for text in dict.fromkeys(found) if text.get_visible() and text.get_text().strip()]


def overlap(box: Bbox, other: Bbox) -> bool:
    """By more than half a pixel."""
    return min(box.x1, other.x1) - max(box.x0, other.x0) > 0.5 and min(box.y1, other.y1) - max(box.y0, other.y0) > 0.5


def test_the_readers_check_sees_overlaps() -> None:
    figure = Figure(figsize=(COLUMN, 2), dpi=200)
    for place in range(9):
        figure.text(0.5, 0.1 * place + 0.05, f"line {place}", fontsize=7)
    readable(figure, COLUMN)
    figure.text(0.52, 0.07, "over it", fontsize=7)
    with pytest.raises(AssertionError, match="over it"):
        readable(figure, COLUMN)
    out = Figure(figsize=(COLUMN, 2), dpi=200)
    for place in range(9):
        out.text(0.9, 0.1 * place + 0.05, f"a rather long line {place}", fontsize=7)
    with pytest.raises(AssertionError, match="a rather long line 0"):
        readable(out, COLUMN)


def test_text_is_broken_where_it_is_measured_to_fit() -> None:
    lines = wrapped("Return against updates, means over seeds · preset quick · 2 to 5 seeds (3 planned)", 2.0, 8)
    assert len(lines) == 3 and max(width_of(line, 8) for line in lines) <= 2.0
    assert width_of("WWWW", 8) > 2 * width_of("iiii", 8) and wrapped("", 1.0, 8) == []
    assert [legend_columns(["Offline DV2"] * 13, width) for width in (1.0, 3.3, 6.9)] == [1, 3, 7]


# How colours look without red-sensing and without green-sensing cones: Viénot, Brettel and Mollon (1999), in linear sRGB.
WITHOUT = {
    "red": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "green": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen_without(cones: str, colours: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours [N, 3] as such eyes see them."""
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92) @ WITHOUT[cones].T
    xyz = np.clip(linear, 0, 1) @ TO_XYZ.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)


@pytest.mark.parametrize("cones", WITHOUT)
def test_colours_are_told_apart_without_red_or_green(cones: str) -> None:
    """Lines of one stroke by at least 10 in CIELAB (2 is just seen), ratios of 1/2, 1 and 2 by far more."""
    lines = np.array([[int(line[place : place + 2], 16) / 255 for place in (1, 3, 5)] for line in LINES])
    distances = [np.linalg.norm(one - other) for one, other in combinations(seen_without(cones, lines), 2)]
    assert min(distances) > 10
    ends = seen_without(cones, np.array([heatmap.colour_of(value, 1.0)[:3] for value in (0.5, 1.0, 2.0)]))
    assert min(np.linalg.norm(one - other) for one, other in combinations(ends, 2)) > 30
    pale = seen_without(cones, np.array([heatmap.colour_of(value, 1.0)[:3] for value in (0.8, 1.25)]))
    assert np.linalg.norm(pale[0] - pale[1]) > 15


@pytest.mark.parametrize(("plan", "figure"), [("figure3", "heatmap"), ("figure5b", "values"), ("figure6", "sweeps")])
def test_a_plan_without_any_result_still_makes_its_figures(plan: str, figure: str, tmp_path: Path) -> None:
    assert figure in load_plan(plan).figures
    found = draw(figure, chosen(tmp_path / "empty", load_plan(plan)), tmp_path, plan)
    assert found is not None and {path.suffix for path in found.files} == {".png", ".svg", ".csv"}
    assert all(path.stat().st_size > (10 if path.suffix == ".csv" else 100) for path in found.files)


def test_curves_of_nothing_name_what_is_missing(tmp_path: Path) -> None:
    found = draw("curves", chosen(tmp_path / "empty"), tmp_path, "pair")
    assert found is not None and found.picture.alt == "Not measured: BP → DC*, BP → WC."


def test_figures_are_the_same_bytes_twice(swept: Path, tmp_path: Path) -> None:
    plan, files = replace(load_plan("figure6"), methods=("coworld", "beta2-10", "alpha-3")), []
    plan = replace(plan, arms={row: plan.arm(row) for row in plan.methods[1:]})
    for name in ("sweeps", "values"):
        for place in ("a", "b"):
            found = draw(name, chosen(swept, plan), tmp_path / place, "figure6")
            assert found is not None
            files.append({path.name: path.read_bytes() for path in found.files})
    assert files[0] == files[1] != files[2] == files[3]
