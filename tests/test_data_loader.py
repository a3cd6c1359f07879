"""The loader: pictures that processes share, one budget, threads, where windows lie; the same batches throughout."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_episodes import card, played, several

from coworld_bench.bench.run import make_slots
from coworld_bench.data import dataset as reading
from coworld_bench.data import shared
from coworld_bench.data.budget import BUDGET, Budget
from coworld_bench.data.build import build
from coworld_bench.data.chunks import Shard
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.lock import WriterLock
from coworld_bench.data.memory import Batch, BatchStream, EpisodeMemory
from coworld_bench.data.shared import HEADER, MappedMemory, shared_file
from coworld_bench.data.stored import DecodedMemory, PackedMemory
from coworld_bench.data.windows import Windows
from coworld_bench.errors import NotUsable, UsageError

MIB = 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose ends fall before, on and after the end of a chunk, and one that lies in two shards."""
    return build([*several(), played(4, 2100), played(5, 3)], tmp_path_factory.mktemp("data") / "data", card())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COWORLD_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_same(given: Batch, expected: Batch) -> None:
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(given, name), array, err_msg=name)
        assert getattr(given, name).dtype == array.dtype


# Shared pictures


def test_shared_pictures_give_the_batches_of_decoded_ones(folder: Path, cache: Path) -> None:
    dataset = open_dataset(folder)
    ram, mapped = dataset.load("ram"), dataset.load("shared")
    assert isinstance(mapped, MappedMemory) and mapped.path == shared_file(dataset)
    assert [path.name for path in cache.iterdir()] == [mapped.path.name]  # neither a lock nor a half-made file
    assert mapped.path.stat().st_size == HEADER + dataset.rows * 16 * 16 * 3
    for batch, length in [(3, 4), (16, 16), (2, 2101)]:
        streams = [BatchStream(memory, 3, batch, length) for memory in (mapped, ram)]
        for k in [*range(10), 10**6]:
            assert_same(*(stream.at(k) for stream in streams))
    np.testing.assert_array_equal(mapped.array("image"), ram.array("image"))
    np.testing.assert_array_equal(mapped.returns, ram.returns)
    with pytest.raises(ValueError, match="read-only"):
        mapped.array("image")[0] = 0


