"""Latent maps and domain distances in reports, against numbers worked by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import domains, put, put_failed, result
from test_report_figures import readable

from coworld_bench.errors import UsageError
from coworld_bench.files import write_json
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting import report
from coworld_bench.reporting.figures.latents import GROUPS, NAMES, distances_in_words, draw, drawn, panels_of
from coworld_bench.reporting.figures.style import COLUMN, TEXT, our_style
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import read_store
from coworld_bench.reporting.tables.latents import distances_table

DOOR, BUTTON = "metaworld/door_close", "metaworld/button_press"
ALL = "data", "policy", "source"
PLAN = Plan(
    name="mapped",
    title="Mapped",
    quality="medium-replay",
    methods=("offline_dv2", "coworld", "dv2_finetune"),
    seeds={"quick": (0, 1)},
    cells=(Cell(DOOR, BUTTON),),
    figures=("latents",),
)


def chosen(runs: Path, plan: Plan = PLAN) -> Selection:
    return select(read_store(runs), plan, "quick")


def fill(runs: Path) -> None:
    """CoWorld has two seeds with a source, Offline DV2 one without; DV2 Finetune's result is older than the record."""
    put(runs, result("coworld", DOOR, 200.0, 0, BUTTON, domains=domains(0.1, 0.9, *ALL)))
    put(runs, result("coworld", DOOR, 100.0, 1, BUTTON, domains=domains(0.3, 1.0, *ALL)))
    put(runs, result("offline_dv2", DOOR, 10.0, domains=domains(-0.001, 0.5, "data", "policy")))
    put(runs, result("dv2_finetune", DOOR, 10.0, 0, BUTTON))


def test_distances_by_hand(tmp_path: Path) -> None:
    """0.1 and 0.3: 0.2 ± √0.02; 90 % and 100 %: 95 ± √50. Of one seed there is no spread; no source, no distance to it."""
    fill(tmp_path)
    table = distances_table(chosen(tmp_path))
    assert table is not None and table.title == "Domain distance · preset quick · 1 to 2 seeds (2 planned)"
    assert table.columns[3:5] == ("data – policy, MMD²", "data – policy, nearest") and "policy – source" in table.columns[8]
    assert table.rows == (
        ("Offline DV2", "BP → DC*", "1", "0.00", "50 %", "—", "—", "—", "—"),
        ("CoWorld", "BP → DC*", "2", *("0.20 ± 0.14", "95 ± 7 %") * 3),
    )


def test_of_an_older_result_the_file_beside_it_tells(tmp_path: Path) -> None:
    """Of a result that tells itself, the file beside it does not count."""
    fill(tmp_path)
    for path in tmp_path.glob("*/result.json"):
        write_json(path.parent / "domains.json", {"schema": 1, "run": "", "domains": domains(2.0, 0.75, "data", "policy")})
    table = distances_table(chosen(tmp_path))
    assert table is not None
    assert table.rows[2] == ("DV2 Finetune", "BP → DC*", "1", "2.00", "75 %", "—", "—", "—", "—")
    assert table.rows[1][3] == "0.20 ± 0.14"
    labels = [(panel.label, panel.found.words) for panel in panels_of(chosen(tmp_path)) if panel.found]
    only = "seed 0, the only one"
    assert labels == [("Offline DV2", only), ("CoWorld", "seed 1, lower median of 2"), ("DV2 Finetune", only)]
    write_json(path.parent / "domains.json", {"schema": 1})
    for damaged in tmp_path.glob("dv2_finetune*/domains.json"):
        damaged.write_text("{")
    with pytest.raises(UsageError, match=r"domains\.json is damaged"):
        chosen(tmp_path)


