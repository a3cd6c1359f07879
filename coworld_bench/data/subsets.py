"""Parts of a dataset by what is known of each episode; no picture is read to choose, and none is copied.

A rule is one or more conditions, written as they stand behind the `@` of a dataset's name: `first=0.5,success=1`.

    first=0.5            the first half, in the order of collection; of E episodes ⌈0.5 E⌉
    return=0.9..1        by rank of return, lowest first: ranks from 0.9 E up to E, both rounded; equal returns keep their
                         order of collection, so that neighbouring ranges share no episode and leave none out
    success=1            those that succeeded; 0: those that did not
    step=1000..5000      by how often the policy that played had been updated; the upper end is not included
    noise=0.1            by the noise of its actions: a level, or a range as above
    episodes=0+3+7..12   these numbers; the end of a range is not included
    part=train           what a split leaves to train on when it holds back the share `holdout` (0.1) by `seed` (0) from
                         a shuffle of all episodes; part=validation has the others

Each condition is decided on the whole dataset, and an episode must meet all of them; so their order means nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coworld_bench.data.lock import WriterLock
from coworld_bench.errors import DatasetError, UsageError, unknown
from coworld_bench.files import digest_of, read_json, write_json
from coworld_bench.seeding import generator

if TYPE_CHECKING:
    from coworld_bench.data.dataset import Dataset

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
DOTS = ".."
WRITTEN = {"returns": "return"}  # conditions whose word is none of Python's names
Range = tuple[float, float]  # lower end included, upper not; infinite where open


@dataclass(frozen=True)
class Rule:
    """The conditions of a subset; None: there is none of this kind. `str` writes it in the one way that names it."""

    first: float | None = None
    returns: Range | None = None
    success: bool | None = None
    step: Range | None = None
    noise: Range | float | None = None
    episodes: tuple[int, ...] | None = None
    part: Literal["train", "validation"] | None = None
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.first is not None and not 0 < self.first <= 1:
            raise UsageError(f"first is a share of the episodes, above 0 and at most 1; got {number(self.first)}")
        if self.returns is not None and not 0 <= self.returns[0] < self.returns[1] <= 1:
            raise UsageError(f"return is a range of ranks within 0..1, as in 0.9..1; got {ends(self.returns)}")
        if not 0 < self.holdout < 1:
            raise UsageError(f"holdout is a share of the episodes, between 0 and 1; got {number(self.holdout)}")
        if self.part is None and (self.holdout, self.seed) != (0.1, 0):
            raise UsageError("holdout and seed say how a split is made; say which side: part=train or part=validation")
        if self.episodes is not None:
            object.__setattr__(self, "episodes", tuple(sorted(set(self.episodes))))
        if not str(self):
            raise UsageError("a subset needs a condition; first=0.5 is one")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule that a text writes. Raises UsageError for an unknown condition or a value that cannot be."""
        given: dict[str, Any] = {}
        for condition in text.split(","):
            key, equals, value = condition.strip().partition("=")
            if key not in READ:
                raise unknown("condition of a subset", key, READ)
            if not equals or key in given:
                raise UsageError(f"conditions are written key=value, each once, as in first=0.5,success=1; got {text!r}")
            try:
                given[key] = READ[key](value)
            except ValueError:
                raise UsageError(f"a condition is written as in {EXAMPLES[key]}; got {condition.strip()!r}") from None
        fields_of = {word: field for field, word in WRITTEN.items()}
        return cls(**{fields_of.get(key, key): value for key, value in given.items()})

    def __str__(self) -> str:
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.part is None:
            del said["holdout"], said["seed"]
        given = {WRITTEN.get(key, key): written(key, value) for key, value in said.items() if value is not None}
        return ",".join(f"{key}={value}" for key, value in given.items())

    def choose(self, dataset: Dataset) -> np.ndarray:
        """The numbers of the episodes that meet all conditions, ascending: int64 [E]."""
        meets = np.ones(dataset.episodes, bool)
        for condition in self._conditions(dataset):
            meets &= condition
        return np.flatnonzero(meets)

    def _conditions(self, dataset: Dataset) -> Iterator[np.ndarray]:
        """Of each condition, the episodes of the whole dataset that meet it: bool [E]."""
        count = dataset.episodes
        place = np.arange(count)
        if self.first is not None:
            yield place < math.ceil(self.first * count - 1e-9)
        if self.returns is not None:
            low, high = (math.floor(end * count + 0.5) for end in self.returns)
            rank = np.argsort(np.argsort(dataset.returns, kind="stable"), kind="stable")
            yield (rank >= low) & (rank < high)
        if self.success is not None:
            yield dataset.successes == self.success
        if self.step is not None:
            yield inside(dataset.policy_steps, self.step)
        if self.noise is not None:
            yield inside(dataset.noise, self.noise)
        if self.episodes is not None:
            if self.episodes[-1] >= count:
                raise UsageError(f"{dataset.id} has episodes 0 to {count - 1}; got {self.episodes[-1]}")
            yield np.isin(place, self.episodes)
        if self.part is not None:
            shuffled = generator(self.seed, "split").permutation(count)
            held_back = np.isin(place, shuffled[: math.floor(self.holdout * count + 0.5)])
            yield held_back if self.part == "validation" else ~held_back


