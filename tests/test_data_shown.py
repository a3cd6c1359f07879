"""What `data list`, `show`, `stats`, `preview` and `verify --replay` tell of a dataset."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from html_checks import check
from made_episodes import DATASET, card, played, several
from PIL import Image

from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.data.build import build
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.integrity import verify
from coworld_bench.data.page import write_preview
from coworld_bench.data.preview import Pictures, animation
from coworld_bench.data.replaying import Demands, Replayed, demands, worst_psnr
from coworld_bench.data.stats import histogram, statistics
from coworld_bench.errors import DATASET as DAMAGED
from coworld_bench.errors import USAGE, UsageError
from coworld_bench.provenance import packages

EPISODES = [*several(), played(4, 2100)]
NAME = DATASET.removesuffix("-v0")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    build(EPISODES, home / DATASET, card(has_success=True))
    return home


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    return open_dataset(NAME, home)


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A collected dataset of toy/point, with a moved window and noisy actions."""
    home = tmp_path_factory.mktemp("point")
    yield collect("toy/point", preset="smoke", reference_return=3, options={"env.action_noise": "0.2"}, data=home).folder


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["data", *words]) == code
    return capsys.readouterr().out


def test_show_tells_what_it_is_and_the_evidence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quality = card()["quality"] | {"fired": False, "reference_how": "by hand"}
    build(
        several(),
        home / "toy/point/medium-expert-smoke-v0",
        card(quality=quality, dataset_id="toy/point/medium-expert-smoke-v0"),
    )
    text = said(capsys, "show", "toy/point/medium-expert-smoke", "--data", str(home))
    found = dict(re.split(r" {2,}", line, maxsplit=1) for line in text.splitlines())
    assert found["evidence"].startswith("at 100 env steps and 5 updates, evaluation 1: mean 1.5 against the threshold 3.0")
    assert found["rule met"] == "no" and found["reference return"] == "9 (by hand)"
    mean = np.mean([episode.ret for episode in several()])
    assert found["normalised score"].startswith(f"{100 * mean / 9:.1f} ")
    assert found["env steps"] == str(14 + 15 + 16 + 40) and found["versions"] == "mujoco 3.3.0"
    document = json.loads(said(capsys, "show", "toy/point/medium-expert-smoke", "--data", str(home), "--json"))
    assert document["dataset"]["fingerprint"] == open_dataset("toy/point/medium-expert-smoke", home).fingerprint


def test_list_is_list_datasets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "list", "--data", str(home))
    assert main(["list", "datasets", "--data", str(home)]) == 0
    assert capsys.readouterr().out == rows and DATASET in rows


def test_statistics_by_hand(dataset: Dataset) -> None:
    found = statistics(dataset)
    returns = np.array([episode.ret for episode in EPISODES])
    rewards = np.concatenate([episode.reward[1:] for episode in EPISODES])
    actions = np.concatenate([episode.action[1:] for episode in EPISODES])
    assert found["returns"]["mean"] == pytest.approx(returns.mean(), rel=1e-6)
    assert found["returns"]["median"] == pytest.approx(np.median(returns), rel=1e-6)
    assert found["returns in order of collection"] == pytest.approx(returns.tolist(), rel=1e-6)
    assert found["rewards"]["zero"] == pytest.approx((rewards == 0).mean(), abs=1e-4)
    assert found["rewards"]["sd"] == pytest.approx(rewards.std(), rel=1e-5)
    assert sum(found["rewards"]["histogram"]["counts"]) == len(rewards) == found["lengths"]["mean"] * 5
    assert [row["at a bound"] for row in found["actions"]] == pytest.approx((abs(actions) > 0.99).mean(0), abs=1e-4)
    assert found["success"] == {"episodes": 0.4}
    assert found["by policy"]["random"] == {"episodes": 1, "mean": round(returns[0], 4)}
    assert found["by policy"]["agent"]["episodes"] == 4
    pixels = np.concatenate([episode.image for episode in EPISODES if episode.image is not None])
    assert found["pictures"]["mean by channel"] == pytest.approx(pixels.mean((0, 1, 2)), rel=0.1)
    stored = sum(path.stat().st_size for path in (dataset.folder / "data.zarr/frames/image/c").rglob("*") if path.is_file())
    assert found["pictures"]["bytes on disk"] == stored


def test_a_histogram_of_one_value_is_one_bar() -> None:
    found = histogram(np.full(7, 2.5))
    assert sorted(found["counts"])[-1] == 7 == sum(found["counts"]) and found["from"] < 2.5 < found["to"]


def test_the_commands_print(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "stats", NAME, "--data", str(home))
    assert re.search(r"^returns +mean ", text, re.M) and re.search(r"^actions 1 ", text, re.M) and "█" in text
    files = said(capsys, "preview", NAME, "--data", str(home), "--episodes", "0-2", "--out", str(tmp_path)).split()
    assert [Path(name).name for name in files] == ["sheet.png", "episodes.gif", "index.html"]
    assert main(["data", "preview", NAME, "--data", str(home), "--episodes", "9", "--out", str(tmp_path)]) == USAGE
    assert "has episodes 0 to 4; got 9" in capsys.readouterr().err
    assert main(["data", "preview", NAME, "--data", str(home), "--episodes", "x"]) == USAGE
    assert "episodes are written 0,1,2 or 0-2" in capsys.readouterr().err


