"""Environments in processes of their own, which step and draw at the same time.

A process is spawned and its environment made at its first `reset`: one forked from a process that draws would hang. It
ends when its pipe closes, so it never outlives its parent, however that ends; Ctrl-C is the parent's to handle.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import numpy as np

from coworld_bench.envs import make_env
from coworld_bench.envs.base import Observation, TaskEnv
from coworld_bench.errors import NotUsable, UsageError, UserError
from coworld_bench.tasks import EnvSpec

GRACE_S = 10.0  # what a process gets to finish its step and close its environment before it is killed
SPAWN = multiprocessing.get_context("spawn")


class EnvProcessError(NotUsable):
    """An environment's process died or failed; a mistake of the user keeps its sentence and its exit code."""

    def __init__(self, sentence: str, exit_code: int = NotUsable.exit_code) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Step(NamedTuple):
    """What a decision led to, or a reset (then there is no reward); `success` is None where the task has none."""

    observation: Observation
    reward: float | None = None
    truncated: bool = False
    success: bool | None = None


class EnvPool:
    """`count` environments of one spec, each in its process, numbered from 0.

    `reset` and `step` only begin the work; `take` waits for what came of it, and `ready` says whose is there."""

    def __init__(self, spec: EnvSpec, count: int) -> None:
        self.spec, self.count = spec, count
        self._processes: dict[int, EnvProcess] = {}

    def reset(self, env: int, seed: int) -> None:
        """Begin an episode in environment `env`."""
        assert 0 <= env < self.count, (env, self.count)
        if env not in self._processes:
            self._processes[env] = EnvProcess(self.spec, f"environment process {env + 1} of {self.count}")
        self._processes[env].ask(seed)

    def step(self, env: int, action: np.ndarray) -> None:
        """Begin a decision, float32 [A], in environment `env`."""
        self._processes[env].ask(np.asarray(action, np.float32))

    def take(self, env: int) -> Step:
        """What came of the last `reset` or `step` of `env`. Raises EnvProcessError where its process died or failed."""
        return self._processes[env].answer()

    def ready(self) -> list[int]:
        """The environments of which something can be taken; waits until there is one."""
        owing = {process.pipe: env for env, process in self._processes.items() if process.owes}
        return sorted(owing[pipe] for pipe in wait(list(owing)))  # type: ignore[index]

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all processes up to their last answers, their start included."""
        return sum(process.cpu_s for process in self._processes.values())

    def close(self) -> None:
        """End all processes and reap them; may be called again."""
        for process in self._processes.values():
            process.pipe.close()
        for process in self._processes.values():
            process.reap()
        self._processes.clear()


class EnvProcess:
    """The parent's end of one process."""

    def __init__(self, spec: EnvSpec, name: str) -> None:
        self.name, self.owes, self.cpu_s = f"{name} ({spec.task})", False, 0.0
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(spec, theirs), name=name, daemon=True)
        with signals_wait():
            self.process.start()
        theirs.close()

    def ask(self, what: int | np.ndarray) -> None:
        assert not self.owes, f"{self.name} has not been asked for its last answer"
        try:
            self.pipe.send(what)
        except OSError:
            raise self._death() from None
        self.owes = True

    def answer(self) -> Step:
        assert self.owes, f"{self.name} was asked for nothing"
        try:
            answer, self.cpu_s = self.pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        self.owes = False
        if isinstance(answer, Failure):
            raise EnvProcessError(answer.sentence, answer.exit_code) from RuntimeError(answer.traceback)
        observation = {name: array.copy() for name, array in answer.observation.items()}  # unpickled ones are read-only
        return answer._replace(observation=observation)

    def _death(self) -> EnvProcessError:
        self.process.join(GRACE_S)
        code = self.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        return EnvProcessError(
            f"{self.name} {how}; what was finished is kept, so try again with fewer --workers (0: no processes)"
        )

    def reap(self) -> None:
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextmanager
def env_pool(spec: EnvSpec, workers: int) -> Iterator[EnvPool | None]:
    """`workers` environments in processes, ended on leaving; None for 0 or 1, which need no process."""
    if workers < 0:
        raise UsageError(f"workers must be at least 0; got {workers}")
    if workers <= 1:
        yield None
        return
    pool = EnvPool(spec, workers)
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def signals_wait() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while a process is started, which inherits that and so never sees one, not even at its
    imports: they often reach a whole group, in which the parent alone decides when to end."""
    resource_tracker.ensure_running()  # it would be started with the process, and let SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the process


@dataclass(frozen=True)
class Failure:
    """An exception, as plain data: not every one survives pickling."""

    sentence: str
    exit_code: int
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        if isinstance(error, UserError):
            return cls(str(error), error.exit_code, traceback.format_exc())
        sentence = f"an environment process failed: {type(error).__name__}: {error} (--debug shows where)"
        return cls(sentence, NotUsable.exit_code, traceback.format_exc())


def serve(spec: EnvSpec, pipe: Connection) -> None:
    """Make the environment, then do what is asked (a seed to reset with, or an action) until the pipe closes."""
    env: TaskEnv | None = None
    try:
        while True:
            asked = pipe.recv()
            answer: Step | Failure
            try:
                env = env or make_env(spec)
                answer = done(env, asked)
            except Exception as error:
                answer = Failure.of(error)
            pipe.send((answer, time.process_time()))
    except (EOFError, OSError):
        pass  # the parent has closed the pipe, or is gone
    finally:
        if env is not None:
            env.close()


def done(env: TaskEnv, asked: int | np.ndarray) -> Step:
    """One reset or one decision."""
    if isinstance(asked, np.ndarray):
        observation, reward, _, truncated, info = env.step(asked)
        return Step(observation, float(reward), truncated, info.get("success"))
    return Step(env.reset(seed=asked)[0])
