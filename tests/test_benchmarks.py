"""What an update asks of the machine, and the benchmarks at their smallest: counts are tests, times are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coworld_bench.benchmarks import data, training
from coworld_bench.benchmarks.counting import count
from coworld_bench.cli.app import main

NARROW = {  # launches depend on rows and layers, not on widths
    "model.depth": "1", "model.units": "8", "model.hidden": "8", "model.deter": "8", "model.stoch": "4",
    "batch.size": "2", "behaviour.starts": "4",
}  # fmt: skip


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.SIZES, "P", ("paper", NARROW))


def counted(size: str, arm: str) -> dict[str, float]:
    update = training.make_update(size, arm)
    assert update is not None
    update()
    return count(update)


def test_an_update_of_paper_length_launches_few_kernels_and_never_waits(narrow: None) -> None:
    """50 rows of observation and 14 of imagination, eager; fusing and graphs come on top."""
    fast, plain, released = (counted("P", arm) for arm in ("fast", "plain", "released"))
    assert fast["synchronisations"] == 0
    assert fast["launches"] <= 3400
    assert fast["launches"] < 0.55 * plain["launches"]
    assert released["synchronisations"] > 100 and released["launches"] > plain["launches"]


def test_the_quick_update_never_waits_either() -> None:
    assert counted("quick", "fast")["synchronisations"] == 0


def test_training_is_measured_in_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.SIZES, "P", ("paper", NARROW | {"batch.length": "6"}))
    found = training.measure(["P"], ["released", "fast"], repeats=1)
    assert [row["arm"] for row in found["rows"]] == ["released", "fast"]
    assert all(row["cpu_ms"] > 0 and row["tflop"] > 0 and row["peak_memory_mb"] > 50 for row in found["rows"])


def test_the_command_prints_and_stores_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "data", "--repeats", "1", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "data.json").read_text())
    assert printed["rows"] == stored["rows"] and stored["machine"]["cpu"]
    assert "this code" in (tmp_path / "data.md").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        ["bench", "rendr"],
        ["bench", "data", "--sizes", "S"],
        ["bench", "data", "--peer", "anywhere"],
        ["bench", "train", "--sizes", "Z"],
        ["bench", "train", "--arms", "fats"],
        ["bench", "train", "--arms", "peer"],
    ],
)
def test_wrong_benchmarks_are_refused(wrong: list[str], tmp_path: Path) -> None:
    assert main([*wrong, "--out", str(tmp_path)]) == 2


def test_a_released_batch_has_the_shapes_of_ours() -> None:
    episodes = data.as_dictionary([data.drawn_episode(seed) for seed in range(2)])
    batch = data.released_batch(episodes, 3, 5)
    assert batch["image"].shape == (3, 5, 64, 64, 3) and batch["action"].shape == (3, 5, 4)
