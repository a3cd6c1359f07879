"""Whether a store holds what was written: every file readable, every name that of its content, every score that of its
episodes. A report of faults, which raises nothing itself.

    verify_store -> run_faults (file_faults, then checks.py on what is in the files) -> store_faults

What no second number repeats cannot be checked: times, diagnostics, versions, and the returns of early checkpoints where
eval.jsonl does not lie beside the result.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coworld_bench.config import usual_env
from coworld_bench.errors import UsageError
from coworld_bench.files import digest_of, read_json, read_lines, sha256_file
from coworld_bench.paths import runs_home
from coworld_bench.reporting.store import FAILED, FINISHED, SCHEMA, UNFINISHED, run_folders
from coworld_bench.reporting.stores.checks import (
    ANCHOR_CHECKS,
    CONFIG_CHECKS,
    RESULT_CHECKS,
    Check,
    episodes_of,
    outcome,
)
from coworld_bench.reporting.stores.records import fingerprint_of
from coworld_bench.tasks import find_task

NEEDED = ("method", "target", "seed", "preset")
COMPARED = ("run", "target", "preset", "quality", "env", "dataset")  # what is looked at beside the other runs of a store
FILES = (("result.json", FINISHED), ("failed.json", FAILED), ("config.json", UNFINISHED))
AGAIN = "delete the folder, then take the run from another copy (`coworld-bench store merge`) or do it again"
RENAME = "give it back the name in its file"
DELETE = "delete it when no process is at work in this store"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file (its path inside the store) and what to do; a `warning` damages no number."""

    file: str
    what: str
    do: str
    warning: bool = False


@dataclass(frozen=True)
class Verdict:
    """`runs` counts them by state; those whose file cannot be read have none."""

    store: Path
    runs: dict[str, int]
    anchors: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        return all(fault.warning for fault in self.faults)


@dataclass(frozen=True)
class Found:
    """A run that could be read, the file that tells its state, and of its content what is COMPARED."""

    file: str
    state: str
    content: dict[str, Any]


def verify_store(runs: Path | str | None = None) -> Verdict:
    """Check every run and all anchors of a store. Raises UsageError for a folder that is missing."""
    store = runs_home(runs)
    if not store.is_dir():
        raise UsageError(f"there is no folder of results {store}; `coworld-bench run` makes one")
    faults: list[Fault] = []
    found: list[Found] = []
    for folder in run_folders(store):
        run, wrong = check_run(store, folder)
        faults += wrong
        found += [run] if run else []
    anchors = sorted((store / "anchors").glob("*.json"))
    judged = environments(found)
    faults += [fault for path in anchors for fault in check_anchors(store, path, judged)]
    faults += [*twice(found), *told_otherwise(found), *different_data(found), *strays(store), *kept_apart(store)]
    states = Counter(run.state for run in found)
    return Verdict(store, {state: states[state] for _, state in FILES}, len(anchors), tuple(faults))


def check_run(store: Path, folder: Path) -> tuple[Found | None, list[Fault]]:
    """The run in a folder, where it can be read, and all that is wrong there."""
    place = folder.relative_to(store).as_posix()
    if not any((folder / name).exists() for name, _ in FILES):
        return None, [no_run(place)] if "--" in folder.name else []
    contents: dict[str, dict[str, Any]] = {}
    faults: list[Fault] = []
    for name, state in FILES:
        if (folder / name).exists():
            content, wrong = read_file(folder / name, f"{place}/{name}", *NEEDED)
            faults += wrong
            if content is not None:
                contents[name] = content
                faults += check_content(f"{place}/{name}", folder.name, content, state)
    faults += check_beside(folder, place, contents)
    told = next(((name, state) for name, state in FILES if name in contents), None)
    if told is None:
        return None, faults
    content = contents[told[0]]
    return Found(f"{place}/{told[0]}", told[1], {key: content[key] for key in COMPARED if key in content}), faults


def no_run(place: str) -> Fault:
    return Fault(place, "it holds no result.json, failed.json or config.json", DELETE)


