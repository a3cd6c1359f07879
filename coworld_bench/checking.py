"""Whether a method keeps the contract of `methods.py`, found in seconds on three episodes of `toy/point`.

A few learners of the method are made and compared. `first` spends a whole run and acts in the middle and at the end, as
under the evaluator; `again` does the same without acting in the middle; another has another seed; two go on from what
`first` had stored. No environment of the target is open meanwhile: pictures to act on are the dataset's.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.config import PRESETS, override, resolve
from coworld_bench.data.episode import digest_arrays
from coworld_bench.data.memory import ARRAYS, EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.devices import choose_device
from coworld_bench.envs import domain_of
from coworld_bench.errors import UsageError, UserError, named, own_line
from coworld_bench.guards import GlobalStreams, scramble_streams, streams_kept, watched_doors
from coworld_bench.methods import COUNTS, Job, Method, SourceAgent, load_method, method_file
from coworld_bench.online import OnlineAgent
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.tasks import SUITES
from coworld_bench.training import own_report

OK, FAILED, WARNING, SKIPPED = "ok", "FAILED", "warning", "not checked"
TARGET, SOURCE, PRESET = "toy/point", "toy/point_mirrored", "smoke"
TINY = {"online.prefill": "50", "online.source_env_steps": "100"}  # a source agent of two episodes
EPISODES, PICTURES = 3, 6  # of the dataset; that the policy acts on
MOST_UPDATES, PATIENCE = 1000, 1000  # under preset smoke; turns without an update
PLAIN = (Tensor, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)  # can be stored
T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """What became of one check; `said` is what the method keeps, or in which way it does not."""

    check: str
    state: str
    said: str


class Broken(Exception):
    """The method breaks its contract; the message tells its author how."""


def check_methods(
    names: Sequence[str], options: Mapping[str, str] | None = None, device: str = "auto", home: Path | None = None
) -> list[tuple[str, Iterator[Finding]]]:
    """The findings of each method, which are made while they are asked for; source agents are kept in `home`.

    Raises UsageError for names, files and options that do not exist."""
    opened = [(name, open_method(name, options or {})) for name in names]
    return [(name, findings(*method, choose_device(device), home)) for name, method in opened]


def open_method(name: str, options: Mapping[str, str]) -> tuple[PlannedRun | None, list[Finding]]:
    """The checks that need no learner, and where they are good the run that the others are of."""
    done: list[Finding] = []
    file = method_file(name)
    if file is None or not file.is_file():
        load_method(name)
    for check in OPENING:
        done.append(check.made(name))
        if done[-1].state == FAILED:
            return None, done
    sources = load_method(name).sources
    given = (SOURCE,) * (1 if sources == "many" else sources)
    return RunSpec(name, TARGET, given, preset=PRESET, options={**TINY, **options}).plan(), done


def findings(planned: PlannedRun | None, done: list[Finding], device: str, home: Path | None) -> Iterator[Finding]:
    yield from done
    states = {finding.check: finding.state for finding in done}
    with tempfile.TemporaryDirectory(prefix="check-method-") as folder:
        subject = Subject(planned, Path(folder), device, home) if planned else None
        for check in CHECKS:
            lacking = [need for need in (*(opening.name for opening in OPENING), *check.needs) if states.get(need) != OK]
            if lacking or subject is None:
                found = Finding(check.name, SKIPPED, f"needs the check of {lacking[0]}")
            else:
                found = check.made(subject)
            states[check.name] = found.state
            yield found


class Subject:
    """A method under check: what its learners are given, and what was noticed of them beside what a check looks at."""

    def __init__(self, planned: PlannedRun, folder: Path, device: str, home: Path | None) -> None:
        self.planned, self.folder, self.device, self.home = planned, folder, device, home or folder
        self.target = domain_of(planned.env)
        self.opened: dict[str, str] = {}  # environments that are not its own to open, and where it did
        self.moved: dict[str, str] = {}  # global random streams, and what had been asked of it
        self.faults: dict[str, Broken] = {}  # of a check whose turn comes later
        self.first: Trial
        self.middle = 0  # turns of `first` until half of its updates

    def prepare(self) -> None:
        """Make the dataset and the source agents."""
        with Staging(self.folder / "episodes") as staging:
            with closing(OnlineAgent(self.target, self.planned.config, 0, staging, self.device)) as online:
                for _ in range(EPISODES):
                    online.prefill_episode()
            self.data = online.memory
        self.sources = tuple(self._sources())

    def _sources(self) -> Iterator[SourceAgent]:
        specs = self.planned.source_specs()
        if self.planned.method.sources == "many":
            specs *= 2
        for seed, spec in enumerate(specs):
            spec = replace(spec, seed=seed)
            pretrain_source(spec, self.home, self.device)
            yield spec.open(self.home)

    def asked(self, what: str, do: Callable[[], T]) -> T:
        """What the method's code answers, with environments and global streams watched. Raises Broken where it raises."""
        streams = GlobalStreams()
        try:
            with watched_doors({source.domain.task.id for source in self.sources}) as opened:
                return do()
        except Broken:
            raise
        except UserError as error:
            raise Broken(f"{what}: {error}") from error
        except (Exception, SystemExit) as error:
            raise Broken(f"{what} raised {named(error)} ({own_line(error) or last_line(error)})") from error
        finally:
            for name, place in opened.items():
                self.opened.setdefault(name, f"{what}{f', {place}' if place else ''}")
            for stream in streams.moved():
                self.moved.setdefault(stream, what)

    def attempt(self, check: str, do: Callable[[], T]) -> T | None:
        """What `do` gives; where it is broken, the fault of a later check."""
        try:
            return do()
        except Broken as fault:
            self.faults.setdefault(check, fault)
            return None

    def raise_fault(self, check: str) -> None:
        if check in self.faults:
            raise self.faults[check]


