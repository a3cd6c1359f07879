"""The local executor, on jobs of a few milliseconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coworld_bench.bench import executor
from coworld_bench.bench.executor import Executor, Job, Outcome
from coworld_bench.errors import INTERRUPTED, STOPPED, UsageError

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

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.events.append((outcome.state, job.key))


def make_job(folder: Path, key: str, code: str = "", needs: tuple[str, ...] = (), **values: Any) -> Job:
    """A job that runs `code` with `product` naming the file it should make; without code it makes it."""
    product = folder / f"{key}.made"
    script = f"product = {str(product)!r}\n" + (code or "open(product, 'w').close()")
    return Job("train", key, (*NO_SITE, script), product.is_file, lambda: folder / f"{key}.log", needs, **values)


def execute(*jobs: Job, slots: int = 2, watch: Watcher | None = None, grace_s: float = 5.0) -> dict[str, Outcome]:
    return Executor([{} for _ in range(slots)], watch or Watcher(), grace_s).run(jobs)


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
    outcomes = Executor([{"SLOT": "a"}, {"SLOT": "b"}], Watcher()).run(jobs)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    used = {path.suffix for path in tmp_path.glob("job*.made?")}
    assert used == {".madea", ".madeb"}


def test_a_job_that_another_process_does_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "BUSY_S", 0.05)
    code = (
        "import os\nif not os.path.exists(product + 'asked'):\n"
        f"    open(product + 'asked', 'w').close(); os._exit({STOPPED})\n"
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
    at_work = Executor([{}, {}], Interrupter(number), grace_s=0.5)
    outcomes = at_work.run(jobs)
    assert at_work.interrupted
    assert {key: outcome.state for key, outcome in outcomes.items()} == {
        "short": "done", "long": "interrupted", "queued": "interrupted",
    }  # fmt: skip
    assert outcomes["long"].code == INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    again = execute(*jobs[::2])
    assert (again["short"].state, again["queued"].state) == ("finished before", "done")
