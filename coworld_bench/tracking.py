"""Optional trackers: what a run logs is shown elsewhere, too. They are told of a run and change nothing of it.

    tensorboard   event files in the run's folder: `tensorboard --logdir RUNS`
    wandb         RUN/wandb, offline unless $WANDB_MODE says otherwise: `wandb sync RUN/wandb/offline-run-*`

The run's own files are the truth. A process that goes on with a run tells its trackers all points up to the checkpoint
anew, so that they miss none, and keep none of those that came after it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coworld_bench.errors import MissingPackage, UsageError, named, unknown
from coworld_bench.files import clear_folder, read_lines
from coworld_bench.methods import load_own

VARIABLE, NONE = "COWORLD_BENCH_TRACK", "none"
INSTALL = 'pip install "coworld-bench[tracking]"'
INIT_S, FINISH_S = 30.0, 60.0  # what W&B's server gets to answer before a run goes on without it
Values = dict[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker meets it; `goes_on` says that an earlier process has told of it already."""

    name: str
    config: dict[str, Any]
    folder: Path
    goes_on: bool


class Tracker(Protocol):
    """Is told of one run, in the run's process. What it raises is warned of, and the run goes on without it.

    After `start` come all points that count, those of earlier processes first: a tracker whose record begins anew in
    `start` holds each once. `log` tells metrics by name, as they were after so many updates."""

    def start(self, run: TrackedRun) -> None: ...

    def log(self, updates: int, values: Values) -> None: ...

    def close(self) -> None: ...


Make = Callable[[], Tracker]


class Tracking:
    """The trackers of a run; one that fails is warned of once and left out from then on."""

    def __init__(self, makers: Mapping[str, Make]) -> None:
        self._makers = dict(makers)
        self._trackers: dict[str, Tracker] = {}

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        """Tell of a run and of all points that its folder holds."""
        if not self._makers:
            return
        past = list(points(folder))
        for tracker, make in self._makers.items():
            with self._guarded(tracker):
                self._trackers[tracker] = make()
                self._trackers[tracker].start(TrackedRun(name, deepcopy(dict(config)), folder, bool(past)))
        for updates, values in past:
            self.log(updates, values)

    def log(self, updates: int, values: Values) -> None:
        for name, tracker in list(self._trackers.items()):
            with self._guarded(name):
                tracker.log(updates, dict(values))

    def close(self) -> None:
        while self._trackers:
            name, tracker = self._trackers.popitem()
            with self._guarded(name):
                tracker.close()

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            failed = self._trackers.pop(name, None)
            warnings.warn(f"tracker {name} failed ({named(error)}); the run goes on without it", stacklevel=4)
            if failed is not None:
                with suppress(Exception, SystemExit):
                    failed.close()


# What is told


def points(folder: Path) -> Iterator[tuple[int, Values]]:
    """All evaluations of the run in `folder` with the metrics up to each, in order: updates, values."""
    metrics = {line["updates"]: line for line in read_lines(folder / "metrics.jsonl")}
    for updates, records in groupby(read_lines(folder / "eval.jsonl"), lambda record: int(record["updates"])):
        yield updates, point(metrics.get(updates, {}), list(records))


def point(metrics: Mapping[str, Any], records: list[dict[str, Any]]) -> Values:
    """The metrics as they are called, and means over the episodes of an evaluation as evaluation/return and the like."""
    values = {name: float(value) for name, value in metrics.items() if name != "updates"}
    for name in sorted(records[0].keys() - {"updates", "seed"}):
        column = [record[name] for record in records]
        if None not in column:  # success, where the task has no such signal
            values[f"evaluation/{name}"] = float(np.mean(column))
    return values


def score_values(score: Mapping[str, Any]) -> Values:
    """A finished run's number, and its rate of success where the task has any."""
    return {f"score/{name}": float(score[name]) for name in ("mean", "success") if score[name] is not None}


# Which trackers


