"""The checks: what each promises, and how it is found out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.checking.guards import streams_kept
from coworld_bench.checking.readings import Broken, alike, changed, count_fault, difference
from coworld_bench.checking.trials import Subject, Trial, digest
from coworld_bench.config import PRESETS, override, resolve
from coworld_bench.devices import choose_device
from coworld_bench.errors import UsageError, UserError, named
from coworld_bench.methods import COUNTS, Method, load_method, method_file
from coworld_bench.run_spec import PlannedRun, RunSpec
from coworld_bench.tasks import SUITES
from coworld_bench.training import own_report

OK, FAILED, WARNING, SKIPPED = "ok", "FAILED", "warning", "not checked"
TARGET, SOURCE, PRESET = "toy/point", "toy/point_mirrored", "smoke"
TINY = {"online.prefill": "50", "online.source_env_steps": "100"}  # a source agent of two episodes
MOST_UPDATES = 1000  # under preset smoke
SEEDED = "draw from generators seeded with job.seed alone, and initial weights inside torch.random.fork_rng()"
STORED = "state_dict() must hold all that changes: weights, optimisers, random streams, the place in the data, counts"


@dataclass(frozen=True)
class Finding:
    """What became of one check; `said` is what the method keeps, or in which way it does not."""

    check: str
    state: str
    said: str


@dataclass(frozen=True)
class Check:
    """`find` returns a warning or nothing, and raises Broken where the promise is not kept."""

    name: str
    promise: str
    find: Callable[[Any], str | None]
    needs: str = ""

    def made(self, subject: Any) -> Finding:
        try:
            with streams_kept():
                warning = self.find(subject)
        except Broken as broken:
            return Finding(self.name, FAILED, str(broken))
        return Finding(self.name, WARNING if warning else OK, warning or self.promise)


def check_methods(
    names: Sequence[str], options: Mapping[str, str] | None = None, device: str = "auto", home: Path | None = None
) -> list[tuple[str, Iterator[Finding]]]:
    """The findings of each method, which are made while they are asked for; source agents are kept in `home`.

    Raises UsageError for names, files and options that do not exist."""
    device = choose_device(device)
    opened = [(name, *open_method(name, options or {})) for name in names]
    return [(name, findings(done, planned, device, home)) for name, done, planned in opened]


def open_method(name: str, options: Mapping[str, str]) -> tuple[list[Finding], PlannedRun | None]:
    """The checks that need no learner, and where they are good the run that the others are of."""
    file = method_file(name)
    if file is None or not file.is_file():
        load_method(name)
    done = list(made(OPENING, name))
    if FAILED in [finding.state for finding in done]:
        return done, None
    sources = load_method(name).sources
    given = (SOURCE,) * (1 if sources == "many" else sources)
    return done, RunSpec(name, TARGET, given, preset=PRESET, options={**TINY, **options}).plan()


def findings(done: list[Finding], planned: PlannedRun | None, device: str, home: Path | None) -> Iterator[Finding]:
    yield from done
    with tempfile.TemporaryDirectory(prefix="check-method-") as folder:
        subject = Subject(planned, Path(folder), device, home) if planned else None
        yield from made(CHECKS, subject, {finding.check: finding.state for finding in done})


def made(checks: Sequence[Check], subject: Any, states: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """What comes of each check; one is not made where another failed that it needs."""
    known = dict(states or {})
    for check in checks:
        if known.get(check.needs, OK) in (FAILED, SKIPPED):
            found = Finding(check.name, SKIPPED, f"it needs what failed above ({check.needs})")
        else:
            found = check.made(subject)
        known[check.name] = found.state
        yield found


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
        settings, whose = each.defaults(preset, suite), f"settings of {each.name} under preset {preset}"
        try:
            again = type(settings).model_validate(json.loads(json.dumps(settings.to_dict())))
        except Exception as error:
            raise Broken(f"{whose} cannot be stored as JSON: {named(error)}") from error
        if again != settings:
            raise Broken(f"{whose} come back from JSON as {again!r}, not {settings!r}")


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
    subject.attempt("restoring", first.keep, "start")
    subject.middle = len(first.go(first.total // 2))
    subject.attempt("restoring", first.keep, "middle")
    subject.acted.append(subject.attempt("actions", first.play))
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
    first, before = subject.first, dict.fromkeys(COUNTS, 0)
    for counts in (first.counts, *(turn.counts for turn in first.turns)):
        fault = count_fault(counts, before)
        if fault:
            raise Broken(fault)
        before = counts
    if not before["world_model_updates"] + before["behaviour_updates"]:
        raise Broken("counts() ends with neither world_model_updates nor behaviour_updates; it must tell what was spent")
    try:
        json.dumps(subject.asked("report()", own_report, first.learner))
    except (TypeError, ValueError) as error:
        raise Broken(f"report() cannot be written as JSON: {error}") from error


def check_actions(subject: Subject) -> None:
    subject.raise_fault("actions")


def check_dataset(subject: Subject) -> None:
    if digest(subject.first.data) != digest(subject.data):
        raise Broken("it changes job.data, whose arrays are views of the dataset; copy what you write to")


def check_same_seed(subject: Subject) -> None:
    first, device = subject.first, subject.device
    again = Trial(subject, "again")
    found = difference(first.turns, again.go(again.total), device)
    if found is not None and found[0] > subject.middle:
        words = f"turn() number {found[0]} gives other numbers where the policy has acted before: {found[1]}"
        subject.faults.setdefault("acting", Broken(f"{words}; acting must leave the learner as it is"))
    elif found is not None:
        raise Broken(f"turn() number {found[0]} gives other numbers with the same seed: {found[1]}; {SEEDED}")
    elif not alike(subject.acted[1], subject.attempt("actions", again.play), device):
        if not np.array_equal(first.play(), first.play()):
            return  # the check of acting says it
        raise Broken(f"the policy gives other actions after the same turns with the same seed; {SEEDED}")


def check_acting(subject: Subject) -> None:
    subject.raise_fault("acting")
    first = subject.first
    before = subject.attempt("restoring", first.state, "before")
    one, other = first.play(), first.play()
    after = subject.attempt("restoring", first.state, "after")
    if not np.array_equal(one, other):
        raise Broken("policy.act() gives other actions for the same pictures and generator; it may draw from no other")
    place = changed(before, after)
    if place is not None:
        raise Broken(f"acting changes state_dict(){place}; it must leave the learner as it is")


def check_other_seed(subject: Subject) -> None:
    first, other = subject.first, Trial(subject, "other", seed=1)
    found = difference(first.turns[: subject.middle], other.go(other.total // 2), subject.device)
    if found is None and alike(subject.acted[0], subject.attempt("actions", other.play), subject.device):
        raise Broken("seeds 0 and 1 give the same numbers and actions; weights and batches must follow job.seed")


def check_restoring(subject: Subject) -> None:
    subject.raise_fault("restoring")
    first, middle, device = subject.first, subject.middle, subject.device
    begun, half = first.restored("start"), first.restored("middle")
    updates = first.turns[middle - 1].updates if middle else 0
    if (half.updates, begun.updates) != (updates, 0):
        raise Broken(f"learners stored at {updates} and 0 updates are restored at {half.updates} and {begun.updates}")
    if not alike(subject.acted[0], subject.attempt("actions", half.play), device):
        raise Broken(f"a restored learner's policy gives other actions than the stored one's; {STORED}")
    for kept, turns in ((begun, first.turns[:middle]), (half, first.turns[middle:])):
        found = difference(turns, kept.go(turns[-1].updates if turns else 0), device)
        if found is not None:
            raise Broken(f"turn() number {found[0]} after restoring gives other numbers than without: {found[1]}; {STORED}")
        if turns and kept.turns[-1].counts != turns[-1].counts:
            raise Broken(
                f"counts() ends as {kept.turns[-1].counts} after restoring, as {turns[-1].counts} without; {STORED}"
            )
    if not alike(subject.acted[1], subject.attempt("actions", half.play), device):
        raise Broken(f"a restored learner ends with other actions than without; {STORED}")


def check_environments(subject: Subject) -> None:
    if subject.opened:
        opened = ", ".join(f"{name} (in {place})" for name, place in subject.opened.items())
        raise Broken(f"it opens {opened}; a method learns from job.data, and opens the environments of job.sources alone")


def check_streams(subject: Subject) -> str | None:
    if not subject.moved:
        return None
    moved = ", ".join(f"{stream} (in {what})" for stream, what in subject.moved.items())
    return f"it draws from, or seeds, random streams that all code shares: {moved}; generators of its own are safer"


OPENING = (
    Check("file", "it can be loaded and has a METHOD", check_file),
    Check("settings", "there are defaults for every preset and suite, and JSON keeps them", check_settings, "file"),
)
CHECKS = (
    Check("learner", "it can be made and has all that the harness calls", check_learner, "settings"),
    Check("turns", "each adds at most one to updates, which reaches total and never passes it", check_turns, "learner"),
    Check("metrics", "they are finite numbers without a graph", check_metrics, "turns"),
    Check("counts", "they are whole numbers by the right names and never fall", check_counts, "turns"),
    Check("actions", "they are float32 of the right shape in [-1, 1]", check_actions, "turns"),
    Check("dataset", "its arrays stay as they are", check_dataset, "learner"),
    Check("same seed", "it gives the same numbers and actions", check_same_seed, "turns"),
    Check("acting", "it changes nothing, and draws from the given generator alone", check_acting, "actions"),
    Check("other seed", "it gives other numbers or actions", check_other_seed, "turns"),
    Check("restoring", "a stored learner goes on with the same numbers and actions", check_restoring, "turns"),
    Check("environments", "none is opened but the sources'", check_environments, "learner"),
    Check("global streams", "random, numpy and torch go on as if it had not been there", check_streams, "learner"),
)
