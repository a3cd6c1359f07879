"""Pictures that stay compressed on disk: the batches of decoded ones, checked when drawn, in memory that stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_episodes import card, played, several

from coworld_bench.benchmarks import data
from coworld_bench.data import chunks
from coworld_bench.data import dataset as reading
from coworld_bench.data.budget import Budget
from coworld_bench.data.build import build
from coworld_bench.data.chunks import Damaged
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.memory import Batch, BatchStream, EpisodeMemory, Memory
from coworld_bench.data.stored import DecodedMemory, PackedMemory
from coworld_bench.devices import free_memory
from coworld_bench.errors import UsageError
from coworld_bench.tasks import EnvSpec

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes whose ends fall before, on and after the end of a chunk, and one that lies in two shards."""
    return build([*several(), played(4, 2100), played(5, 3)], tmp_path_factory.mktemp("data") / "data", card())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return build([*several(), played(4, 2100)], tmp_path / "data", card())


def both(folder: Path) -> tuple[Memory, Memory]:
    return open_dataset(folder).load("ram"), open_dataset(folder).load("packed")


def assert_same(given: Batch, expected: Batch) -> None:
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(given, name), array, err_msg=name)
        assert getattr(given, name).dtype == array.dtype


@pytest.mark.parametrize(("batch", "length"), [(1, 2), (3, 4), (16, 16), (5, 17), (7, 41), (4, 100), (2, 2101)])
def test_batch_k_is_the_same_to_the_last_bit(folder: Path, batch: int, length: int) -> None:
    ram, packed = (BatchStream(memory, 3, batch, length) for memory in both(folder))
    assert isinstance(ram.memory, DecodedMemory) and isinstance(packed.memory, PackedMemory)
    oracle = BatchStream(EpisodeMemory().extend(open_dataset(folder)), 3, batch, length)
    for k in [*range(25), 10**6]:
        assert_same(packed.at(k), oracle.at(k))
        assert_same(ram.at(k), oracle.at(k))


@pytest.mark.parametrize("length", [1, 4, 15, 16, 17, 33])
def test_every_window_of_every_episode_is_the_same(folder: Path, length: int) -> None:
    ram, packed = both(folder)
    ends = np.cumsum(ram.lengths)
    spans = [(end - rows, rows) for end, rows in zip(ends, ram.lengths, strict=True)]
    offsets = np.concatenate([np.arange(max(0, rows - length + 1)) for _, rows in spans])
    starts = np.concatenate([first + np.arange(max(0, rows - length + 1)) for first, rows in spans])
    assert len(starts) > 2000
    assert_same(packed.windows(starts, offsets, length), ram.windows(starts, offsets, length))


def test_it_says_of_itself_what_a_decoded_one_says(folder: Path) -> None:
    ram, packed = both(folder)
    assert (packed.rows, packed.episodes, packed.row_bytes) == (ram.rows, ram.episodes, ram.row_bytes)
    assert packed.rows * packed.row_bytes == open_dataset(folder).decoded_bytes
    np.testing.assert_array_equal(packed.lengths, ram.lengths)
    np.testing.assert_array_equal(packed.returns, ram.returns)
    for name in ("state", "action", "reward"):
        np.testing.assert_array_equal(packed.array(name), ram.array(name))
    with pytest.raises(UsageError, match=r"compute.memory=ram"):
        packed.array("image")
    with pytest.raises(UsageError, match="the longest episode, which has 2101 rows"):
        packed.sample(np.random.default_rng(0), 1, 2102)


def test_few_files_are_open_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "OPEN_SHARDS", 1)
    ram, packed = (BatchStream(memory, 0, 8, 9) for memory in both(folder))
    before = len(os.listdir("/proc/self/fd"))
    for k in range(20):
        assert_same(packed.at(k), ram.at(k))
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def read_all(memory: Memory) -> None:
    """Draw every episode as one window."""
    for end, rows in zip(np.cumsum(memory.lengths), memory.lengths.tolist(), strict=True):
        memory.windows(np.array([end - rows]), np.zeros(1, int), rows)


def test_a_flipped_bit_is_an_error_and_never_data(copy: Path) -> None:
    """In chunks and in the index of a shard; in chunks also after the file was opened."""
    rng, opened = np.random.default_rng(0), open_dataset(copy).load("packed")
    read_all(opened)
    for path in (path for path in (copy / "data.zarr/frames/image/c").rglob("*") if path.is_file()):
        content = path.read_bytes()
        index = len(content) - chunks.CHUNKS * 16 - chunks.CHECKSUM
        places = [*rng.integers(index, size=12).tolist(), *rng.integers(index, len(content), 3).tolist(), len(content) - 1]
        for position in places:
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            for memory in [open_dataset(copy).load("packed"), *([opened] if position < index else [])]:
                with pytest.raises(Damaged, match="crc32c"):
                    read_all(memory)
                    pytest.fail(f"{path} at byte {position}")
            path.write_bytes(content)
    read_all(opened)