def test_pictures_are_made_once_and_auto_takes_them_where_they_are(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(folder)
    assert isinstance(dataset.load(), DecodedMemory) and not cache.exists()
    dataset.load("shared")
    made = shared_file(dataset).stat().st_mtime_ns  # type: ignore[union-attr]
    monkeypatch.setattr(Dataset, "__iter__", lambda _: pytest.fail("it decodes again"))
    assert isinstance(open_dataset(folder).load(), MappedMemory)
    assert shared_file(dataset).stat().st_mtime_ns == made  # type: ignore[union-attr]


@pytest.mark.parametrize("place", ["fingerprint", "pictures", "end", "header"])
def test_a_damaged_file_is_made_again_and_never_read(folder: Path, cache: Path, place: str) -> None:
    dataset = open_dataset(folder)
    expected = dataset.load("ram").array("image")
    path = dataset.load("shared").path  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    position = {
        "fingerprint": content.index(dataset.fingerprint.encode()), "pictures": HEADER + 4000, "end": -1, "header": 0
    }[place]  # fmt: skip
    content[position] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(dataset.load("shared").array("image"), expected)
    path.write_bytes(content[:-1])
    np.testing.assert_array_equal(dataset.load("shared").array("image"), expected)
    assert path.read_bytes()[HEADER:] == expected.tobytes()


LOAD = """
import sys
from pathlib import Path
from coworld_bench.data.dataset import Dataset, open_dataset
from coworld_bench.data.memory import BatchStream
each, counted = Dataset.__iter__, []
Dataset.__iter__ = lambda self: counted.append(1) or each(self)
memory = open_dataset(Path(sys.argv[1])).load("shared")
print(len(counted), BatchStream(memory, 0, 4, 8).at(5).image.sum())
"""


def test_of_many_processes_one_makes_the_pictures(folder: Path, cache: Path) -> None:
    """They start while another holds the lock, so that all of them have to wait for it."""
    wanted = shared.Frames.of(open_dataset(folder))
    lock = WriterLock(cache, f"{wanted.name}.lock")
    started = [subprocess.Popen([sys.executable, "-c", LOAD, folder], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(2)
    assert [child.poll() for child in started] == [None] * 3 and shared_file(open_dataset(folder)) is None
    lock.release()
    said = [child.communicate(timeout=50)[0].split() for child in started]
    assert sorted(made for made, _ in said) == ["0", "0", "1"] and len({total for _, total in said}) == 1


def test_what_a_killed_process_left_is_removed_and_its_lock_stops_nobody(folder: Path, cache: Path) -> None:
    wanted = shared.Frames.of(open_dataset(folder))
    cache.mkdir()
    (cache / f".{wanted.name}.123.partial").write_bytes(b"half")
    (cache / f"{wanted.name}.lock").write_text("process 123 on elsewhere\n")
    open_dataset(folder).load("shared")
    assert [path.name for path in cache.iterdir()] == [wanted.name]


def test_other_episodes_and_other_sizes_have_other_files(tmp_path: Path, cache: Path) -> None:
    one, two = (open_dataset(build(several()[:n], tmp_path / str(n), card())) for n in (3, 4))
    assert one.load("shared").rows == 48 and two.load("shared").rows == 89
    assert len(list(cache.iterdir())) == 2


def test_pictures_lie_in_memory_where_there_is_room_and_else_beside_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COWORLD_BENCH_CACHE", raising=False)
    monkeypatch.setattr(shared, "SHM", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    folder = build(several(), tmp_path / "home/data", card())
    found = []
    for free in (0, 100 * MIB):
        monkeypatch.setattr(reading, "BUDGET", Budget(lambda free=free: free))
        memory = open_dataset(folder).load("shared")
        assert isinstance(memory, MappedMemory)
        found.append(memory.path.parent)
        memory.path.unlink()
    assert found == [tmp_path / "home/.cache", tmp_path / f"shm/coworld-bench-{os.getuid()}"]
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    stranger = tmp_path / "shm/coworld-bench-12345"  # made by another user
    stranger.mkdir()
    assert shared.places(open_dataset(folder)) == [tmp_path / "home/.cache"]


def test_no_room_is_a_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COWORLD_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotUsable, match=r"2 MB of shared pictures cannot be kept: .*; set COWORLD_BENCH_CACHE"):
        open_dataset(folder).load("shared")
    if os.path.exists("/dev/full"):
        monkeypatch.setattr(shared, "write", lambda *_: Path("/dev/full").write_bytes(b"x"))
        monkeypatch.setenv("COWORLD_BENCH_CACHE", str(tmp_path / "cache"))
        with pytest.raises(NotUsable, match="no space left on device"):
            open_dataset(folder).load("shared")


# One budget


def test_a_second_dataset_sees_what_the_first_took(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source and target: the free memory shrinks by what the first takes, as it does on a machine."""
    source, target = open_dataset(folder), open_dataset(build([played(0, 2500)], tmp_path / "data", card()))
    machine = 2 * (source.decoded_bytes + target.decoded_bytes)
    for short, kind in [(0, DecodedMemory), (2, PackedMemory)]:
        budget = Budget(lambda: machine - short - budget.held)  # noqa: B023
        monkeypatch.setattr(reading, "BUDGET", budget)
        first = source.load()
        assert isinstance(first, DecodedMemory) and budget.held == source.decoded_bytes
        second = target.load()
        assert type(second) is kind
        del first, second
        gc.collect()
        assert budget.held == 0 and isinstance(target.load(), DecodedMemory)


def test_the_limit_is_a_size_or_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(lambda: 1000 * MIB)
    for limit, total in [("", 500 * MIB), ("25%", 250 * MIB), ("8G", 8192 * MIB), ("1.5 MiB", 3 * MIB // 2), ("7", 7)]:
        monkeypatch.setenv("COWORLD_BENCH_MEMORY", limit)
        assert budget.total == budget.left == total
    for wrong in ("much", "-1", "120%", "8 GX"):
        monkeypatch.setenv("COWORLD_BENCH_MEMORY", wrong)
        with pytest.raises(UsageError, match=r"a size such as 8G, .* got"):
            budget.left  # noqa: B018


def test_processes_of_one_plan_part_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(lambda: 1000 * MIB)
    for name, value in make_slots("cpu", 4)[0].items():
        monkeypatch.setenv(name, value)
    assert budget.total == 125 * MIB
    monkeypatch.setenv("COWORLD_BENCH_MEMORY", "300M")
    assert budget.total == 300 * MIB


def test_the_process_has_one_budget() -> None:
    assert reading.BUDGET is BUDGET and BUDGET.left > MIB


# Where windows lie


def counts(mode: Windows, lengths: list[int], length: int, draws: int) -> Counter[tuple[int, ...]]:
    """How often each window was drawn, by its rows, in batches of 50."""
    memory = EpisodeMemory().extend(played(number, rows - 1) for number, rows in enumerate(lengths))
    batches = BatchStream(memory, 0, 50, length, windows=mode)
    return Counter(tuple(rows) for k in range(draws // 50) for rows in batches.rows(k).tolist())


def distribution(mode: str, lengths: list[int], length: int) -> dict[tuple[int, ...], float]:
    """What `windows.py` says, worked out window by window; lengths that are too short are none of the first three."""
    found: dict[tuple[int, ...], float] = {}
    firsts = np.cumsum([0, *lengths]).tolist()
    if mode == "across":
        episodes = [tuple(range(first, first + rows)) for first, rows in zip(firsts, lengths, strict=False)]

        def go_on(window: tuple[int, ...], chance: float) -> None:
            if len(window) >= length:
                found[window[:length]] = found.get(window[:length], 0) + chance
            else:
                for episode in episodes:
                    go_on(window + episode, chance / len(episodes))

        for episode in episodes:
            for offset in range(len(episode)):
                go_on(episode[offset:], 1 / firsts[-1])
        return found
    eligible = [(first, rows) for first, rows in zip(firsts, lengths, strict=False) if rows >= length]
    for first, rows in eligible:
        last = rows - length
        chances = {
            "inside": {start: 1 / (last + 1) for start in range(last + 1)},
            "oversample_ends": {start: (1 if start < last else length + 1) / (rows + 1) for start in range(last + 1)},
            "aligned": {start: 1 / (last // 16 + 1) for start in range(0, last + 1, 16)},
        }[mode]
        for start, chance in chances.items():
            found[tuple(range(first + start, first + start + length))] = chance / len(eligible)
    return found


@pytest.mark.parametrize("mode", ["inside", "oversample_ends", "aligned", "across"])
@pytest.mark.parametrize(("lengths", "length"), [([5, 3, 9], 4), ([2, 3], 5), ([40, 17, 33], 2)])
def test_windows_are_as_frequent_as_their_mode_says(mode: Windows, lengths: list[int], length: int) -> None:
    expected = distribution(mode, lengths, length)
    if not expected:
        with pytest.raises(UsageError, match="does not fit the longest episode, which has 3 rows"):
            counts(mode, lengths, length, 50)
        return
    assert sum(expected.values()) == pytest.approx(1)
    draws = 20_000
    found = counts(mode, lengths, length, draws)
    assert set(found) <= set(expected)
    chi2 = sum((found[window] - draws * chance) ** 2 / (draws * chance) for window, chance in expected.items())
    freedom = len(expected) - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 1e-9, (chi2, freedom)


def test_the_default_mode_draws_what_it_always_drew() -> None:
    """Rows written down before there were other modes; stored results rest on them."""
    memory = EpisodeMemory().extend(played(number, rows) for number, rows in enumerate([14, 15, 16, 40]))
    assert BatchStream(memory, 3, 4, 6).rows(7)[:, 0].tolist() == [58, 6, 38, 75]
    rows = BatchStream(memory, 3, 4, 6, lead=2).rows(1)
    assert rows[:, 2].tolist() == [32, 23, 41, 42] and rows[0].tolist() == [31, 31, 32, 33, 34, 35, 36, 37]


def test_across_marks_every_beginning_and_reads_the_same_everywhere(folder: Path, cache: Path) -> None:
    dataset = open_dataset(folder)
    memories = [dataset.load(kind) for kind in ("ram", "packed", "shared")]
    streams = [BatchStream(memory, 1, 8, 60, windows="across") for memory in memories]
    for k in range(12):
        batch, *others = (stream.at(k) for stream in streams)
        for other in others:
            assert_same(other, batch)
        number, row = batch.state[..., 0], batch.state[..., 1]
        np.testing.assert_array_equal(batch.is_first, row == 0)
        goes_on = (np.diff(number, axis=1) == 0) & (np.diff(row, axis=1) == 1)
        np.testing.assert_array_equal(goes_on, ~batch.is_first[:, 1:])
        assert not batch.action[batch.is_first].any()


def test_aligned_windows_decode_only_what_they_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, decoded = open_dataset(folder).load("packed"), []
    each = Shard.decode
    monkeypatch.setattr(Shard, "decode", lambda self, chunk, rows: decoded.append(chunk) or each(self, chunk, rows))
    BatchStream(memory, 0, 10, 16, windows="aligned").at(0)
    assert len(decoded) == 10
    BatchStream(memory, 0, 10, 16, windows="inside").at(0)
    assert len(decoded) > 10 + 12


def test_an_unknown_mode_is_a_sentence() -> None:
    memory = EpisodeMemory().extend([played(0, 20)])
    with pytest.raises(UsageError, match=r"no window mode .*'insde'; did you mean inside"):
        BatchStream(memory, 0, 2, 3, windows="insde").next()  # type: ignore[arg-type]