@dataclass(frozen=True)
class Turn:
    """What a turn gave: metrics as numbers, what is wrong with the first bad one, updates and counts after it."""

    metrics: dict[str, float]
    wrong: str
    updates: int
    counts: Any


class Trial:
    """A learner at work on a copy of the dataset, under global random streams of its own."""

    def __init__(self, subject: Subject, name: str, seed: int = 0, folder: Path | None = None) -> None:
        scramble_streams(sum(name.encode()))
        self.subject, self.name, self.folder = subject, name, folder or subject.folder / name
        self.data = copy.deepcopy(subject.data)
        planned = subject.planned
        job = Job(planned.config, subject.target, self.data, subject.sources, seed, subject.device, self.folder)
        self.learner = subject.asked("making the learner", lambda: planned.method.make(planned.settings, job))
        self.turns: list[Turn] = []
        self.total, self.updates = self.whole("total"), self.whole("updates")
        self.counts = subject.attempt("counts", lambda: subject.asked("counts()", self.learner.counts))

    def whole(self, part: str) -> int:
        """`updates` or `total`."""
        value = self.subject.asked(part, lambda: getattr(self.learner, part))
        if isinstance(value, bool) or not isinstance(value, int):
            raise Broken(f"{part} is {value!r}, a {type(value).__name__}; it must be an int")
        return value

    def go(self, until: int) -> list[Turn]:
        """Take turns until so many updates; returns all turns so far."""
        idle = 0
        while self.updates < until:
            before = self.updates
            self.turn()
            idle = 0 if self.updates > before else idle + 1
            if idle > PATIENCE:
                raise Broken(
                    f"updates is still {before} of {self.total} after {PATIENCE} turns; turn() must bring it to total"
                )
        return self.turns

    def turn(self) -> None:
        subject, before, number = self.subject, self.updates, len(self.turns) + 1
        metrics, wrong = read(subject.asked(f"turn() number {number}", self.learner.turn))
        self.updates = self.whole("updates")
        if not 0 <= self.updates - before <= 1:
            raise Broken(
                f"turn() number {number} took updates from {before} to {self.updates} (total {self.total}): a turn may add "
                f"1 or nothing, since evaluations are due at given updates"
            )
        counts = subject.attempt("counts", lambda: subject.asked("counts()", self.learner.counts))
        self.turns.append(Turn(metrics, wrong, self.updates, counts))

    def play(self) -> np.ndarray:
        """The actions of the policy on an episode's first pictures, as the evaluator asks for them: float32 [N, A]."""
        asked, policy = self.subject.asked, self.subject.asked("policy", lambda: self.learner.policy)
        device = asked("policy.device", lambda: torch.device(policy.device))
        generator = torch.Generator(device).manual_seed(7)
        carry = asked("policy.initial()", policy.initial)
        actions = []
        for picture in self.subject.data.array("image")[:PICTURES]:
            given = picture[None].copy()
            acted = asked("policy.act()", lambda given=given, carry=carry: policy.act(given, carry, generator))  # type: ignore[misc]
            action, carry = split(acted)
            actions.append(checked_action(action, self.subject.target.action))
            check_value(asked("policy.value()", lambda carry=carry: policy.value(carry)))  # type: ignore[misc]
            if not np.array_equal(given[0], picture):
                raise Broken("policy.act() writes into the picture that it is given; copy it first")
        return np.stack(actions)

    def state(self, name: str) -> Any:
        """The learner's state, stored in a file and read again."""
        state = self.subject.asked("state_dict()", self.learner.state_dict)
        path = self.subject.folder / f"{self.name}-{name}.pt"
        try:
            save_state(path, state)
            return load_state(path)
        except Exception as error:
            odd = (
                f"{place} is of type {type(leaf).__name__}" for place, leaf in leaves(state) if not isinstance(leaf, PLAIN)
            )
            raise Broken(
                f"state_dict() cannot be stored: {next(odd, named(error))}; what can are tensors, numbers and text, and "
                f"dicts, lists and tuples of them"
            ) from error

    def keep(self, name: str) -> None:
        """Store the state, and the run's folder as it is now."""
        self.state(name)
        self.folder.mkdir(exist_ok=True)
        shutil.copytree(self.folder, self.subject.folder / f"folder-{name}")

    def restored(self, name: str) -> Trial:
        """A new learner that has loaded what was kept."""
        other = Trial(self.subject, f"from-{name}", folder=self.subject.folder / f"folder-{name}")
        state = load_state(self.subject.folder / f"{self.name}-{name}.pt")
        self.subject.asked("load_state_dict()", lambda: other.learner.load_state_dict(state))
        other.updates = other.whole("updates")
        return other


