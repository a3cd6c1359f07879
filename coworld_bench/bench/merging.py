"""Uniting stores of results: what one lacks is copied from others, and nothing that counts is overwritten.

    plan (what to do with each run and all anchors) -> perform (run by run, each whole or not at all)

Finished beats failed beats unfinished. Two results of one run with other numbers are a conflict: what was there stays, the
other one is kept in INTO/conflicts, where no report reads it. A merge that was interrupted is repeated.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coworld_bench.bench.claims import claimed
from coworld_bench.bench.opened import open_runs
from coworld_bench.data.lock import Busy
from coworld_bench.errors import UsageError
from coworld_bench.files import atomic, digest_of, named_when_whole
from coworld_bench.reporting.store import FAILED, FINISHED, UNFINISHED, read_checked, read_run, run_folders
from coworld_bench.reporting.stores.records import (
    Difference,
    Record,
    anchor_differences,
    differences,
    in_words,
    making,
    read_records,
)

AT_ONCE = 8  # runs that are copied
RANK = {UNFINISHED: 0, FAILED: 1, FINISHED: 2}
LOCAL = ("checkpoints", "scratch")  # large, and of use only to the process that goes on or plays again
TELLING = ("config.json", "failed.json", "result.json")
COPIED, REPLACED, COMPLETED, THERE, BUSY, CONFLICT = (
    "copied", "replaced", "completed", "there already", "left alone", "conflict",
)  # fmt: skip
KINDS = (COPIED, REPLACED, COMPLETED, THERE, BUSY, CONFLICT)


@dataclass(frozen=True)
class Step:
    """What is done with a run, or with a file of anchors: `files` of `source` go to `place`, which is a folder, or with
    anchors a file. `found` is what keeps the two apart in a conflict, `making` what may have brought it about."""

    kind: str
    name: str
    source: Path
    place: Path
    why: str
    files: tuple[str, ...] = ()
    found: tuple[Difference, ...] = ()
    making: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Known:
    """Where a run is read that INTO holds or will hold, and where it lies there."""

    state: str
    folder: Path
    place: Path


@dataclass(frozen=True)
class Merge:
    into: Path
    steps: tuple[Step, ...]
    dry_run: bool

    @property
    def conflicts(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind == CONFLICT)

    @property
    def ok(self) -> bool:
        """Whether everything is in one place now."""
        return not any(step.kind in (CONFLICT, BUSY) for step in self.steps)

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(step.kind for step in self.steps)
        return {kind: found[kind] for kind in KINDS}

    def to_dict(self) -> dict[str, Any]:
        """The same as one JSON document."""
        return {
            "schema": 1,
            "into": str(self.into),
            "dry_run": self.dry_run,
            "ok": self.ok,
            "counts": self.counts,
            "steps": [self._step_words(step) for step in self.steps],
        }

    def _step_words(self, step: Step) -> dict[str, Any]:
        words: dict[str, Any] = {"kind": step.kind, "name": step.name, "source": str(step.source), "why": step.why}
        if step.kind == CONFLICT:
            words |= {"kept": str(step.place), "differences": in_words(step.found), "made_otherwise": in_words(step.making)}
        return words


def merge(into: Path | str, sources: Sequence[Path | str], checkpoints: bool = False, dry_run: bool = False) -> Merge:
    """Unite stores into the first, which is made where there is none. `checkpoints` takes the states of learners along;
    `dry_run` only says what would be done.

    Raises UsageError for a store that is missing, damaged or the one it goes into, before anything is copied, and Busy
    where another process merges into it."""
    home, stores = open_runs(into), [open_runs(source) for source in sources]
    check_stores(home, stores)
    steps = tuple(plan(home, stores, checkpoints))
    if not dry_run:
        with claimed(home, "merge"):
            steps = perform_all(home, steps)
    return Merge(home, steps, dry_run)


def check_stores(into: Path, stores: Sequence[Path]) -> None:
    if into.exists() and not into.is_dir():
        raise UsageError(f"{into} is a file; name the folder of results to merge into")
    for store in stores:
        if not store.is_dir():
            raise UsageError(f"there is no folder of results {store}")
        if {store.resolve(), (store / "runs").resolve()} & {into.resolve(), (into / "runs").resolve()}:
            raise UsageError(f"{store} is the store it would be merged into; name another")
        if not run_folders(store) and not (store / "anchors").is_dir():
            raise UsageError(f"{store} holds no runs; name a folder that `coworld-bench run` wrote")


def plan(into: Path, stores: Sequence[Path], checkpoints: bool) -> Iterator[Step]:
    """What to do with every run and all anchors of the stores, as if those before were done."""
    home, known, anchors = runs_folder(into), known_runs(into), {path.name: path for path in anchor_files(into)}
    for path in anchor_files(into):
        read_checked(path, "task", "preset")
    for store in stores:
        for record in read_records(store):
            step = run_step(into, record, known.get(record.run), home / record.run, checkpoints)
            if step.kind in (COPIED, REPLACED) or (step.kind == COMPLETED and record.state == FAILED):
                known[record.run] = Known(record.state, record.folder, step.place)
            yield step
        for path in anchor_files(store):
            yield anchor_step(into, path, anchors.get(path.name))
            anchors.setdefault(path.name, path)


def runs_folder(into: Path) -> Path:
    """Where new runs go: beside those that are there."""
    inner = into / "runs"
    return inner if any(path.parent == inner for path in run_folders(into)) else into


def known_runs(into: Path) -> dict[str, Known]:
    found = read_records(into) if into.is_dir() else ()
    return {record.run: Known(record.state, record.folder, record.folder) for record in found}


def anchor_files(store: Path) -> list[Path]:
    return sorted((store / "anchors").glob("*.json"))


def run_step(into: Path, record: Record, known: Known | None, place: Path, checkpoints: bool) -> Step:
    files = files_of(record, checkpoints)
    if known is None:
        return Step(COPIED, record.run, record.folder, place, record.state, files)
    step = Step(THERE, record.run, record.folder, known.place, f"{known.state} there, {record.state} here")
    if RANK[record.state] < RANK[known.state]:
        return step
    if record.state == FINISHED and known.state == FINISHED:
        return finished_twice(into, record, known, step, files)
    if record.state == FINISHED or resumable(record, known, checkpoints):
        return replace(step, kind=REPLACED, files=files)
    missing = tuple(name for name in files if name in TELLING and not (known.folder / name).exists())
    return replace(step, kind=COMPLETED, files=missing) if missing else step


def resumable(record: Record, known: Known, checkpoints: bool) -> bool:
    """Whether an unfinished run can go on from what is here, and not from what is there."""
    here, there = (any((folder / "checkpoints").glob("*.pt")) for folder in (record.folder, known.folder))
    return checkpoints and here and not there


def finished_twice(into: Path, record: Record, known: Known, step: Step, files: tuple[str, ...]) -> Step:
    """Of two results with the same numbers the first stays, with the files of the other that it lacks."""
    there = read_run(known.folder)
    assert there is not None, known.folder
    found = differences(there[1], record.content)
    if found:
        apart = into / "conflicts" / f"{record.run}--{digest_of(record.content)[:10]}"
        told = replace(step, kind=CONFLICT, place=apart, why="the same run with other numbers", files=files)
        return replace(told, found=tuple(found), making=tuple(making(there[1], record.content)))
    missing = tuple(name for name in files if not (known.folder / name).exists())
    why = "the same numbers"
    return replace(step, kind=COMPLETED if missing else THERE, why=why, files=missing)


def anchor_step(into: Path, path: Path, known: Path | None) -> Step:
    content, place = read_checked(path, "task", "preset"), into / "anchors" / path.name
    if known is None:
        return Step(COPIED, f"anchors/{path.name}", path, place, "anchors")
    found = anchor_differences(read_checked(known, "task", "preset"), content)
    if not found:
        return Step(THERE, f"anchors/{path.name}", path, place, "the same numbers")
    apart = into / "conflicts" / "anchors" / f"{path.stem}--{digest_of(content)[:10]}.json"
    return Step(CONFLICT, f"anchors/{path.name}", path, apart, "the same anchors with other numbers", found=tuple(found))


def files_of(record: Record, checkpoints: bool) -> tuple[str, ...]:
    """What goes along with a run. A run that would begin anew takes no log: its lines would stand there twice."""
    paths = (path.relative_to(record.folder) for path in sorted(record.folder.rglob("*")) if path.is_file())
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    kept = [name for name in names if checkpoints or name.split("/")[0] not in (*LOCAL, "stderr.log")]
    if record.state == FINISHED:
        return tuple(name for name in kept if name != "failed.json")
    whole = checkpoints and any(name.startswith("checkpoints/") for name in kept)
    return tuple(name for name in kept if whole or name in TELLING)


def perform_all(into: Path, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Do the steps of each run in their order, and many runs at a time: a copy mostly waits until it lies on the disk."""
    by_name: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        by_name.setdefault(step.name, []).append(number)

    def do(numbers: list[int]) -> list[Step]:
        return [perform(into, steps[number]) for number in numbers]

    done: dict[int, Step] = {}
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for numbers, made in zip(by_name.values(), pool.map(do, by_name.values()), strict=True):
            done |= zip(numbers, made, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure those that were not begun stay undone
    return tuple(done[number] for number in range(len(steps)))


def perform(into: Path, step: Step) -> Step:
    """Do it; the step, or that it was left alone because a process is at work on that run."""
    if step.kind == THERE:
        return step
    try:
        with claimed(into, step.name.replace("/", "-"), step.place):
            if step.kind == COPIED and appeared(step.place):
                return replace(step, kind=BUSY, why="it was made while this was going on; merge again")
            act(step)
    except Busy:
        return replace(step, kind=BUSY, why="another process is making it; merge again when it has ended")
    return step


def appeared(place: Path) -> bool:
    """Whether another process has written the run or the anchors since the merge was planned."""
    return place.is_file() or (place.is_dir() and read_run(place) is not None)


def act(step: Step) -> None:
    if step.source.is_file():
        copy(step.source, step.place)
    elif step.kind == COMPLETED:
        for name in step.files:
            copy(step.source / name, step.place / name)
    elif step.kind != CONFLICT or not step.place.exists():
        with named_when_whole(step.place) as partial:
            for name in step.files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(step.source / name, partial / name)


def copy(source: Path, place: Path) -> None:
    """Copy a file, whole or not at all, with its date."""
    with source.open("rb") as given, atomic(place) as file:
        shutil.copyfileobj(given, file)
    shutil.copystat(source, place)
