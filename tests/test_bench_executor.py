"""The executor on this machine's processes, with jobs of a few milliseconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coworld_bench.bench import child, executor
from coworld_bench.bench.backends import local
from coworld_bench.bench.backends.local import Local
from coworld_bench.bench.child import Limits
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.bench.retrying import Retries
from coworld_bench.bench.status import keeping_status, stop_path
from coworld_bench.bench.worker import listening_to
from coworld_bench.errors import INTERRUPTED, LOCKED, OUT_OF_MEMORY, STOPPED, USAGE, UsageError

NO_SITE = (sys.executable, "-I", "-S", "-c")


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.progress: list[Mapping[str, Any]] = []

    def started(self, job: Job) -> None:
        self.events.append(("started", job.key))

    def progressed(self, job: Job, progress: Mapping[str, Any]) -> None:
        self.progress.append(progress)

    def repeated(self, job: Job, outcome: Outcome) -> None:
        self.events.append(("repeated", job.key))

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.events.append((outcome.state, job.key))


def make_job(folder: Path, key: str, code: str = "", needs: tuple[str, ...] = (), **values: Any) -> Job:
    """A job that runs `code` with `product` naming the file it should make; without code it makes it."""
    product = folder / f"{key}.made"
    script = f"product = {str(product)!r}\n" + (code or "open(product, 'w').close()")
    return Job("train", key, (*NO_SITE, script), product.is_file, lambda: folder / f"{key}.log", needs, **values)


def execute(
    *jobs: Job, slots: int = 2, watch: Watcher | None = None, limits: Limits = child.NO_LIMITS, retries: int = 0
) -> dict[str, Outcome]:
    backend = Local([{} for _ in range(slots)], limits)
    return Executor(backend, watch or Watcher(), Retries(retries, pauses_s=(0.01,))).run(jobs)


def test_a_crash_stops_only_what_needs_it(tmp_path: Path) -> None:
    crash = make_job(tmp_path, "crash", "raise ValueError('the disk is full of bees')")
    after = make_job(tmp_path, "after", needs=("crash",))
    later = make_job(tmp_path, "later", needs=("after",))
    outcomes = execute(crash, after, later, make_job(tmp_path, "other"))
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        "crash": "failed", "after": "not started", "later": "not started", "other": "done",
    }  # fmt: skip
    assert outcomes["crash"].note.splitlines()[-1] == "ValueError: the disk is full of bees"
    assert outcomes["crash"].code == 1
    assert outcomes["after"].note == "crash"
    assert "full of bees" in (tmp_path / "crash.log").read_text()


def test_needs_come_first(tmp_path: Path) -> None:
    code = f"import os; assert os.path.exists({str(tmp_path / 'first.made')!r}); open(product, 'w').close()"
    outcomes = execute(make_job(tmp_path, "second", code, ("first",)), make_job(tmp_path, "first"))
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]


def test_a_need_that_is_no_job_counts_as_there(tmp_path: Path) -> None:
    assert execute(make_job(tmp_path, "run", needs=("made long ago",)))["run"].state == "done"


def test_success_is_what_lies_on_the_disk(tmp_path: Path) -> None:
    outcomes = execute(
        make_job(tmp_path, "empty handed", "pass"),
        make_job(tmp_path, "bad code", "open(product, 'w').close(); raise SystemExit(1)"),
        make_job(tmp_path, "kept", "open(product, 'w').close(); raise SystemExit(1)", accepts=(0, 1)),
    )
    assert [outcomes[key].state for key in ("empty handed", "bad code", "kept")] == ["failed", "failed", "done"]
    assert outcomes["empty handed"].note == "ended with code 0 and said nothing"
    assert outcomes["kept"].code == 1


def test_finished_jobs_are_not_started_unless_asked(tmp_path: Path) -> None:
    for key in ("there", "again"):
        (tmp_path / f"{key}.made").touch()
    watch = Watcher()
    outcomes = execute(make_job(tmp_path, "there"), make_job(tmp_path, "again", again=True), watch=watch)
    assert (outcomes["there"].state, outcomes["again"].state) == ("finished before", "done")
    assert [key for event, key in watch.events if event == "started"] == ["again"]


def test_a_kill_is_named(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert execute(make_job(tmp_path, "victim", code))["victim"].note == "killed by SIGKILL"


def test_the_error_is_of_this_attempt(tmp_path: Path) -> None:
    (tmp_path / "quiet.log").write_text("an old fault\n")
    outcome = execute(make_job(tmp_path, "quiet", "raise SystemExit(1)"))["quiet"]
    assert "old fault" not in outcome.note
    assert (tmp_path / "quiet.log").read_text() == "an old fault\n"


def test_a_job_whose_log_was_removed_ends_as_it_ends(tmp_path: Path) -> None:
    remove = f"import os; os.remove({str(tmp_path)!r} + '/' + name)\n"
    good = make_job(tmp_path, "good", "name = 'good.log'\n" + remove + "open(product, 'w').close()")
    bad = make_job(tmp_path, "bad", "name = 'bad.log'\n" + remove + "raise SystemExit(1)")
    outcomes = execute(good, bad)
    assert (outcomes["good"].state, outcomes["bad"].state) == ("done", "failed")
    assert outcomes["bad"].note == "ended with code 1 and said nothing"


def test_progress_arrives_and_noise_does_not(tmp_path: Path) -> None:
    code = "print('hello'); print('{\"updates\": 3}'); print('[1]'); open(product, 'w').close()"
    watch = Watcher()
    execute(make_job(tmp_path, "talker", code), watch=watch)
    assert watch.progress == [{"updates": 3}]


def test_slots_limit_and_reach_the_children(tmp_path: Path) -> None:
    code = (
        "import os\nopen(product + os.environ['SLOT'], 'w').close()\n"
        f"inside = os.path.join({str(tmp_path)!r}, 'inside' + os.environ['SLOT'])\n"
        "os.close(os.open(inside, os.O_CREAT | os.O_EXCL))\n"  # fails where another job has the slot too
        "import time; time.sleep(0.05); os.remove(inside); open(product, 'w').close()"
    )
    jobs = [make_job(tmp_path, f"job{index}", code) for index in range(5)]
    outcomes = Executor(Local([{"SLOT": "a"}, {"SLOT": "b"}]), Watcher()).run(jobs)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    used = {path.suffix for path in tmp_path.glob("job*.made?")}
    assert used == {".madea", ".madeb"}


def test_a_job_that_another_process_does_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "BUSY_S", 0.05)
    code = (
        "import os\nif not os.path.exists(product + 'asked'):\n"
        f"    open(product + 'asked', 'w').close(); os._exit({LOCKED})\n"
        "open(product, 'w').close()"
    )
    watch = Watcher()
    assert execute(make_job(tmp_path, "shared", code), watch=watch)["shared"].state == "done"
    assert watch.events == [("started", "shared"), ("done", "shared")]


def test_a_fault_while_finding_a_job_is_that_jobs_own(tmp_path: Path) -> None:
    def finished() -> bool:
        raise UsageError("the dataset was made in another environment")

    strange = Job("train", "strange", ("unused",), finished, lambda: tmp_path / "log")
    outcomes = execute(strange, make_job(tmp_path, "other"))
    assert outcomes["strange"] == Outcome("failed", "error: the dataset was made in another environment", code=2)
    assert outcomes["other"].state == "done"


SLEEPER = "import os, time\nopen(product + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLEEPER


class Interrupter(Watcher):
    """Presses Ctrl-C, or sends another signal, when the first job ends."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number: signal.Signals | None = number

    def ended(self, job: Job, outcome: Outcome) -> None:
        super().ended(job, outcome)
        if self.number is not None:
            number, self.number = self.number, None
            signal.raise_signal(number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, SLEEPER), (signal.SIGTERM, SLEEPER), (signal.SIGINT, DEAF)])