# The checks, in the order of CHECKS


def check_file(name: str) -> None:
    try:
        load_method(name)
    except UserError as error:
        raise Broken(str(error)) from error


def check_settings(name: str) -> None:
    method = load_method(name)
    try:
        for preset in PRESETS:
            for suite in SUITES:
                check_settings_of(method, preset, suite)
    except UsageError as error:
        raise Broken(str(error)) from error


def check_settings_of(method: Method, preset: str, suite: str) -> None:
    shared = resolve(preset, suite)
    method.adapt(shared, suite)
    override(shared, method.source_options(preset, suite))
    for each in (method, *map(method.variant, method.variants)):
        settings = each.defaults(preset, suite)
        try:
            again = type(settings).model_validate(json.loads(json.dumps(settings.to_dict())))
        except Exception as error:
            raise Broken(
                f"settings of {each.name} under preset {preset} cannot be stored as JSON: {named(error)}"
            ) from error
        if again != settings:
            raise Broken(
                f"settings of {each.name} under preset {preset} come back from JSON as {again!r}, not {settings!r}"
            )


def check_learner(subject: Subject) -> None:
    subject.prepare()
    first = subject.first = Trial(subject, "first")
    if not 1 <= first.total <= MOST_UPDATES:
        raise Broken(
            f"total is {first.total} under preset {PRESET}, which is for seconds: let it be job.config.budget.updates, and "
            f"change that with Method(shared={{'{PRESET}': ...}}) where it must"
        )
    if first.updates:
        raise Broken(f"updates of a new learner is {first.updates}; it must be 0")


