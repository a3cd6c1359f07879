"""Rollout strips in reports: which seed is shown, what is said of none, and that nothing is blurred or hidden."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_samples import domains, put, put_failed, put_rollout, result
from test_report_figures import drawn_texts, overlap, readable

from coworld_bench.errors import UsageError
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting import report
from coworld_bench.reporting.figures.one_seed import one_seed
from coworld_bench.reporting.figures.rollouts import block_of, draw, drawn
from coworld_bench.reporting.figures.style import TEXT, balanced, our_style
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import read_store

DOOR, WINDOW, BUTTON = "metaworld/door_close", "metaworld/window_close", "metaworld/button_press"
PLAN = Plan(
    name="looked",
    title="Looked at",
    quality="medium-replay",
    methods=("offline_dv2", "dv2_finetune", "coworld"),
    seeds={"quick": (0, 1, 2)},
    cells=(Cell(DOOR, BUTTON), Cell(WINDOW, BUTTON)),
    figures=("rollouts",),
)
COLOURS = [(255, 30 * place, 0) for place in range(8)]


def chosen(runs: Path, plan: Plan = PLAN) -> Selection:
    return select(read_store(runs), plan, "quick")


def fill(runs: Path) -> None:
    """Offline DV2 has three seeds on door_close, of which the median's strip is stored; DV2 Finetune has a result and none;
    CoWorld failed. bc is not of the plan. Nothing was done on window_close."""
    for seed, score in enumerate((300.0, 100.0, 200.0)):
        folder = put(runs, result("offline_dv2", DOOR, score, seed)).parent
        if seed != 1:
            put_rollout(folder, 1000.4 + seed, seed == 2, COLOURS)
    put(runs, result("dv2_finetune", DOOR, 50.0, 0, BUTTON))
    put_failed(runs, "coworld", DOOR, 0, BUTTON)
    put_rollout(put(runs, result("bc", DOOR, 10.0), folder="runs/renamed").parent, 12.0, None, COLOURS)


@pytest.mark.parametrize(
    ("scores", "has", "words"),
    [
        ([5.0, 1.0, 3.0], {0, 1, 2}, "seed 2, median of 3"),
        ([5.0, 1.0, 3.0], {0}, "seed 0, rank 1 of 3 by score"),
        ([5.0, 1.0, 3.0], {0, 1}, "seed 1, rank 3 of 3 by score"),
        ([5.0, 1.0], {0, 1}, "seed 1, lower median of 2"),
        ([4.0, 3.0, 2.0, 1.0], {0, 1, 3}, "seed 3, rank 4 of 4 by score"),
        ([5.0], {0}, "seed 0, the only one"),
        ([5.0, 1.0], set(), None),
    ],
)
def test_the_seed_that_is_shown(scores: list[float], has: set[int], words: str | None, tmp_path: Path) -> None:
    for seed, score in enumerate(scores):
        put(tmp_path, result("offline_dv2", DOOR, score, seed))
    measured = chosen(tmp_path).measurements["offline_dv2", PLAN.cells[0]]
    found = one_seed(measured, lambda run: run["seed"] if run["seed"] in has else None)
    assert (found.words if found else None) == words
    assert found is None or found.words.startswith(f"seed {found.shown},")


def test_what_a_report_says_of_rollouts(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    report([PLAN], tmp_path / "store", tmp_path / "out", formats=["md"])
    page = (tmp_path / "out" / "looked-quick" / "looked-quick.md").read_text()
    assert "## Rollouts, one episode of the final policy · medium-replay · preset quick · 1 to 3 seeds (3 planned)" in page
    assert (
        "![Pictures of episodes. BP → DC*: Offline DV2 (seed 2, median of 3) return 1002, success; "
        "DV2 Finetune: no rollout stored; CoWorld: failed; BC (seed 0, the only one) return 12.0. "
        "BP → WC: Offline DV2: not measured; DV2 Finetune: not measured; CoWorld: not measured.]"
        "(looked-quick-rollouts.png)"
    ) in page
    with (tmp_path / "out" / "looked-quick" / "looked-quick-rollouts.csv").open() as file:
        first, second = csv.DictReader(file)
    run = "offline_dv2--metaworld-door_close--none--s2--quick00000"
    assert first == {
        "method": "Offline DV2", "target": DOOR, "source": BUTTON, "seed": "2", "run": run, "episode_seed": "800000000",
        "env_steps": "0 10 20 30 40 50 60 70", "return": "1002.4", "success": "true",
    }  # fmt: skip
    assert (second["method"], second["return"], second["success"]) == ("BC", "12", "")


def test_pictures_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Each pixel as two by two, none mixed with its neighbour; white lines hide at most 6 of 128 columns."""
    put_rollout(put(tmp_path, result("offline_dv2", DOOR, 1.0)).parent, 1.0, None, COLOURS)
    found = drawn(chosen(tmp_path, replace(PLAN, methods=("offline_dv2",))), tmp_path, "seen")
    pixels = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).reshape(-1, 3)
    counts = [int((pixels == colour).all(1).sum()) for colour in COLOURS]
    assert all(122 * 128 <= count <= 128 * 128 for count in counts), counts
    assert found.picture.svg.count(b"<image") == 1 and b"pixelated" in found.picture.svg