def inside(values: np.ndarray, wanted: Range | float) -> np.ndarray:
    """Whether each value is in a range, or is this one."""
    if isinstance(wanted, tuple):
        return (values >= wanted[0]) & (values < wanted[1])
    same: np.ndarray = values == wanted
    return same


def number(value: float) -> str:
    """0.5, 1000: the shortest text that reads back as the same number."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def ends(value: Range) -> str:
    return DOTS.join("" if math.isinf(end) else number(end) for end in value)


def written(key: str, value: Any) -> str:
    """A condition's value as text."""
    if key == "episodes":
        return spans(value)
    if isinstance(value, tuple):
        return ends(value)
    return value if isinstance(value, str) else number(value)


def spans(numbers: tuple[int, ...] | list[int]) -> str:
    """0, 3, 7, 8, 9 as `0+3+7..10`."""
    runs = [[n for _, n in same] for _, same in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return "+".join(str(run[0]) if len(run) == 1 else f"{run[0]}{DOTS}{run[-1] + 1}" for run in runs)


def read_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def read_range(text: str) -> Range:
    low, dots, high = text.partition(DOTS)
    if not dots:
        raise ValueError(text)
    found = (read_number(low) if low else -math.inf, read_number(high) if high else math.inf)
    if found[0] >= found[1]:
        raise ValueError(text)
    return found


def read_ranks(text: str) -> Range:
    low, high = read_range(text)
    return max(low, 0.0) if math.isinf(low) else low, 1.0 if math.isinf(high) else high


def read_episodes(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split("+"):
        low, dots, high = part.partition(DOTS)
        first = read_natural(low)
        end = read_natural(high) if dots else first + 1
        if not 0 < end - first < 10**7:
            raise ValueError(text)
        found |= set(range(first, end))
    return tuple(sorted(found))


def read_natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def read_part(text: str) -> str:
    if text not in ("train", "validation"):
        raise ValueError(text)
    return text


READ: dict[str, Callable[[str], Any]] = {
    "first": read_number,
    "return": read_ranks,
    "success": lambda text: ("0", "1").index(text) == 1,
    "step": read_range,
    "noise": lambda text: read_range(text) if DOTS in text else read_number(text),
    "episodes": read_episodes,
    "part": read_part,
    "holdout": read_number,
    "seed": read_natural,
}
EXAMPLES = {
    "first": "first=0.5", "return": "return=0.9..1", "success": "success=1 or success=0", "step": "step=1000..5000",
    "noise": "noise=0.1 or noise=0..0.2", "episodes": "episodes=0+3+7..12", "part": "part=train or part=validation",
    "holdout": "holdout=0.1", "seed": "seed=0",
}  # fmt: skip


# Named ones


def definitions(folder: Path) -> Path:
    """Where the names of a dataset's subsets are kept: beside it, for its own files are complete."""
    return folder.with_name(f"{folder.name}.subsets.json")


def named_rules(dataset: Dataset) -> dict[str, str]:
    """The rules that were given names for this dataset, by name."""
    return {name: entry["rule"] for name, entry in read_definitions(dataset).items()}


def read_definitions(dataset: Dataset) -> dict[str, dict[str, str]]:
    path = definitions(dataset.folder)
    if not path.is_file():
        return {}
    try:
        return {name: {"rule": str(entry["rule"]), "of": str(entry["of"])} for name, entry in read_json(path).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); remove it and split again") from error


def rule_of(dataset: Dataset, view: str) -> Rule:
    """The rule behind the `@` of a name: written out, or one that was given a name.

    Raises UsageError for one that does not exist, DatasetError where the dataset is another one since."""
    if "=" in view:
        return Rule.parse(view)
    known = read_definitions(dataset)
    if view not in known:
        look = f"coworld-bench data split {dataset.id} --where RULE --name {view}"
        raise (
            unknown(f"subset of {dataset.id}", view, known)
            if known
            else UsageError(f"{dataset.id} has no subset {view!r}, nor any other with a name; `{look}` makes it")
        )
    if known[view]["of"] != dataset.fingerprint:
        raise DatasetError(
            f"subset {view!r} was defined for other episodes: {dataset.id} had fingerprint {known[view]['of'][:10]} then, "
            f"and has {dataset.fingerprint[:10]} now; define it again with `data split --force`, or put the dataset back"
        )
    return Rule.parse(known[view]["rule"])


def give_names(dataset: Dataset, rules: Mapping[str, Rule], force: bool = False) -> Path:
    """Keep rules under names, for this dataset as it is. Raises UsageError for a name that is none or is another rule's."""
    for name in rules:
        if not NAME.fullmatch(name):
            raise UsageError(f"a subset's name is letters, digits, dots, dashes and underscores; got {name!r}")
    path = definitions(dataset.folder)
    with WriterLock(path.parent, f".{path.name}.lock", wait=True):
        known = read_definitions(dataset)
        new = {name: {"rule": str(rule), "of": dataset.fingerprint} for name, rule in rules.items()}
        others = [name for name in new if name in known and known[name] != new[name]]
        if others and not force:
            raise UsageError(f"{others[0]!r} is the name of {known[others[0]]['rule']} already; give --name or --force")
        write_json(path, known | new)
    return path


def subset_fingerprint(dataset: Dataset, rule: Rule) -> str:
    """What names a subset in every result: its dataset and its rule, whatever it was called."""
    return digest_of([dataset.fingerprint, str(rule)])


def split_by(dataset: Dataset, by: str, seed: int = 0) -> dict[str, Rule]:
    """The parts of a dataset, by name: `holdout=0.2`, `return=4` (as many ranges of equal size), `success` or `noise`.

    No two share an episode and together they have all. Raises UsageError for anything else."""
    kind, _, value = by.partition("=")
    if kind == "holdout" and value:
        share = Rule.parse(f"part=train,holdout={value}").holdout
        return {part: Rule(part=part, holdout=share, seed=seed) for part in ("train", "validation")}
    if kind == "return" and value.isdecimal() and 2 <= int(value) <= dataset.episodes:
        count = int(value)
        return {f"q{i + 1}": Rule(returns=(i / count, (i + 1) / count)) for i in range(count)}
    if by == "success":
        return {"success": Rule(success=True), "failure": Rule(success=False)}
    if by == "noise":
        return {f"noise{number(level)}": Rule(noise=level) for level in sorted(set(dataset.noise.tolist()))}
    raise UsageError(
        f"a dataset is split by holdout=SHARE, return=N (N from 2 to the number of episodes), success or noise; got {by!r}"
    )
