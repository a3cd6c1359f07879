"""`status`: what the runs of a store are at, told from their files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from made_stores import ELSEWHERE, SILENT, begun, content, done, failed, running, tell
from rich.console import Console

from coworld_bench.bench import standing, status
from coworld_bench.bench.drivers import Registration, drivers_at_work, registered
from coworld_bench.bench.processes import whoami
from coworld_bench.bench.snapshot import take
from coworld_bench.bench.standing import Reader
from coworld_bench.bench.status import Status, keeping_status
from coworld_bench.cli import main
from coworld_bench.cli import status as cli_status
from coworld_bench.cli.telling import document, reason, text
from coworld_bench.errors import LOCKED, SOME_FAILED, STOPPED, UsageError
from coworld_bench.files import write_json

ROOT = Path(__file__).resolve().parent.parent
PLAN = """
title = "Toy"
quality = "medium-replay"
methods = ["offline_dv2", "coworld"]
seeds = { smoke = [0, 1, 2], quick = [0] }
[[cells]]
target = "toy/point"
source = "toy/point_mirrored"
"""


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "toy.toml"
    path.write_text(PLAN)
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def states(store: Path) -> dict[str, str]:
    return {found.name: found.state for found in Reader(store).read()}


def driver(plan: str, **changes: object) -> dict[str, object]:
    about = {"plan": plan, "preset": "smoke", "options": {}, "methods": ["offline_dv2", "coworld"]}
    return about | {"targets": ["toy/point"], "seeds": [0, 1, 2], "executor": "local", "width": 2} | changes


def test_each_run_is_at_what_its_files_say(store: Path) -> None:
    done(store, seed=0)
    running(store, seed=1)
    tell(begun(store, seed=2), age_s=SILENT, **ELSEWHERE)
    tell(begun(store, seed=3), pid=whoami()["pid"], started="1")  # whose pid another process has now
    failed(store, seed=4)
    tell(begun(store, seed=5), "ended", code=STOPPED)
    tell(begun(store, seed=6), "ended", code=130)
    begun(store, seed=7)
    tell(begun(store, seed=8), "ended", code=2, error="error: no such thing")
    tell(begun(store, seed=9), "ended", code=LOCKED)  # of a process that found another at work
    tell(failed(store, seed=10), **ELSEWHERE)  # begun again
    told = ["done", "running", "lost", "lost", "failed", "stopped", "interrupted", "interrupted", "failed", "interrupted"]
    assert states(store) == {f"offline_dv2--s{seed}": state for seed, state in enumerate([*told, "running"])}
    errors = {found.name: found.error for found in Reader(store).read() if found.error}
    assert errors == {"offline_dv2--s4": "Traceback\nValueError: bees", "offline_dv2--s8": "error: no such thing"}


def test_what_makes_datasets_and_source_agents_is_told_too(store: Path) -> None:
    logs = store / "logs"
    tell(logs, "running", "collect-a.status.json", kind="collect", job="collect a")
    tell(logs, "ended", "collect-b.status.json", kind="collect", job="collect b", code=SOME_FAILED)  # its rule did not fire
    tell(logs, "ended", "source-c.status.json", kind="source", job="source c", code=SOME_FAILED, error="error: bees")
    (logs / "torn.status.json").write_text("{")
    assert states(store) == {"collect-a": "running", "collect-b": "done", "source-c": "failed"}


def test_a_run_whose_result_is_damaged_is_still_that_run(store: Path) -> None:
    (done(store) / "result.json").write_text("{")
    (found,) = Reader(store).read()
    assert (found.state, found.words) == ("failed", "train offline_dv2 toy/point seed 0") and "is damaged" in found.error


def test_signs_of_life_are_judged_by_the_clock_of_the_folder(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tell(begun(store), **ELSEWHERE)
    os.utime(path, (10_000.0, 10_000.0))
    monkeypatch.setattr(standing, "clock_of", lambda folder: 10_005.0)
    assert states(store) == {"offline_dv2--s0": "running"}
    monkeypatch.setattr(standing, "clock_of", lambda folder: 10_000.0 + SILENT)
    assert states(store) == {"offline_dv2--s0": "lost"}


def test_the_clock_of_a_folder_is_asked_without_leaving_anything(store: Path) -> None:
    (store / "file").touch()
    assert abs(status.clock_of(store) - (store / "file").stat().st_mtime) < 60
    assert [path.name for path in store.iterdir()] == ["file"]
    assert status.clock_of(Path("/proc/self")) > 1e9  # where nothing can be written


def test_a_store_of_results_alone_is_read(store: Path, plan: str) -> None:
    """As older versions left it, and as `store merge` brings it."""
    folder = done(store, seed=0, wall_s=3600)
    (folder / "config.json").unlink()
    (store / "report").mkdir()
    (store / "empty").mkdir()
    found = take(Reader(store), [plan], "smoke").plans[0]
    assert (found.counts["done"], found.counts["not begun"]) == (1, 5)
    assert "so far 2 CPU h" in text(take(Reader(store), [plan]))


@pytest.mark.parametrize("indent", [None, 2])
def test_what_a_result_took_is_found_at_its_end_or_anywhere(store: Path, indent: int | None) -> None:
    folder = done(store)
    result = json.loads((folder / "result.json").read_text())
    result = {"time": result.pop("time"), "zzz": "x" * 10_000} | result
    (folder / "result.json").write_text(json.dumps(result, indent=indent))
    assert standing.time_in(folder / "result.json") == {"wall_s": 60.0, "cpu_s": 120.0}
    (folder / "result.json").write_text(json.dumps(result, indent=indent, sort_keys=True))
    assert standing.time_in(folder / "result.json") == {"wall_s": 60.0, "cpu_s": 120.0}


def test_a_damaged_file_is_told_and_stops_nothing(store: Path) -> None:
    done(store, seed=0)
    (done(store, seed=1) / "config.json").write_text("{")
    (failed(store, seed=2) / "failed.json").write_text('{"error"')
    assert states(store) == {"offline_dv2--s0": "done", "offline_dv2--s1": "failed", "offline_dv2--s2": "failed"}
    assert all("is damaged" in found.error for found in Reader(store).read() if found.state == "failed")


def test_a_cell_counts_seeds(store: Path, plan: str) -> None:
    done(store, seed=0)
    running(store, seed=1, share=0.45)
    failed(store, "coworld", 0)
    running(store, "coworld", 1)
    tell(begun(store, "coworld", 2), "ended", code=STOPPED)
    tell(begun(store, "coworld", 3), "ended", code=STOPPED)  # a seed that was not planned
    (found,) = take(Reader(store), [plan]).plans
    words = {row: spot.words for (row, _), spot in found.spots.items()}
    assert words == {"offline_dv2": "1/3 45%", "coworld": "0/4 0% 1 failed 2 stopped"}
    assert text(take(Reader(store), [plan])).splitlines()[:4] == [
        "toy (preset smoke): 7 runs: 1 done, 2 running, 1 failed, 2 stopped, 1 not begun",
        "             PM → PT",
        "Offline DV2  1/3 45%",
        "CoWorld      0/4 0% 1 failed 2 stopped",
    ]


def test_a_plan_that_was_never_begun_says_so(store: Path, plan: str) -> None:
    told = text(take(Reader(store), [plan], "smoke"))
    assert "6 runs: 6 not begun" in told and told.count("—") == 2 and "nobody is at work on it" in told
    assert "nothing was begun in" in text(take(Reader(store)))


def test_only_runs_of_the_plan_count(store: Path, plan: str) -> None:
    done(store, seed=0, options={"batch.size": 3}, config={"batch": {"size": 3}})
    done(store, seed=1, quality="medium-expert")
    done(store, seed=2, preset="quick")
    done(store, "coworld", 0, sources=["toy/elsewhere"])
    assert take(Reader(store), [plan], "smoke").plans[0].counts["done"] == 0
    assert take(Reader(store), [plan], "quick").plans[0].counts["done"] == 1
    chosen = take(Reader(store), [plan], "smoke", {"batch.size": "3"}).plans[0]
    assert chosen.counts["done"] == 1 and "preset smoke, batch.size=3" in chosen.title


def test_of_two_runs_of_one_seed_the_newest_counts_and_before_it_the_one_at_work(store: Path, plan: str) -> None:
    old, new = done(store, seed=0), store / "offline_dv2--again"
    os.utime(old / "result.json", (1000.0, 1000.0))
    write_json(new / "config.json", content())
    assert take(Reader(store), [plan]).plans[0].counts["interrupted"] == 1
    tell(old, **ELSEWHERE)
    (old / "result.json").unlink()
    os.utime(old / "config.json", (1000.0, 1000.0))
    os.utime(old / "status.json", (1000.0, 1000.0))
    tell(old, **ELSEWHERE)
    os.utime(new / "config.json", (9e9, 9e9))
    assert take(Reader(store), [plan]).plans[0].counts["running"] == 1


def test_what_a_driver_will_do_is_queued(store: Path, plan: str) -> None:
    done(store, seed=0)
    with registered(store, driver(plan, seeds=[0, 5], methods=["offline_dv2", "bc"])):
        told = take(Reader(store))
        (found,) = told.plans
        words = {row: spot.words for (row, _), spot in found.spots.items()}
        assert words == {"offline_dv2": "1/4 1 queued", "coworld": "—", "bc": "0/2 2 queued"}
        assert not told.is_over and "local" in text(told)
    assert take(Reader(store)).plans == () and not list((store / ".drivers").iterdir())


def test_a_driver_with_options_has_a_matrix_of_its_own(store: Path, plan: str) -> None:
    done(store, seed=0)
    with registered(store, driver(plan, options={"batch.size": "3"})):
        told = take(Reader(store), [plan])
        assert [(each.options, each.counts["done"]) for each in told.plans] == [({"batch.size": "3"}, 0), ({}, 1)]


def test_a_plan_whose_file_is_not_here_is_told_by_its_driver(store: Path) -> None:
    with registered(store, driver("/nowhere/mine.toml")):
        told = take(Reader(store))
        assert told.plans == () and "mine (preset smoke)" in text(told)


def test_how_long_the_rest_takes(store: Path, plan: str) -> None:
    """One half done after 100 s, one at work since 40 s of 90, two of 60 and one of 90 to come, two at a time."""
    running(store, seed=0, share=0.5, wall_s=100.0)
    path = running(store, "coworld", 0)
    tell(path, **ELSEWHERE, beat="2020-01-01T00:00:40+00:00")
    with registered(store, driver(plan, usual_s={"offline_dv2": 60.0, "coworld": 90.0})):
        (found,) = take(Reader(store), [plan]).plans
        assert found.left_s() == (100 + 60 + 60 + (90 - 40) + 90 + 90) / 2
        tell(
            store / "logs",
            name="collect-a.status.json",
            kind="collect",
            progress={"bytes": 1, "bytes_total": 4, "wall_s": 5},
        )
        assert take(Reader(store), [plan]).left_s(found) == found.left_s() + 15
    (found,) = take(Reader(store), [plan]).plans
    assert found.left_s() is None  # nobody thought of how long the one takes that told nothing yet


def test_nobody_at_work_means_no_end_in_sight_and_failed_runs_are_nothing_left(store: Path, plan: str) -> None:
    for seed in range(3):
        done(store, seed=seed)
        failed(store, "coworld", seed)
    told = take(Reader(store), [plan])
    assert told.plans[0].left_s() is None and told.is_over
    with registered(store, driver(plan)):
        assert not take(Reader(store), [plan]).is_over  # it may do the failed ones again
    (store / "coworld--s0" / "failed.json").unlink()
    assert not take(Reader(store), [plan]).is_over and take(Reader(store), [plan]).plans[0].left_s() is None


def test_the_rest_takes_as_long_as_its_longest_run(store: Path, plan: str) -> None:
    done(store, seed=1, wall_s=500.0)
    with registered(store, driver(plan, methods=["offline_dv2"], seeds=[0], width=8, usual_s={"offline_dv2": 60.0})):
        (found,) = take(Reader(store), [plan]).plans
        assert found.left_s() == 500.0  # what such runs took counts more than what was thought
    with registered(store, driver(plan, methods=["coworld"], seeds=[0])):
        assert "nobody knows how long the rest takes" in text(take(Reader(store), [plan]))


def test_cost_counts_what_is_not_finished_too(store: Path, plan: str) -> None:
    done(store, seed=0, wall_s=1800.0)
    running(store, seed=1, share=0.5, wall_s=3600.0)
    tell(begun(store, seed=2), "ended", code=STOPPED, progress={"wall_s": 3600.0, "cpu_s": 7200.0, "gpu_s": 1800.0})
    assert "so far 4 CPU h, 0.5 GPU h" in text(take(Reader(store), [plan]))


def test_drivers_that_are_gone_are_not_at_work_and_are_forgotten(store: Path, plan: str) -> None:
    tell(store / ".drivers", name="dead.json", **driver(plan), started="1")
    tell(store / ".drivers", name="silent.json", age_s=SILENT, **driver(plan), **ELSEWHERE)
    tell(store / ".drivers", name="far.json", **driver(plan), **ELSEWHERE)
    tell(store / ".drivers", name="slow.json", age_s=SILENT, **driver(plan))  # of this machine, and there
    (store / ".drivers" / "dead.stop").touch()
    assert {found.path.stem for found in drivers_at_work(store)} == {"far", "slow"}
    with registered(store, driver(plan)) as mine:
        left = {path.name for path in (store / ".drivers").iterdir()}
        assert left == {"far.json", "slow.json", mine.path.name}


def test_a_driver_tells_its_counts_and_hears_that_it_is_to_stop(
    store: Path, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coworld_bench.bench.drivers.LISTEN_S", 0.01)
    monkeypatch.setattr("coworld_bench.bench.drivers.BEAT_S", 1e9)
    with registered(store, driver(plan)) as mine:
        mine.counts = lambda: {"total": 3, "done": 1}
        while drivers_at_work(store)[0].jobs != {"total": 3, "done": 1}:
            pass
        assert not mine.asked_to_stop()
        drivers_at_work(store)[0].ask_to_stop()
        while not mine.asked_to_stop():
            pass
        assert drivers_at_work(store)[0].asked_to_stop
    assert not list((store / ".drivers").iterdir())


def test_a_store_that_cannot_be_written_stops_no_driver() -> None:
    mine = Registration(Path("/proc/self"), {})
    mine.begin()
    mine.end()


def test_reading_again_reads_what_changed_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        done(store, seed=seed)
    reader, read = Reader(store), []
    finished = standing.finished
    monkeypatch.setattr(standing, "finished", lambda folder, files: read.append(folder.name) or finished(folder, files))
    assert len(reader.read()) == 3 and len(read) == 3
    folder = done(store, seed=1, wall_s=99.0)
    os.utime(folder / "result.json", (9e8, 9e8))
    again = {found.name: found.seconds for found in reader.read()}
    assert read[3:] == ["offline_dv2--s1"] and again["offline_dv2--s1"] == 99.0


def test_status_writes_nothing_and_loads_no_torch(store: Path, plan: str) -> None:
    running(store, seed=0, share=0.5)
    failed(store, seed=1)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    words = ["status", plan, "--runs", str(store)]
    code = f"import sys; from coworld_bench.cli import main; main({words}); print({{'torch', 'zarr'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "set()" and "1 running, 1 failed" in done.stdout, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_troubles_are_told_with_their_reason_and_in_json_all_of_them(
    store: Path, plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(20):
        failed(store, seed=seed)
    tell(begun(store, seed=30), age_s=SILENT, **ELSEWHERE)
    assert main(["status", plan, "--runs", str(store)]) == 0
    told = capsys.readouterr().out
    assert told.count("ValueError: bees") == 12 and "… and 9 more" in told
    assert main(["status", plan, "--runs", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and len(found["trouble"]) == 21
    (counted,) = found["plans"]
    assert (counted["counts"]["failed"], counted["counts"]["lost"], counted["runs"]) == (20, 1, 24)
    assert counted["cells"][0]["seeds"]["0"] == {"state": "failed", "run": "offline_dv2--s0", "share": 0.0}
    lost = [each for each in found["trouble"] if each["state"] == "lost"]
    assert lost[0]["silent_s"] > 60 and lost[0]["host"] == "far"


def test_a_store_of_many_plans_is_told_in_lines(store: Path) -> None:
    for seed in range(3):
        done(store, "offline_dv2", seed, target="metaworld/window_close", preset="quick")
    begun(store, "coworld", 7, target="toy/point")
    told = text(take(Reader(store)))
    (line,) = [line for line in told.splitlines() if line.startswith("quickstart (preset quick)")]
    assert line.split()[3] == "3/7"
    assert "1 other run (1 interrupted)" in told


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_shows_changes_and_ends_when_all_is_done(
    terminal: bool, store: Path, plan: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [(method, seed) for method in ("offline_dv2", "coworld") for seed in range(3)]
    for method, seed in runs[:5]:
        done(store, method, seed)
    later = iter([lambda: running(store, *runs[5]), lambda: None, lambda: done(store, *runs[5])])
    monkeypatch.setattr("coworld_bench.cli.status.time.sleep", lambda seconds: next(later)())
    if terminal:
        written = StringIO()
        console = Console(file=written, force_terminal=True, width=100)
        cli_status.redraw(console, lambda: take(Reader(store), [plan]), text)
        told = written.getvalue()
    else:
        assert main(["status", plan, "--watch", "--runs", str(store)]) == 0
        told = capsys.readouterr().out
        assert told.count("toy (preset smoke)") == 3  # what is as before is not printed again
    assert "5 done, 1 not begun" in told and "5 done, 1 running" in told and "6 runs: 6 done" in told
    assert next(later, None) is None


def test_watching_ends_at_ctrl_c_without_a_complaint(
    store: Path, plan: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("coworld_bench.cli.status.time.sleep", interrupted)
    assert main(["status", plan, "--watch", "--runs", str(store)]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_one_document(store: Path) -> None:
    assert main(["status", "--watch", "--json", "--runs", str(store)]) == 2
    assert json.loads(json.dumps(document(take(Reader(store)))))["plans"] == []


def test_a_process_that_waits_for_another_leaves_its_status_alone(tmp_path: Path) -> None:
    path = tell(tmp_path, **ELSEWHERE)
    before = path.read_text()
    with keeping_status(path, {"kind": "train", "job": "mine"}) as mine:
        mine.end(LOCKED)
    assert path.read_text() == before
    tell(tmp_path, age_s=SILENT, **ELSEWHERE)  # that one was lost
    with keeping_status(path, {"kind": "train", "job": "mine"}) as mine:
        assert json.loads(path.read_text())["job"] == "mine"
        mine.end(STOPPED, "error: asked")
    told = json.loads(path.read_text())
    assert (told["state"], told["code"], told["error"]) == ("ended", STOPPED, "error: asked")


def test_a_process_that_died_here_is_followed_at_once(tmp_path: Path) -> None:
    path = tell(tmp_path, pid=1, started="no process began then")
    Status(path, {"job": "mine"}).beat()
    assert json.loads(path.read_text())["job"] == "mine"


def test_an_attempt_goes_on_from_what_the_last_told_unless_it_ended_well(tmp_path: Path) -> None:
    path = tell(tmp_path, "ended", code=STOPPED, progress={"updates": 5, "evaluation": 3.0})
    later = Status(path, {})
    later.observe({"updates": 6})
    assert later.document["progress"] == {"updates": 6, "evaluation": 3.0}
    tell(tmp_path, "ended", code=0, progress={"updates": 5})
    assert Status(path, {}).document["progress"] == {}


def test_an_error_that_leaves_is_told(tmp_path: Path) -> None:
    for error, code in [(UsageError("no"), 2), (KeyboardInterrupt(), 130), (ZeroDivisionError(), 1)]:
        with pytest.raises(type(error)), keeping_status(tmp_path / "status.json", {}):
            raise error
        assert json.loads((tmp_path / "status.json").read_text())["code"] == code


@pytest.mark.parametrize(
    ("silent_s", "told"), [(6.0, "its process on far is gone"), (300.0, "no sign of life from far for 5 min")]
)
def test_a_process_that_is_gone_is_not_called_silent(silent_s: float, told: str) -> None:
    assert reason(standing.Standing("lost", Path("it.log"), {}, {"host": "far"}, 0.0, silent_s)) == told