def test_what_is_missing_or_damaged(tmp_path: Path) -> None:
    """A description without its picture is no rollout; another picture than it describes is an error."""
    folder = put(tmp_path, result("offline_dv2", DOOR, 1.0)).parent
    put_rollout(folder, 1.0, None, COLOURS)
    picture = (folder / "rollout.png").read_bytes()
    (folder / "rollout.png").unlink()
    rows = block_of(chosen(tmp_path), PLAN.cells[0]).rows
    assert [row.found for row in rows] == [None] * 3 and rows[0].lack == "no rollout stored"
    (folder / "rollout.png").write_bytes(picture[:-1])
    with pytest.raises(
        UsageError, match=r"rollout\.png is not the picture .*`coworld-bench evaluate offline_dv2--.* --rollout`"
    ):
        block_of(chosen(tmp_path), PLAN.cells[0])


def test_titles_do_not_break_in_words() -> None:
    assert balanced("seeds of medium-replay are", 14) == ["seeds of", "medium-replay", "are"]
    assert balanced("aa bb-ccc d", 6) == ["aa", "bb-ccc", "d"]
    assert balanced("one two three four", 13) == ["one two", "three four"]
    assert balanced("unbreakable", 6) == ["unbrea", "kable"]


def test_without_results_it_is_said_of_every_cell(tmp_path: Path) -> None:
    put_failed(tmp_path, "coworld", DOOR, 0, BUTTON)
    found = drawn(chosen(tmp_path), tmp_path / "out", "none")
    assert found.picture.alt.count("not measured") == 5 and found.picture.alt.count("CoWorld: failed") == 1
    with our_style():
        figure = draw([block_of(chosen(tmp_path), cell) for cell in PLAN.cells], "Nothing")
    readable(figure, TEXT)


def test_nothing_overlaps_or_is_cut_off_of_ten_methods_on_two_cells(tmp_path: Path) -> None:
    """Names of two lines, returns of five digits, a row without a strip at the end: texts beside the pictures, steps below
    the last strip of each cell."""
    names = tuple(f"method{place}" for place in range(10))
    for place, name in enumerate(names):
        label = f"A method with a rather long name {place}"
        for target, seed in ((DOOR, 0), (WINDOW, 0), (WINDOW, 1), (WINDOW, 2)):
            folder = put(tmp_path, result(name, target, 100.0 * seed, seed, label=label)).parent
            if place < 9 and seed == 0:
                put_rollout(folder, 12345.6, False, COLOURS)
    selection = chosen(tmp_path, replace(PLAN, methods=names))
    with our_style():
        figure = draw([block_of(selection, cell) for cell in PLAN.cells], "A title " * 15)
    readable(figure, TEXT)
    strips = [axes.get_window_extent() for axes in figure.axes]
    steps = [str(10 * place) for place in range(8)]
    ticks = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes]
    assert ticks == [*[[]] * 8, steps, *[[]] * 8, steps]
    boxes = strips + [text.get_window_extent() for text in drawn_texts(figure)]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]


def test_the_same_store_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    put(tmp_path / "store", result("coworld", WINDOW, 1.0, 0, BUTTON, domains=domains(0.1, 0.9, "data", "policy")))
    ours = {
        path.name: path.read_bytes() for path in report([PLAN], tmp_path / "store", tmp_path / "a", figures=["latents"])
    }
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_report_rollouts import PLAN;"
        "from coworld_bench.reporting import report; report([PLAN], sys.argv[2], sys.argv[3], figures=['latents']);"
        "bad = {'torch', 'mujoco', 'gymnasium', 'sklearn', 'zarr'} & set(sys.modules); assert not bad, bad"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "store"), str(tmp_path / "b")]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "b" / "looked-quick").iterdir()}
    assert theirs == ours and {"looked-quick-rollouts.png", "looked-quick-latents.svg"} <= set(ours)
