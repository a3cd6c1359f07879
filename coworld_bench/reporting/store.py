"""Reading a store of results into tidy frames: one row per run, one row per checkpoint of a run.

STORE/<run id>/{result,failed,config}.json   or   STORE/runs/<run id>/…
STORE/<run id>/{rollout.json,rollout.png,domains.json}, where they were written: pictures of an episode, and where an older
               result's encoder puts domains
STORE/anchors/<suite>-<task>-<preset>[-<environment>].json
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import JSONDecodeError
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from coworld_bench.config import flat, read_value
from coworld_bench.errors import UsageError
from coworld_bench.files import canonical, digest_of, read_json
from coworld_bench.paths import runs_home

SCHEMA = 1
FINISHED, FAILED, UNFINISHED = "finished", "failed", "unfinished"
RUN_COLUMNS = [
    "run", "state", "method", "label", "target", "source", "seed", "preset", "quality", "protocol", "options",
    "settings", "env", "source_options", "variant", "score", "sd_checkpoints", "checkpoints", "episodes", "rule", "success",
    "dataset", "fingerprint", "dataset_mean", "dataset_sd", "dataset_episodes", "dataset_fired",
    "value_predicted", "value_realised", "value_miss", "source_value", "constraint_active", "alignment_loss",
    "updates", "device", "commit", "wall_s", "cpu_s", "gpu_s", "training_s", "episode_s",
    "updates_per_s", "peak_memory_bytes", "peak_gpu_bytes", "finished_at", "chosen", "distances",
    "error", "folder",
]  # fmt: skip
CURVE_COLUMNS = ["run", "updates", "return", "episodes"]


@dataclass(frozen=True)
class Store:
    """`runs` has RUN_COLUMNS, `curves` CURVE_COLUMNS; `anchors` is by (task, preset, digest of the environment)."""

    folder: Path
    runs: pd.DataFrame
    curves: pd.DataFrame
    anchors: dict[tuple[str, str, str], dict[str, Any]]


def read_store(runs: Path | str | None = None) -> Store:
    """Everything below a store. Raises UsageError for a folder that is missing, and for a result that is damaged or
    newer than this version."""
    folder = runs_home(runs)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; a store of results is a folder")
    if not folder.is_dir():
        raise UsageError(f"there is no folder of results {folder}; `coworld-bench run` makes one, --runs names another")
    entries: list[dict[str, Any]] = []
    curves: list[tuple[str, int, float, int]] = []
    for run_folder in run_folders(folder):
        found = read_run(run_folder)
        if found is None:
            continue
        state, content = found
        entries.append(run_row(run_folder.name, state, content) | {"folder": str(run_folder.relative_to(folder))})
        if state == FINISHED:
            curves += curve_rows(entries[-1]["run"], content)
    return Store(
        folder,
        with_plain_text(pd.DataFrame(entries, columns=RUN_COLUMNS)),
        pd.DataFrame(curves, columns=CURVE_COLUMNS),
        {(found["task"], found["preset"], env_digest(found)): found for found in read_anchors(folder)},
    )


def with_plain_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with Python's strings: reports take many small pieces of it, which is slow for Arrow's."""
    texts = [name for name in frame.columns if isinstance(frame[name].dtype, pd.StringDtype)]
    return frame.astype(dict.fromkeys(texts, object)).copy()


def run_folders(folder: Path) -> list[Path]:
    """The folders that may hold a run; hidden ones are being written, or were when their writer was killed."""
    found = [path for parent in (folder, folder / "runs") for path in sorted(parent.glob("*/")) if path.is_dir()]
    return [path for path in found if not path.name.startswith(".")]