def test_an_interrupt_keeps_what_is_done_and_stops_the_rest(tmp_path: Path, number: signal.Signals, code: str) -> None:
    pid_file = tmp_path / "long.made.pid"
    wait = f"import os, time\nwhile not os.path.exists({str(pid_file)!r}): time.sleep(0.01)\nopen(product, 'w').close()"
    jobs = [make_job(tmp_path, "short", wait), make_job(tmp_path, "long", code), make_job(tmp_path, "queued")]
    at_work = Executor(Local([{}, {}], Limits(grace_s=0.5)), Interrupter(number))
    outcomes = at_work.run(jobs)
    assert at_work.interrupted
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        "short": "done", "long": "interrupted", "queued": "interrupted",
    }  # fmt: skip
    assert outcomes["long"].code == at_work.ended_by == (STOPPED if number == signal.SIGTERM else INTERRUPTED)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    again = execute(*jobs[::2])
    assert (again["short"].state, again["queued"].state) == ("finished before", "done")


def counting(ending: str) -> str:
    """A job's code: makes its product at its third attempt; the first two leave their mark and end so."""
    return (
        "import os, signal\nwith open(product + '.attempts', 'a') as file:\n"
        "    file.write(os.environ['COWORLD_BENCH_ATTEMPT'])\n"
        "if os.path.getsize(product + '.attempts') > 2: open(product, 'w').close(); raise SystemExit(0)\n" + ending
    )


