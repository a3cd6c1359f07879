"""Other libraries read a dataset: the three example scripts, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_episodes import card
from made_points import POINT, mixed_episodes

from coworld_bench.data.build import build
from coworld_bench.data.dataset import open_dataset

ROOT = Path(__file__).resolve().parent.parent
SAYS = {
    "minari": [
        "coworld/toy/point/medium-replay-smoke-v0, 4 episodes, 40 steps",
        "'image': (11, 64, 64, 3)",
        "shows ['image', 'state']",
    ],
    "torchrl": ["40 decisions in 4 episodes", "(4, 8, 3, 64, 64), (4, 8, 2)"],
    "d3rlpy": ["40 decisions in 4 episodes", "update 2: observations (8, 3, 64, 64)"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of ten decisions that were played."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "toy/point/medium-replay-smoke-v0"
    made = open_dataset(build(mixed_episodes(POINT, 4), folder, card(env_spec=POINT.to_dict())))
    assert made.lengths.tolist() == [11] * 4
    return home


@pytest.mark.parametrize("library", SAYS)
def test_the_example_reads_the_dataset(library: str, home: Path, tmp_path: Path) -> None:
    variables = {"COWORLD_BENCH_DATA": str(home), "MINARI_DATASETS_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / f"examples/read_with_{library}.py", "toy/point/medium-replay-smoke"],
        cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in SAYS[library]:
        assert words in done.stdout, done.stdout