def test_a_file_that_is_cut_short_or_removed_is_an_error(copy: Path) -> None:
    opened, late = open_dataset(copy).load("packed"), open_dataset(copy).load("packed")
    path = copy / "data.zarr/frames/image/c/1/0/0/0"
    last = np.array([opened.rows - 20]), np.array([5])
    opened.windows(*last, 20)
    os.truncate(path, 50)
    for memory in (opened, late):
        with pytest.raises(Damaged, match="crc32c"):
            memory.windows(*last, 20)
    path.unlink()
    with pytest.raises(Damaged, match="readable"):
        late.windows(*last, 20)


def test_a_flipped_bit_among_actions_stops_loading(copy: Path) -> None:
    path = copy / "data.zarr/frames/action/c/0/0"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match="crc32c"):
        open_dataset(copy).load("packed")


def test_auto_decodes_what_fits_half_of_the_free_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(folder)
    for free, packed in [(2 * dataset.decoded_bytes, False), (2 * dataset.decoded_bytes - 1, True)]:
        monkeypatch.setattr(reading, "BUDGET", Budget(lambda free=free: free))
        assert dataset.load().packed is packed
        assert dataset.load("auto").packed is packed  # the first is gone, and its memory free again
    assert not dataset.load("ram").packed
    with pytest.raises(UsageError, match="did you mean packed"):
        dataset.load("paked")  # type: ignore[arg-type]


def test_without_pictures_there_is_nothing_to_pack(tmp_path: Path) -> None:
    environment = EnvSpec("toy/point", observation="state").to_dict()
    dataset = open_dataset(build(several(pictures=False), tmp_path / "data", card(env_spec=environment)))
    memory = dataset.load("packed")
    assert memory.sample(np.random.default_rng(0), 2, 3).image is None
    assert memory.rows * memory.row_bytes == dataset.decoded_bytes


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """The files that tell free memory: 8 GiB available."""
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 8388608 kB\n", "proc/self/cgroup": cgroup} | files
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_free_memory_is_what_the_tightest_control_group_leaves(tmp_path: Path) -> None:
    assert free_memory() > 2**20
    assert free_memory(machine(tmp_path / "none", "0::/", {})) == 8 * GIB
    job = {"memory.max": str(4 * GIB), "memory.current": str(2 * GIB), "memory.stat": f"anon 7\ninactive_file {GIB}"}
    task = {"memory.max": "max", "memory.current": "5", "memory.stat": "anon 7"}
    files = {f"sys/fs/cgroup/job/{name}": text for name, text in job.items()}
    files |= {f"sys/fs/cgroup/job/task/{name}": text for name, text in task.items()}
    assert free_memory(machine(tmp_path / "two", "0::/job/task", files)) == 3 * GIB
    names = {"memory.limit_in_bytes": job["memory.max"], "memory.usage_in_bytes": job["memory.current"]}
    files = {f"sys/fs/cgroup/memory/{name}": text for name, text in names.items()}
    files["sys/fs/cgroup/memory/memory.stat"] = f"total_inactive_file {GIB // 2}"
    one = machine(tmp_path / "one", "5:cpu:/\n4:memory:/docker/elsewhere", files)
    assert free_memory(one) == 2 * GIB + GIB // 2


DRAW = """
import sys
from pathlib import Path
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.memory import BatchStream
stream = BatchStream(open_dataset(Path(sys.argv[1])).load("packed"), 0, 16, 16)
for _ in range(40):
    stream.next()
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")))
"""


def test_memory_stays_flat_as_episodes_are_added(tmp_path: Path) -> None:
    """Anonymous memory of a process that drew 40 batches: 50 episodes more are 147 MB of pixels and 1 MB of all else."""
    few, many = (data.stored(map(data.drawn_episode, range(count)), tmp_path / str(count)) for count in (10, 60))
    pixels = (many.decoded_bytes - few.decoded_bytes) / 2**20
    small, large = (
        int(subprocess.run([sys.executable, "-c", DRAW, dataset.folder], capture_output=True, check=True).stdout) / 2**10
        for dataset in (few, many)
    )
    assert pixels > 145 and large - small < 10, (small, large, pixels)
