"""Learners of a method under check, and what is noticed of them while they are asked for anything."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from coworld_bench.checking.guards import GlobalStreams, scramble_streams, watched_doors
from coworld_bench.checking.readings import Broken, Turn, check_embedding, check_value, read_act, read_turn, unstorable
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.data.episode import digest_arrays
from coworld_bench.data.memory import ARRAYS, EpisodeMemory
from coworld_bench.data.staging import Staging
from coworld_bench.envs import domain_of
from coworld_bench.errors import UserError, named, own_line
from coworld_bench.methods import Job, SourceAgent
from coworld_bench.online import OnlineAgent
from coworld_bench.run_spec import PlannedRun
from coworld_bench.sources import pretrain_source

EPISODES, PICTURES = 3, 6  # of the dataset; that the policy acts on
PATIENCE = 200  # turns without an update
T = TypeVar("T")


class Subject:
    """A method under check: what its learners are given, and what was noticed of them beside what a check looks at."""

    def __init__(self, planned: PlannedRun, folder: Path, device: str, home: Path | None = None) -> None:
        """Source agents are kept in `home`, all else in `folder`."""
        self.planned, self.folder, self.device, self.home = planned, folder, device, home or folder
        self.target = domain_of(planned.env)
        self.sources: tuple[SourceAgent, ...] = ()
        self.opened: dict[str, str] = {}  # environments that are not its own to open, and where it did
        self.moved: dict[str, str] = {}  # global random streams, and what had been asked of it
        self.faults: dict[str, Broken] = {}  # of a check whose turn comes later
        self.first: Trial
        self.middle = 0  # turns of `first` until half of its updates
        self.acted: list[np.ndarray | None] = []  # by `first`, in the middle and at the end

    def prepare(self) -> None:
        """Make the dataset and the source agents."""
        config = self.planned.config
        with (
            Staging(self.folder / "episodes") as staging,
            closing(OnlineAgent(self.target, config, 0, staging, self.device)) as online,
        ):
            for _ in range(EPISODES):
                online.prefill_episode()
            self.data = online.memory
        self.sources = tuple(self._sources())

    def _sources(self) -> Iterator[SourceAgent]:
        """As many as the method takes, two for `many`, each of a seed of its own."""
        specs = self.planned.source_specs()
        if self.planned.method.sources == "many":
            specs *= 2
        for seed, spec in enumerate(specs):
            spec = replace(spec, seed=seed)
            pretrain_source(spec, self.home, self.device)
            yield spec.open(self.home)

    def asked(self, what: str, do: Callable[..., T], *given: Any) -> T:
        """What the method's code answers, with environments and global streams watched. Raises Broken where it raises."""
        streams = GlobalStreams()
        with watched_doors({source.domain.task.id for source in self.sources}) as opened:
            try:
                return do(*given)
            except UserError as error:
                raise Broken(f"{what}: {error}") from error
            except (Exception, SystemExit) as error:
                raise Broken(f"{what} raised {named(error)} ({own_line(error) or last_line(error)})") from error
            finally:
                for name, place in opened.items():
                    self.opened.setdefault(name, f"{what}, {place}" if place else what)
                for stream in streams.moved():
                    self.moved.setdefault(stream, what)

    def attempt(self, check: str, do: Callable[..., T], *given: Any) -> T | None:
        """What `do` gives; where something is broken, that is the fault of another check."""
        try:
            return do(*given)
        except Broken as fault:
            self.faults.setdefault(check, fault)
            return None

    def raise_fault(self, check: str) -> None:
        if check in self.faults:
            raise self.faults[check]