@pytest.mark.parametrize(
    "ending",
    ["os.kill(os.getpid(), signal.SIGKILL)", f"raise SystemExit({OUT_OF_MEMORY})", f"raise SystemExit({STOPPED})"],
)
def test_what_a_repetition_may_mend_is_repeated(tmp_path: Path, ending: str) -> None:
    watch = Watcher()
    outcome = execute(make_job(tmp_path, "victim", counting(ending)), watch=watch, retries=2)["victim"]
    assert (outcome.state, outcome.attempts) == ("done", 3)
    assert (tmp_path / "victim.made.attempts").read_text() == "123"
    assert [event for event, _ in watch.events] == ["started", "repeated", "repeated", "done"]


def test_repetitions_are_counted(tmp_path: Path) -> None:
    outcome = execute(make_job(tmp_path, "victim", counting("os.kill(os.getpid(), signal.SIGKILL)")), retries=1)["victim"]
    assert (outcome.state, outcome.attempts, outcome.note) == ("failed", 2, "killed by SIGKILL")


@pytest.mark.parametrize("code", [1, USAGE, 3, 4])
def test_an_error_of_the_jobs_own_is_not_repeated(tmp_path: Path, code: int) -> None:
    outcome = execute(make_job(tmp_path, "wrong", counting(f"raise SystemExit({code})")), retries=2)["wrong"]
    assert (outcome.state, outcome.attempts, outcome.code) == ("failed", 1, code)