def test_a_report_shows_maps_with_the_table_of_distances(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    report([PLAN], tmp_path / "store", tmp_path / "out", formats=["md", "csv"])
    page = (tmp_path / "out" / "mapped-quick" / "mapped-quick.md").read_text()
    sections = [line for line in page.splitlines() if line.startswith("## ")]
    place = sections.index("## Latents of pictures, t-SNE · medium-replay · preset quick · 1 to 2 seeds (2 planned)")
    assert sections[place + 1].startswith("## Domain distance · ")
    assert "CoWorld on BP → DC* (seed 1, lower median of 2): data and policy: MMD² 0.30, nearest 100 %; data and" in page
    assert "Without a map: DV2 Finetune on BP → DC*: no latents recorded." in page
    with (tmp_path / "out" / "mapped-quick" / "mapped-quick-latents.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 + 3 * 3 and {row["seed"] for row in rows if row["method"] == "CoWorld"} == {"1"}
    assert [(row["group"], row["x"], row["y"]) for row in rows[-2:]] == [("source", "2", "1"), ("source", "3", "0.5")]
    (header, *_) = (tmp_path / "out" / "mapped-quick" / "mapped-quick-runs.csv").read_text().splitlines()
    assert "score" in header and not {"distances", "folder"} & set(header.split(","))
    report([replace(PLAN, figures=("curves",))], tmp_path / "store", tmp_path / "plain", formats=["md"])
    assert "Domain distance" not in (tmp_path / "plain" / "mapped-quick" / "mapped-quick.md").read_text()


def test_without_a_record_it_is_said_why(tmp_path: Path) -> None:
    """bc is not of the plan and has nothing to show: it is left out."""
    put(tmp_path, result("bc", DOOR, 10.0))
    put(tmp_path, result("offline_dv2", DOOR, 10.0))
    put_failed(tmp_path, "coworld", DOOR, 0, BUTTON)
    selection = chosen(tmp_path)
    found = drawn(selection, tmp_path / "out", "none")
    assert distances_table(selection) is None and found.tables == () and found.numbers and not found.numbers.rows
    assert found.picture.alt == (
        "Without a map: Offline DV2 on BP → DC*: no latents recorded; CoWorld on BP → DC*: failed; "
        "DV2 Finetune on BP → DC*: not measured."
    )
    with our_style():
        figure = draw(panels_of(selection), "Nothing")
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["no latents recorded", "failed", "not measured"]


def test_distances_in_words() -> None:
    assert distances_in_words(domains(0.1366, 0.914, "data", "policy")) == ["data and policy: MMD² 0.14, nearest 91 %"]
    assert [line.split(":")[0] for line in distances_in_words(domains(0.1, 0.9, *ALL))] == [
        "data and policy", "data and source", "policy and source",
    ]  # fmt: skip


def test_groups_are_told_apart_by_shape_and_by_colour() -> None:
    assert all(len({look[key] for look in GROUPS.values()}) == 3 for key in ("marker", "color"))
    assert set(NAMES) == set(GROUPS)


@pytest.mark.parametrize(("count", "width"), [(1, COLUMN), (2, TEXT), (7, TEXT), (7, COLUMN)])
def test_nothing_overlaps_or_is_cut_off(count: int, width: float, tmp_path: Path) -> None:
    """Maps in three columns, or fewer, of long names and all three distances; a legend of what occurs."""
    names = tuple(f"method{place}" for place in range(count))
    groups = ALL if count > 1 else ALL[:2]
    for place, name in enumerate(names):
        label = f"A method of a name so long that it takes three lines above a map two inches wide, whatever it says{place}"
        content = result(name, DOOR, 100.0, 0, BUTTON, label=label)
        put(tmp_path, content | {"domains": domains(0.1234, 0.987, *groups)})
    panels = panels_of(chosen(tmp_path, replace(PLAN, methods=(*names, "coworld"))))
    with our_style():
        figure = draw(panels, "Latents of pictures, t-SNE · medium-replay · preset quick · 3 seeds", width)
    readable(figure, width)
    (legend,) = figure.legends
    assert len(figure.axes) == count + 1 and len(legend.get_texts()) == len(groups)
    assert [len(axes.lines) for axes in figure.axes] == [len(groups)] * count + [0]
