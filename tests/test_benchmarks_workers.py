"""The benchmarks of collecting and evaluating, on `toy`: which rows they have; what they measure decides nothing here."""

from __future__ import annotations

from coworld_bench.benchmarks import collecting, evaluating


def test_collecting_has_a_row_per_work_and_number_of_processes() -> None:
    found = collecting.measure("toy/point", "smoke", (1, 2), repeats=1, options={})
    asked = [(row["work"], row["processes"]) for row in found["rows"]]
    assert asked == [("learning", 1), ("learning", 2), ("random actions", 1), ("random actions", 2)]
    assert all(row["env_steps_per_s"] == row["frames_per_s"] > 0 for row in found["rows"])
    assert "episodes of 50 env steps of 1 frame(s)" in found["notes"][0]


def test_evaluating_compares_the_same_episodes() -> None:
    found = evaluating.measure("toy/point", "smoke", (1, 2), episodes=2, repeats=1, options={})
    assert [row["processes"] for row in found["rows"]] == [1, 2] and found["rows"][0]["ratio"] == 1
    assert all(row["cpu_s"] >= 0 and row["wall_s"] > 0 for row in found["rows"])
    assert found["notes"][-1] == "Every episode's return, length, success and values were the same in all arms."
