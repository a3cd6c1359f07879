"""Attempts as jobs of a cluster: submitit's own one of this machine's processes, and a real Slurm where there is one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coworld_bench.bench import run as bench_run
from coworld_bench.bench.backends import slurm, slurm_queue
from coworld_bench.bench.backends.slurm import FOLDER, Slurm, Submitting, make_slurm
from coworld_bench.bench.backends.slurm_queue import Queue, make_parameters
from coworld_bench.bench.backends.slurm_task import Task, numbered, slot
from coworld_bench.bench.child import NO_LIMITS, Limits, Order
from coworld_bench.bench.execution import Execution
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.bench.retrying import Retries
from coworld_bench.bench.status import ATTEMPT
from coworld_bench.data.budget import LIMIT, PROCESSES
from coworld_bench.devices import THREADS
from coworld_bench.errors import LOCKED, NOT_USABLE, STOPPED, MissingPackage, NotUsable, UsageError
from coworld_bench.plans import parse_plan

submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")

PLAN = {"title": "Toy", "quality": "medium-replay", "seeds": {"smoke": [0]}, "cells": [{"target": "toy/point"}]}

# Does half of its work; in its first life it then waits for the file `go`. Asked to stop, it keeps what it did.
WORKER = """
import json, os, signal, sys, time
status, at, parent, asked = sys.argv[-1], product + ".kept", os.getppid(), []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: asked.append(1))
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
first = not os.path.exists(product + ".begun")
done = int(open(at).read()) if os.path.exists(at) else 0
print(f"from {done} as attempt {os.environ['COWORLD_BENCH_ATTEMPT']}", file=open(product + ".begun", "a"))
while done < 4 and not asked and os.getppid() == parent:
    if done < 2 or not first or os.path.exists(go):
        done += 1
        open(status + ".part", "w").write(json.dumps({"progress": {"updates": done, "updates_total": 4}}))
        os.replace(status + ".part", status)
    time.sleep(0.02)
if os.getppid() != parent:
    sys.exit(1)
open(at if done < 4 else product, "w").write(str(done))
sys.exit(75 if done < 4 else 0)
"""


class Here:
    """submitit's cluster of this machine's processes in the place of Slurm's queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = submitit.LocalExecutor(folder)
        self.cluster.update_parameters(timeout_min=60)
        self.jobs: dict[str, Any] = {}
        self.arrays: list[int] = []
        self.told: dict[str, str] = {}

    def move(self) -> None:
        """Become the queue of another command."""
        self.folder = self.cluster.folder = self.folder.with_name("nowhere-0-1")

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        made = [self.cluster.submit(task) for task in tasks]
        self.jobs |= {job.job_id: job for job in made}
        self.arrays.append(len(made))
        return [job.job_id for job in made]

    def states(self) -> dict[str, str]:
        return {task: "RUNNING" if job.state == "RUNNING" else "FAILED" for task, job in self.jobs.items()} | self.told

    def stop(self, tasks: Sequence[str]) -> None:
        for task in tasks:
            self.signal(task, signal.SIGUSR1)

    def cancel(self, tasks: Sequence[str]) -> None:
        for task in tasks:
            self.signal(task, signal.SIGKILL)

    def signal(self, task: str, number: signal.Signals) -> None:
        """To the process that runs the task; the one that began it, submitit's controller, looks after it."""
        children = Path(f"/proc/{task}/task/{task}/children")
        with suppress(OSError, ProcessLookupError):
            for child in children.read_text().split():
                os.kill(int(child), number)


