"""Results in a bucket: what lies there is what was made, whoever made it, and whatever was killed or cut off on the way."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from made_servers import serving_s3

from coworld_bench.api import train
from coworld_bench.bench import claims, leases, mirror, opened
from coworld_bench.bench.claims import claimed, holder, share
from coworld_bench.bench.merging import merge
from coworld_bench.bench.mirror import OutOfReach, mirror_at
from coworld_bench.bench.opened import keep_fresh, open_runs, whole
from coworld_bench.bench.run import run
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.data import remote
from coworld_bench.data.lock import Busy
from coworld_bench.data.remote import Remote, Unreachable
from coworld_bench.errors import NOT_USABLE, STOPPED, NotUsable, UsageError
from coworld_bench.files import read_json, read_lines
from coworld_bench.paths import runs_home
from coworld_bench.plans import parse_plan
from coworld_bench.stopping import StoppedAtCheckpoint

ROOT = Path(__file__).resolve().parent.parent
RUN = "bc--toy-point--none--s0--0123456789"
Asked = list[tuple[str, str]]
At = Callable[[str], Path]
NUMBERS = itertools.count()
CLIENTS: list[Any] = []


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, Asked]]:
    """The URL of a bucket, and what is asked of it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    asked: Asked = []
    with serving_s3("runs", asked) as url:
        yield url, asked


@pytest.fixture
def asked(store: tuple[str, Asked]) -> Asked:
    store[1].clear()
    return store[1]


@pytest.fixture
def url(store: tuple[str, Asked], asked: Asked, request: pytest.FixtureRequest) -> str:
    return f"{store[0]}/{request.node.originalname}{next(NUMBERS)}"


