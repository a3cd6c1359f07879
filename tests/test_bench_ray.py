"""The executor on a Ray cluster of two nodes, each a raylet with processes of its own, whose parts are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from coworld_bench.bench.backends import ray_cluster
from coworld_bench.bench.backends.local import Local
from coworld_bench.bench.backends.ray import Ray
from coworld_bench.bench.backends.ray_cluster import QUIET, import_ray
from coworld_bench.bench.backends.ray_task import Share, environment
from coworld_bench.bench.child import NO_LIMITS, Limits
from coworld_bench.bench.execution import THREADS, Execution, make_backend
from coworld_bench.bench.executor import Executor
from coworld_bench.bench.job import Job, Outcome
from coworld_bench.bench.jobs import Place
from coworld_bench.bench.retrying import Retries
from coworld_bench.data.budget import PROCESSES
from coworld_bench.devices import GPU_SHARE
from coworld_bench.errors import MissingPackage, NotUsable, UsageError
from coworld_bench.files import read_json

if find_spec("ray") is None:
    pytest.skip('Ray is not installed: pip install "coworld-bench[ray]"', allow_module_level=True)

ray = import_ray()
ROOT = Path(__file__).resolve().parent.parent
NO_SITE = (sys.executable, "-I", "-S", "-c")
MAKE = "open(product, 'w').close()"
HEALTH = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}  # a dead node is missed soon
NODE = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}
WAIT_S = 60.0

# says where it is, then waits for a while; the second attempt makes the product at once
FIRST_WAITS = f"""
import os, time
if os.environ["COWORLD_BENCH_ATTEMPT"] == "1":
    with open(product + ".partial", "w") as place:
        place.write(f"{{os.getppid()}} {{os.getpid()}}")
    os.rename(product + ".partial", product + ".place")
    time.sleep({WAIT_S})
{MAKE}
"""
ENDS_WITH_PARENT = "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
STOPS = f"""
import signal, time, sys
def stop(*_):
    open(product + ".stopped", "w").close()
    sys.exit(75)
