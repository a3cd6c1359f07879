"""Work that is stopped anywhere goes on to the same numbers, for every method; damaged checkpoints are passed over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from coworld_bench.checkpoints import KEPT, Checkpoints, load_state
from coworld_bench.collecting import collect
from coworld_bench.errors import STOPPED
from coworld_bench.files import read_json, read_lines
from coworld_bench.methods import method_names
from coworld_bench.run_spec import RunSpec
from coworld_bench.sources import pretrain_source
from coworld_bench.stopping import Stop, StoppedAtCheckpoint, Timer, stop_on_signals
from coworld_bench.training import train

SMALL = {"online.prefill": "100", "online.env_steps": "150"}
RUN = {"compute.checkpoint_minutes": "0", "budget.updates": "6"}
TIMES = "wall_s", "cpu_s", "evaluation_s", "started", "finished"
ALIKE = {"r3m", "bc", "cql", "lompo", "dv2_finetune"}  # whose state others that are tested here have, in parts or whole
METHODS = [
    pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in method_names() if ":" not in name
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options=SMALL)
    return home


def spec(method: str) -> RunSpec:
    sources = ("toy/point_mirrored", "toy/point") if method == "coworld_multi" else ("toy/point_mirrored",)
    return RunSpec(method, "toy/point", sources, preset="smoke", options=RUN)


def prepared(method: str, data: Path) -> RunSpec:
    for source in spec(method).resolve(data).planned.source_specs():
        pretrain_source(source, data)
    return spec(method)


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("time", "cost")}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_stops_again_and_again_ends_with_the_same_result(method: str, data: Path, tmp_path: Path) -> None:
    asked = prepared(method, data)
    whole = train(asked, data=data, runs=tmp_path / "whole")
    parts, stops = in_parts(asked, data, tmp_path / "parts")
    assert stops >= 1, stops
    assert timeless(parts) == timeless(whole)
    for name in ("eval.jsonl", "metrics.jsonl"):
        one, other = (read_lines(tmp_path / place / whole["run"] / name) for place in ("whole", "parts"))
        assert one == other


def in_parts(asked: RunSpec, data: Path, runs: Path) -> tuple[dict[str, Any], int]:
    """The result of a run that stops after every third of its turns, and how often it did."""
    stops = 0
    while True:
        try:
            return train(asked, data=data, runs=runs, stop=after_turns(3)), stops
        except StoppedAtCheckpoint:
            stops += 1


def after_turns(turns: int) -> Stop:
    """Says from this turn on that the work is to stop: a run that makes a checkpoint of every turn asks once a turn."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count >= turns

    return stop


def test_a_source_agent_that_stops_between_episodes_is_the_same_agent(tmp_path: Path) -> None:
    (source,) = spec("coworld").plan().source_specs()
    whole = pretrain_source(source, tmp_path / "whole")
    stops = 0
    while not source.ready(tmp_path / "parts"):
        with suppress(StoppedAtCheckpoint):
            pretrain_source(source, tmp_path / "parts", stop=lambda: True)
        stops += 1
    parts = source.folder(tmp_path / "parts")
    assert stops > 2
    one, other = (timeless(read_json(folder / "source.json")) for folder in (whole, parts))
    assert one == other
    states = [load_state(folder / "agent.pt") for folder in (whole, parts)]
    assert same(*states) and not (parts / "checkpoints").exists()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_a_collection_that_stops_between_episodes_has_the_same_fingerprint(tmp_path: Path) -> None:
    options = SMALL | {"online.env_steps": "300", "online.evaluate_every": "100", "compute.checkpoint_minutes": "0"}

    def made(home: Path, stop: Stop, resume: bool = False) -> str:
        how = {"preset": "smoke", "data": home, "options": options, "reference_return": 1e9}
        return collect("toy/point", **how, stop=stop, resume=resume).fingerprint

    whole = made(tmp_path / "whole", lambda: False)
    stops = 0
    while stops < 20:
        try:
            assert made(tmp_path / "parts", lambda: True, resume=stops > 0) == whole
            break
        except StoppedAtCheckpoint:
            stops += 1
    assert 2 < stops < 20


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_checkpoint_is_warned_of_and_the_one_before_it_taken(damage: str, data: Path, tmp_path: Path) -> None:
    asked = prepared("coworld", data)
    whole = train(asked, data=data, runs=tmp_path / "whole")
    with pytest.raises(StoppedAtCheckpoint):
        train(asked, data=data, runs=tmp_path / "parts", stop=after_turns(5))
    folder = tmp_path / "parts" / whole["run"] / "checkpoints"
    _, newest = sorted(folder.iterdir())
    harm(newest, damage)
    with pytest.warns(UserWarning, match=f"{newest.name} is not what was written"):
        parts = train(asked, data=data, runs=tmp_path / "parts")
    assert timeless(parts) == timeless(whole) and not newest.exists()