class Trial:
    """A learner at work on a copy of the dataset, under global random streams of its own."""

    def __init__(self, subject: Subject, name: str, seed: int = 0, folder: Path | None = None) -> None:
        scramble_streams(sum(name.encode()))
        self.subject, self.name, self.folder = subject, name, folder or subject.folder / name
        self.data, planned = copy.deepcopy(subject.data), subject.planned
        job = Job(planned.config, subject.target, self.data, subject.sources, seed, subject.device, self.folder)
        self.learner = subject.asked("making the learner", planned.method.make, planned.settings, job)
        self.turns: list[Turn] = []
        self.total, self.updates = self.whole("total"), self.whole("updates")
        self.counts = self.counted()

    def whole(self, part: str) -> int:
        """`updates` or `total`."""
        value = self.subject.asked(part, getattr, self.learner, part)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Broken(f"{part} is {value!r}, a {type(value).__name__}; it must be an int")
        return value

    def counted(self) -> Any:
        return self.subject.attempt("counts", self.subject.asked, "counts()", self.learner.counts)

    def go(self, until: int) -> list[Turn]:
        """Take turns until so many updates; returns all turns so far."""
        idle = 0
        while self.updates < until:
            before = self.updates
            self.turn()
            idle = 0 if self.updates > before else idle + 1
            if idle > PATIENCE:
                raise Broken(f"updates stays {before} of {self.total} for {PATIENCE} turns; turn() must bring it to total")
        return self.turns

    def turn(self) -> None:
        before, number = self.updates, len(self.turns) + 1
        metrics, wrong = read_turn(self.subject.asked(f"turn() number {number}", self.learner.turn))
        self.updates = self.whole("updates")
        if not 0 <= self.updates - before <= 1:
            raise Broken(
                f"turn() number {number} took updates from {before} to {self.updates} (total {self.total}): a turn may add "
                f"1 or nothing, since evaluations are due at given updates"
            )
        self.turns.append(Turn(metrics, wrong, self.updates, self.counted()))

    def play(self) -> np.ndarray:
        """The actions of the policy on an episode's first pictures, as the evaluator asks for them: float32 [N, A]."""
        asked = self.subject.asked
        policy = asked("policy", getattr, self.learner, "policy")
        generator = torch.Generator(asked("policy.device", getattr, policy, "device")).manual_seed(7)
        carry = asked("policy.initial()", policy.initial)
        actions, pictures = [], self.data.array("image")[:PICTURES]
        for picture in pictures:
            given = picture[None].copy()
            action, carry = read_act(asked("policy.act()", policy.act, given, carry, generator), self.subject.target.action)
            actions.append(action)
            check_value(asked("policy.value()", policy.value, carry))
            if not np.array_equal(given[0], picture):
                raise Broken("policy.act() writes into the picture that it is given; copy it first")
        if getattr(policy, "embed", None) is not None:
            check_embedding(asked("policy.embed()", policy.embed, pictures.copy()), PICTURES)
        return np.stack(actions)

    def state(self, name: str) -> Any:
        """The learner's state, stored in a file and read again."""
        state = self.subject.asked("state_dict()", self.learner.state_dict)
        try:
            save_state(self.path(name), state)
            return load_state(self.path(name))
        except Exception as error:
            why = unstorable(state) or named(error)
            can = "what can are tensors, numbers and text, and dicts, lists and tuples of them"
            raise Broken(f"state_dict() cannot be stored: {why}; {can}") from error

    def path(self, name: str) -> Path:
        return self.subject.folder / f"{self.name}-{name}.pt"

    def keep(self, name: str) -> None:
        """Store the state, and the run's folder as it is now."""
        self.state(name)
        self.folder.mkdir(exist_ok=True)
        shutil.copytree(self.folder, self.subject.folder / f"folder-{name}")

    def restored(self, name: str) -> Trial:
        """A new learner that has loaded what was kept."""
        other = Trial(self.subject, f"from-{name}", folder=self.subject.folder / f"folder-{name}")
        self.subject.asked("load_state_dict()", other.learner.load_state_dict, load_state(self.path(name)))
        other.updates = other.whole("updates")
        return other


def digest(memory: EpisodeMemory) -> str:
    return digest_arrays({name: memory.array(name) for name in ARRAYS})


def last_line(error: BaseException) -> str:
    """Where an exception came from, for a method that is no file of the user's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}" if trace else "nowhere"