signal.signal(signal.SIGINT, stop)
open(product + ".place", "w").close()
time.sleep({WAIT_S})
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with a CPU, and a node with a CPU and what Ray is told to be a GPU."""
    before = dict(os.environ)
    os.environ.update(QUIET | HEALTH | {"PYTHONPATH": str(ROOT)})
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


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
        self.events.append(("repeated", outcome.note))

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.events.append((outcome.state, job.key))


def make_job(folder: Path, key: str, code: str = MAKE) -> Job:
    product = folder / f"{key}.made"
    script = f"product = {str(product)!r}\n{code}"
    return Job("train", key, (*NO_SITE, script), product.is_file, lambda: folder / f"{key}.log")


def on_ray(cluster: Any, folder: Path, limits: Limits = NO_LIMITS, **asked: Any) -> Ray:
    return Ray([folder], limits, **{"device": "cpu", "address": cluster.address} | asked)


def execute(
    backend: Any, *jobs: Job, watch: Watcher | None = None, asked_to_stop: Callable[[], bool] = lambda: False
) -> Any:
    return Executor(backend, watch or Watcher(), Retries(2, pauses_s=(0.01,)), asked_to_stop).run(jobs)


def when_there(path: Path, act: Callable[[str], None]) -> Thread:
    """Do something with what a file says as soon as it is there."""

    def wait() -> None:
        while not path.exists():
            time.sleep(0.05)
        act(path.read_text())

    thread = Thread(target=wait, daemon=True)
    thread.start()
    return thread


def is_gone(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_jobs_end_as_they_would_without_ray(cluster: Any, tmp_path: Path) -> None:
    """The slow job has a limit of its own: how soon the greedy one is too large is for the machine to say."""
    codes = {
        "made": "print('hello'); print('{\"updates\": 3}'); " + MAKE,
        "crash": "raise ValueError('the disk is full of bees')",
        "empty": "pass",
        "usage": "raise SystemExit(2)",
        "greedy": "import time; held = bytearray(400 << 20); time.sleep(60)",
    }
    ended, seen = [], []
    for where in ("here", "ray"):
        ended.append({})
        for limits, given in (
            (Limits(memory_bytes=300 << 20), codes),
            (Limits(timeout_s=3.0), {"slow": "import time; time.sleep(60)"}),
        ):
            folder, watch = tmp_path / where, Watcher()
            folder.mkdir(exist_ok=True)
            backend = Local([{}, {}], limits) if where == "here" else on_ray(cluster, folder, limits)
            outcomes = execute(backend, *(make_job(folder, key, code) for key, code in given.items()), watch=watch)
            ended[-1] |= {key: (one.state, one.note, one.code, one.attempts) for key, one in outcomes.items()}
            seen.append((watch.progress, sorted(watch.events)))
    assert ended[0] == ended[1]
    assert seen[:2] == seen[2:]
    assert [ended[1][key][0] for key in (*codes, "slow")] == ["done", *["failed"] * 5]
    assert ended[1]["greedy"][3] == 3, "out of memory is tried again"
    assert not list(tmp_path.glob("**/*.beacon"))


def test_a_killed_worker_is_replaced_and_its_process_told_to_stop(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watcher()
    job = make_job(tmp_path, "job", ENDS_WITH_PARENT + FIRST_WAITS)
    killed = when_there(tmp_path / "job.made.place", lambda place: os.kill(int(place.split()[0]), signal.SIGKILL))
    outcomes = execute(on_ray(cluster, tmp_path), job, make_job(tmp_path, "other"), watch=watch)
    killed.join()
    assert {key: one.state for key, one in outcomes.items()} == {"job": "done", "other": "done"}
    assert outcomes["job"].attempts == 2
    assert [note for event, note in watch.events if event == "repeated"] == [
        "lost: Ray's process that supervised it was killed"
    ]
    child = int((tmp_path / "job.made.place").read_text().split()[1])
    wait_until(lambda: is_gone(child))
    assert capsys.readouterr() == ("", ""), "Ray's own lines are none of ours"


def test_a_node_that_is_lost_takes_only_its_attempt_along(cluster: Any, tmp_path: Path) -> None:
    watch = Watcher()
    job = make_job(tmp_path, "job", ENDS_WITH_PARENT + FIRST_WAITS)
    backend = on_ray(cluster, tmp_path, device="cuda")  # the job can be on the second node alone
    outcomes: dict[str, Outcome] = {}
    work = Thread(target=lambda: outcomes.update(execute(backend, job, watch=watch)))
    work.start()
    wait_until((tmp_path / "job.made.place").exists)
    cluster.remove_node(cluster.second, allow_graceful=False)
    cluster.second = cluster.add_node(**NODE)
    work.join()
    assert (outcomes["job"].state, outcomes["job"].attempts) == ("done", 2)
    (note,) = [note for event, note in watch.events if event == "repeated"]
    assert note.startswith("lost"), note


def test_asked_to_stop_the_processes_stop_at_a_checkpoint(cluster: Any, tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, "running", STOPS), make_job(tmp_path, "queued")]
    there = (tmp_path / "running.made.place").exists
    outcomes = execute(on_ray(cluster, tmp_path, jobs=1), *jobs, asked_to_stop=there)
    assert {key: one.state for key, one in outcomes.items()} == {"running": "interrupted", "queued": "interrupted"}
    assert (tmp_path / "running.made.stopped").exists()
    assert not (tmp_path / "queued.made").exists()


def test_the_same_command_goes_on_after_its_driver_was_killed(cluster: Any, tmp_path: Path) -> None:
    command = [sys.executable, __file__, cluster.address, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as driver:
        place = tmp_path / "b.made.place"
        wait_until(place.exists)
        driver.kill()
    child = int(place.read_text().split()[1])
    wait_until(lambda: is_gone(child))
    assert (tmp_path / "a.made").exists() and not (tmp_path / "b.made").exists()
    made = (tmp_path / "a.made").stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_WAIT": "1"})
    assert again.stdout.split("\n") == ["a: finished before", "b: done", ""], again.stderr
    assert (tmp_path / "a.made").stat().st_mtime_ns == made
    assert again.stderr == ""


def drive(address: str, folder: Path) -> None:
    """A driver that is killed, and its repetition."""
    waits = MAKE if os.environ.get("NO_WAIT") else ENDS_WITH_PARENT + FIRST_WAITS
    backend = Ray([folder], NO_LIMITS, "cpu", jobs=1, address=address)
    for key, outcome in execute(backend, make_job(folder, "a"), make_job(folder, "b", waits)).items():
        print(f"{key}: {outcome.state}", flush=True)


def test_processes_share_a_gpu_and_know_their_part(cluster: Any, tmp_path: Path) -> None:
    names = "CUDA_VISIBLE_DEVICES", GPU_SHARE, PROCESSES
    code = f"""
