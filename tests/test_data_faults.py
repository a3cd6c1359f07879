"""Processes killed while they collect and pack, bits that flip, disks that are full or closed, and two writers at once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_episodes import DATASET, card, played, several

from coworld_bench.benchmarks.faults import (
    contents,
    digests,
    flipped_bits,
    killed_collecting,
    killed_packing,
    killed_storing,
)
from coworld_bench.data.build import BESIDE, OURS, build, clear
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.layout import MANIFEST
from coworld_bench.data.staging import Staging
from coworld_bench.errors import UserError

TESTS = Path(__file__).parent
WHOLE = {"lost": 0, "holes": 0, "equal": True}
EPISODES = 6


def test_a_collector_that_is_killed_loses_no_episode(tmp_path: Path) -> None:
    found = killed_storing(tmp_path, 20, random.Random(1), EPISODES)
    assert found["at work"] >= 10 and found.items() >= WHOLE.items()


def test_a_packer_that_is_killed_leaves_nothing_that_can_be_read_but_is_not_whole(tmp_path: Path) -> None:
    found = killed_packing(tmp_path, 30, random.Random(2), EPISODES)
    assert found["at work"] >= 10 and found.items() >= WHOLE.items()


@pytest.mark.parametrize("removed", range(6))
def test_remains_that_were_half_removed_are_known_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    """A build is killed that had removed so many files and folders of a killed one."""
    folder = build(several(), tmp_path / "data", card())
    (folder / ".README.md.77.partial").write_text("half")
    (folder / MANIFEST).unlink()
    left = [removed]

    def cut(remove: Callable[..., None], *given: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        remove(*given, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        unlink = Path.unlink
        patched.setattr(shutil, "rmtree", partial(cut, shutil.rmtree))
        patched.setattr(Path, "unlink", lambda *given, **named: cut(unlink, *given, **named))
        clear(folder)
    build(several(), folder, card())
    assert contents(folder) == contents(build(several(), tmp_path / "other", card()))
    assert {path.name for path in folder.iterdir()} <= OURS | BESIDE


def test_collect_goes_on_to_the_same_dataset(tmp_path: Path) -> None:
    found = killed_collecting(tmp_path, 4, random.Random(3))
    assert found["at work"] >= 1 and found.items() >= WHOLE.items()


def test_every_flipped_bit_is_found_and_none_is_read_as_data(tmp_path: Path) -> None:
    found = flipped_bits(tmp_path / "data", 200, random.Random(4), 2)
    assert (found["found"], found["silent"]) == (200, 0) and 150 <= found["refused"] <= 200


def test_what_was_read_is_told_apart(tmp_path: Path) -> None:
    """The digests that decide about `silent`: equal for the same data however it is read, and else not."""
    dataset = open_dataset(build(several(), tmp_path / "one", card()))
    assert digests(dataset.load("ram")) == digests(dataset.load("packed"))
    other = several()
    other[2].image[5, 3, 3, 1] ^= 1  # type: ignore[index]
    changed = open_dataset(build(other, tmp_path / "two", card()))
    assert [a == b for a, b in zip(digests(changed.load()), digests(dataset.load()), strict=True)] == [True] * 3 + [False]


# A disk of its own: full, or closed for writing

PREPARE = (
    "mount -t tmpfs -o size={size}k tmpfs {disk} && cp -r {given}/. {disk} && mount -o remount,{mode},size={size}k {disk}"
)
BUILD = """
import sys
from pathlib import Path
from made_episodes import card, played
from coworld_bench.data.build import BESIDE, OURS, build, clear
from coworld_bench.data.layout import MANIFEST
from coworld_bench.data.staging import Staging
from coworld_bench.cli.app import fail
from coworld_bench.errors import about_file
disk = Path(sys.argv[1])
try:
    if sys.argv[2] == "build":
        build((played(number, 400) for number in range(400)), disk / "new", card())
    elif sys.argv[2] == "again":
        build((played(number, 400) for number in range(400)), disk / "here", card(), force=True)
    else:
        with Staging(disk / "staging") as staging:
            for number in range(2, 400):
                staging.add(played(number, 400))
except OSError as error:
    sys.exit(fail(about_file(error), 1, False))
"""


def on_a_disk(given: Path, disk: Path, work: str, size: int, mode: str) -> str:
    """What `work` says on a small disk with a copy of `given`; afterwards what is on it lies in `given`.after."""
    disk.mkdir()
    after = given.with_suffix(".after")
    script = PREPARE.format(size=size, disk=disk, given=given, mode=mode)
    script += f' && {{ "{sys.executable}" -c "$CODE" {disk} {work}; code=$?; cp -r {disk} {after}; exit $code; }}'
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    alone = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    environment = os.environ | {"PYTHONPATH": path, "CODE": BUILD}
    done = subprocess.run([*alone, "sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no disk of its own to be had here: {done.stderr.strip()}")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A dataset and a collection that is going on."""
    folder = tmp_path / "given"
    build(several(), folder / "here", card())
    with Staging(folder / "staging") as staging:
        staging.add(played(0, 400))
        staging.add(played(1, 400))
    return folder


@pytest.mark.parametrize("work", ["build", "again", "collect"])
@pytest.mark.parametrize(("size", "mode", "reason"), [(700, "rw", "no space left"), (4000, "ro", "read-only file system")])
def test_a_disk_that_takes_no_more_is_one_sentence_and_costs_nothing(
    work: str, size: int, mode: str, reason: str, given: Path, tmp_path: Path
) -> None:
    said = on_a_disk(given, tmp_path / "disk", work, size, mode)
    assert said.startswith("error: ") and reason in said and len(said.splitlines()) == 1
    after = given.with_suffix(".after")
    assert contents(after / "here") == contents(given / "here")
    assert len(list(Staging(after / "staging", read_only=True))) >= 2
    assert not (after / "new/manifest.json").exists()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Staging(tmp_path / DATASET), pytest.raises(UserError, match="is being written by process"):
        build(several(), tmp_path / DATASET, card())
