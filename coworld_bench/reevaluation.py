"""A finished run's final policy, played again in the same environment: more episodes with seeds of their own, or the one
that is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coworld_bench.checkpoints import Checkpoints
from coworld_bench.config import FILE
from coworld_bench.devices import choose_device
from coworld_bench.dreamer import AgentSpec
from coworld_bench.errors import DatasetError, UsageError
from coworld_bench.evaluation import Evaluator, evaluator, mean_return
from coworld_bench.files import read_json, write_json
from coworld_bench.methods import Learner
from coworld_bench.rollouts import write_rollout
from coworld_bench.run_spec import SCHEMA, ResolvedRun, RunSpec
from coworld_bench.training import Run


def evaluate_run(
    folder: Path,
    *,
    episodes: int = 10,
    method: str | None = None,
    data: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Episodes, their mean and success rate, of the last checkpoint of the run in `folder`.

    `method` is the file of a user's own method, `files` are the options that name other files of the run; `workers`
    processes play at the same time. Raises UsageError where the run cannot be rebuilt as it was, and DatasetError where
    its dataset has other episodes now."""
    index = first_free_index(folder, episodes)
    with reopened(folder, method, data, device, min(workers, episodes), files or {}) as (run, learner, judge):
        records = judge.checkpoint(learner.policy, run.planned.spec.seed, index, episodes)
    wins = [record["success"] for record in records]
    return {
        "schema": SCHEMA,
        "run": run.resolved.id,
        "protocol": run.resolved.identity["protocol"],
        "updates": learner.updates,
        "episodes": records,
        "mean": mean_return(records),
        "success": None if None in wins else sum(wins) / len(wins),
    }


def store_rollout(
    folder: Path,
    *,
    method: str | None = None,
    data: Path | None = None,
    device: str = "auto",
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a run of today stores of the episode that it plays to be looked at, of a run in `folder` that is older:
    rollout.png and rollout.json, and domains.json where its result does not tell of domains. The result stays as it is.

    Returns what rollout.json holds. Raises as `evaluate_run` does."""
    with reopened(folder, method, data, device, 0, files or {}) as (run, learner, judge):
        visit = run.visit(learner, judge)
        told = write_rollout(folder, run.resolved.id, learner.updates, visit)
        if "domains" not in read_json(folder / "result.json") and (domains := run.domains(learner, visit)):
            write_json(folder / "domains.json", {"schema": SCHEMA, "run": run.resolved.id} | domains)
    return told


@contextmanager
def reopened(
    folder: Path, method: str | None, data: Path | None, device: str, workers: int, files: Mapping[str, str]
) -> Iterator[tuple[Run, Learner, Evaluator]]:
    """A finished run with its learner as it was at the last checkpoint, and an evaluator in its environment."""
    resolved = rebuild(read_json(folder / "config.json"), folder, method, data, files)
    config, run = resolved.planned.config, Run(resolved, folder, data, choose_device(device), None)
    state = run.checkpoints.newest()
    if state is None:
        raise DatasetError(f"run {resolved.id} has no checkpoint in {folder} that can be read; train it anew")
    learner = run.make_learner(state)
    scale = AgentSpec.of(resolved.dataset.domain, config).reward_scale
    with evaluator(resolved.planned.env, scale, config.behaviour.discount, workers) as judge:
        yield run, learner, judge


def rebuild(
    stored: dict[str, Any], folder: Path, method: str | None, data: Path | None, files: Mapping[str, str]
) -> ResolvedRun:
    """The run as it was asked for, resolved again."""
    if not Checkpoints(folder / "checkpoints"):
        raise UsageError(f"run {stored['run']} has no checkpoint of this version in {folder}; copied results hold none")
    if stored["method_file"] and method is None:
        raise UsageError(f"run {stored['run']} is of a method file of your own; name it with --method FILE.py")
    family = stored["method"].partition(":")[0]
    read = [f"{family}.{name}" for name, value in stored["method_config"].items() if str(value).startswith(FILE)]
    if missing := [name for name in read if name not in files]:
        raise UsageError(f"run {stored['run']} read a file as {missing[0]}; name it again (--weights FILE for r3m)")
    spec = RunSpec(
        method or stored["method"],
        stored["target"],
        tuple(stored["sources"]),
        stored["seed"],
        stored["preset"],
        stored["quality"],
        stored["options"] | dict(files),
        stored.get("target_options", {}),
        stored.get("source_options", {}),
    )
    resolved = spec.resolve(data)
    if resolved.dataset.fingerprint != stored["dataset"]:
        raise DatasetError(
            f"run {stored['run']} learnt from {resolved.dataset.id} with fingerprint {stored['dataset'][:10]}, which is "
            f"{resolved.dataset.fingerprint[:10]} now; name a --data folder with the episodes it had"
        )
    if resolved.id != stored["run"]:
        raise UsageError(
            f"run {stored['run']} would be {resolved.id} today: its method or settings changed since; "
            "use the version it was made with"
        )
    return resolved


def first_free_index(folder: Path, episodes: int) -> int:
    """A checkpoint index whose episode seeds the run has not used: seeds are numbered index * episodes + i."""
    result = read_json(folder / "result.json")
    used = sum(len(evaluation["episodes"]) for evaluation in result["evaluations"])
    return -(-used // episodes)
