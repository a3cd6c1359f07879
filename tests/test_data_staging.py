"""What a collector leaves behind: whole episodes, one writer, and nothing else, whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_episodes import assert_same, played, several

from coworld_bench.data import staging as module
from coworld_bench.data.staging import Staging
from coworld_bench.errors import DatasetError, UserError

TESTS = Path(__file__).resolve().parent
COLLECTOR = """
import sys
from pathlib import Path
from made_episodes import played
from coworld_bench.data.staging import Staging
staging = Staging(Path(sys.argv[1]))
for number in range(10_000):
    staging.add(played(number, 60))
    print(number, flush=True)
"""


def test_episodes_come_back_as_they_went_in(tmp_path: Path) -> None:
    episodes = [*several(), played(9, 5, pictures=False, terminal=True)]
    with Staging(tmp_path) as staging:
        for episode in episodes:
            staging.add(episode)
        assert len(staging) == 5 and staging.rows == sum(episode.rows for episode in episodes)
    with Staging(tmp_path) as staging:
        for given, expected in zip(staging.episodes(), episodes, strict=True):
            assert_same(given, expected)
        assert staging.returns == [episode.ret for episode in episodes]


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.add(played(0, 5))
    with pytest.raises(UserError, match=f"being written by process {os.getpid()} on .*; wait for it"):
        Staging(tmp_path)
    reader = Staging(tmp_path, read_only=True)
    assert len(reader.episodes()) == 1
    with pytest.raises(AssertionError, match="opened to read"):
        reader.add(played(1, 5))
    staging.close()
    Staging(tmp_path).close()


def test_truncate_drops_the_last_episodes_for_good(tmp_path: Path) -> None:
    with Staging(tmp_path) as staging:
        for number in range(4):
            staging.add(played(number, 10))
        staging.truncate(2)
        staging.add(played(7, 12))
    with Staging(tmp_path) as staging:
        assert [int(episode.state[0, 0]) for episode in staging] == [0, 1, 7]
    assert len(list(tmp_path.glob("*.npz"))) == 3


@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_an_episode_that_differs_from_its_journal_line_is_refused(tmp_path: Path, fault: str) -> None:
    with Staging(tmp_path) as staging:
        staging.add(played(0, 10))
    path = next(tmp_path.glob("*.npz"))
    if fault == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with Staging(tmp_path) as staging, pytest.raises(DatasetError, match=f"{path.name} is {fault}"):
        staging.episodes()


def test_a_journal_that_lost_a_line_is_refused(tmp_path: Path) -> None:
    with Staging(tmp_path) as staging:
        for number in range(3):
            staging.add(played(number, 5))
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + lines[2])
    with pytest.raises(DatasetError, match="lost lines"):
        Staging(tmp_path)


def test_a_file_without_a_journal_line_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    staging = Staging(tmp_path)
    staging.add(played(0, 5))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "append_line", killed)
        staging.add(played(1, 5))
    staging.close()
    (tmp_path / ".000002-6.npz.1.partial").write_bytes(b"half")
    journal = tmp_path / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"index": 1, "fi')  # a line torn in the middle
    with Staging(tmp_path) as resumed:
        assert len(resumed) == 1 and len(list(tmp_path.glob("*.npz"))) == 1 and not list(tmp_path.glob(".*"))
        resumed.add(played(2, 5))
    with Staging(tmp_path) as resumed:
        assert [int(episode.state[0, 0]) for episode in resumed] == [0, 2]


def test_a_collector_killed_at_any_moment_leaves_whole_episodes(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", COLLECTOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for _ in range(20):
            seen = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    with Staging(tmp_path) as staging:  # the lock of the dead writer stops nobody
        assert len(staging) > seen
        for number, episode in enumerate(staging):
            assert_same(episode, played(number, 60))
    assert not list(tmp_path.glob(".*.partial"))


def test_metadata_that_is_not_plain_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    with Staging(tmp_path) as staging, pytest.raises(TypeError):
        staging.add(played(0, 5, thing=object()))
    assert not list(tmp_path.glob("*.npz"))