def chosen(asked: str | Tracker | None) -> dict[str, Make]:
    """The trackers of `a,b`, where each is known or the file of a user's own; None stands for $COWORLD_BENCH_TRACK.

    Raises UsageError for one that does not exist, and MissingPackage for one whose package is not installed."""
    if asked is not None and not isinstance(asked, str):
        return {type(asked).__name__: lambda: asked}
    return {name: maker(name) for name in whole_names(asked).split(",") if name != NONE}


def whole_names(asked: str | None) -> str:
    """The same as another process in another folder understands it."""
    words = os.environ.get(VARIABLE, "") if asked is None else asked
    names = [name.strip() for name in words.split(",") if name.strip()]
    whole = [str(Path(name).expanduser().resolve()) if name.endswith(".py") else name for name in names]
    return ",".join(dict.fromkeys(whole)) or NONE


def maker(name: str) -> Make:
    if name.endswith(".py"):
        return own(Path(name))
    if name not in KNOWN:
        raise unknown("tracker", name, [*KNOWN, NONE, "FILE.py"])
    if find_spec(name) is None:
        raise MissingPackage(name, INSTALL)
    return KNOWN[name]


def own(path: Path) -> Make:
    """The TRACKER of a user's own file. Raises UsageError where it has none or cannot be loaded."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a tracker ({', '.join(KNOWN)}) or a path")
    make = getattr(load_own(path), "TRACKER", None)
    if not callable(make):
        raise UsageError(f"{path} defines no TRACKER; it must be a class or function that is called without arguments")
    return make  # type: ignore[no-any-return]


class TensorBoard:
    """An event file in the run's folder, in the place of those that earlier processes wrote."""

    def start(self, run: TrackedRun) -> None:
        import json

        from torch.utils.tensorboard import SummaryWriter

        earlier = sorted(run.folder.glob("events.out.tfevents.*"))
        self.seen_at = wall_times(earlier)
        for path in earlier:
            path.unlink()
        self.writer = SummaryWriter(run.folder, purge_step=0)  # of what a TensorBoard that is looking on has read
        self.writer.add_text("config", f"```json\n{json.dumps(run.config, indent=2, sort_keys=True)}\n```")

    def log(self, updates: int, values: Values) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, updates, walltime=self.seen_at.get(updates))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def wall_times(files: list[Path]) -> dict[int, float]:
    """When the points of event files were written, in seconds since 1970, by updates."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    times: dict[int, float] = {}
    for event in (event for path in files for event in EventFileLoader(str(path)).Load()):
        if event.HasField("summary"):
            times.setdefault(event.step, event.wall_time)
    return times


class WandB:
    """A run of Weights & Biases under the run's own name, whose steps are updates; it never asks for a login."""

    def start(self, run: TrackedRun) -> None:
        import wandb

        mode = usable_mode(os.environ.get("WANDB_MODE", "offline"))
        for earlier in run.folder.glob(f"wandb/offline-run-*-{run.name}"):
            clear_folder(earlier)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "coworld-bench"), group=run.name.rpartition("--s")[0],
            id=run.name, name=run.name, dir=run.folder, config=run.config, mode=mode,
            resume="allow" if run.goes_on and mode != "offline" else None,
            settings=wandb.Settings(console="off", quiet=True, init_timeout=INIT_S, finish_timeout=FINISH_S),
        )  # fmt: skip

    def log(self, updates: int, values: Values) -> None:
        if updates >= self.run.step:  # the server keeps the points of earlier processes, and they are the same
            self.run.log(values, step=updates)

    def close(self) -> None:
        self.run.finish()


def usable_mode(mode: str) -> Any:
    """The mode that was asked for, or offline where W&B has no key or no server, which is warned of."""
    import wandb

    with suppress(wandb.Error):
        if mode not in ("online", "run", "shared") or wandb.login(prompt=False):
            return mode
    warnings.warn(f"W&B cannot be {mode}: it has no key here or no server that answers; it is offline now", stacklevel=2)
    return "offline"


KNOWN: dict[str, Make] = {"tensorboard": TensorBoard, "wandb": WandB}
