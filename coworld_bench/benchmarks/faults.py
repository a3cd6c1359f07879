"""What becomes of datasets when things go wrong: processes that are killed while they collect and pack, and bits that flip.

Every try is a real one: a process of its own and SIGKILL at a random moment of its work; a bit of a file on disk."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from coworld_bench.benchmarks.data import drawn_episode
from coworld_bench.data.build import build
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.integrity import verify
from coworld_bench.data.layout import MANIFEST, split_id
from coworld_bench.data.memory import Memory
from coworld_bench.data.staging import Staging
from coworld_bench.errors import DatasetError
from coworld_bench.tasks import EnvSpec

CARD = {"dataset_id": "toy/point/drawn-v0", "env_spec": EnvSpec("toy/point").to_dict()}
COLLECTED = "toy/point/medium-replay-smoke-v0"
LATE = 1.2  # of the time that the work takes: so late a kill may come, so that some come after the end
PRELOADED = ["coworld_bench.benchmarks.faults", "coworld_bench.collecting", "zarr"]
SEED = 0
Work = Callable[..., None]


def measure(kills: int = 50, bits: int = 200, episodes: int = 24) -> dict[str, Any]:
    """A row per fault: tries, what was seen after them, and what must not have been (`lost`, `holes`, `silent`)."""
    rng = random.Random(SEED)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        rows = [
            {"fault": "SIGKILL while episodes are stored"} | killed_storing(home / "storing", kills, rng, episodes),
            {"fault": "SIGKILL while a dataset is packed"} | killed_packing(home / "packing", kills, rng, episodes),
            {"fault": "SIGKILL while `collect` is at work"} | killed_collecting(home / "collecting", kills, rng),
            {"fault": "a bit of a dataset flipped"} | flipped_bits(home / "flipping", bits, rng, episodes),
        ]
    notes = [
        f"Kills come at a random moment of the work, up to {LATE} times what it takes undisturbed; `at work`: those before "
        "its end. After each the work is taken up again. `lost`: finished episodes that are gone. `holes`: datasets that "
        "could be read and were not whole. `equal`: whether in the end every file has the undisturbed one's bytes.",
        "A flipped bit is `found` by `verify --full`. A reader in its default mode has `refused` it or given the right "
        "data; `silent`: wrong data without an error.",
    ]
    return {"rows": rows, "notes": notes}


def killed_storing(folder: Path, kills: int, rng: random.Random, episodes: int) -> dict[str, Any]:
    """Kill whoever adds episodes to a staging folder, at a moment of the next few episodes."""
    undisturbed = undisturbed_s(store_episodes, folder / "undisturbed", episodes)
    expected, seen, target = contents(folder / "undisturbed"), Counter[str](), folder / "killed"
    for number in range(1, kills + 1):
        before = stored_in(target)
        seen["at work"] += killed(undisturbed / 3, rng, store_episodes, target, episodes) is None
        seen["lost"] += stored_in(target) < before or not intact(target)
        if stored_in(target) == episodes or number == kills:
            store_episodes(target, episodes)
            seen["unequal"] += contents(target) != expected
            target = folder / f"killed{number}"
    return outcome(kills, seen)


def killed_packing(folder: Path, kills: int, rng: random.Random, episodes: int) -> dict[str, Any]:
    """Kill whoever packs staged episodes into a dataset, and pack again."""
    store_episodes(folder / "staging", episodes)
    undisturbed = undisturbed_s(pack, folder / "staging", folder / "undisturbed")
    expected, seen, target = contents(folder / "undisturbed"), Counter[str](), folder / "killed"
    for number in range(1, kills + 1):
        took = killed(undisturbed, rng, pack, folder / "staging", target)
        undisturbed = took or undisturbed  # now, if the machine is busier or less busy than before
        seen["at work"] += took is None
        seen["lost"] += stored_in(folder / "staging") < episodes
        finished = readable(target)
        seen["holes"] += finished and contents(target) != expected
        if finished or number == kills:
            pack(folder / "staging", target)
            seen["unequal"] += contents(target) != expected
            target = folder / f"killed{number}"
    return outcome(kills, seen)


def killed_collecting(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill `collect` of a small dataset, from its first random action to its manifest, and resume it."""
    undisturbed = undisturbed_s(collect_in, folder / "undisturbed")
    expected, seen, home = contents(folder / "undisturbed" / COLLECTED), Counter[str](), folder / "killed"
    for number in range(1, kills + 1):
        seen["at work"] += killed(undisturbed, rng, collect_in, home) is None
        seen["lost"] += not all(intact(journal.parent) for journal in home.glob("collecting/**/journal.jsonl"))
        finished = readable(home / COLLECTED)
        seen["holes"] += finished and contents(home / COLLECTED) != expected
        if finished or number == kills:
            collect_in(home)
            seen["unequal"] += contents(home / COLLECTED) != expected
            home = folder / f"killed{number}"
    return outcome(kills, seen)