def read_file(path: Path, place: str, *needed: str) -> tuple[dict[str, Any] | None, list[Fault]]:
    """A JSON object of this schema with the keys that identify it, or the fault that hides it."""
    try:
        content = read_json(path)
    except (ValueError, RecursionError, OSError) as error:
        return None, [Fault(place, f"it cannot be read: {error}", AGAIN)]
    missing = [key for key in needed if not isinstance(content, dict) or key not in content]
    if missing:
        return None, [Fault(place, f"it lacks {', '.join(missing)}: no file of this project", "move it elsewhere")]
    schema = content.get("schema", SCHEMA)
    if not isinstance(schema, int) or isinstance(schema, bool) or not 1 <= schema <= SCHEMA:
        return None, [Fault(place, f"its schema is {schema!r}, this version reads 1 to {SCHEMA}", "update coworld-bench")]
    return content, []


def check_content(place: str, folder: str, content: dict[str, Any], state: str) -> Iterator[Fault]:
    """The checks of one file of a run, alone."""
    run = content.get("run", folder)
    if run != folder:
        yield Fault(place, f"it is of run {run!r}, in the folder {folder}", RENAME)
    for check in {FINISHED: RESULT_CHECKS, UNFINISHED: CONFIG_CHECKS, FAILED: ()}[state]:
        yield from as_faults(place, check, content)


def as_faults(place: str, check: Check, content: dict[str, Any], do: str = AGAIN) -> Iterator[Fault]:
    for what in outcome(check, content):
        yield Fault(place, what.removeprefix("warning: "), do, what.startswith("warning: "))


def check_beside(folder: Path, place: str, contents: dict[str, dict[str, Any]]) -> Iterator[Fault]:
    """What the files of one run say of each other."""
    result, config = contents.get("result.json"), contents.get("config.json")
    if result and "failed.json" in contents:
        yield Fault(f"{place}/failed.json", "the run has a result too, which counts", "delete failed.json", True)
    if result and config:
        yield from check_config(folder, place, result, config)
    lines = folder / "eval.jsonl"
    if result and lines.is_file():
        yield from check_lines(f"{place}/eval.jsonl", read_lines(lines), result)
    if (folder / "rollout.json").is_file():
        yield from check_rollout(folder, f"{place}/rollout.json")


def check_config(folder: Path, place: str, result: dict[str, Any], config: dict[str, Any]) -> Iterator[Fault]:
    for key in sorted(config.keys() & result.keys() - {"dataset"}):
        if config[key] != result[key]:
            yield Fault(f"{place}/result.json", f"its {key} is not that of config.json", AGAIN)
    if (folder / "config.json").stat().st_mtime > (folder / "result.json").stat().st_mtime + 1:
        what = "it was written after result.json: the run was begun again, or a file was changed"
        yield Fault(f"{place}/config.json", what, "nothing, if the files were copied one by one", True)


def check_lines(place: str, lines: list[Any], result: dict[str, Any]) -> Iterator[Fault]:
    """eval.jsonl tells of the same episodes as the result."""

    def compare(content: dict[str, Any]) -> Iterator[str]:
        told = [{"updates": evaluation["updates"], **episode} for evaluation, episode in episodes_of(content)]
        if len(lines) != len(told):
            yield f"it has {len(lines)} episodes, the result {len(told)}"
        for line, episode in zip(lines, told, strict=False):
            keys = [key for key in line if key in episode and line[key] != episode[key]]
            if keys:
                yield f"{keys[0]} of episode {line.get('seed')} is {line[keys[0]]!r}, in the result {episode[keys[0]]!r}"
                return

    yield from as_faults(place, compare, result)


def check_rollout(folder: Path, place: str) -> Iterator[Fault]:
    """A strip of pictures is the one that its description speaks of."""
    do = "delete it; `coworld-bench evaluate RUN --rollout` makes it again"
    told, wrong = read_file(folder / "rollout.json", place, "run", "file")
    yield from wrong
    if told is None:
        return
    picture = folder / str(told["file"])
    if told["run"] != folder.name:
        yield Fault(place, f"it is of run {told['run']!r}", do)
    if not picture.is_file():
        yield Fault(place, f"there is no {told['file']}", do)
    elif "sha256" in told and sha256_file(picture) != told["sha256"]:
        yield Fault(place, f"{told['file']} is not the picture it speaks of", do)


def environments(found: list[Found]) -> dict[tuple[str, str], set[str]]:
    """The digests of those that runs were judged in, by task and preset."""
    judged: dict[tuple[str, str], set[str]] = {}
    for run in found:
        if "env" in run.content:
            key = str(run.content["target"]), str(run.content["preset"])
            judged.setdefault(key, set()).add(digest_of(run.content["env"]))
    return judged