import os, time
with open(product + '.here', 'w') as here:
    here.write('/'.join(os.environ[name] for name in {names}))
while len([name for name in os.listdir({str(tmp_path)!r}) if name.endswith('.here')]) < 1:
    time.sleep(0.05)
{MAKE}
"""
    backend = on_ray(cluster, tmp_path, device="auto", per_gpu=2)
    assert backend.room() == 1, "two parts of the GPU, and one CPU beside it"
    execute(backend, make_job(tmp_path, "job", code))
    assert (tmp_path / "job.made.here").read_text() == "0/0.5000/1"


def test_what_an_attempt_gets_of_a_node() -> None:
    node = {"CPU": 4.0, "GPU": 1.0, "memory": 16e9}
    assert Share().times(node) == 4
    assert Share(1 / 3).times(node) == 3
    assert Share(0.5, 10 * 10**9).times(node) == 1
    assert Share(1.0).times({"CPU": 4.0}) == 0
    assert Share(1 / 3).options() == {"num_cpus": 1, "num_gpus": 0.3333, "memory": None}
    assert environment(Share(), 4) == dict.fromkeys(THREADS, "1") | {"CUDA_VISIBLE_DEVICES": "", PROCESSES: "4"}
    assert environment(Share(1.0), 1) == {PROCESSES: "1"}


def test_a_cluster_without_room_is_refused(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(NotUsable, match=r"takes 1 CPU, 1e\+03 GB of memory .*; nodes have: 1 CPU, 0 GPU") as said:
        on_ray(cluster, tmp_path, Limits(memory_bytes=10**12))
    assert said.value.exit_code == 4
    assert not list(tmp_path.rglob("*.beacon")) and not ray.is_initialized()


def test_a_folder_that_the_nodes_do_not_see_is_refused(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotUsable, match=r"does not see /proc/self/cwd/runs; --runs and --data must be shared"):
        Ray([Path("/proc/self/cwd/runs"), tmp_path], NO_LIMITS, "cpu", address=cluster.address)


def test_another_version_on_the_nodes_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster.coworld_bench, "__version__", "99")
    with pytest.raises(NotUsable, match=r"has coworld-bench 0.*; here it is 99"):
        on_ray(cluster, tmp_path)


def test_a_ray_of_its_own_ends_with_it_and_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ended = signal.getsignal(signal.SIGTERM)
    with pytest.raises(NotUsable, match="no node of the Ray cluster has room for a run: a run takes 1 CPU, 1 GPU"):
        make_backend(Execution("ray"), Place(tmp_path, tmp_path, "cuda"), 1, Watcher())
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is ended


@pytest.mark.parametrize("address", ["nowhere", "ray://head:10001", "a:b"])
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="--address is auto or HOST:PORT"):
        Ray([tmp_path], NO_LIMITS, address=address)


def test_an_address_where_no_cluster_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "REACH_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        Thread(target=lambda: somebody.accept()[0].sendall(b"HTTP/1.0 400 Bad Request"), daemon=True).start()
        with pytest.raises(NotUsable, match=f"what is at {address} is no Ray cluster"):
            Ray([tmp_path], NO_LIMITS, address=address)
        with pytest.raises(NotUsable, match=f"no Ray cluster at {address}: timed out"):
            Ray([tmp_path], NO_LIMITS, address=address)
    with pytest.raises(NotUsable, match=f"no Ray cluster at {address}: connection refused"):
        Ray([tmp_path], NO_LIMITS, address=address)


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r'ray is not installed; install it with: pip install "coworld-bench\[ray\]"'):
        make_backend(Execution("ray"), Place(tmp_path, tmp_path, "cpu"), 1, Watcher())


def test_no_processes_is_for_here(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--jobs 0 .* --executor local"):
        make_backend(Execution("ray"), Place(tmp_path, tmp_path, "cpu"), 0, Watcher())


PLAN = """
title = "A small plan"
quality = "medium-replay"
methods = ["offline_dv2", "drq_bc"]
seeds = { smoke = [0, 1] }
options.smoke = { "compute.checkpoint_minutes" = 0.002, "budget.updates" = 60, "evaluation.early_every" = 20 }
[[cells]]
target = "toy/point"
"""


@pytest.mark.slow
def test_a_plan_has_the_same_results_wherever_and_however_disturbed_it_runs(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(PLAN)
    undisturbed = finished(tmp_path, "local")
    at = ["--executor", "ray", "--address", cluster.address, "--device", "cpu"]
    driver = begin(tmp_path, "ray", *at)
    os.kill(parent_of(run_at_work(tmp_path / "ray")), signal.SIGKILL)
    run_at_work(tmp_path / "ray")
    cluster.remove_node(cluster.second, allow_graceful=False)
    cluster.second = cluster.add_node(**NODE)
    run_at_work(tmp_path / "ray")
    driver.kill()
    assert driver.wait() == -signal.SIGKILL, "it had ended before"
    assert begin(tmp_path, "ray", *at).wait() == 0
    for home, shards in (("shards", ("0/2", "1/2")), ("overlapping", ("0/1", "1/2"))):
        drivers = [begin(tmp_path, home, "--shard", shard, "--jobs", "1") for shard in shards]
        assert [driver.wait() for driver in drivers] == [0, 0]
    for home in ("ray", "shards", "overlapping"):
        assert finished(tmp_path, home) == undisturbed, home


def begin(folder: Path, home: str, *words: str) -> subprocess.Popen[bytes]:
    places = ["--data", str(folder / "data"), "--runs", str(folder / home)]
    command = [sys.executable, "-m", "coworld_bench.cli", "run", str(folder / "small.toml"), "--preset", "smoke"]
    return subprocess.Popen([*command, *places, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_at_work(runs: Path) -> int:
    """The process of a run that makes progress now."""
    found: list[int] = []

    def there() -> bool:
        for path in runs.glob("*/status.json"):
            status = read_json(path)
            if status["state"] == "running" and not is_gone(status["pid"]) and list(path.parent.glob("checkpoint*")):
                found.append(status["pid"])
        return bool(found)

    wait_until(there)
    return found[0]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def finished(folder: Path, home: str) -> dict[str, Any]:
    """The table of a plan that is brought to its end here, byte by byte, and each result less its times."""
    assert begin(folder, home, "--jobs", "2").wait() == 0
    results = {path.parent.name: read_json(path) for path in (folder / home).glob("*/result.json")}
    assert len(results) == 4
    (table,) = (folder / home).glob("report/*/small-smoke.csv")
    timeless = {
        run: {key: value for key, value in result.items() if key not in ("time", "cost")} for run, result in results.items()
    }
    return {"table": table.read_bytes(), **timeless}


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]))
