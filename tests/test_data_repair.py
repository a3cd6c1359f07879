"""A damaged dataset is built anew from its longest run of intact episodes, and says what it has lost."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from made_episodes import assert_same, card, played, several

from coworld_bench.cli import main
from coworld_bench.data.build import build
from coworld_bench.data.dataset import list_datasets, open_dataset
from coworld_bench.data.integrity import verify
from coworld_bench.data.repair import Repaired, repair
from coworld_bench.data.writer import StoreWriter
from coworld_bench.errors import DATASET, DatasetError, UserError

EPISODES = [*several(), played(4, 2100), played(5, 30, terminal=True)]
IMAGES = "data.zarr/frames/image/c"
COLUMNS = sorted(f"data.zarr/episodes/{name}/c/0" for name in ("start", "ret", "success", "ckpt", "split"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(EPISODES, tmp_path_factory.mktemp("data") / "original", card(has_success=True))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "toy/point/medium-replay-smoke-v0")


def spoil(path: Path, position: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def repaired(folder: Path, kept: int) -> Repaired:
    """The repair of a dataset, of which these many episodes are left, each as it was."""
    found = repair(folder)
    assert (found.kept, found.lost) == (kept, len(EPISODES) - kept)
    report = verify(folder)
    assert report.ok, report.faults
    for episode, expected in zip(open_dataset(folder), EPISODES[:kept], strict=True):
        assert_same(episode, expected)
    return found


def test_an_intact_dataset_is_left_alone(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    found = repair(copy)
    assert found.damaged is None and found.fingerprint == open_dataset(copy).fingerprint
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


@pytest.mark.parametrize("name", ["README.md", "journal.jsonl", "manifest.json", "data.zarr/frames/discount/c/0", *COLUMNS])
def test_what_can_be_made_again_costs_no_episode(name: str, original: Path, copy: Path) -> None:
    """And the dataset is the same one, by its fingerprint."""
    spoil(copy / name)
    found = repaired(copy, kept=6)
    assert found.fingerprint == open_dataset(original).fingerprint and not found.forgotten
    assert "repaired" not in open_dataset(copy).card


@pytest.mark.parametrize("header", ["frames/image", "frames/reward", "episodes/length"])
def test_a_damaged_header_costs_nothing(header: str, copy: Path) -> None:
    (copy / "data.zarr" / header / "zarr.json").write_text("{")
    repaired(copy, kept=6)


def test_damaged_pictures_end_what_is_kept(original: Path, copy: Path) -> None:
    """The second shard begins inside episode 4."""
    spoil(copy / IMAGES / "1/0/0/0", 100)
    found = repaired(copy, kept=4)
    assert found.damaged is not None and open_dataset(original).fingerprint == found.before != found.fingerprint
    told = open_dataset(copy).card["repaired"]
    assert told == {"from": found.before, "episodes_lost": 2, "forgotten": []}
    assert [fault for fault in found.faults if IMAGES in fault]


def test_a_lost_shard_ends_what_is_kept(copy: Path) -> None:
    (copy / IMAGES / "1/0/0/0").unlink()
    repaired(copy, kept=4)


def test_a_lost_column_of_rows_ends_what_is_kept(copy: Path) -> None:
    spoil(copy / "data.zarr/frames/reward/c/1")
    repaired(copy, kept=4)


def test_wrong_pictures_behind_intact_checksums_end_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of whoever wrote them: from the second shard on, which begins inside episode 4, they are in another order."""
    write = StoreWriter._write_shard
    with monkeypatch.context() as patch:
        patch.setattr(
            StoreWriter, "_write_shard", lambda writer, rows: write(writer, rows[:: -1 if writer._written else 1])
        )
        folder = build(EPISODES, tmp_path / "wrong", card(has_success=True))
    assert [fault.check for fault in verify(folder).faults] == ["sha256"]
    repaired(folder, kept=4)


def test_what_cannot_be_made_again_is_said_to_be_forgotten(copy: Path) -> None:
    spoil(copy / "data.zarr/episodes/seed/c/0")
    found = repair(copy)
    assert (found.kept, found.lost, found.forgotten) == (6, 0, ["seed"])
    again = open_dataset(copy)
    assert again.card["repaired"]["forgotten"] == ["seed"]
    assert again.episode(3).meta == EPISODES[3].meta | {"seed": 0}


def test_names_of_policies_are_not_taken_from_what_changed(copy: Path) -> None:
    path = copy / "data.zarr/zarr.json"
    path.write_text(path.read_text().replace('"random"', '"expert"'))
    assert repair(copy).forgotten == ["the names of policies, and metadata without a column"]
    assert open_dataset(copy).episode(0).meta["policy"] == ""


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["data.zarr/episodes/length/c/0"], "length of its episodes is lost"),
        (["data.zarr/episodes/sha256/c/0/0"], "sha256 of its episodes is lost"),
        ([f"{IMAGES}/0/0/0/0"], "no episode of .* is intact"),
        (["manifest.json", "data.zarr/zarr.json"], "neither its manifest nor data.zarr says what it was"),
    ],
)
def test_what_cannot_be_repaired_is_left_as_it_was(names: list[str], sentence: str, copy: Path) -> None:
    for name in names:
        spoil(copy / name, 0 if name.endswith("json") else 100 if "image" in name else -9)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(DatasetError, match=sentence):
        repair(copy)
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_damaged_files_are_kept_and_not_taken_for_a_dataset(copy: Path, tmp_path: Path) -> None:
    spoil(copy / "README.md")
    found = repair(copy)
    assert found.damaged is not None and (found.damaged / "manifest.json").is_file()
    assert [each["id"] for each in list_datasets(tmp_path)] == ["toy/point/medium-replay-smoke-v0"]
    spoil(copy / "README.md")
    with pytest.raises(UserError, match="the damaged files of an earlier repair"):
        repair(copy)


def test_the_command_says_what_was_lost(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "toy/point/medium-replay-smoke"
    spoil(copy / IMAGES / "1/0/0/0", 100)
    assert main(["data", "verify", name, "--data", str(tmp_path)]) == DATASET
    assert "FAILED  sha256" in capsys.readouterr().out
    assert main(["data", "repair", name, "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "2 of 6 episodes lost, from number 4; 4 kept, each compared with its SHA-256" in told
    assert "it is another dataset now" in told
    assert main(["data", "show", name, "--data", str(tmp_path)]) == 0
    assert re.search(r"^repaired +lost 2 episodes from the end; its fingerprint was", capsys.readouterr().out, re.M)
    assert "**Repaired**: lost 2 episodes from the end" in (copy / "README.md").read_text()
    assert main(["data", "repair", name, "--data", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repaired"]["lost"] == 0