def flipped_bits(folder: Path, bits: int, rng: random.Random, episodes: int) -> dict[str, Any]:
    """Flip bits of a dataset's files, one at a time; a place is drawn by its file's share of the bytes."""
    dataset = open_dataset(build(map(drawn_episode, range(episodes)), folder, CARD))
    expected = digests(dataset.load("ram"))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    seen = Counter[str]()
    for path in rng.choices(files, [path.stat().st_size for path in files], k=bits):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        seen["found"] += not verify(folder).ok
        try:
            seen["silent"] += digests(open_dataset(folder).load()) != expected
        except DatasetError:
            seen["refused"] += 1
        path.write_bytes(content)
    return {"tries": bits, "found": seen["found"], "refused": seen["refused"], "silent": seen["silent"]}


def outcome(kills: int, seen: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tries": kills, "at work": seen["at work"], "lost": seen["lost"], "holes": seen["holes"],
        "equal": not seen["unequal"],
    }  # fmt: skip


# What is killed


def store_episodes(folder: Path, count: int) -> None:
    """Add what is missing of so many episodes."""
    with Staging(folder) as staging:
        for number in range(len(staging), count):
            staging.add(drawn_episode(number))


def pack(staging: Path, folder: Path) -> None:
    """Build the dataset, unless it is there."""
    if not (folder / MANIFEST).is_file():
        build(Staging(staging, read_only=True), folder, CARD)


def collect_in(home: Path) -> None:
    """`collect --resume`, unless the dataset is there."""
    from coworld_bench.collecting import collect

    name = split_id(COLLECTED)
    if not (home / COLLECTED / MANIFEST).is_file():
        collect(name.task, name.quality, preset=name.preset, reference_return=3.0, data=home, resume=True)


def killed(seconds: float, rng: random.Random, work: Work, *given: Any) -> float | None:
    """Kill the process of `work` at a random moment within `seconds` of its beginning and a little more. None where it was
    still at it, else the seconds that it took."""
    process, since = begun(work, given), time.perf_counter()
    process.join(rng.uniform(0, LATE * seconds))
    took = None if process.is_alive() else time.perf_counter() - since
    process.kill()
    process.join()
    return took


def undisturbed_s(work: Work, *given: Any) -> float:
    """How long `work` takes when it is left alone."""
    process, began = begun(work, given), time.perf_counter()
    process.join()
    assert process.exitcode == 0, f"{work.__name__} ended with {process.exitcode}"
    return time.perf_counter() - began


def begun(work: Work, given: tuple[Any, ...]) -> BaseProcess:
    """A process that has just begun its work; it comes from one that has everything imported."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    here, there = forks.Pipe()
    process = forks.Process(target=announced, args=(there, work, given))
    process.start()
    here.recv()
    return process


def announced(channel: Connection, work: Work, given: tuple[Any, ...]) -> None:
    channel.send("begun")
    work(*given)


# What is seen afterwards


def stored_in(folder: Path) -> int:
    return len(Staging(folder, read_only=True)) if folder.is_dir() else 0


def intact(folder: Path) -> bool:
    """Whether every episode that counts in a staging folder is what was added."""
    with suppress(DatasetError):
        return len(list(Staging(folder, read_only=True))) == stored_in(folder)
    return False


def readable(folder: Path) -> bool:
    """Whether a dataset can be opened and read, as users do it."""
    try:
        open_dataset(folder).load()
    except DatasetError:
        return False
    return True


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def digests(memory: Memory) -> list[bytes]:
    """What a reader gave, in short."""
    rows = np.arange(memory.rows)
    image = memory.windows(rows, np.zeros_like(rows), 1).image
    arrays = [memory.array("state"), memory.array("action"), memory.array("reward"), image]
    return [hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays if array is not None]
