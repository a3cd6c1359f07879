"""A stored run as it was written: which folder holds it, what its name is made from, what two tellings of it differ in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coworld_bench.files import digest_of
from coworld_bench.reporting.store import read_run, run_folders

IDENTITY = (
    "protocol", "method_file", "target", "env", "source_digests", "seed", "preset", "config", "method_config",
)  # fmt: skip
EPISODE = ("seed", "return", "length", "success")  # what counts of one; what a critic said of it does not
MAKING = ("source_agents", "device", "commit", "versions", "machine")  # why a run may come out otherwise
PLAYED = ("random", "constant", "untrained", "scripted")  # what anchors hold


@dataclass(frozen=True)
class Difference:
    """One value that two records of a run have and that is not the same: `evaluations[3].episodes[0].return`."""

    path: str
    ours: Any
    theirs: Any


@dataclass(frozen=True)
class Record:
    """A run in its folder: `content` is what the file that tells its state holds."""

    run: str
    state: str
    folder: Path
    content: dict[str, Any]


def read_records(store: Path) -> Iterator[Record]:
    """Every run of a store. Raises UsageError as `read_store` does."""
    for folder in run_folders(store):
        found = read_run(folder)
        if found is not None:
            state, content = found
            yield Record(content.get("run", folder.name), state, folder, content)


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """Of the dataset of a run: a result tells more of it than its fingerprint, a configuration does not."""
    dataset = content["dataset"]
    return str(dataset["fingerprint"] if isinstance(dataset, Mapping) else dataset)


def run_name(content: Mapping[str, Any]) -> str:
    """The name of a run, made again from a result or a configuration: who it is, and the digest of all that determines
    what comes out. Raises KeyError where something of that is not recorded."""
    return f"{run_stem(content)}--{digest_of(identity(content))[:10]}"


def run_stem(content: Mapping[str, Any]) -> str:
    """The part of a run's name that can be read: `coworld--metaworld-window_close--metaworld-drawer_close--s0`."""
    sources = [source.replace("/", "-") for source in content["sources"]] or ["none"]
    origin = sources[0] if len(sources) == 1 else f"{len(sources)}-sources"
    return "--".join(
        [content["method"].replace(":", "-"), content["target"].replace("/", "-"), origin, f"s{content['seed']}"]
    )


def identity(content: Mapping[str, Any]) -> dict[str, Any]:
    """All that determines a run's result, as `run_spec.ResolvedRun.identity` has it."""
    revision = content.get("revision", 1)
    named = {key: content[key] for key in IDENTITY} | ({"revision": revision} if revision > 1 else {})
    return named | {"method": content["method"].partition(":")[0], "dataset": fingerprint_of(content)}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Where two results of one run differ in score, checkpoints and episodes, or in what determines them. When, where, by
    whom and how fast it was done, and what was noted on the way, makes no difference."""
    mine, other = counted(ours), counted(theirs)
    return [difference for key in mine if key in other for difference in walk(key, mine[key], other[key])]


def counted(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result what must come out alike, the score first."""
    evaluations = [
        {
            "updates": each["updates"],
            "episodes": [{key: episode.get(key) for key in EPISODE} for episode in each["episodes"]],
        }
        for each in result["evaluations"]
    ]
    determining = {key: result[key] for key in ("method", *IDENTITY) if key in result}
    return {"score": result["score"], "evaluations": evaluations, "dataset": fingerprint_of(result)} | determining


def making(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """What two results of one run tell of why they may differ: source agents, code, versions, machine."""
    return [each for key in MAKING if key in ours and key in theirs for each in walk(key, ours[key], theirs[key])]


def anchor_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """The same of two files of anchors."""
    found: list[Difference] = []
    for key in (*PLAYED, "task", "preset", "env", "identity"):
        if key in ours and key in theirs:
            found += walk(key, ours[key], theirs[key])
    return found


def walk(path: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in ours:
            if key in theirs:
                yield from walk(f"{path}.{key}", ours[key], theirs[key])
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield Difference(f"length of {path}", len(ours), len(theirs))
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from walk(f"{path}[{place}]", mine, other)
    elif ours != theirs and not (ours != ours and theirs != theirs):
        yield Difference(path, ours, theirs)


def in_words(found: Iterable[Difference]) -> list[str]:
    """A line for each kind of value that differs: the first of them, and how many more there are."""
    kinds: dict[str, list[Difference]] = {}
    for difference in found:
        kinds.setdefault(re.sub(r"\[\d+\]", "[]", difference.path), []).append(difference)
    return [
        f"{same[0].path}: {same[0].ours!r} against {same[0].theirs!r}" + f" (and {len(same) - 1} more)" * (len(same) > 1)
        for same in kinds.values()
    ]
