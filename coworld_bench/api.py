"""Single runs with friendly signatures: what `coworld_bench.train` and `coworld_bench.evaluate` are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coworld_bench.bench.claims import claimed
from coworld_bench.bench.opened import open_runs, whole
from coworld_bench.bench.status import telling
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import read_json
from coworld_bench.paths import data_home
from coworld_bench.reevaluation import evaluate_run, store_rollout
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.stopping import Stop, never
from coworld_bench.tracking import Tracker, chosen
from coworld_bench.training import train as train_run

Observe = Callable[[dict[str, Any]], None]


def train(
    method: str,
    target: str,
    source: str | Sequence[str] | None = None,
    *,
    seed: int = 0,
    preset: str = "quick",
    quality: str = "medium-replay",
    options: Mapping[str, str] | None = None,
    source_options: Mapping[str, str] | None = None,
    data: Path | str | None = None,
    runs: Path | str | None = None,
    device: str = "auto",
    force: bool = False,
    workers: int = 0,
    observe: Observe | None = None,
    stop: Stop = never,
    track: str | Tracker | None = None,
) -> dict[str, Any]:
    """One run: its result, as it is stored in `runs`/<run>/result.json; a finished run is read, not done again.

    >>> result = train("coworld", "metaworld/window_close", "metaworld/drawer_close")  # doctest: +SKIP
    >>> result["score"]["mean"], result["score"]["rule"]  # doctest: +SKIP

    `method` is a shipped name or the path of a method file; a source agent that is missing is trained first;
    `source_options` are settings of source agents alone, such as env.observation=state for one that sees no pictures.
    `workers` environment processes play the episodes of an evaluation at the same time; the result is the same. When
    `stop` says so the work ends at a checkpoint with StoppedAtCheckpoint, and the same call goes on from there. `track`:
    trackers that are told of the run and change nothing of it, `tensorboard`, `wandb`, `a,b`, a user's own as FILE.py or as
    an object; None stands for $COWORLD_BENCH_TRACK, `none` for none. Raises
    UsageError for a name or setting that does not exist, and DatasetError where the target's dataset is missing."""
    sources = (source,) if isinstance(source, str) else tuple(source or ())
    asked, of_source = dict(options or {}), dict(source_options or {})
    spec = RunSpec(method, target, sources, seed, preset, quality, asked, source_options=of_source)
    spec.plan().settings.check()
    chosen(track)
    resolved, home = spec.resolve(data_home(data)), data_home(data)
    store = open_runs(runs)
    if (store / resolved.id / "result.json").is_file() and not force:
        return read_json(store / resolved.id / "result.json")
    for needed in resolved.planned.source_specs():
        with claimed(home, needed.folder(home).name) as claim:
            pretrain_source(needed, home, device, about_source(observe), claim.guarding(stop))
    log, words = store / resolved.id / "stderr.log", f"train {resolved.planned.title()}"
    with claimed(store, resolved.id) as claim, telling(log, words, observe, claim.guarding(stop)) as (tell, asked_to_stop):
        return train_run(
            spec, data=home, runs=store, device=device, force=force, workers=workers, observe=tell, stop=asked_to_stop,
            track=track,
        )  # fmt: skip


def about_source(observe: Observe | None) -> Observe | None:
    """Says which part of the work the progress is of."""
    return None if observe is None else lambda progress: observe(progress | {"part": "source agent"})


def evaluate(
    run: Path | str,
    *,
    episodes: int = 10,
    method: str | None = None,
    runs: Path | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    workers: int = 0,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The final policy of a finished run, played again for `episodes` episodes; the stored result is left as it is.

    `run` is a run's folder, or its name in the store `runs`; `method` the file of a user's own method;
    `files` are the options that named other files, such as `r3m.weights`, which results do not hold; `workers` as in
    `train`. Raises UsageError for a run that is not there."""
    if episodes < 1:
        raise UsageError(f"episodes must be at least 1; got {episodes}")
    store, home = open_runs(runs), data_home(data)
    folder = find_run(run, store)
    with whole(store, folder):
        return evaluate_run(
            folder, episodes=episodes, method=method, data=home, device=device, workers=workers, files=files
        )


def rollout(
    run: Path | str,
    *,
    method: str | None = None,
    runs: Path | str | None = None,
    data: Path | str | None = None,
    device: str = "auto",
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Store pictures of one episode of a finished run's final policy beside its result, as a run of today does itself; what
    `rollout.json` then holds. `run`, `method` and `files` as in `evaluate`."""
    store = open_runs(runs)
    folder = find_run(run, store)
    with whole(store, folder):
        return store_rollout(folder, method=method, data=data_home(data), device=device, files=files)


def find_run(run: Path | str, store: Path) -> Path:
    """The folder of a finished run. Raises UsageError, with the nearest names, where there is none."""
    for folder in (Path(run).expanduser(), store / run):
        if (folder / "result.json").is_file():
            return folder
    raise unknown("finished run", str(run), [path.parent.name for path in store.glob("*/result.json")])