def read_run(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The state of a run and the file that tells it; None for a folder that holds no run."""
    for name, state in (("result.json", FINISHED), ("failed.json", FAILED), ("config.json", UNFINISHED)):
        if (folder / name).is_file():
            needed = ("method", "target", "seed", "preset", *(("score", "evaluations") if state == FINISHED else ()))
            content = read_checked(folder / name, *needed)
            if state == FINISHED and not math.isfinite(content["score"]["mean"]):
                return FAILED, content | {"error": "its score is not a number"}
            return state, content | (with_domains(folder, content) if state == FINISHED else {})
    return None


def with_domains(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Where the run's encoder puts domains: in its result, or written beside an older one; empty where neither tells."""
    if "domains" in content:
        return {"domains": content["domains"]}
    path = folder / "domains.json"
    return {"domains": read_checked(path, "domains")["domains"]} if path.is_file() else {}


def read_anchors(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "anchors").glob("*.json")):
        yield read_checked(path, "task", "preset")


def read_checked(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object of this schema with the keys that identify it."""
    try:
        content = read_json(path)
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged ({error}); delete it, and run again or merge a good copy") from error
    if not isinstance(content, dict) or any(key not in content for key in needed):
        raise UsageError(f"{path} is not a file of this project (it must hold {', '.join(needed)}); move it elsewhere")
    schema = content.get("schema", SCHEMA)
    if schema > SCHEMA:
        raise UsageError(f"{path} has schema {schema}, this version reads up to {SCHEMA}; update coworld-bench")
    return content


def run_row(name: str, state: str, content: dict[str, Any]) -> dict[str, Any]:
    """One row of `Store.runs`; what a run that did not finish cannot know is missing."""
    row = {
        "run": content.get("run", name),
        "state": state,
        "method": content["method"],
        "label": content.get("label") or content["method"],
        "target": content["target"],
        "source": "+".join(content.get("sources") or []),
        "seed": int(content["seed"]),
        "preset": content["preset"],
        "quality": content.get("quality", ""),
        "protocol": content.get("protocol", 0),
        "options": options_text(content["options"]) if "options" in content else "",
        "settings": settings_of(content),
        "env": env_digest(content),
        "source_options": source_text(content),
        "variant": variant_of(content),
        "error": content.get("error", ""),
    }
    return row | finished_columns(content) if state == FINISHED else row


def env_digest(content: dict[str, Any]) -> str:
    """Names the environment of a run or of anchors."""
    return digest_of(content["env"]) if "env" in content else ""


def options_text(options: Mapping[str, Any]) -> str:
    """Settings on top of a preset, as text that is equal where they are."""
    return canonical({key: str(value) for key, value in options.items()}).decode()


def settings_of(content: dict[str, Any]) -> dict[str, Any]:
    """Every setting of a run by the name that an option has; runs that have the same share them."""
    family = content["method"].partition(":")[0]
    return _flat_settings(family, canonical([content.get("config", {}), content.get("method_config", {})]))


@lru_cache(maxsize=4096)
def _flat_settings(family: str, told: bytes) -> dict[str, Any]:
    shared, own = json.loads(told)
    return flat(shared) | flat(own, f"{family}.")


def source_text(content: dict[str, Any]) -> str:
    """What was asked of the sources' environments and of nothing else of a run; empty where it has no source."""
    if not content.get("sources"):
        return ""
    options = content.get("options", {})
    return source_options_text(options, content.get("source_options", {}))


def source_options_text(options: Mapping[str, Any], source_options: Mapping[str, Any]) -> str:
    shared = {key: value for key, value in options.items() if key.startswith("env.")}
    return canonical({key: read_value(value) for key, value in {**shared, **source_options}.items()}).decode()


def variant_of(content: dict[str, Any]) -> str:
    """The digest of all that seeds of one cell must share: settings and dataset. Empty where they are not recorded."""
    if "config" not in content:
        return ""
    dataset = content.get("dataset", "")
    fingerprint = dataset.get("fingerprint", "") if isinstance(dataset, dict) else dataset
    shared = [content.get(key) for key in ("config", "method_config", "method_file", "env", "revision")]
    return digest_of([*shared, fingerprint])


def finished_columns(result: dict[str, Any]) -> dict[str, Any]:
    score, dataset, diagnostics = result["score"], result.get("dataset", {}), result.get("diagnostics", {})
    return {
        **{name: score.get(name) for name in ("sd_checkpoints", "checkpoints", "episodes", "rule")},
        "score": score["mean"],
        "dataset": dataset.get("id", ""),
        "fingerprint": dataset.get("fingerprint", ""),
        "dataset_mean": dataset.get("return_mean"),
        "dataset_sd": dataset.get("return_std"),
        "dataset_episodes": dataset.get("episodes"),
        "dataset_fired": dataset.get("fired", True),
        **{name: diagnostics.get(name) for name in ("source_value", "constraint_active", "alignment_loss")},
        **late_columns(result),
        "updates": result["evaluations"][-1]["updates"],
        "device": result.get("device", ""),
        "commit": short_commit(result.get("commit")),
        **time_columns(result),
        **cost_columns(result),
        "finished_at": result.get("time", {}).get("finished", ""),
        "chosen": choice_of(result),
        "distances": result.get("domains", {}).get("distances"),
    }


def time_columns(result: dict[str, Any]) -> dict[str, Any]:
    """Seconds: of the whole run, of its processors, of its training alone, and of an episode of its evaluations."""
    time = result.get("time", {})
    wall, judging = time.get("wall_s"), time.get("evaluation_s")
    if wall is None or judging is None:
        return {"wall_s": wall, "cpu_s": time.get("cpu_s")}
    episodes = sum(len(evaluation["episodes"]) for evaluation in result["evaluations"])
    return {"wall_s": wall, "cpu_s": time.get("cpu_s"), "training_s": wall - judging, "episode_s": judging / episodes}


def cost_columns(result: dict[str, Any]) -> dict[str, Any]:
    """What a run took besides time, where its result tells: seconds on a GPU, speed, and the largest memory."""
    cost = result.get("cost", {})
    told = {name: cost.get(name) for name in ("updates_per_s", "peak_memory_bytes", "peak_gpu_bytes")}
    return told | {"gpu_s": result.get("time", {}).get("gpu_s")}


def choice_of(result: dict[str, Any]) -> dict[str, Any] | None:
    """What a method with many sources tells of them: which was nearest how often, and the entropy of each."""
    told = result.get("method_report", {})
    if "chosen" not in told:
        return None
    entropy = {name: result.get("diagnostics", {}).get(f"entropy/{name}") for name in told["sources"]}
    return {"share": told["share"], "entropy": entropy}


def late_columns(result: dict[str, Any]) -> dict[str, Any]:
    """Success rate, and the critic against the truth, over the episodes that the score is made of."""
    late = result["evaluations"][-result["score"]["checkpoints"] :]
    episodes = [episode for evaluation in late for episode in evaluation["episodes"]]
    wins = [episode.get("success") for episode in episodes]
    judged = [episode for episode in episodes if episode.get("value_predicted") is not None]
    columns: dict[str, Any] = {"success": None if None in wins else fmean(wins)}
    if judged:
        gaps = [episode["value_predicted"] - episode["value_realised"] for episode in judged]
        columns["value_predicted"] = fmean(episode["value_predicted"] for episode in judged)
        columns["value_realised"] = fmean(episode["value_realised"] for episode in judged)
        columns["value_miss"] = fmean(abs(gap) for gap in gaps)
    return columns


def short_commit(commit: dict[str, Any] | None) -> str:
    """Seven characters, with a plus where files were changed since."""
    return f"{commit['commit'][:7]}{'+' * bool(commit.get('dirty'))}" if commit and commit.get("commit") else "—"


def curve_rows(run: str, result: dict[str, Any]) -> Iterator[tuple[str, int, float, int]]:
    """Of each checkpoint what CURVE_COLUMNS name."""
    for evaluation in result["evaluations"]:
        returns = [episode["return"] for episode in evaluation["episodes"]]
        yield run, evaluation["updates"], fmean(returns), len(returns)