def test_an_attempt_that_got_further_does_not_count(tmp_path: Path) -> None:
    further = (
        "import json, os, signal\nnumber = int(os.environ['COWORLD_BENCH_ATTEMPT'])\n"
        "print(json.dumps({'updates': min(number, 4), 'updates_total': 10}), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    outcome = execute(make_job(tmp_path, "slow", further), retries=1)["slow"]
    assert (outcome.state, outcome.attempts) == ("failed", 5)  # four that got further, each of them repeated, and one more


def test_a_job_that_takes_too_long_is_stopped_and_not_repeated(tmp_path: Path) -> None:
    polite = "import signal\nsignal.signal(signal.SIGINT, lambda *_: os._exit(75))\n" + SLEEPER
    limits = Limits(timeout_s=0.5, grace_s=0.5)
    jobs = [make_job(tmp_path, "polite", polite), make_job(tmp_path, "deaf", DEAF), make_job(tmp_path, "quick")]
    outcomes = execute(*jobs, slots=3, limits=limits, retries=2)
    assert {key: (outcome.state, outcome.attempts) for key, outcome in outcomes.items()} == {
        "polite": ("failed", 1), "deaf": ("failed", 1), "quick": ("done", 1),
    }  # fmt: skip
    assert outcomes["polite"].code == STOPPED
    assert outcomes["deaf"].code == -signal.SIGKILL
    assert "stopped after 0.5 s, its --timeout" in outcomes["deaf"].note


EATER = "import time\nblocks = []\nwhile True: blocks.append(b'x' * (8 << 20)); time.sleep(0.005)"


def test_a_job_that_eats_memory_is_ended_and_the_rest_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOOK_S", 0.05)
    forking = f"import os\nif os.fork(): os.wait()\nelse:\n    exec({EATER!r})"
    jobs = [make_job(tmp_path, "eater", EATER), make_job(tmp_path, "forking", forking), make_job(tmp_path, "modest")]
    outcomes = execute(*jobs, slots=2, limits=Limits(memory_bytes=200 << 20), retries=1)
    assert {key: (outcome.state, outcome.attempts) for key, outcome in outcomes.items()} == {
        "eater": ("failed", 2), "forking": ("failed", 2), "modest": ("done", 1),
    }  # fmt: skip
    assert outcomes["eater"].note == "killed: it took more than --memory, 210 MB"


def test_before_the_machine_has_no_memory_left_the_greediest_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LOOK_S", 0.05)
    big = tmp_path / "big"
    monkeypatch.setattr(local, "free_memory", lambda: 0 if big.exists() else 1 << 40)
    greedy = f"block = b'x' * (64 << 20)\nopen({str(big)!r}, 'w').close()\nimport time; time.sleep(60)"
    modest = f"import os, time\nwhile not os.path.exists({str(big)!r}): time.sleep(0.01)\nopen(product, 'w').close()"

    class Restorer(Watcher):
        def ended(self, job: Job, outcome: Outcome) -> None:
            super().ended(job, outcome)
            if job.key == "greedy":
                big.unlink()

    outcomes = execute(make_job(tmp_path, "greedy", greedy), make_job(tmp_path, "modest", modest), watch=Restorer())
    assert (outcomes["greedy"].state, outcomes["modest"].state) == ("failed", "done")
    assert "about to run out of memory" in outcomes["greedy"].note


def test_a_process_without_a_sign_of_life_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOOK_S", 0.05)
    monkeypatch.setattr(child, "SILENT_S", 0.4)
    beat = f"open({str(tmp_path / 'hung.status.json')!r}, 'w').close()\n"
    hung = counting("import time; time.sleep(60)")
    outcomes = execute(
        make_job(tmp_path, "hung", beat + hung),
        make_job(tmp_path, "quiet", "import time; time.sleep(1); open(product, 'w').close()"),
    )
    assert outcomes["quiet"].state == "done"
    assert (outcomes["hung"].state, outcomes["hung"].code) == ("failed", -signal.SIGKILL)
    assert "no sign of life" in outcomes["hung"].note


def test_somebody_may_stop_one_job(tmp_path: Path) -> None:
    """One that stops by itself at its file is not repeated; what was asked before it began is forgotten."""
    waiting = (
        "import os, time\nfor _ in range(600):\n    if os.path.exists(product[:-4] + 'stop'): os._exit(75)\n"
        "    time.sleep(0.05)"
    )

    class Stopper(Watcher):
        def started(self, job: Job) -> None:
            super().started(job)
            if job.key == "one":
                stop_path(job.log()).touch()

    jobs = [make_job(tmp_path, "one", waiting), make_job(tmp_path, "other"), make_job(tmp_path, "after", needs=("one",))]
    stop_path(jobs[1].log()).touch()
    outcomes = execute(*jobs, watch=Stopper(), retries=2)
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        "one": "stopped", "other": "done", "after": "not started",
    }  # fmt: skip
    assert outcomes["one"].code == STOPPED


def test_a_request_to_stop_ends_all(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    code = f"open({str(asked)!r}, 'w').close()\n{SLEEPER}"
    at_work = Executor(Local([{}], Limits(grace_s=0.5)), Watcher(), asked_to_stop=asked.exists)
    outcomes = at_work.run([make_job(tmp_path, "long", code), make_job(tmp_path, "queued")])
    assert [outcome.state for outcome in outcomes.values()] == ["interrupted", "interrupted"]
    assert at_work.ended_by == STOPPED


def test_a_process_that_cannot_begin_is_a_failure_of_its_job(tmp_path: Path) -> None:
    absent = Job("train", "absent", (str(tmp_path / "no such program"),), lambda: False, lambda: tmp_path / "absent.log")
    outcomes = execute(absent, make_job(tmp_path, "other"), slots=1)
    assert (outcomes["absent"].state, outcomes["other"].state) == ("failed", "done")
    assert "its process cannot begin" in outcomes["absent"].note


def test_jobs_begin_in_their_order_as_soon_as_their_needs_are_there(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, "data1"), make_job(tmp_path, "run1", needs=("data1",)), make_job(tmp_path, "data2")]
    watch = Watcher()
    execute(*jobs, slots=1, watch=watch)
    assert [key for event, key in watch.events if event == "started"] == ["data1", "run1", "data2"]


def test_progress_that_nobody_hears_any_more_ends_no_process() -> None:
    code = "progress_channel as c; import sys; tell = c(); sys.stdin.read(); tell({}); tell({}); print('goes on')"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from coworld_bench.bench.worker import {code}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait()) == (b"goes on\n", 0)


def test_a_process_may_be_told_more_than_once_to_stop(tmp_path: Path) -> None:
    with keeping_status(tmp_path / "status.json", {}) as status, listening_to(status) as stop:
        assert not stop()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