def check_anchors(store: Path, path: Path, judged: dict[tuple[str, str], set[str]]) -> Iterator[Fault]:
    place = path.relative_to(store).as_posix()
    do = "delete it; `coworld-bench anchors TASK` measures it again"
    content, wrong = read_file(path, place, "task", "preset", "env")
    yield from wrong
    if content is None:
        return
    for check in ANCHOR_CHECKS:
        yield from as_faults(place, check, content, do)
    for what in outcome(anchors_name, content):
        if what != path.name:
            yield Fault(place, f"the anchors in it would be called {what}", do)
    envs = judged.get((str(content["task"]), str(content["preset"])))
    if envs and digest_of(content["env"]) not in envs:
        yield Fault(place, "no run of this store was judged in its environment", "nothing, if such runs are to come", True)


def anchors_name(content: dict[str, Any]) -> Iterator[str]:
    """What the file of these anchors is called."""
    usual = usual_env(content["task"], content["preset"]).to_dict()
    other = "" if content["env"] == usual else f"-{digest_of(content['env'])[:8]}"
    yield f"{find_task(content['task']).id.replace('/', '-')}-{content['preset']}{other}.json"


def twice(found: list[Found]) -> Iterator[Fault]:
    """Runs that lie in two folders."""
    first: dict[str, str] = {}
    for run in found:
        name = str(run.content.get("run", run.file))
        if first.setdefault(name, run.file) != run.file:
            yield Fault(run.file, f"run {name} lies in {first[name]} too", "delete one of the two folders")


def told_otherwise(found: list[Found]) -> Iterator[Fault]:
    """Results that say other things of one dataset than most results that learnt from it."""
    told: dict[str, dict[str, list[Found]]] = {}
    for run in found:
        dataset = run.content.get("dataset")
        if run.state == FINISHED and isinstance(dataset, dict) and isinstance(dataset.get("fingerprint"), str):
            told.setdefault(dataset["fingerprint"], {}).setdefault(digest_of(dataset), []).append(run)
    for fingerprint, groups in told.items():
        most = max(groups.values(), key=len)
        for group in groups.values():
            for run in group if group is not most else []:
                more = f" and {len(most) - 1} more" if len(most) > 1 else ""
                what = f"of dataset {fingerprint[:10]} it says other than {most[0].file}{more}"
                yield Fault(run.file, what, AGAIN)


def different_data(found: list[Found]) -> Iterator[Fault]:
    """Finished runs on one target that did not learn from the same dataset."""
    seen: dict[str, Counter[str]] = {}
    for run in found:
        if run.state == FINISHED:
            for column, fingerprint in outcome(data_of, run.content, quiet=True):
                seen.setdefault(column, Counter())[fingerprint] += 1
    for column, counts in sorted(seen.items()):
        if len(counts) > 1:
            listed = ", ".join(f"{name[:10]} ({count} runs)" for name, count in counts.most_common())
            do = "compare only runs on one of them; a report takes the larger group of each cell"
            yield Fault(column, f"its runs learnt from {len(counts)} datasets: {listed}", do, True)


def data_of(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a run's column is called, and the dataset it learnt from."""
    usual = usual_env(content["target"], content["preset"]).to_dict()
    other = "" if content.get("env", usual) == usual else f", environment {digest_of(content['env'])[:8]}"
    yield f"{content['target']} ({content['preset']}, {content.get('quality', '')}{other})", fingerprint_of(content)


def strays(store: Path) -> Iterator[Fault]:
    """Files that a killed writer left behind."""
    for folder, inner, files in os.walk(store):
        left = sorted(name for name in (*inner, *files) if name.endswith((".partial", ".tmp")))
        inner[:] = sorted(name for name in inner if not name.endswith(".partial"))
        for name in left:
            place = (Path(folder) / name).relative_to(store).as_posix()
            yield Fault(place, "a writer was killed before it was whole", DELETE)


def kept_apart(store: Path) -> Iterator[Fault]:
    """Results that a merge found to be other than those here."""
    count = sum(path.is_dir() for path in (store / "conflicts").glob("*--*"))
    if count:
        what = f"{count} results of runs that are here with other numbers, kept apart by a merge"
        yield Fault("conflicts", what, "find out why they differ; delete those that are not wanted", True)
