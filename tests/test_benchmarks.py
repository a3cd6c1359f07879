"""What an update asks of the machine, and the benchmarks at their smallest: counts are tests, times are not."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from coworld_bench.benchmarks import data, methods, scanning, training
from coworld_bench.benchmarks.counting import count, loop_nests
from coworld_bench.cli.app import main
from coworld_bench.config import override
from coworld_bench.dreamer import AgentSpec, DreamerAgent
from coworld_bench.errors import UsageError

NARROW = {  # launches depend on rows and layers, not on widths
    "model.depth": "1", "model.units": "8", "model.hidden": "8", "model.deter": "8", "model.stoch": "4",
    "batch.size": "2", "behaviour.starts": "4",
}  # fmt: skip
CAN_COMPILE = shutil.which("g++") is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.SIZES, "P", ("paper", NARROW))


def counted(size: str, arm: str) -> dict[str, float]:
    update = training.make_update(size, arm)
    assert update is not None
    update()
    return count(update)


def test_an_update_of_paper_length_launches_few_kernels_and_never_waits(narrow: None) -> None:
    """50 rows of observation and 14 of imagination, eager; fusing and graphs come on top."""
    fast, plain, released = (counted("P", arm) for arm in ("fast", "plain", "released"))
    assert fast["synchronisations"] == 0
    assert fast["launches"] <= 3400
    assert fast["launches"] < 0.55 * plain["launches"]
    assert released["synchronisations"] > 100 and released["launches"] > plain["launches"]


def test_the_quick_update_never_waits_either() -> None:
    assert counted("quick", "fast")["synchronisations"] == 0


def first_gradients(arm: str) -> tuple[dict[str, list[Tensor]], training.Update]:
    """The gradients of the arm's first update at P's length, by optimiser; and its updates."""
    config = override(training.configured("P", arm), {"optimiser.clip": "1e9"})
    agent, source = (DreamerAgent(config, AgentSpec(training.ACTION, training.ACTION, 1.0), seed) for seed in (0, 1))
    update, kept, hooks = training.coworld_update(agent, source, training.random_batch(config)), {}, []
    for name, optimiser in agent.optimisers.items():

        def keep(optimiser: torch.optim.Optimizer, *_: Any, name: str = name) -> None:
            kept[name] = [weight.grad.clone() for weight in optimiser.param_groups[0]["params"] if weight.grad is not None]

        hooks.append(optimiser.register_step_pre_hook(keep))
    update()
    for hook in hooks:
        hook.remove()
    return kept, update


@pytest.mark.skipif(not CAN_COMPILE, reason="torch.compile needs g++ and Python's headers")
def test_a_compiled_update_has_the_plain_one_s_gradients_and_half_the_launches(narrow: None) -> None:
    """At P's length; 40 s on an idle core, nearly all of it compiling."""
    (plain, _), (compiled, update) = first_gradients("plain"), first_gradients("compiled")
    for name in ("model", "actor", "critic"):
        for mine, other in zip(compiled[name], plain[name], strict=True):
            assert float((mine - other).norm()) <= 1e-4 * float(other.norm()) + 1e-7, name
    counts = count(update)
    assert counts["synchronisations"] == 0
    assert 1400 < counts["launches"] <= 1800  # 690 are products: far fewer would mean unseen kernels


def test_every_loop_nest_of_a_compiled_kernel_is_counted() -> None:
    kernel = "async_compile.cpp_pybinding(['float*'], r'''\nvoid kernel(float* out)\n{\n    {\n        for(;;)\n"
    kernel += "        {\n        }\n    }\n    {\n        out[0] = 1;\n    }\n}\n''')"
    source = f"import torch\n\ncpp_fused_add_0 = {kernel}\n\n\ncpp_fused_mul_1 = {kernel}\n"
    assert loop_nests(source) == {"cpp_fused_add_0": 2, "cpp_fused_mul_1": 2}


def test_training_is_measured_in_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.SIZES, "P", ("paper", NARROW | {"batch.length": "6"}))
    found = training.measure(["P"], ["released", "fast"], repeats=1)
    assert [row["arm"] for row in found["rows"]] == ["released", "fast"]
    assert all(row["cpu_ms"] > 0 and row["tflop"] > 0 and row["peak_memory_mb"] > 50 for row in found["rows"])


