"""Environment processes: what they do is what an environment here does, and none is left behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coworld_bench.envs import make_env
from coworld_bench.envs.pool import EnvPool, EnvProcessError, Step, env_pool
from coworld_bench.errors import NOT_USABLE, USAGE, UsageError
from coworld_bench.tasks import EnvSpec

ROOT = Path(__file__).resolve().parent.parent
TOY = EnvSpec("toy/point")
RIGHT = np.array([1, 0], np.float32)


@pytest.fixture
def pool() -> Iterator[EnvPool]:
    with env_pool(TOY, 2) as made:
        assert made is not None
        yield made


def pids(pool: EnvPool) -> list[int]:
    return [process.process.pid or 0 for process in pool._processes.values()]


def test_each_environment_has_its_own_episode(pool: EnvPool) -> None:
    pool.reset(0, 5)
    pool.reset(1, 6)
    here = make_env(TOY)
    for env, seed in ((0, 5), (1, 6)):
        seen = pool.take(env)
        assert seen.reward is None and seen.success is None and seen.observation["image"].flags.writeable
        np.testing.assert_array_equal(seen.observation["image"], here.reset(seed=seed)[0]["image"])
    pool.step(1, RIGHT)
    observation, reward, _, truncated, info = here.step(RIGHT)
    stepped = pool.take(1)
    assert stepped[1:] == (reward, truncated, info["success"])
    np.testing.assert_array_equal(stepped.observation["state"], observation["state"])
    assert pool.cpu_s > 0


def test_a_process_is_started_when_its_environment_is_first_reset(pool: EnvPool) -> None:
    assert not pids(pool)
    pool.reset(1, 0)
    assert len(pids(pool)) == 1 and pool.ready() == [1]
    assert isinstance(pool.take(1), Step)


def test_closing_reaps_and_the_pool_can_begin_again(pool: EnvPool) -> None:
    pool.reset(0, 0)
    pool.reset(1, 0)
    pool.take(0)  # the other is closed in the middle of its start
    first, second = pids(pool)
    pool.close()
    pool.close()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    pool.reset(0, 0)
    assert pool.take(0).observation["image"].shape == (64, 64, 3)


def test_a_process_that_dies_is_one_sentence(pool: EnvPool) -> None:
    pool.reset(0, 0)
    pool.take(0)
    os.kill(pids(pool)[0], signal.SIGKILL)
    with pytest.raises(EnvProcessError, match=r"environment process 1 of 2 \(toy/point\) was killed by SIGKILL") as dead:
        pool.step(0, RIGHT)
        pool.take(0)
    assert "--workers" in str(dead.value) and dead.value.exit_code == NOT_USABLE


def test_a_fault_in_the_simulator_is_told(pool: EnvPool) -> None:
    pool.reset(0, 0)
    pool.take(0)
    pool.step(0, np.full(2, np.nan))
    with pytest.raises(EnvProcessError, match=r"InvalidAction: .*finite numbers") as failed:
        pool.take(0)
    assert "Traceback" in str(failed.value.__cause__)
    pool.step(0, RIGHT)
    assert pool.take(0).reward is not None  # it is still at work


def test_a_mistake_of_the_user_keeps_its_sentence_and_exit_code() -> None:
    with env_pool(EnvSpec("toy/point", background="generated"), 2) as pool:
        assert pool is not None
        pool.reset(0, 0)
        with pytest.raises(EnvProcessError, match="background exists for simulated scenes") as wrong:
            pool.take(0)
    assert wrong.value.exit_code == USAGE


def test_none_and_one_need_no_process_and_fewer_are_refused() -> None:
    for workers in (0, 1):
        with env_pool(TOY, workers) as pool:
            assert pool is None
    with pytest.raises(UsageError, match="at least 0; got -1"), env_pool(TOY, -1):
        pass


GOES_ON = """
import os, signal
from coworld_bench.envs.pool import env_pool
from coworld_bench.stopping import stop_on_signals
from coworld_bench.tasks import EnvSpec
if __name__ == "__main__":
    with stop_on_signals() as stop, env_pool(EnvSpec("toy/point"), 2) as pool:
        for env in (0, 1):
            pool.reset(env, env)
            pool.take(env)
        os.killpg(0, signal.{name})
        for env in (0, 1):
            pool.reset(env, env)
            pool.take(env)
        print("asked to stop:", stop())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_whole_group_leaves_the_processes_to_their_parent(name: str, tmp_path: Path) -> None:
    """As a terminal, `timeout` and a cluster's scheduler send it; the parent then ends at a checkpoint."""
    script = tmp_path / "goes_on.py"
    script.write_text(GOES_ON.format(name=name))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, start_new_session=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "asked to stop: True\n"), done.stderr


AT_WORK = """
import signal, sys
from coworld_bench.envs.pool import env_pool
from coworld_bench.tasks import EnvSpec
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with env_pool(EnvSpec("toy/point"), 2) as pool:
        for env in (0, 1):
            pool.reset(env, env)
        print(*(process.process.pid for process in pool._processes.values()), flush=True)
        {take}
        print("ready", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("take", ["pass", "[pool.take(env) for env in (0, 1)]"], ids=["starting", "working"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(number: signal.Signals, take: str, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group, as from a terminal; the others the parent alone."""
    script = tmp_path / "at_work.py"
    script.write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + AT_WORK.format(take=take)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert parent.stdout is not None
    processes = [int(word) for word in parent.stdout.readline().split()]
    assert parent.stdout.readline() == b"ready\n" and len(processes) == 2
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    # they all hold the pipe of stderr: it ends with the last of them
    said = parent.communicate(timeout=60)[1].decode()
    assert parent.returncode == -number if number != signal.SIGINT else "KeyboardInterrupt" in said
    assert said.count("Traceback") <= 1, said  # none of the processes saw the Ctrl-C