class There(Queue):
    """Slurm's queue, with what the tests do to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, make_parameters({}, NO_LIMITS, "cpu"))
        self.arrays: list[int] = []

    def move(self) -> None:
        arrays, folder = self.arrays, self.folder.with_name("nowhere-0-1")
        self.__init__(folder)  # type: ignore[misc]
        self.arrays = arrays

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        self.arrays.append(len(tasks))
        return super().submit(tasks)

    def signal(self, task: str, number: signal.Signals) -> None:
        step = f"{task}.0" if number == signal.SIGKILL else task  # to kill a whole job is to cancel it
        subprocess.run(["scancel", f"--signal={number.name}", step], check=True)


def has_slurm() -> bool:
    return shutil.which("sinfo") is not None and "idle" in subprocess.run(["sinfo"], capture_output=True, text=True).stdout


@pytest.fixture(params=["here", "slurm"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here | There]:
    if request.param == "slurm" and not has_slurm():
        pytest.skip("no Slurm cluster with an idle node here")
    for name, seconds in {"LOOK_S": 0.1, "ASK_S": 0.4, "ASK_SOON_S": 0.2}.items():
        monkeypatch.setattr(slurm, name, seconds)
    folder = tmp_path / FOLDER / f"nowhere-{os.getpid()}-0"
    made = Here(folder) if request.param == "here" else There(folder)
    yield made
    made.cancel(list(getattr(made, "jobs", [])))


class Watcher:
    """Remembers what it was told, and does something at the first progress of at least a half."""

    def __init__(self, at_half: Callable[[Job], None] = lambda job: None) -> None:
        self.at_half, self.events, self.shares = at_half, [], []  # type: ignore[var-annotated]

    def started(self, job: Job) -> None:
        self.events.append(("started", job.key))

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        self.shares.append(progress["updates"] / progress["updates_total"])
        if self.shares[-1] >= 0.5 and self.at_half is not None:
            act, self.at_half = self.at_half, None
            act(job)

    def repeated(self, job: Job, outcome: Outcome) -> None:
        self.events.append(("repeated", job.key))

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.events.append((outcome.state, job.key))


def make_job(folder: Path, key: str, code: str = WORKER, needs: tuple[str, ...] = (), **values: Any) -> Job:
    """A job that runs `code`, which is to make the file `product`."""
    product = folder / f"{key}.made"
    script = f"product, go = {str(product)!r}, {str(folder / 'go')!r}\n{code}"
    argv = (sys.executable, "-I", "-S", "-c", script)
    return Job("train", key, argv, product.is_file, lambda: folder / f"{key}.log", needs, **values)


def let_go(folder: Path) -> None:
    (folder / "go").touch()


def wait_until(there: Callable[[], bool]) -> None:
    for _ in range(600):
        if there():
            return
        time.sleep(0.1)
    raise AssertionError("in vain")


def begun(folder: Path, key: str) -> list[str]:
    return (folder / f"{key}.made.begun").read_text().splitlines()


def run(
    queue: Submitting, *jobs: Job, watch: Watcher | None = None, limits: Limits = NO_LIMITS, **options: Any
) -> Executor:
    """An executor that has run these jobs."""
    backend = Slurm(queue, options.pop("most", None), limits)
    made = Executor(backend, watch or Watcher(), Retries(options.pop("retries", 0), pauses_s=(0.01,)), **options)
    made.run(jobs)
    return made


def task_of(queue: Submitting, job: Job) -> str:
    return (queue.folder / f"{slurm.ticket_of(job)}.ticket").read_text()


def test_what_is_ready_together_is_one_array_and_nothing_stays_in_the_store(queue: Here | There, tmp_path: Path) -> None:
    let_go(tmp_path)
    first = [make_job(tmp_path, name) for name in ("a", "b")]
    watch = Watcher()
    made = run(queue, *first, make_job(tmp_path, "c", needs=("a", "b")), watch=watch)
    assert {key: outcome.state for key, outcome in made.outcomes.items()} == {"a": "done", "b": "done", "c": "done"}
    assert queue.arrays == [2, 1] and watch.shares[-1] == 1.0
    assert begun(tmp_path, "c") == ["from 0 as attempt 1"]
    assert not (tmp_path / FOLDER).exists()


def test_a_warned_attempt_stops_at_its_checkpoint_and_slurm_begins_it_again(queue: Here | There, tmp_path: Path) -> None:
    watch = Watcher(lambda job: queue.signal(task_of(queue, job), signal.SIGUSR2))
    made = run(queue, make_job(tmp_path, "held"), watch=watch)
    assert (made.outcomes["held"].state, made.outcomes["held"].attempts, queue.arrays) == ("done", 1, [1])
    again = 2 if isinstance(queue, There) else 1  # Slurm counts, submitit's own cluster does not
    assert begun(tmp_path, "held") == ["from 0 as attempt 1", f"from 2 as attempt {again}"]


def test_a_lost_task_is_repeated(queue: Here | There, tmp_path: Path) -> None:
    watch = Watcher(lambda job: queue.signal(task_of(queue, job), signal.SIGKILL))
    made = run(queue, make_job(tmp_path, "held"), watch=watch, retries=1)
    assert (made.outcomes["held"].state, made.outcomes["held"].attempts, queue.arrays) == ("done", 2, [1, 1])
    assert ("repeated", "held") in watch.events and begun(tmp_path, "held")[-1].endswith("as attempt 2")


def test_a_task_that_slurm_ends_stops_at_its_checkpoint_and_is_lost(queue: Here | There, tmp_path: Path) -> None:
    watch = Watcher(lambda job: queue.signal(task_of(queue, job), signal.SIGTERM))
    made = run(queue, make_job(tmp_path, "held"), watch=watch)
    outcome = made.outcomes["held"]
    assert outcome.state == "failed" and outcome.note.splitlines()[-1].startswith("lost: Slurm job ")
    assert (tmp_path / "held.made.kept").read_text() == "2"


def test_an_attempt_that_got_nowhere_is_not_put_back_by_itself(queue: Here | There, tmp_path: Path) -> None:
    """It would be warned and begun for ever; as a repetition it counts."""
    job = make_job(tmp_path, "held", WORKER.replace("exit(75", "exit(130"))  # as one that was asked before it could hear
    slurm.status_path(job.log()).write_text('{"progress": {"updates": 2, "updates_total": 4}}')
    watch = Watcher(lambda job: queue.signal(task_of(queue, job), signal.SIGUSR2))
    made = run(queue, job, watch=watch)
    assert (made.outcomes["held"].state, made.outcomes["held"].code, queue.arrays) == ("failed", STOPPED, [1])


def test_asked_to_stop_what_runs_ends_at_its_checkpoint_and_what_waits_leaves_the_queue(
    queue: Here | There, tmp_path: Path
) -> None:
    stop: list[Job] = []
    made = run(queue, make_job(tmp_path, "held"), watch=Watcher(stop.append), asked_to_stop=lambda: bool(stop))
    assert (made.outcomes["held"].state, made.ended_by) == ("interrupted", STOPPED)
    assert (tmp_path / "held.made.kept").read_text() == "2" and not (tmp_path / FOLDER).exists()


def test_errors_are_told_and_not_repeated(queue: Here | There, tmp_path: Path) -> None:
    made = run(queue, make_job(tmp_path, "bad", "raise SystemExit('error: no such task')"), retries=2)
    assert (made.outcomes["bad"].note, made.outcomes["bad"].attempts) == ("error: no such task", 1)


def test_limits_hold_on_the_node(queue: Here | There, tmp_path: Path) -> None:
    made = run(queue, make_job(tmp_path, "held"), limits=Limits(timeout_s=0.3))
    assert "its --timeout" in made.outcomes["held"].note and made.outcomes["held"].attempts == 1


def in_queue(queue: Here | There, *jobs: Job) -> list[str]:
    """These jobs submitted by a command that is then killed: nothing of it follows them. Their ids in the queue."""
    Slurm(queue, None, NO_LIMITS).start(jobs, [1] * len(jobs))
    return [task_of(queue, job) for job in jobs]


def test_the_same_command_follows_what_a_killed_one_left_in_the_queue(queue: Here | There, tmp_path: Path) -> None:
    job, other = make_job(tmp_path, "held"), make_job(tmp_path, "other")
    in_queue(queue, job)
    first = queue.folder
    queue.move()
    made = run(queue, job, other, watch=Watcher(lambda _: let_go(tmp_path)))
    assert [made.outcomes[key].state for key in ("held", "other")] == ["done", "done"]
    assert queue.arrays == [1, 1] and begun(tmp_path, "held") == ["from 0 as attempt 1"]
    assert not list(first.glob("*.ticket"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    for name, seconds in {"LOOK_S": 0.05, "ASK_S": 0.1, "ASK_SOON_S": 0.1}.items():
        monkeypatch.setattr(slurm, name, seconds)
    return Here(tmp_path / FOLDER / "nowhere-0-0")


class Told(Here):
    """A queue that nothing runs in: what Slurm says of it is given."""

    def __init__(self, folder: Path, told: str) -> None:
        super().__init__(folder)
        self.state, self.cancelled = told, []  # type: ignore[var-annotated]

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arrays.append(len(tasks))
        return [str(sum(self.arrays) - number) for number in range(len(tasks))]

    def states(self) -> dict[str, str]:
        return {} if self.state == "" else {str(task): self.state for task in range(1, 9)}

    def cancel(self, tasks: Sequence[str]) -> None:
        self.cancelled += tasks


@pytest.mark.parametrize(
    ("state", "code", "words", "attempts"),
    [
        ("OUT_OF_MEMORY", -9, "lost: Slurm job 2 ended as OUT_OF_MEMORY and left no result", 2),
        ("NODE_FAIL", -9, "lost: Slurm job 2 ended as NODE_FAIL and left no result", 2),
        ("", -9, "lost: Slurm job 2 is no longer known there and left no result", 2),
        ("CANCELLED", 130, "cancelled: somebody took Slurm job 1 out of the queue", 1),
        ("PartitionTimeLimit", NOT_USABLE, "error: Slurm will never begin its job 1: PartitionTimeLimit; see --slurm", 1),
    ],
)
def test_what_slurm_says_of_an_attempt_that_told_no_end(
    state: str, code: int, words: str, attempts: int, here: Here, tmp_path: Path
) -> None:
    queue = Told(here.folder, state)
    outcome = run(queue, make_job(tmp_path, "gone"), retries=1).outcomes["gone"]
    assert (outcome.state, outcome.code, outcome.note, outcome.attempts) == ("failed", code, words, attempts)
    assert queue.cancelled == (["1"] if state == "PartitionTimeLimit" else [])


def test_what_a_killed_command_had_in_the_queue_is_submitted_anew_where_it_ended(here: Here, tmp_path: Path) -> None:
    queue, job = Told(here.folder, "RUNNING"), make_job(tmp_path, "one")
    in_queue(queue, job)
    backend = Slurm(queue, None, NO_LIMITS)
    assert [task for task, _ in backend.left.values()] == ["1"]
    queue.state = "COMPLETED"
    assert backend.start([job], [1])[0].ending() is None and queue.arrays == [1, 1]


def test_what_slurm_says_once_may_be_of_a_moment(here: Here, tmp_path: Path) -> None:
    """Between the end of a task and its being queued again, and before a network folder shows its result."""
    attempt = Slurm(Told(here.folder, "RUNNING"), None, NO_LIMITS).start([make_job(tmp_path, "one")], [1])[0]
    assert isinstance(attempt, slurm.Submitted)
    for state in ("FAILED", "PENDING", "NODE_FAIL"):
        attempt.judge(state)
    assert attempt.ending() is None
    attempt.judge("NODE_FAIL")
    assert attempt.ending() is not None


def test_a_task_that_died_after_its_work_was_done_is_not_repeated(here: Here, tmp_path: Path) -> None:
    job = make_job(tmp_path, "done")
    watch = Watcher()
    watch.started = lambda job: (tmp_path / "done.made").touch()  # type: ignore[method-assign]
    assert run(Told(here.folder, "FAILED"), job, watch=watch).outcomes["done"].state == "done"


def test_while_slurm_does_not_answer_nothing_is_judged(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(here, "states", lambda: asked.append(None) if here.arrays else {})
    made = run(here, make_job(tmp_path, "held"), watch=Watcher(lambda _: let_go(tmp_path)))
    assert made.outcomes["held"].state == "done" and asked


def test_a_slurm_that_does_not_answer_is_said_before_any_work(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "states", lambda: None)
    with pytest.raises(NotUsable, match="Slurm does not answer"):
        Slurm(here, None, NO_LIMITS)


def test_a_job_that_another_process_is_at_is_not_submitted_again_and_again(here: Here, tmp_path: Path) -> None:
    backend = Slurm(here, None, NO_LIMITS)
    job = make_job(tmp_path, "busy", f"raise SystemExit({LOCKED})")
    (attempt,) = backend.start([job], [1])
    while attempt.ending() is None:
        backend.wait(0.05)
    again = backend.start([job], [1])[0].ending()
    assert again is not None and again.code == LOCKED and here.arrays == [1]
    backend.close()


def test_at_most_so_many_run_at_a_time(here: Here, tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, str(number)) for number in range(7)]
    backend = Slurm(Told(here.folder, "PENDING"), 3, NO_LIMITS)
    assert backend.room() == slurm_queue.MOST  # as one array, of which three run
    attempts = backend.start(jobs, [1] * 7)
    assert backend.room() == 0
    for attempt in attempts[:5]:
        attempt.close()
    assert backend.room() == 1
    assert Slurm(Told(here.folder, "PENDING"), None, NO_LIMITS).room() == slurm_queue.MOST


def test_a_fault_on_the_node_is_told(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path, "nowhere")
    job = replace(job, log=lambda: Path("/proc/nowhere/it.log"))
    note = run(here, job).outcomes["nowhere"].note
    assert "No such file or directory" in note or "no such file or directory" in note


COMMANDS = {  # stand-ins for Slurm's
    "sbatch": 'cp "$1" "{folder}/script"; env > "{folder}/env"; echo "Submitted batch job 7"',
    "srun": "exit 1",
    "squeue": 'echo "7|RUNNING|None"; echo "8_1|PENDING|BadConstraints"; echo "8_2|PENDING|Priority"',
    "scancel": 'echo "$@" >> "{folder}/cancelled"',
}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts stand-ins for Slurm's commands where they are found."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(**scripts: str) -> None:
        for name, script in {**COMMANDS, **scripts}.items():
            (folder / name).write_text("#!/bin/sh\n" + script.replace("{folder}", str(tmp_path)) + "\n")
            (folder / name).chmod(0o755)

    make()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    return make


def script_of(tmp_path: Path, limits: Limits = NO_LIMITS, device: str = "cpu", **given: str) -> list[str]:
    """What sbatch is given for one attempt."""
    backend = make_slurm(tmp_path, device, None, limits, given)
    backend.start([make_job(tmp_path, "one")], [1])
    backend.close()
    lines = (tmp_path / "script").read_text().splitlines()
    return [line.removeprefix("#SBATCH --") for line in lines if line and not line.startswith(("#!", "# "))]


def test_options_go_to_sbatch_and_limits_give_those_that_are_not_set(commands: Callable[..., None], tmp_path: Path) -> None:
    plain = script_of(tmp_path)
    assert {"job-name=coworld-bench", "requeue", "signal=USR2@90"} <= set(plain)
    assert not [line for line in plain if line.startswith(("time", "mem", "gpus", "wckey"))]
    given = {
        "partition": "gpu",
        "gres": "gpu:1g.10gb:1",
        "exclusive": "true",
        "cpus_per_task": "4",
        "setup": "module load x",
    }
    lines = script_of(tmp_path, Limits(3600.0, 8 * 2**30), "cuda", **given, signal_delay_s="30")
    assert {"partition=gpu", "gres=gpu:1g.10gb:1", "exclusive", "cpus-per-task=4", "signal=USR2@30"} <= set(lines)
    assert {"time=63", "mem=8704M", "module load x"} <= set(lines) and not [one for one in lines if one.startswith("gpus")]
    assert " --cpus-per-task=4 " in lines[-1]
    assert "gpus-per-node=1" in script_of(tmp_path, device="cuda")
    own = script_of(tmp_path, Limits(60.0, 2**30), time="2-00:00:00", mem_gb="20", signal_delay_s="60")
    assert {"time=2-00:00:00", "mem=20G"} <= set(own)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"array": "0-3"}, "--slurm array is set by this program; --jobs limits an array"),
        ({"ntasks_per_node": "2"}, "--slurm ntasks-per-node is set by this program"),
        ({"signal_delay_s": "1m"}, "--slurm signal-delay-s is a whole number of seconds; got '1m'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        make_parameters(given, NO_LIMITS, "cpu")
    assert str(error.value) == words


def test_what_sbatch_refuses_is_told_in_its_words(
    commands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(sbatch='echo "sbatch: error: Batch job submission failed: Invalid partition" >&2; exit 1')
    with pytest.raises(UsageError, match="Slurm did not take the jobs: Batch job submission failed: Invalid partition "):
        script_of(tmp_path)
    assert capsys.readouterr().err == ""


def test_one_that_slurm_refuses_later_is_tried_again(commands: Callable[..., None], tmp_path: Path) -> None:
    backend = make_slurm(tmp_path, "cpu", None, NO_LIMITS, {})
    backend.start([make_job(tmp_path, "one")], [1])
    commands(sbatch="exit 1")
    ending = backend.start([make_job(tmp_path, "two")], [1])[0].ending()
    assert ending is not None and ending.cause == "lost" and Retries().worth(ending)


def test_what_slurm_set_for_a_driver_that_is_a_job_itself_is_not_for_its_jobs(
    commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU"):
        monkeypatch.setenv(name, "7")
    script_of(tmp_path)
    assert "SLURM_MEM_PER_CPU" not in (tmp_path / "env").read_text() and os.environ["SLURM_MEM_PER_CPU"] == "7"


def test_states_and_requests(commands: Callable[..., None], tmp_path: Path) -> None:
    queue = There(tmp_path / FOLDER / "nowhere-0-0")
    assert queue.states() == {"7": "RUNNING", "8_1": "BadConstraints", "8_2": "PENDING"}
    queue.stop(["7", "8_1"])
    queue.cancel(["7"])
    asked = (tmp_path / "cancelled").read_text().splitlines()
    assert asked == ["--quiet --state=PENDING 7 8_1", "--quiet --signal=SIGUSR1 7 8_1", "--quiet 7"]
    commands(squeue="exit 1")
    assert queue.states() is None


def test_what_commands_that_are_gone_left_behind_is_removed(commands: Callable[..., None], tmp_path: Path) -> None:
    here, home = socket.gethostname(), tmp_path / FOLDER
    for name, task in {
        f"{here}-999999999-1": "5",
        f"{here}-999999999-2": "7",
        f"{here}-{os.getpid()}-3": "5",
        "far-1-4": "5",
    }.items():
        (home / name).mkdir(parents=True)
        (home / name / "abc.ticket").write_text(task)
    backend = make_slurm(tmp_path, "cpu", None, NO_LIMITS, {})
    assert sorted(path.name for path in home.iterdir()) == sorted(
        [f"{here}-999999999-2", f"{here}-{os.getpid()}-3", "far-1-4"]
    )
    assert backend.left == {"abc": ("7", home / f"{here}-999999999-2")}
    commands(squeue="exit 1")
    with pytest.raises(NotUsable, match="Slurm does not answer"):
        make_slurm(tmp_path, "cpu", None, NO_LIMITS, {})


def test_where_there_is_no_slurm_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotUsable, match="this one has no sbatch command"):
        make_slurm(tmp_path, "cpu", None, NO_LIMITS, {})


def test_without_submitit_the_extra_is_named(
    commands: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingPackage, match=r'pip install "coworld-bench\[slurm\]"'):
        make_slurm(tmp_path, "cpu", None, NO_LIMITS, {})


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UsageError, match="--per-gpu does not go with --executor slurm"):
        Execution("slurm", per_gpu=2).check()


def test_an_attempt_gets_its_part_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (LIMIT, "SLURM_MEM_PER_NODE", "SLURM_CPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert slot() == {**dict.fromkeys(THREADS, "1"), PROCESSES: "16"}
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "8192")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert slot() == {LIMIT: "4096M"}
    monkeypatch.setenv(LIMIT, "1G")
    assert slot() == {}


def test_what_slurm_began_again_is_a_later_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition of forced work goes on from its checkpoint."""
    order = Order(("true",), Path("log"), {ATTEMPT: "2"})
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert numbered(order) == order
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert numbered(order).env == {ATTEMPT: "5"}


