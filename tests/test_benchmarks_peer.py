"""The arm `peer`: what is no checkout is refused, what is one leaves nothing behind, and computes what `released` does.

COWORLD_BENCH_PEER=PATH names a checkout of github.com/qiwang067/CoWorld for the last two tests.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coworld_bench.benchmarks import peer, training
from coworld_bench.benchmarks.peer import PeerUpdate
from coworld_bench.benchmarks.released import ReleasedUpdate
from coworld_bench.cli.app import main
from coworld_bench.dreamer import AgentSpec, DreamerAgent, WorldModel

TRAINING = """
import os
os.environ["MUJOCO_GL"] = "theirs"
import sys
sys.path.append("theirs")
import ruamel.yaml as yaml
import exploration
from torch.utils.tensorboard import SummaryWriter
from models import Dreamer
"""
SETTINGS = "defaults: {act: ELU, rate: 3e-4, size: [64, 64], rest: 2}\nmetaworld: {rest: 1}\n"
SMALL = {
    "batch.size": "2", "batch.length": "5", "model.depth": "2", "model.units": "12", "model.hidden": "10",
    "model.deter": "14", "model.stoch": "6",
}  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Has the files of a checkout, and none of its code."""
    written = {"co_training.py": TRAINING, "models.py": "class Dreamer: ...", "co_configs.yaml": SETTINGS}
    for name in peer.FILES:
        (tmp_path / name).write_text(written.get(name, ""))
    return tmp_path


def test_a_checkout_leaves_nothing_behind(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ModuleType("models")
    monkeypatch.setitem(sys.modules, "models", ours)
    path, environment, files = list(sys.path), dict(os.environ), sorted(checkout.iterdir())
    found = peer.load(checkout)
    assert found.dreamer.__name__ == "Dreamer"
    assert found.settings == {"act": "ELU", "rate": 3e-4, "size": (64, 64), "rest": 1}
    assert sys.modules["models"] is ours
    assert not {"co_training", "wandb", "ruamel.yaml"} & sys.modules.keys()
    assert (sys.path, dict(os.environ), sorted(checkout.iterdir())) == (path, environment, files)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tools.py", None, "has no tools.py"),
        ("models.py", "import nowhere", "No module named 'nowhere'"),
        ("models.py", "class Other: ...", "Dreamer"),
        ("co_configs.yaml", "defaults: {}", "metaworld"),
    ],
)
def test_a_folder_that_is_no_checkout_is_refused_before_anything_is_measured(
    checkout: Path, name: str, text: str | None, reason: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(training, "peak_gflops", lambda: pytest.fail("something was measured"))
    (checkout / name).unlink() if text is None else (checkout / name).write_text(text)
    assert main(["bench", "train", "--peer", str(checkout), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert reason in printed.replace("\n", " ") and str(checkout) in printed and "Traceback" not in printed


@pytest.fixture
def real() -> Path:
    if "COWORLD_BENCH_PEER" not in os.environ:
        pytest.skip("COWORLD_BENCH_PEER names no checkout of the released code")
    return Path(os.environ["COWORLD_BENCH_PEER"])


def test_a_real_checkout_is_an_arm(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.SIZES, "P", ("paper", SMALL))
    found = training.measure(["quick", "P"], ["released"], repeats=1, peer=real)
    assert [(row["size"], row["arm"]) for row in found["rows"]] == [("P", "released"), ("P", "peer")]
    released, theirs = found["rows"]
    assert theirs["synchronisations"] > 20 and theirs["peak_memory_mb"] > 50
    assert theirs["tflop"] == pytest.approx(released["tflop"], rel=0.1)


def test_released_and_a_real_checkout_have_the_same_loss_and_gradient(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the world model and the alignment, under the same weights and noise."""
    monkeypatch.setitem(training.SIZES, "P", ("paper", SMALL))
    config = training.configured("P", "released")
    agent, source = (DreamerAgent(config, AgentSpec(4, 4, 1.0), seed) for seed in (0, 1))
    ours, theirs = Measured(agent, source), PeerUpdate(real, config, 4)
    for mine, other in ((agent, theirs.agent), (source, theirs.source)):
        give_weights(mine.model, other._wm)
        for name, head in (("actor", mine.behaviour.actor), ("value", mine.behaviour.critic)):
            assert [p.shape for p in head.parameters()] == [
                p.shape for p in getattr(other._task_behavior, name).parameters()
            ]
    batch = training.random_batch(config)
    for update in (ours, theirs):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            update(batch)
    metrics = theirs.agent._metrics
    assert ours.loss == pytest.approx(float(metrics["model_loss"][0]), rel=1e-5)
    assert ours.norm == pytest.approx(metrics["model_grad_norm"][0], rel=1e-4)


class Measured(ReleasedUpdate):
    """Keeps the world model's loss and the norm of its gradient, before it is clipped."""

    def descend(self, index: int, loss: Tensor, retain: bool) -> None:
        if index == 0:
            gradients = torch.autograd.grad(loss, list(self.agent.model.parameters()), retain_graph=True)
            self.loss, self.norm = loss.item(), torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        super().descend(index, loss, retain)


@torch.no_grad()
def give_weights(ours: WorldModel, theirs: Any) -> None:
    """Their layers over [z, a] and [h, e] are two of ours each."""
    rssm, decoder, dynamics = ours.rssm, ours.decoder, theirs.dynamics
    join = torch.cat([rssm.from_stoch.weight, rssm.from_action.weight], 1)
    put(dynamics._inp_layers, join, rssm.from_action.bias)
    put(dynamics._cell, rssm.gates.weight, rssm.gates.bias)
    put(dynamics._img_out_layers, rssm.prior.w1[0].t(), rssm.prior.b1[0, 0])
    put(dynamics._ims_stat_layer, rssm.prior.w2[0].t(), rssm.prior.b2[0, 0])
    join = torch.cat([rssm.posterior_deter.weight, rssm.posterior_embed.weight], 1)
    put(dynamics._obs_out_layers, join, rssm.posterior_deter.bias)
    put(dynamics._obs_stat_layer, *rssm.posterior_out.parameters())
    put(theirs.encoder, *ours.encoder.parameters())
    put(theirs.heads["reward"], *ours.reward.parameters())
    first = decoder.first.weight.view(5, 5, 4 * decoder.depth, -1).permute(3, 2, 0, 1)  # a 1x1 image's transposed 5x5
    bias = decoder.first.bias.view(25, -1)[0]
    put(theirs.heads["image"], *decoder.widen.parameters(), first, bias, *decoder.layers.parameters())


def put(module: nn.Module, *tensors: Tensor) -> None:
    for parameter, tensor in zip(module.parameters(), tensors, strict=True):
        assert parameter.shape == tensor.shape, (parameter.shape, tensor.shape)
        parameter.copy_(tensor)