@pytest.fixture
def at(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> At:
    """Moves this process to a machine, by its name, and gives its mirror of the bucket, up to date."""
    monkeypatch.setattr(remote, "PAUSES_S", (0.01,) * 4)
    monkeypatch.setattr(mirror, "PAUSES_S", ())
    monkeypatch.setattr(claims, "ASK_S", 0.0)
    shared = Remote(url)._opened[0] if not CLIENTS else CLIENTS[0]  # to make one takes longer than a test
    CLIENTS[:] = [shared]
    monkeypatch.setattr(Remote, "_opened", property(lambda self: (shared, self.url.removeprefix("s3://"))))

    def move(name: str) -> Path:
        monkeypatch.setenv("COWORLD_BENCH_MIRRORS", str(tmp_path / name))
        monkeypatch.setattr(leases, "machine", lambda: (name, "", ""))
        return open_runs(url)

    return move


@contextmanager
def cut_off(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, the bucket does not answer."""

    def away(*_: object, **__: object) -> None:
        raise Unreachable("the bucket does not answer")

    with patch.context() as inside:
        for name in ("put", "write", "create", "listing", "head", "remove", "fetch", "info"):
            inside.setattr(Remote, name, away)
        yield


def write(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def make(home: Path, **contents: str) -> None:
    with claimed(home, RUN):
        write(home / RUN, **contents)


def files(home: Path) -> dict[str, str]:
    """The files of the run."""
    paths = (path for path in (home / RUN).rglob("*") if path.is_file())
    return {path.relative_to(home / RUN).as_posix(): path.read_text() for path in paths}


def sent(asked: Asked, verb: str = "PUT") -> list[str]:
    """The names of the run's files that were sent, in that order."""
    paths = [path for method, path in asked if method == verb and f"{RUN}/" in path and "/." not in path]
    return [path.partition(f"{RUN}/")[2] for path in paths]


# ---- what goes there and what comes here


def test_what_one_machine_made_another_reads_without_what_goes_on_with_it(at: At, asked: Asked) -> None:
    contents = {"config_json": "{}", "eval_jsonl": "1\n", "result_json": "{}", "rollout_png": "picture"}
    make(at("a"), checkpoints__1_pt="state", scratch__0__journal_jsonl="2\n", **contents)
    home = at("b")
    assert files(home) == {"config.json": "{}", "eval.jsonl": "1\n", "result.json": "{}", "rollout.png": "picture"}
    assert (home / RUN / "result.json").stat().st_mtime.is_integer(), "dates are the bucket's, which knows whole seconds"
    asked.clear()
    assert files(at("b")) == files(home) and sent(asked, "GET") == [], "what is here already is not fetched again"


def test_whoever_goes_on_with_a_run_has_all_of_it(at: At) -> None:
    states = {"checkpoints__1_pt": "one", "checkpoints__2_pt": "two", "scratch__0__x_npz": "s"}
    make(at("a"), config_json="{}", failed_json="{}", **states)
    home = at("b")
    assert "failed.json" in files(home)
    with claimed(home, RUN):
        whole = files(home)
        assert whole == {"config.json": "{}", "checkpoints/1.pt": "one", "checkpoints/2.pt": "two", "scratch/0/x.npz": "s"}
        (home / RUN / "checkpoints" / "1.pt").unlink()
        write(home / RUN, checkpoints__3_pt="three")
    home = at("a")
    with claimed(home, RUN):
        assert sorted(files(home)) == ["checkpoints/2.pt", "checkpoints/3.pt", "config.json", "scratch/0/x.npz"]


def test_the_result_goes_last_and_what_a_checkpoint_needs_before_it(at: At, asked: Asked) -> None:
    make(at("a"), result_json="{}", checkpoints__1_pt="one", scratch__journal_jsonl="1\n", stderr_log="", zebra_json="{}")
    assert sent(asked)[-2:] == ["checkpoints/1.pt", "result.json"] and len(sent(asked)) == 5
    asked.clear()
    home = at("a")
    with claimed(home, RUN):
        (home / RUN / "checkpoints" / "1.pt").unlink()
        write(home / RUN, checkpoints__2_pt="two")
    changes = [(method, path.rpartition("/")[2]) for method, path in asked if "/checkpoints/" in path and method != "HEAD"]
    assert changes == [("PUT", "2.pt"), ("DELETE", "1.pt")] and sent(asked) == ["checkpoints/2.pt"]


def test_a_run_that_is_begun_anew_loses_its_result_first(at: At, asked: Asked) -> None:
    make(at("a"), config_json="old", result_json="{}", eval_jsonl="1\n")
    assert "result.json" in files(at("b"))
    home = at("a")
    asked.clear()
    with claimed(home, RUN):
        for name in ("result.json", "eval.jsonl"):
            (home / RUN / name).unlink()
        write(home / RUN, config_json="new")
    changes = [(method, path.rpartition("/")[2]) for method, path in asked if method in ("PUT", "DELETE")]
    changes = [(method, name) for method, name in changes if name.endswith(("json", "jsonl"))]
    assert changes == [("DELETE", "result.json"), ("PUT", "config.json"), ("DELETE", "eval.jsonl")]
    assert files(at("b")) == {"config.json": "new"}


def test_half_written_files_locks_logs_and_reports_stay_here(at: At, asked: Asked) -> None:
    home = at("a")
    with claimed(home, RUN):
        write(home / RUN, config_json="{}", scratch__writer_lock="process 1")
        (home / RUN / ".result.json.1.partial").write_text("half")
        write(home, report__plan_md="#", logs__collect_log="")
    assert sent(asked) == ["config.json"]
    assert sorted(path.name for path in at("b").iterdir()) == [".locks", ".mirror", RUN]


def test_anchors_are_a_file(at: At) -> None:
    home = at("a")
    path = home / "anchors" / "toy-point-smoke.json"
    with claimed(home, path.stem, path):
        write(home, anchors__other_json="{}")
        path.write_text("[1]")
    there = at("b") / "anchors"
    assert [found.name for found in there.iterdir()] == [path.name] and (there / path.name).read_text() == "[1]"


def test_while_a_run_is_at_work_what_is_new_goes_there(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SEND_S", 0.02)
    home = at("a")
    with claimed(home, RUN):
        write(home / RUN, eval_jsonl="1\n")
        while "eval.jsonl" not in files(at("b")):
            time.sleep(0.02)
        write(home / RUN, eval_jsonl="1\n2\n", result_json="{}")
        while "2" not in files(at("b"))["eval.jsonl"]:
            time.sleep(0.02)
        assert "result.json" not in files(at("b"))
        (at("b") / RUN / "stop").touch()
        share(at("b"), at("b") / RUN / "stop")
        while "stop" not in files(home):
            time.sleep(0.02)
    assert "result.json" in files(at("b"))


def test_who_plays_a_run_again_has_what_that_takes_and_what_is_added_is_sent(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(at("a"), result_json="{}", checkpoints__1_pt="one")
    home = at("b")
    with whole(home, home / RUN):
        assert files(home)["checkpoints/1.pt"] == "one"
        write(home / RUN, rollout_png="picture")
    assert "rollout.png" in files(at("c"))
    with cut_off(monkeypatch), whole(home, home / RUN):
        assert files(home)["checkpoints/1.pt"] == "one"


def test_a_reader_leaves_what_this_machine_is_at(at: At) -> None:
    home = at("a")
    make(home, eval_jsonl="1\n")
    with claimed(home, RUN):
        write(home / RUN, eval_jsonl="1\n2\n")
        at("a")
        assert files(home)["eval.jsonl"] == "1\n2\n"


def test_a_file_that_was_written_without_a_claim_is_shared(at: At) -> None:
    home = at("a")
    make(home, config_json="{}")
    write(home / RUN, failed_json="{}")
    share(home, home / RUN / "failed.json")
    assert sorted(files(at("b"))) == ["config.json", "failed.json"]


def test_whoever_looks_again_and_again_sees_what_is_new(at: At, monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    home = at("b")
    make(at("a"), config_json="{}")
    asked.clear()
    keep_fresh(home)
    assert asked == [], "it was brought up to date a moment ago"
    monkeypatch.setattr(opened, "FRESH_S", 0.0)
    keep_fresh(home)
    assert list(files(home)) == ["config.json"]


def test_a_store_behind_a_url_is_merged_into(at: At, url: str, tmp_path: Path) -> None:
    at("a")
    write(tmp_path / "other", anchors__toy_json=json.dumps({"task": "toy/point", "preset": "smoke"}))
    assert merge(url, [tmp_path / "other"]).ok
    assert (at("b") / "anchors" / "toy.json").is_file()
    assert merge(tmp_path / "back", [url]).counts["copied"] == 1


# ---- one at a time


def test_two_machines_do_not_do_a_run_twice(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = at("b"), at("a")
    with claimed(here, RUN):
        at("b")
        with pytest.raises(Busy, match=f"another process is making {RUN} in .*: process {os.getpid()} on a, since"):
            claimed(there, RUN).__enter__()
        assert str(holder(there, RUN)).startswith(f"process {os.getpid()} on a")
        write(here / RUN, result_json="{}")
    assert "result.json" not in files(there)
    assert holder(there, RUN) is None and "result.json" in files(there), "who asks has what was made"


def test_mirrors_of_one_machine_are_two_machines(at: At, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel's lock of one says nothing of the other."""
    with claimed(at("a"), RUN):
        monkeypatch.setenv("COWORLD_BENCH_MIRRORS", str(tmp_path / "b"))
        with pytest.raises(Busy):
            claimed(open_runs(url), RUN).__enter__()


def test_a_machine_that_was_taken_over_sends_nothing_more(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    home = at("a")
    with claimed(home, RUN) as claim:
        write(home / RUN, eval_jsonl="1\n")
        monkeypatch.setattr(leases, "LEASE_S", -1.0)
        there = at("b")
        with claimed(there, RUN):
            write(there / RUN, eval_jsonl="other\n")
            monkeypatch.setattr(leases, "LEASE_S", 120.0)
            assert not claim.look()
            with pytest.raises(StoppedAtCheckpoint):
                claim.guarding(lambda: False)()
            write(home / RUN, result_json="late")
            held = holder(there, RUN)
            assert held and "on b" in held
    assert files(at("c")) == {"eval.jsonl": "other\n"}
    at("a")
    assert files(home) == {"eval.jsonl": "other\n"} or files(home)["result.json"] == "late"


# ---- when the bucket does not answer


def end_cut_off(home: Path, patch: pytest.MonkeyPatch, **contents: str) -> None:
    """Make something, and lose the bucket before it is sent."""
    with ExitStack() as held:
        held.enter_context(claimed(home, RUN))
        write(home / RUN, **contents)
        with cut_off(patch):
            held.close()


def test_what_could_not_be_sent_goes_with_the_next_command(
    at: At, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = at("a")
    end_cut_off(home, monkeypatch, config_json="{}", checkpoints__1_pt="one", result_json="{}")
    said = capsys.readouterr().err
    assert "the bucket does not answer" in said and f"of {RUN} is kept in {home}; the next command sends it" in said
    assert files(at("b")) == {} and holder(at("b"), RUN), "nobody there can know that it ended"
    at("a")
    assert sorted(files(at("b"))) == ["config.json", "result.json"] and holder(at("b"), RUN) is None


@contextmanager
def others_go_on(at: At, patch: pytest.MonkeyPatch, **contents: str) -> Iterator[None]:
    """Inside, another machine works on the run, and this process is no longer there."""
    there = at("b")
    with ExitStack() as held:
        with patch.context() as inside:
            inside.setattr(leases, "LEASE_S", -1.0)
            held.enter_context(claimed(there, RUN))
        write(there / RUN, **contents)
        yield


@pytest.mark.parametrize("reader", [True, False])
def test_where_another_has_gone_on_what_was_not_sent_is_dropped(
    at: At, monkeypatch: pytest.MonkeyPatch, reader: bool
) -> None:
    home = at("a")
    make(home, eval_jsonl="1\n", checkpoints__1_pt="one")
    end_cut_off(home, monkeypatch, eval_jsonl="1\n2\n", checkpoints__2_pt="two", stderr_log="mine")
    with others_go_on(at, monkeypatch, eval_jsonl="1\nother\n", checkpoints__3_pt="three", stderr_log="theirs"):
        pass
    if reader:
        at("a")
        assert files(home)["eval.jsonl"] == "1\nother\n"
    with claimed(home, RUN):
        found = files(home)
        assert found["eval.jsonl"] == "1\nother\n" and found["checkpoints/3.pt"] == "three"
        assert "checkpoints/2.pt" not in found
        assert found["stderr.log"] == ("theirs" if reader else "mine"), "a process writes to its own"


def test_a_run_that_was_finished_cut_off_is_finished(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    home = at("a")
    make(home, eval_jsonl="all\n", checkpoints__1_pt="one")
    end_cut_off(home, monkeypatch, result_json="{}")
    monkeypatch.setattr(mirror, "SEND_S", 0.02)
    with others_go_on(at, monkeypatch, eval_jsonl="half\n", checkpoints__3_pt="three"):
        while files(at("c")).get("eval.jsonl") != "half\n":
            time.sleep(0.02)
        at("a")
    at("a")
    home = at("c")
    with claimed(home, RUN):
        assert files(home) == {"eval.jsonl": "all\n", "result.json": "{}", "checkpoints/1.pt": "one"}


def test_the_work_goes_on_while_nothing_can_be_sent(
    at: At, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mirror, "SEND_S", 0.02)
    home, said = at("a"), ""
    with claimed(home, RUN) as claim:
        with cut_off(monkeypatch):
            write(home / RUN, config_json="{}")
            while "The work goes on here" not in said:
                said += capsys.readouterr().err
                time.sleep(0.02)
            time.sleep(0.1)
            assert claim.look() and not claim.guarding(lambda: False)()
        assert "work goes on" not in capsys.readouterr().err, "once is enough"
        write(home / RUN, result_json="{}")
    assert sorted(files(at("b"))) == ["config.json", "result.json"]


def test_without_the_bucket_there_is_what_was_fetched_and_no_claim(
    at: At, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(at("a"), config_json="{}")
    home = at("b")
    with cut_off(monkeypatch):
        assert files(at("b")) == {"config.json": "{}"}
        assert f"the bucket does not answer. This is what {home} has of it" in capsys.readouterr().err
        with pytest.raises(OutOfReach) as away:
            claimed(home, RUN).__enter__()
        assert away.value.exit_code == STOPPED and holder(home, RUN) is None
        with pytest.raises(NotUsable):
            at("c")
        assert main(["report", "--runs", url]) == NOT_USABLE


@pytest.mark.parametrize("wrong", ["hf://datasets/x", "https://host/runs", "file:///runs", "s3://"])
def test_what_cannot_hold_results_is_refused(wrong: str, tmp_path: Path) -> None:
    for given in (wrong, Path(wrong)) if wrong != "s3://" else (wrong,):
        with pytest.raises(
            UsageError, match="path: /runs" if "file" in wrong else "results lie in a folder or in s3://bucket"
        ):
            runs_home(given)


def test_a_bucket_that_is_not_there_is_no_fault_of_a_dataset(at: At, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["report"], ["status"], ["run", "quickstart", "--dry-run"]):
        assert main([*words, "--runs", "s3://no-such-bucket/x"]) == NOT_USABLE
        assert "there is no bucket for s3://no-such-bucket/x; make it" in capsys.readouterr().err


def test_a_url_has_one_mirror_however_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COWORLD_BENCH_MIRRORS", str(tmp_path))
    home = runs_home("s3://bucket/a/b")
    assert home == runs_home(Path("s3://bucket/a/b/")) != runs_home("s3://bucket/a-b")
    found = mirror_at(home)
    assert found is not None and found.remote.url == "s3://bucket/a/b" and home.parent == tmp_path
    assert found.name == read_json(home / ".mirror" / "remote.json")["mirror"]
    assert mirror_at(tmp_path) is None and runs_home("runs") == Path("runs")


# ---- real runs

SMALL = {"online.prefill": "100", "online.env_steps": "150"}
OPTIONS = {
    "compute.checkpoint_minutes": "0", "budget.updates": "6", "evaluation.episodes": "1", "evaluation.early_every": "3",
    "evaluation.every": "3", "online.prefill": "50",
}  # fmt: skip
KILLED = """
import json, sys, time
from coworld_bench.bench import leases, mirror
from coworld_bench.api import train
leases.BEAT_S, leases.LEASE_S, mirror.SEND_S = 0.2, 1.0, 0.05
asked = json.loads(sys.argv[1])
train(**asked, stop=lambda: bool(time.sleep(0.1)))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options=SMALL)
    return home


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("time", "cost")}


def test_a_killed_run_goes_on_at_another_machine_to_the_same_numbers(
    at: At, asked: Asked, url: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what: dict[str, Any] = {"method": "coworld", "target": "toy/point", "source": "toy/point_mirrored", "preset": "smoke"}
    what |= {"options": OPTIONS, "data": str(data)}
    whole = train(**what, runs=tmp_path / "whole")
    name = whole["run"]
    environment = {**os.environ, "COWORLD_BENCH_MIRRORS": str(tmp_path / "a")}
    command = [sys.executable, "-c", KILLED, json.dumps(what | {"runs": url})]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        while sum("/checkpoints/" in path for method, path in asked if method == "PUT") < 5 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    monkeypatch.setattr(leases, "LEASE_S", 1.0)
    home = at("b")
    assert (home / name / "eval.jsonl").is_file() and not (home / name / "result.json").exists()
    while holder(home, name):
        time.sleep(0.1)
    asked.clear()
    parts = train(**what, runs=url)
    assert timeless(parts) == timeless(whole)
    assert any("/checkpoints/" in path for method, path in asked if method == "GET"), "it went on, and did not begin anew"
    assert any("/scratch/" in path for method, path in asked if method == "GET")
    assert read_lines(home / name / "eval.jsonl") == read_lines(tmp_path / "whole" / name / "eval.jsonl")


PLAN = """
title = "Small"
quality = "medium-replay"
methods = ["bc"]
seeds = { smoke = [0, 1, 2] }
options.smoke = { "budget.updates" = 8, "evaluation.episodes" = 1, "compute.checkpoint_minutes" = 0 }
[[cells]]
target = "toy/point"
"""
DRIVER = """
import sys
from coworld_bench.bench import run
from coworld_bench.cli import main
run.report = lambda *_, **__: []  # drawing takes longer than the runs
sys.exit(main())
"""
HASTE = """
from coworld_bench.bench import leases, mirror
leases.BEAT_S, leases.LEASE_S, mirror.SEND_S = 0.3, 3.0, 0.2
"""


def drive(plan: Path, url: str, data: Path, mirrors: Path, jobs: str = "1", hasty: bool = False) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "COWORLD_BENCH_MIRRORS": str(mirrors)}
    if hasty:
        (mirrors / "python").mkdir(parents=True)
        (mirrors / "python" / "sitecustomize.py").write_text(HASTE)
        environment["PYTHONPATH"] = f"{mirrors / 'python'}:{ROOT}"
    words = ["run", str(plan), "--preset", "smoke", "--jobs", jobs, "--runs", url, "--data", str(data)]
    command = [
        sys.executable,
        "-c",
        DRIVER if jobs == "0" else "import sys; from coworld_bench.cli import main; sys.exit(main())",
        *words,
    ]
    with (mirrors.with_suffix(".txt")).open("w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, start_new_session=True)


def alone(plan: Path, data: Path, folder: Path) -> bytes:
    """The table of the plan done by one process, which the bytes of others' are compared to."""
    done = run(parse_plan(plan.stem, tomllib.loads(plan.read_text())), "smoke", runs=folder, data=data, jobs=0, quiet=True)
    assert done.exit_code == 0
    return table(folder)


def table(home: Path) -> bytes:
    (found,) = home.glob("**/report/plan-smoke/plan-smoke.csv")
    return found.read_bytes()


def puts(asked: Asked, name: str) -> Counter[str]:
    return Counter(path for method, path in asked if method == "PUT" and path.endswith(f"/{name}"))


@pytest.mark.parametrize("jobs", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_two_drivers_share_a_plan_and_do_each_run_once(
    asked: Asked, url: str, data: Path, tmp_path: Path, jobs: str
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN if jobs != "0" else PLAN.replace("[0, 1, 2]", "[0, 1]"))
    drivers = [drive(plan, url, data, tmp_path / name, jobs) for name in ("a", "b")]
    assert [driver.wait() for driver in drivers] == [0, 0]
    for name in ("config.json", "result.json"):
        assert list(puts(asked, name).values()) == [1] * (2 if jobs == "0" else 3), name
    if jobs == "0":
        printed = (tmp_path / "a.txt").read_text()
        assert "BC  " in printed and (tmp_path / "b.txt").read_text() == printed
    else:
        assert table(tmp_path / "a") == table(tmp_path / "b") == alone(plan, data, tmp_path / "alone")


@pytest.mark.slow
def test_a_driver_that_is_killed_with_its_runs_leaves_them_to_another(
    asked: Asked, url: str, data: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace('updates" = 8', 'updates" = 200'))
    home = tmp_path / "a"
    killed, other = drive(plan, url, data, home, hasty=True), drive(plan, url, data, tmp_path / "b", hasty=True)
    while not (list(home.glob("**/unsent/bc*")) and list(home.glob("**/checkpoints/00000005-*.pt"))):
        assert killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGSTOP)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    assert children
    for pid in [killed.pid, *map(int, children)]:
        os.kill(pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and other.wait() == 0
    assert sorted(puts(asked, "result.json").values()) == [1, 1, 1]
    assert table(tmp_path / "b") == alone(plan, data, tmp_path / "alone")
