"""Claims across machines: one holder at a time, whatever dies, sleeps or comes at the same moment."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coworld_bench.bench import leases
from coworld_bench.bench.claims import claimed, holder
from coworld_bench.bench.grounds import Bucket, Folder, Ground
from coworld_bench.bench.leases import Holder, content_of, leased, myself
from coworld_bench.data.lock import Busy
from coworld_bench.data.remote import Remote
from coworld_bench.errors import NotUsable
from coworld_bench.stopping import StoppedAtCheckpoint, never

ROOT = Path(__file__).resolve().parent.parent
WORK = "a-run"
BEGIN = """
import sys, time
from pathlib import Path
from coworld_bench.bench import leases
from coworld_bench.bench.claims import claimed
from coworld_bench.data.lock import Busy
home = Path(sys.argv[1])
"""
HOLD = """
with claimed(home, "a-run") as claim:
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(code: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-c", BEGIN + code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds WORK."""
    process = start(HOLD, tmp_path)
    assert said(process) == "held"
    yield process
    end(process)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Moves this process to another machine."""
    return lambda: monkeypatch.setattr(leases, "machine", lambda: ("far", "other boot", "its own"))


def lease_of(home: Path, number: int = 1) -> Path:
    return home / ".locks" / f"{WORK}.lease.{number}"


def grow_old(home: Path, number: int = 1) -> None:
    past = time.time() - 2 * leases.LEASE_S
    os.utime(lease_of(home, number), (past, past))


def test_a_refusal_names_the_holder(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    words = f"process {held.pid} on {socket.gethostname()}, since 20"
    with pytest.raises(Busy, match=f"another process is making a-run in {tmp_path}: {words}.*; wait"):
        claimed(tmp_path, WORK).__enter__()
    assert str(holder(tmp_path, WORK)).startswith(words)
    assert holder(tmp_path, "another-run") is None


def test_a_killed_holder_of_this_machine_is_followed_at_once(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    held.kill()
    os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)  # nobody has asked how it ended yet
    assert lease_of(tmp_path).is_file() and holder(tmp_path, WORK) is None
    with claimed(tmp_path, WORK) as claim:
        assert claim.number == 2 and not lease_of(tmp_path).exists()
    assert not list((tmp_path / ".locks").iterdir())


def test_a_holder_elsewhere_is_waited_for_until_its_lease_is_old(
    tmp_path: Path, held: subprocess.Popen[str], elsewhere: Callable[[], None]
) -> None:
    elsewhere()
    held.kill()  # nobody elsewhere can know
    held.wait()
    with pytest.raises(Busy, match=f"process {held.pid} on {socket.gethostname()}"):
        claimed(tmp_path, WORK).__enter__()
    assert holder(tmp_path, WORK)
    grow_old(tmp_path)
    assert holder(tmp_path, WORK) is None
    with claimed(tmp_path, WORK) as claim:
        assert claim.number == 2 and holder(tmp_path, WORK)


def test_a_refused_claim_leaves_the_lock_of_another_machine(
    tmp_path: Path, held: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Busy):
        patch.setattr(leases, "machine", lambda: ("far", "other boot", "its own"))
        claimed(tmp_path, WORK).__enter__()
    with pytest.raises(Busy, match=f"process {held.pid}"):
        claimed(tmp_path, WORK).__enter__()


def test_the_clocks_of_machines_are_not_compared(
    tmp_path: Path, held: subprocess.Popen[str], elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(Busy):
        claimed(tmp_path, WORK).__enter__()


def test_a_lease_without_content_counts_until_it_is_old(tmp_path: Path) -> None:
    (tmp_path / ".locks").mkdir()
    lease_of(tmp_path, 3).touch()
    with pytest.raises(Busy, match="another process"):
        claimed(tmp_path, WORK).__enter__()
    grow_old(tmp_path, 3)
    with claimed(tmp_path, WORK) as claim:
        assert claim.number == 4


def test_a_lease_is_kept_fresh_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    with claimed(tmp_path, WORK) as claim:
        grow_old(tmp_path)
        old = lease_of(tmp_path).stat().st_mtime
        while lease_of(tmp_path).stat().st_mtime == old:
            time.sleep(0.01)
        assert not claim.lost and not claim.guarding(never)() and claim.guarding(lambda: True)()
    assert not lease_of(tmp_path).exists()


@pytest.mark.parametrize(("gone", "number"), [(True, 2), (False, 2), (True, 1)])
def test_a_holder_that_was_taken_over_stops_and_takes_nothing_away(tmp_path: Path, gone: bool, number: int) -> None:
    """Also before its follower has removed its lease, and after that one ended and a third has one of the same number."""
    with claimed(tmp_path, WORK) as claim:
        stop = claim.guarding(never)
        assert not stop()
        if gone:
            lease_of(tmp_path).unlink()
        other = lease_of(tmp_path, number)
        other.write_bytes(content_of(Holder("far", "", "", "", 1, "", "token", "")))
        claim.look()
        with pytest.raises(StoppedAtCheckpoint, match="took over a-run"):
            stop()
    assert other.is_file()


def test_one_that_slept_looks_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed(tmp_path, WORK) as claim:
        stop = claim.guarding(never)
        lease_of(tmp_path).unlink()
        assert not stop(), "between two beats nobody looks"
        monkeypatch.setattr(leases, "clock", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 2 * leases.LEASE_S)
        with pytest.raises(StoppedAtCheckpoint):
            stop()


def test_one_that_is_cut_off_goes_on_until_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OSError(errno.EIO, "no route to host")

    with claimed(tmp_path, WORK) as claim:
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", away)
            assert claim.look() and not claim.guarding(never)()
        lease_of(tmp_path).unlink()
        assert not claim.look()


NAPPER = """
leases.BEAT_S, leases.LEASE_S = 0.1, 0.6
with claimed(home, "a-run") as claim:
    print("held", flush=True)
    stop = claim.guarding(lambda: False)
    try:
        while not stop():
            time.sleep(0.01)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


def test_a_process_that_is_stopped_for_long_wakes_to_find_another_at_its_work(
    tmp_path: Path, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere()
    monkeypatch.setattr(leases, "LEASE_S", 0.6)
    process = start(NAPPER, tmp_path)
    try:
        assert said(process) == "held"
        process.send_signal(signal.SIGSTOP)
        while holder(tmp_path, WORK):
            time.sleep(0.02)
        with claimed(tmp_path, WORK):
            process.send_signal(signal.SIGCONT)
            assert said(process).startswith("StoppedAtCheckpoint another process took over a-run")
            assert process.wait(20) == 0 and lease_of(tmp_path, 2).is_file()
    finally:
        end(process)


def test_a_folder_that_knows_no_locks_has_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "function not implemented")

    process = start(HOLD, tmp_path)
    try:
        assert said(process) == "held"
        monkeypatch.setattr(fcntl, "flock", unknown)
        with pytest.raises(Busy, match=f"process {process.pid}"):
            claimed(tmp_path, WORK).__enter__()
    finally:
        end(process)
    with claimed(tmp_path, WORK), pytest.raises(Busy, match=f"process {os.getpid()}"):
        claimed(tmp_path, WORK).__enter__()


def test_a_pid_that_went_to_another_process_is_nobody(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    other = start("time.sleep(60)", tmp_path)
    try:
        text = lease_of(tmp_path).read_text()
        lease_of(tmp_path).write_text(text.replace(f'"pid": {held.pid}', f'"pid": {other.pid}'))
        assert holder(tmp_path, WORK) is None
    finally:
        end(other)


def test_another_pid_namespace_is_another_machine(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    before = ("unshare", "--user", "--map-root-user", "--pid", "--uts", "--fork")
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("this machine grants no namespaces")
    code = "try:\n    claimed(home, 'a-run').__enter__()\nexcept Busy as busy:\n    print(busy)\nelse:\n    print('taken')"
    held.kill()
    held.wait()
    process = start(code, tmp_path, before=before)
    assert f"process {held.pid} on" in process.communicate()[0]
    grow_old(tmp_path)
    process = start(code, tmp_path, before=before)
    assert process.communicate()[0] == "taken\n"


# ---- at the same moment

CONTENDER = """
import os
leases.machine = lambda: (f"host{sys.argv[2]}", "boot", "namespace")
rounds, count = int(sys.argv[3]), int(sys.argv[4])
(home / f"ready{sys.argv[2]}").touch()
for number in range(rounds):
    while not (home / f"go{number}").exists():
        pass
    try:
        with claimed(home, f"work{number}"):
            (home / f"won-{number}-{sys.argv[2]}").touch()
            while len(list(home.glob(f"*-{number}-*"))) < count:
                time.sleep(0.001)
    except Busy:
        (home / f"lost-{number}-{sys.argv[2]}").touch()
"""


def test_of_several_machines_that_take_over_one_wins(tmp_path: Path) -> None:
    rounds, count = 12, 4
    (tmp_path / ".locks").mkdir()
    past = time.time() - 2 * leases.LEASE_S
    for number in range(rounds):
        for dead in range(1, 1 + number % 3):  # none, one or two
            path = tmp_path / ".locks" / f"work{number}.lease.{dead}"
            path.write_bytes(content_of(Holder("gone", "", "", "", dead, "", "token", "")))
            os.utime(path, (past, past))
    processes = [start(CONTENDER, tmp_path, index, rounds, count) for index in range(count)]
    try:
        while len(list(tmp_path.glob("ready*"))) < count:
            time.sleep(0.01)
        for number in range(rounds):
            (tmp_path / f"go{number}").touch()
            while len(list(tmp_path.glob(f"*-{number}-*"))) < count:
                time.sleep(0.002)
                assert len(list(tmp_path.glob(f"won-{number}-*"))) < 2
        assert all(process.wait(20) == 0 for process in processes)
        assert len(list(tmp_path.glob("won-*"))) == rounds
    finally:
        for process in processes:
            end(process)


class Shaken:
    """A ground in memory whose answers come after pauses, and where those who said farewell are old."""

    def __init__(self, rng: random.Random) -> None:
        self.files: dict[int, bytes] = {}
        self.gone: set[bytes] = set()
        self.rng, self.lock = rng, threading.Lock()

    def pause(self) -> None:
        if self.rng.random() < 0.5:
            time.sleep(self.rng.random() * 0.002)

    def numbers(self, name: str) -> list[int]:
        self.pause()
        with self.lock:
            return sorted(self.files)

    def create(self, name: str, number: int, content: bytes) -> bool:
        self.pause()
        with self.lock:
            return self.files.setdefault(number, content) is content

    def read(self, name: str, number: int) -> bytes:
        self.pause()
        with self.lock:
            return self.files.get(number, b"")

    def age_s(self, name: str, number: int) -> float:
        self.pause()
        with self.lock:
            return float("inf") if self.files.get(number) in {None, *self.gone} else 0.0

    def refresh(self, name: str, number: int, content: bytes) -> bool:
        return self.read(name, number) == content

    def remove(self, name: str, number: int) -> None:
        self.pause()
        with self.lock:
            self.files.pop(number, None)


def test_no_two_hold_the_work_in_any_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many claim, hold, let go or die without a word; a candidate may be slow at every step."""
    ground, inside, worst, turns = Shaken(random.Random(0)), [0], [0], [0]
    counting = threading.Lock()
    until = time.monotonic() + 4

    def contend(index: int) -> None:
        rng = random.Random(index)
        while time.monotonic() < until:
            me = Holder(f"host{index}", "", "", "", index, "", f"{rng.random()}", "")
            try:
                number = leases.take(ground, WORK, me, locked=False)
            except Busy:
                continue
            with counting:
                inside[0] += 1
                turns[0] += 1
                worst[0] = max(worst[0], inside[0])
            time.sleep(rng.random() * 0.002)
            with counting:
                inside[0] -= 1
            if rng.random() < 0.5:
                ground.gone.add(content_of(me))
            else:
                ground.remove(WORK, number)

    monkeypatch.setattr(leases.random, "uniform", lambda *_: 0.0)
    threads = [threading.Thread(target=contend, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns[0] > 50 and worst[0] == 1


# ---- in a bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from made_servers import serving_s3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with serving_s3("leases") as url:
        yield url


@pytest.fixture(params=["folder", "bucket"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "folder":
        return Folder(tmp_path)
    return Bucket(Remote(f"{request.getfixturevalue('bucket')}/{tmp_path.name}"))


def test_grounds_keep_their_word(ground: Ground) -> None:
    assert ground.numbers(WORK) == [] and ground.read(WORK, 1) == b""
    assert ground.create(WORK, 9, b"one") and not ground.create(WORK, 9, b"two")
    assert ground.create(WORK, 10, b"three") and ground.create("other", 11, b"four")
    assert ground.numbers(WORK) == [9, 10] and ground.read(WORK, 9) == b"one"
    assert 0 <= ground.age_s(WORK, 9) < 60 and ground.age_s(WORK, 1) > leases.LEASE_S
    assert ground.refresh(WORK, 9, b"one") and ground.read(WORK, 9) == b"one"
    ground.remove(WORK, 9)
    ground.remove(WORK, 9)
    assert ground.numbers(WORK) == [10]


def test_a_ground_tells_the_age_of_a_lease(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.create(WORK, 1, b"content")
    while not ground.age_s(WORK, 1) > 0.9:
        time.sleep(0.1)
    ground.refresh(WORK, 1, b"content")
    assert ground.age_s(WORK, 1) < 0.9


def test_of_many_that_create_a_lease_in_a_bucket_one_does(bucket: str) -> None:
    ground, won, start_line = Bucket(Remote(f"{bucket}/many")), [], threading.Barrier(6)

    def contend(index: int) -> None:
        for number in range(4):
            me = Holder(f"host{index}", "", "", "", index, "", f"{index}", "")
            start_line.wait()
            try:
                with leased(ground, f"work{number}", me, locked=True):
                    won.append((number, index))
                    start_line.wait()
            except Busy:
                start_line.wait()

    threads = [threading.Thread(target=contend, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, _ in won] == [0, 1, 2, 3]


def test_a_store_that_overwrites_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def careless(remote: Remote, name: str, content: bytes) -> bool:
        remote.write(name, content)
        return True

    monkeypatch.setattr(Remote, "create", careless)
    ground = Bucket(Remote(f"{bucket}/careless"))
    with pytest.raises(NotUsable, match="careless overwrites what is to be created"):
        leases.take(ground, WORK, myself(tmp_path), locked=True)
