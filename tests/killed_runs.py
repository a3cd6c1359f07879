"""A run of `toy` that is killed right before its Nth change to the file system, and done again: does it end the same?

    python killed_runs.py KIND WORK_FOLDER DATA_FOLDER [PATTERN ...]

Each attempt is a process of its own, forked from this one, which has imported everything and trained nothing. Prints a
line of JSON for every point where something is wrong, and at the end how many were tried: without a pattern all of them,
else the last one whose line matches each pattern."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coworld_bench import training
from coworld_bench.collecting import collect
from coworld_bench.files import read_json, read_lines
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import pretrain_source

RUN = {
    "budget.updates": "4", "evaluation.early_every": "2", "evaluation.every": "2", "compute.checkpoint_minutes": "0",
    "online.prefill": "100", "online.env_steps": "150",
}  # fmt: skip
COLLECT = {
    "online.prefill": "50",
    "online.env_steps": "150",
    "online.evaluate_every": "50",
    "compute.checkpoint_minutes": "0",
}
SPEC = RunSpec("coworld", "toy/point", ("toy/point_mirrored",), preset="smoke", options=RUN)
CHANGES = "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Work = Callable[[Path], Any]


def works(data: Path) -> dict[str, tuple[Work, Work, Work]]:
    """For every kind: what is killed, the same command given again, and what comes of it."""
    (source,) = SPEC.plan().source_specs()

    def run(home: Path, force: bool = False) -> None:
        training.train(SPEC, data=data, runs=home, device="cpu", force=force)

    def run_again(home: Path) -> None:
        run(home, force=True)

    def pretrain(home: Path) -> None:
        pretrain_source(source, home, "cpu")

    def collected(home: Path) -> None:
        if not list(home.glob("toy/*/*/manifest.json")):
            collect(
                "toy/point", preset="smoke", data=home, options=COLLECT, reference_return=1e9, device="cpu", resume=True
            )  # fmt: skip

    return {
        "train": (run, run, of_run),
        "force": (run_again, run, of_run),
        "source": (pretrain, pretrain, of_source),
        "collect": (collected, collected, of_collection),
    }


def of_run(home: Path) -> list[Any]:
    (path,) = home.glob("*/result.json")
    return [timeless(path), read_lines(path.parent / "eval.jsonl"), read_lines(path.parent / "metrics.jsonl")]


def timeless(path: Path) -> dict[str, Any]:
    return {key: value for key, value in read_json(path).items() if key not in ("time", "cost", "commit")}


def of_source(home: Path) -> list[Any]:
    (path,) = home.glob("sources/*/source.json")
    return [timeless(path), (path.parent / "agent.pt").read_bytes()]


def of_collection(home: Path) -> list[Any]:
    (path,) = home.glob("toy/*/*/manifest.json")
    return [read_json(path)["fingerprint"]]


def main(kind: str, work: Path, data: Path, patterns: list[str]) -> None:
    training.describe = lambda groups, seed: {}  # t-SNE is half of what so small a run takes
    (source,) = SPEC.plan().source_specs()
    forked(lambda: pretrain_source(source, data, "cpu"))
    first, again, outcome = works(data)[kind]
    whole = work / "whole"
    forked(lambda: again(whole))
    before = whole if kind == "force" else None
    told = work / "changes.txt"
    trial(work / "told", before, lambda home: attempt(first, home, told=told))
    changes = told.read_text().splitlines()
    points = [number for number, _ in enumerate(changes, 1)] if not patterns else [last(changes, each) for each in patterns]
    for point in points:
        home = work / f"killed{point}"
        wrong = trial(home, before, lambda home, point=point: disturbed(first, again, home, point))
        if not wrong and outcome(home) != outcome(whole):
            wrong = "it ended otherwise"
        if left := [path.name for path in home.rglob("*.partial")]:
            wrong += f" {left} are left"
        if wrong:
            print(json.dumps({"point": point, "before": changes[point - 1], "wrong": wrong}), flush=True)
        shutil.rmtree(home)
    print(json.dumps({"tried": len(points)}))


def last(changes: list[str], pattern: str) -> int:
    found = [number for number, line in enumerate(changes, 1) if re.search(pattern, line)]
    assert found, f"nothing is like {pattern} in:\n" + "\n".join(changes)
    return found[-1]


def trial(home: Path, before: Path | None, act: Callable[[Path], Any]) -> Any:
    shutil.copytree(before, home) if before else home.mkdir(parents=True)
    return act(home)


def disturbed(first: Work, again: Work, home: Path, point: int) -> str:
    """What is wrong with a work that is killed there and done again; nothing where it is empty."""
    killed, _ = attempt(first, home, kill_before=point)
    if killed != signal.SIGKILL:
        return f"it was not killed but ended with {killed}"
    status, said = attempt(again, home)
    return f"done again it ended with {status}: {said}" if status else ""


def attempt(work: Work, home: Path, kill_before: int = 0, told: Path | None = None) -> tuple[int, str]:
    def act() -> None:
        sys.addaudithook(Counting(str(home), kill_before, told))
        work(home)

    return forked(act)


class Counting:
    """Counts the changes that this process makes below a folder, and kills it right before one of them."""

    def __init__(self, home: str, kill_before: int, told: Path | None) -> None:
        self.home, self.kill_before, self.count = home, kill_before, 0
        self.told = None if told is None else os.open(told, os.O_WRONLY | os.O_CREAT)

    def __call__(self, event: str, values: tuple[Any, ...]) -> None:
        if event not in CHANGES or (event == "open" and not values[2] & WRITING):
            return
        names = [str(value) for value in values if isinstance(value, str | os.PathLike)]
        inside = event in ("os.remove", "os.rmdir") and not os.path.isabs(names[0])  # rmtree's, of a folder it has open
        if not inside and not any(name.startswith(self.home) for name in names):
            return
        self.count += 1
        if self.told is not None:
            os.write(self.told, f"{event} {' '.join(names)}\n".encode())
        if self.count == self.kill_before:
            os.kill(os.getpid(), signal.SIGKILL)


def forked(act: Callable[[], None]) -> tuple[int, str]:
    """The wait status of a process that does this, and what it raised."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        try:
            act()
            os._exit(0)
        except BaseException:
            os.write(theirs, traceback.format_exc()[-2000:].encode())
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    return os.waitpid(process, 0)[1], said


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