def test_slurms_signals_to_every_process_do_not_end_the_work(tmp_path: Path) -> None:
    asked = {"kind": "anchors", "job": "anchors", "task": "toy/nowhere", "preset": "smoke", "options": {}}
    argv = [sys.executable, "-m", "coworld_bench.bench.worker", json.dumps(asked | {"place": {}}), str(tmp_path / "status")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    wait_until(lambda: process.poll() is not None or all(ignores(process.pid, number) for number in numbers))
    assert process.poll() is None
    for number in numbers:
        process.send_signal(number)
    assert process.wait() > 0


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal, as the kernel has it."""
    ignored = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
    return bool(ignored and int(ignored[0].split()[1], 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_a_plan_whose_runs_are_preempted_gives_the_same_table(
    queue: Here | There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs, each warned once at work; and the same plan on this machine."""
    options = {"budget.updates": "1500", "evaluation.early_every": "150", "evaluation.every": "150"}
    plan = parse_plan("toy", {**PLAN, "methods": ["offline_dv2"], "seeds": {"smoke": [0, 1]}})
    places = {name: {"runs": tmp_path / name, "data": tmp_path / "data"} for name in ("local", "slurm")}
    local = bench_run.run(plan, "smoke", options=options, quiet=True, **places["local"])
    assert local.exit_code == 0, local.failed
    warned: set[str] = set()

    def warn(recorder: Any, job: Job, progress: Mapping[str, Any]) -> None:
        if job.kind == "train" and job.key not in warned and progress.get("updates"):
            warned.add(job.key)
            queue.signal(task_of(queue, job), signal.SIGUSR2)

    monkeypatch.setattr(bench_run.Recorder, "progressed", warn)
    monkeypatch.setattr(bench_run, "make_backend", lambda *_: Slurm(queue, None, NO_LIMITS))
    made = bench_run.run(plan, "smoke", options=options, execution=Execution("slurm"), quiet=True, **places["slurm"])
    assert (made.exit_code, len(warned)) == (0, 2), made.failed
    assert made.tables == local.tables
    for path in sorted((tmp_path / "local").glob("*/result.json")):
        other = tmp_path / "slurm" / path.relative_to(tmp_path / "local")
        one, two = json.loads(path.read_text()), json.loads(other.read_text())
        assert all(one[name] == two[name] for name in ("run", "score", "evaluations", "dataset", "diagnostics"))
    assert any("stopped after" in path.read_text() for path in (tmp_path / "slurm").glob("*/stderr.log"))