def harm(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[damage])


def test_without_any_good_checkpoint_a_run_begins_again(data: Path, tmp_path: Path) -> None:
    asked = prepared("offline_dv2", data)
    whole = train(asked, data=data, runs=tmp_path / "whole")
    with pytest.raises(StoppedAtCheckpoint):
        train(asked, data=data, runs=tmp_path / "parts", stop=after_turns(4))
    for path in (tmp_path / "parts" / whole["run"] / "checkpoints").iterdir():
        harm(path, "flipped")
    with pytest.warns(UserWarning):
        parts = train(asked, data=data, runs=tmp_path / "parts")
    assert timeless(parts) == timeless(whole)
    lines = read_lines(tmp_path / "parts" / whole["run"] / "eval.jsonl")
    assert lines == read_lines(tmp_path / "whole" / whole["run"] / "eval.jsonl")


def test_two_checkpoints_are_kept_the_newest_by_number(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    assert not kept and kept.newest() is None
    for number in range(5):
        kept.save({"number": number, "tensor": torch.full((3,), float(number))})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert KEPT == 2 and [name[:8] for name in names] == ["00000004", "00000005"]
    assert kept.newest()["tensor"].tolist() == [4, 4, 4]
    (tmp_path / names[1]).unlink()
    assert kept.newest()["number"] == 3


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save({"number": 1})
    (tmp_path / ".00000002-0123456789abcdef.pt.99.partial").write_bytes(b"half")
    assert kept.newest() == {"number": 1}


def test_a_timer_is_due_once_after_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    timer = Timer(1.0)
    now[0] = 159.0
    assert not timer.due()
    now[0] = 160.0
    assert timer.due() and not timer.due()


def test_a_signal_asks_and_a_second_ctrl_c_interrupts() -> None:
    """A cluster sends SIGTERM to every process, as often as it likes, and the parent hands it on as Ctrl-C."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_on_signals() as stop:
        assert not stop()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_who_is_not_to_be_interrupted_may_be_asked_again() -> None:
    with stop_on_signals(insisting=False) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop()


def command(data: Path, runs: Path) -> list[str]:
    options = [word for key, value in RUN.items() for word in ("-o", f"{key}={value}")]
    long = ["-o", "budget.updates=16", "-o", "evaluation.early_every=4"]
    words = ["train", "coworld", "--target", "toy/point", "--source", "toy/point_mirrored", "--preset", "smoke", "--json"]
    places = ["--data", str(data), "--runs", str(runs)]
    return [sys.executable, "-m", "coworld_bench.cli", *words, *places, *options, *long]


def test_a_process_that_is_told_to_end_says_75_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    prepared("coworld", data)
    whole = json.loads(subprocess.run(command(data, tmp_path / "whole"), check=True, capture_output=True).stdout)
    process = subprocess.Popen(command(data, tmp_path / "parts"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / "parts" / whole["run"] / "eval.jsonl"
    while len(read_lines(log)) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == STOPPED, said.decode()
    assert "the same command goes on from there" in said.decode() and not (log.parent / "result.json").exists()
    parts = json.loads(subprocess.run(command(data, tmp_path / "parts"), check=True, capture_output=True).stdout)
    assert timeless(parts) == timeless(whole)