def test_a_page_needs_nothing_but_itself(dataset: Dataset, tmp_path: Path) -> None:
    write_preview(dataset, tmp_path, [0, 3])
    page = (tmp_path / "index.html").read_text()
    check(page)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page) and "http" not in page.replace("http-equiv", "")
    assert page.count("<figcaption>") == 2 and "episode 3, return" in page and dataset.fingerprint in page
    assert page.count("<circle") == 5
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * 16


def test_an_animation_plays_every_row(dataset: Dataset) -> None:
    pictures = Pictures(dataset.folder)
    with Image.open(io.BytesIO(animation(pictures, [0, 3], fps=10))) as played_back:
        shown = []
        for row in range(played_back.n_frames):
            played_back.seek(row)
            shown.append(np.asarray(played_back.convert("RGB")))
    assert len(shown) == 41 and played_back.info["duration"] == 100
    long = [picture[14:46, 36:68] for picture in shown]  # episode 3, twice as large
    expected = np.asarray(EPISODES[3].image).repeat(2, 1).repeat(2, 2)
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(long, expected, strict=True)) < 12
    short = [picture[14:46, :32] for picture in shown]
    assert all(np.array_equal(short[14], later) for later in short[15:]) and not np.array_equal(short[0], short[14])


def test_a_dataset_without_pictures_has_a_page_too(tmp_path: Path) -> None:
    dataset = open_dataset(build(several(pictures=False), tmp_path / "states", card()))
    assert statistics(dataset)["pictures"] is None
    assert write_preview(dataset, tmp_path / "out") == [tmp_path / "out/index.html"]


def test_columns_are_those_of_the_episodes(dataset: Dataset) -> None:
    columns = dataset.columns()
    for name in ("state", "action", "reward", "success"):
        np.testing.assert_array_equal(columns[name], np.concatenate([getattr(episode, name) for episode in EPISODES]))
    assert np.flatnonzero(columns["first"]).tolist() == [0, *np.cumsum([episode.rows for episode in EPISODES])[:-1]]


# Replay


def test_a_collected_dataset_comes_out_again_to_the_last_bit(point: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Noise on actions included, which the environment draws."""
    report = verify(point, full=False, replay=3)
    replays = [check for check in report.checks if check.check == "replay"]
    assert [check.detail for check in replays] == ["rewards the same, pictures the same to the last bit"] * 3
    assert replays[0].file == "episode 0" and report.ok
    assert "replay" in said(capsys, "verify", str(point), "--quick", "--replay", "1")


@pytest.mark.parametrize("change", ["reward", "image", "success", "seed"])
def test_what_does_not_come_out_again_is_found(change: str, point: Path, tmp_path: Path) -> None:
    original = open_dataset(point)
    episodes = list(original)
    array = getattr(episodes[1], change, None)
    if array is None:
        episodes[1].meta["seed"] += 1
    else:
        array[5] += 1
    folder = build(episodes, tmp_path / "changed", original.card)
    assert verify(folder).ok, "as a dataset it is whole"
    faults = verify(folder, replay=original.episodes).faults
    assert [(fault.file, fault.check) for fault in faults] == [("episode 1", "replay")]
    assert "the last bit was asked for" in faults[0].detail


def test_another_simulator_or_renderer_lowers_what_is_asked(point: Path, tmp_path: Path) -> None:
    dataset = open_dataset(point)
    assert demands(dataset) == Demands(0.0, math.inf, "")
    made = dataset.card["provenance"]
    moved = made | {"packages": packages() | {"mujoco": "2.0"}}
    drawn = made | {"gl": {"backend": "egl", "renderer": "another", "version": "1"}}
    for number, (provenance, expected) in enumerate([(moved, (1e-3, 30.0)), (drawn, (0.0, 30.0)), ({}, (1e-3, 30.0))]):
        other = open_dataset(build(dataset, tmp_path / str(number), dataset.card | {"provenance": provenance}))
        asked = demands(other)
        assert (asked.reward_error, asked.psnr) == expected and asked.because
        assert "at least 30 dB" in asked.check(Replayed(0, 0.0, True, 40.0))
        with pytest.raises(ValueError, match="at least 30 dB was asked for"):
            asked.check(Replayed(0, 0.0, True, 29.0))


def test_pictures_that_were_resized_need_not_come_out_to_the_last_bit(point: Path, tmp_path: Path) -> None:
    dataset = open_dataset(point)
    asked = demands(open_dataset(build(dataset, tmp_path / "resized", dataset.card | {"resized_from": 32})))
    assert asked == Demands(0.0, 30.0, "its pictures were resized from 32")


def test_psnr_by_hand() -> None:
    stored = np.zeros((3, 4, 4, 3), np.uint8)
    again = stored.copy()
    assert worst_psnr(stored, again) == math.inf
    again[1] = 10
    again[2, 0, 0, 0] = 1
    assert worst_psnr(stored, again) == pytest.approx(10 * math.log10(255**2 / 100))


def test_wrong_words_are_answered(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", NAME, "--data", str(home), "--quick", "--full"]) == USAGE
    assert main(["data", "verify", f"{NAME}@first=0.5", "--data", str(home)]) == USAGE
    assert f"name it without its part: {NAME}" in capsys.readouterr().err
    assert main(["data", "show", "toy/point/medium-replai", "--data", str(home)]) == DAMAGED
    capsys.readouterr()
    assert main(["data", "verfy", NAME]) == USAGE
    assert "did you mean verify?" in capsys.readouterr().err.lower().replace("'", "")
    with pytest.raises(UsageError, match="has episodes 0 to 4"):
        write_preview(open_dataset(NAME, home), home / "out", [-1])