def check_turns(subject: Subject) -> None:
    first = subject.first
    subject.attempt("storing", lambda: first.keep("start"))
    subject.middle = len(first.go(first.total // 2))
    subject.attempt("storing", lambda: first.keep("middle"))
    subject.acted = [subject.attempt("actions", first.play)]
    first.go(first.total)
    subject.acted.append(subject.attempt("actions", first.play))
    if first.whole("total") != first.total:
        raise Broken(f"total was {first.total} and became {first.whole('total')}; it must not change")


def check_metrics(subject: Subject) -> None:
    for number, turn in enumerate(subject.first.turns, 1):
        if turn.wrong:
            raise Broken(f"turn() number {number}: {turn.wrong}")


def check_counts(subject: Subject) -> None:
    subject.raise_fault("counts")
    before = dict.fromkeys(COUNTS, 0)
    for counts in (subject.first.counts, *(turn.counts for turn in subject.first.turns)):
        check_count(counts, before)
        before = counts
    if not before["world_model_updates"] + before["behaviour_updates"]:
        raise Broken(
            "counts() has neither world_model_updates nor behaviour_updates at the end; it must tell what was spent"
        )
    report = subject.asked("report()", lambda: own_report(subject.first.learner))
    try:
        json.dumps(report)
    except (TypeError, ValueError) as error:
        raise Broken(f"report() cannot be written as JSON: {error}") from error


def check_count(counts: Any, before: Mapping[str, int]) -> None:
    if not isinstance(counts, Mapping) or set(counts) != set(COUNTS):
        given = sorted(counts) if isinstance(counts, Mapping) else counts
        raise Broken(f"counts() has {given}; it must have {', '.join(COUNTS)}, with 0 for what there is none of")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int):
            raise Broken(f"counts()[{name!r}] is {count!r}, a {type(count).__name__}; it must be an int")
        if count < before[name]:
            raise Broken(f"counts()[{name!r}] fell from {before[name]} to {count}")


def check_actions(subject: Subject) -> None:
    subject.raise_fault("actions")


def check_same_seed(subject: Subject) -> None:
    first = subject.first
    again = Trial(subject, "again")
    found = difference(first.turns, again.go(again.total), subject.device)
    if found is not None and found[0] > subject.middle:
        what = f"turn() number {found[0]} gives other numbers when the policy has acted before it: {found[1]}"
        subject.faults.setdefault("quiet", Broken(f"{what}; acting must leave the learner as it is"))
        return
    hint = "draw from generators seeded with job.seed alone, and initial weights inside torch.random.fork_rng()"
    if found is not None:
        raise Broken(f"turn() number {found[0]} gives other numbers with the same seed: {found[1]}; {hint}")
    if not alike(subject.acted[1], subject.attempt("actions", again.play), subject.device):
        raise Broken(f"the policy gives other actions after the same turns with the same seed; {hint}")


def check_other_seed(subject: Subject) -> None:
    first, other = subject.first, Trial(subject, "other", seed=1)
    turns = other.go(other.total // 2)
    acted = subject.attempt("actions", other.play)
    if difference(first.turns[: subject.middle], turns, subject.device) is None:
        if alike(subject.acted[0], acted, subject.device):
            raise Broken(
                "seeds 0 and 1 give the same numbers and actions; initial weights and batches must follow job.seed"
            )


def check_restoring(subject: Subject) -> None:
    subject.raise_fault("storing")
    first, middle, device = subject.first, subject.middle, subject.device
    begun, half = first.restored("start"), first.restored("middle")
    updates = first.turns[middle - 1].updates if middle else 0
    if (begun.updates, half.updates) != (0, updates):
        raise Broken(
            f"a learner stored at 0 and {updates} updates has {begun.updates} and {half.updates} when it is restored"
        )
    hint = "state_dict() must hold all that changes: weights, optimisers, random streams, the place in the data, counts"
    if not alike(subject.acted[0], subject.attempt("actions", half.play), device):
        raise Broken(f"a restored learner's policy gives other actions than the stored one's; {hint}")
    for kept, turns in ((begun, first.turns[:middle]), (half, first.turns[middle:])):
        found = difference(turns, kept.go(turns[-1].updates if turns else 0), device)
        if found is not None:
            raise Broken(f"turn() number {found[0]} after restoring gives other numbers than without: {found[1]}; {hint}")
        if turns and kept.turns[-1].counts != turns[-1].counts:
            raise Broken(f"counts() is {kept.turns[-1].counts} in a restored learner, {turns[-1].counts} without; {hint}")
    if not alike(subject.acted[1], subject.attempt("actions", half.play), device):
        raise Broken(f"a restored learner ends with other actions than without; {hint}")


def check_quiet(subject: Subject) -> None:
    subject.raise_fault("quiet")
    first = subject.first
    before = first.state("before")
    one, other = first.play(), first.play()
    after = first.state("after")
    if not np.array_equal(one, other):
        raise Broken(
            "policy.act() gives other actions for the same pictures and generator; it may draw from that one alone"
        )
    theirs = dict(leaves(after))
    changed = [place for place, leaf in leaves(before) if place not in theirs or not same(leaf, theirs[place])]
    if changed or len(theirs) != len(list(leaves(before))):
        raise Broken(
            f"acting changes state_dict(){(changed or ['that has more in it'])[0]}; it must leave the learner as it is"
        )


def check_environments(subject: Subject) -> None:
    if subject.opened:
        opened = ", ".join(f"{name} ({place})" for name, place in subject.opened.items())
        raise Broken(f"it opens {opened}; a method learns from job.data, and opens the environments of job.sources alone")


def check_dataset(subject: Subject) -> None:
    if digest(subject.first.data) != digest(subject.data):
        raise Broken("it changes job.data, whose arrays are views of the dataset; copy what you write to")


def check_streams(subject: Subject) -> str | None:
    if not subject.moved:
        return None
    moved = ", ".join(f"{stream} (in {what})" for stream, what in subject.moved.items())
    return f"it draws from, or seeds, random streams that all code shares: {moved}; generators of its own are safer"


# What they are made of


@dataclass(frozen=True)
class Check:
    """`find` returns a warning or nothing, and raises Broken where the promise is not kept."""

    name: str
    promise: str
    find: Callable[[Any], str | None]
    needs: tuple[str, ...] = ()

    def made(self, subject: Any) -> Finding:
        try:
            with streams_kept():
                warning = self.find(subject)
        except Broken as broken:
            return Finding(self.name, FAILED, str(broken))
        return Finding(self.name, WARNING if warning else OK, warning or self.promise)


OPENING = (
    Check("file", "it can be loaded and has a METHOD", check_file),
    Check("settings", "there are defaults for every preset and suite, and JSON keeps them", check_settings),
)
CHECKS = (
    Check("learner", "it can be made and has all that the harness calls", check_learner),
    Check("turns", "each adds at most one to updates, which reaches total and never passes it", check_turns, ("learner",)),
    Check("metrics", "they are finite numbers without a graph", check_metrics, ("turns",)),
    Check("counts", "they are whole numbers by the right names and never fall", check_counts, ("turns",)),
    Check("actions", "they are float32 of the right shape in [-1, 1]", check_actions, ("turns",)),
    Check("same seed", "it gives the same numbers and actions", check_same_seed, ("turns",)),
    Check("other seed", "it gives other numbers or actions", check_other_seed, ("turns",)),
    Check("restoring", "a stored learner goes on with the same numbers and actions", check_restoring, ("turns",)),
    Check("acting", "it changes nothing, and draws from the given generator alone", check_quiet, ("actions",)),
    Check("environments", "none is opened but the sources'", check_environments, ("learner",)),
    Check("dataset", "its arrays stay as they are", check_dataset, ("learner",)),
    Check("global streams", "random, numpy and torch go on as if it had not been there", check_streams, ("learner",)),
)


def read(metrics: Any) -> tuple[dict[str, float], str]:
    """Metrics as numbers, and what is wrong with the first that is none."""
    if not isinstance(metrics, Mapping):
        return {}, f"it returned {metrics!r}; metrics are a dict of numbers by name, which may be empty"
    wrong = [fault for name, value in metrics.items() if (fault := metric_fault(name, value))]
    numbers = {str(name): float(value) for name, value in metrics.items() if single(value)}
    return numbers, wrong[0] if wrong else ""


def single(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, int | float | np.number)


def metric_fault(name: Any, value: Any) -> str:
    """What is wrong with a metric, in words; empty where nothing is."""
    if not isinstance(name, str) or name in ("updates", *COUNTS):
        return f"a metric is called {name!r}; a name is text, and not one of updates, {', '.join(COUNTS)}"
    if not single(value):
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
        return f"{name} is of {what}; a metric is a single number or a tensor of one"
    if isinstance(value, Tensor) and value.requires_grad:
        return f"{name} carries its graph, so that the memory of every update would be kept; detach() it"
    return "" if math.isfinite(value) else f"{name} is {float(value)}"


def split(acted: Any) -> tuple[Any, Any]:
    if not isinstance(acted, tuple) or len(acted) != 2:
        raise Broken(f"policy.act() returned {type(acted).__name__}; it must return (action, carry)")
    return acted


def checked_action(action: Any, size: int) -> np.ndarray:
    """The action of a batch of one picture [1, A]: [A]."""
    what = f"{type(action).__name__}"
    if isinstance(action, np.ndarray):
        what = f"array {action.dtype} {list(action.shape)}"
        if action.dtype == np.float32 and action.shape == (1, size):
            if not np.isfinite(action).all() or np.abs(action).max() > 1 + 1e-6:
                raise Broken(f"policy.act() gives {action[0].tolist()}; every number of an action is in [-1, 1]")
            return action[0].copy()
    raise Broken(f"policy.act() gives an action of {what}; for one picture it is a numpy array float32 [1, {size}]")


def check_value(value: Any) -> None:
    if value is not None and not isinstance(value, int | float | np.floating):
        raise Broken(f"policy.value() gives a {type(value).__name__}; it is a float, or None where there is no critic")


def difference(mine: Sequence[Turn], theirs: Sequence[Turn], device: str) -> tuple[int, str] | None:
    """The first turn whose numbers differ, counted from 1, and in what; None where all are the same."""
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False), 1):
        if (one.metrics.keys(), one.updates) != (other.metrics.keys(), other.updates):
            return (
                number,
                f"{', '.join(one.metrics)} after {one.updates}, then {', '.join(other.metrics)} after {other.updates}",
            )
        for name, value in one.metrics.items():
            if not alike(value, other.metrics[name], device):
                return number, f"{name} is {value:.9g}, then {other.metrics[name]:.9g}"
    return None if len(mine) == len(theirs) else (min(len(mine), len(theirs)) + 1, f"{len(mine)} turns, then {len(theirs)}")


def alike(one: Any, other: Any, device: str) -> bool:
    """The same numbers: to the bit on a CPU, nearly on a GPU, whose sums have no fixed order."""
    if one is None or other is None:  # not to be had: another check says why
        return True
    tolerance = 1e-3 if device == "cuda" else 0.0
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance / 10, equal_nan=True))


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What a state holds, each with its place in it."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from leaves(value, f"{place}[{key!r}]")
    elif isinstance(state, list | tuple) and not isinstance(state, torch.Size):
        for index, value in enumerate(state):
            yield from leaves(value, f"{place}[{index}]")
    else:
        yield place, state


def same(one: Any, other: Any) -> bool:
    """Whether two leaves are equal to the bit."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and (one == other or one != one)
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(*(part.contiguous().reshape(-1).view(torch.uint8) for part in (one, other)))


def digest(memory: EpisodeMemory) -> str:
    return digest_arrays({name: memory.array(name) for name in ARRAYS})


def last_line(error: BaseException) -> str:
    """Where an exception came from, for a method that is no file of the user's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}" if trace else "nowhere"