def test_the_command_prints_and_stores_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "bench", "--repeats", "1", "--episodes", "3", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "data.json").read_text())
    assert printed["rows"] == stored["rows"] and stored["machine"]["cpu"]
    assert "this code" in (tmp_path / "data.md").read_text()
    aims = [row for row in printed["rows"] if row["what"] == "aim"]
    assert len(aims) >= 14 and {row["met"] for row in aims} <= {"yes", "no"}
    sizes = {row["arm"]: row["measured"] for row in printed["rows"] if row["what"] == "size"}
    assert sizes["raw"] == 12288 < sizes["Minari hdf5"] and sizes["this code"] < 2000


def test_executors_are_measured_in_rows_and_their_growth_in_words() -> None:
    from coworld_bench.benchmarks import executors

    table = executors.measure([2, 4], repeats=1)
    arms = dict.fromkeys(row["executor"] for row in table["rows"])
    assert list(arms)[:3] == ["bare subprocesses", "local", "no processes"]
    for row in table["rows"]:
        assert row["wall_s"] > 0
        if row["jobs"] == 4:
            assert row["wall_ms_per_job"] == pytest.approx(250 * row["wall_s"], abs=0.02)
    assert [note for note in table["notes"] if note.startswith("local: from 2 to 4 jobs its time grows")]


@pytest.mark.parametrize(
    "wrong",
    [
        ["bench", "rendr"],
        ["bench", "data", "--sizes", "S"],
        ["bench", "data", "--peer", "anywhere"],
        ["bench", "train", "--episodes", "3"],
        ["bench", "train", "--sizes", "Z"],
        ["bench", "train", "--arms", "fats"],
        ["bench", "train", "--arms", "peer"],
    ],
)
def test_wrong_benchmarks_are_refused(wrong: list[str], tmp_path: Path) -> None:
    assert main([*wrong, "--out", str(tmp_path)]) == 2


def test_a_released_batch_has_the_shapes_of_ours() -> None:
    episodes = data.as_dictionary([data.drawn_episode(seed) for seed in range(2)])
    batch = data.released_batch(episodes, 3, 5)
    assert batch["image"].shape == (3, 5, 64, 64, 3) and batch["action"].shape == (3, 5, 4)


def test_the_released_arm_keeps_its_checks_where_torch_compile_switched_them_off(narrow: None) -> None:
    """torch.compile's import switches off the checks of torch.distributions, each of which makes the host wait."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        assert counted("P", "released")["synchronisations"] > 100
        assert Distribution._validate_args is False
    finally:
        Distribution.set_default_validate_args(before)


def test_the_scan_alone_has_its_arms(narrow: None) -> None:
    rows = scanning.measure(["P", "quick"], repeats=1)["rows"]
    assert [(row["size"], row["arm"]) for row in rows] == [
        ("P", "released"), ("P", "plain"), ("P", "fast"), ("quick", "plain"), ("quick", "fast"),
    ]  # fmt: skip


SMALLER = {**NARROW, "batch.length": "6", "behaviour.horizon": "3"}
TURNS = {  # of the target; what alternates has turns of the source too
    "coworld": {"world model", "source", "world model + behaviour"},
    "dv2_finetune_ewc": {"world model", "world model + behaviour"},
    "cql": {"behaviour"},
    "lompo": {"world model", "behaviour"},
}


@pytest.mark.parametrize("method", TURNS)
def test_every_kind_of_turn_of_a_method_is_measured(method: str) -> None:
    """At the published schedule: LOMPO's and Offline DV2's behaviour comes after their world model."""
    found = methods.measure([method], {"P": ("paper", SMALLER)}, ["plain", "fast"], repeats=2)
    rows = {(row["turn"], row["arm"]): row for row in found["rows"]}
    assert {turn for turn, _ in rows} == TURNS[method]
    assert all(row["cpu_ms"] > 0 and row["launches"] > 0 for row in rows.values())
    assert all(row["synchronisations"] == 0 for (turn, arm), row in rows.items() if arm == "fast" and turn != "source")


def test_a_method_that_does_not_exist_is_named_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="qcl"):
        training.measure(method=["qcl"])
    with pytest.raises(UsageError, match="released"):
        training.measure(method=["cql"], arms=["released"])
