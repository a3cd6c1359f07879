"""R3M: the frozen ResNet-50 and its weights, cloning on what it sees, and a file of the user's that names a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy_runs import job_on_point, small_config, take_turns

from coworld_bench.api import evaluate, train
from coworld_bench.bench.run import run
from coworld_bench.checkpoints import load_state, save_state
from coworld_bench.cli import main
from coworld_bench.collecting import collect
from coworld_bench.config import override, resolve
from coworld_bench.data.dataset import open_dataset
from coworld_bench.data.episode import Episode
from coworld_bench.data.memory import EpisodeMemory, Memory
from coworld_bench.domains import PICTURES
from coworld_bench.envs.toy import Toy
from coworld_bench.errors import USAGE, UsageError
from coworld_bench.evaluation import evaluator, mean_return
from coworld_bench.methods import load_method
from coworld_bench.nets import Precision
from coworld_bench.plans import parse_plan
from coworld_bench.resnet import Bottleneck, Encoder, ResNet50, folded, prepared, read_weights
from coworld_bench.run_spec import RunSpec
from coworld_bench.tasks import EnvSpec

r3m: Any = sys.modules[load_method("r3m").learner.__module__]
CPU = torch.device("cpu")
SMALL = {"online.prefill": "100", "online.train_every": "25"}


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def trained_norms(network: nn.Module) -> nn.Module:
    """The network with batch normalisations that do something, as trained ones do."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> ResNet50:
    return trained_norms(seeded(ResNet50))


@pytest.fixture(scope="module")
def published(network: ResNet50, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the form of R3M's: a DataParallel's state under `r3m`, parts that read text among it."""
    state = {f"module.convnet.{name}": value for name, value in network.state_dict().items()}
    text = {"module.lang_enc.model.embeddings.weight": torch.zeros(3, 2), "module.lang_rew.pred.0.bias": torch.zeros(4)}
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save({"r3m": state | text, "global_step": 5}, path)
    return path


# The network


KNOWN = {  # of torchvision's resnet50
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_mean": (64,),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.running_var": (256,),
    "layer2.0.conv2.weight": (128, 128, 3, 3),
    "layer2.3.bn3.bias": (512,),
    "layer3.0.downsample.0.weight": (1024, 512, 1, 1),
    "layer3.5.conv3.weight": (1024, 256, 1, 1),
    "layer4.2.conv1.weight": (512, 2048, 1, 1),
    "layer4.2.bn3.num_batches_tracked": (),
    "fc.weight": (1000, 2048),
    "fc.bias": (1000,),
}


def test_names_shapes_and_counts_are_those_of_published_weights() -> None:
    with torch.device("meta"):
        whole, headless = ResNet50(1000), ResNet50()
    shapes = {name: tuple(value.shape) for name, value in whole.state_dict().items()}
    assert {name: shapes[name] for name in KNOWN} == KNOWN
    assert len(shapes) == 53 * (1 + 5) + 2, "53 convolutions, a normalisation of five behind each, a classifier"
    assert sum(parameter.numel() for parameter in whole.parameters()) == 25_557_032
    assert sum(parameter.numel() for parameter in headless.parameters()) == 23_508_032
    assert set(shapes) - set(headless.state_dict()) == {"fc.weight", "fc.bias"}
    assert "layer1.1.downsample.0.weight" not in shapes


def test_strides_lie_in_the_wide_convolutions(network: ResNet50) -> None:
    strides = [(block[0].conv1.stride, block[0].conv2.stride) for block in map(network.get_submodule, LAYERS)]
    assert strides == [((1, 1), (1, 1)), *3 * [((1, 1), (2, 2))]]
    assert network(torch.zeros(2, 3, 64, 32)).shape == (2, 2048)


LAYERS = [f"layer{number}" for number in (1, 2, 3, 4)]


def correlate(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A convolution with zeros around, element by element: x [C, H, W], weight [O, C, K, K]."""
    pad, kernel = weight.shape[-1] // 2, weight.shape[-1]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = [(length - kernel) // stride + 1 for length in x.shape[1:]]
    out = np.zeros((len(weight), *size))
    for i in range(size[0]):
        for j in range(size[1]):
            window = x[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[:, i, j] = [np.sum(window * one) for one in weight]
    return out


def normalised(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    weight, bias, mean, var = (state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    scale = weight / np.sqrt(var + 1e-5)
    return (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize(("inputs", "stride"), [(6, 2), (12, 1)], ids=["downsampled", "identity"])
def test_a_bottleneck_is_the_papers(inputs: int, stride: int) -> None:
    """Against an independent calculation in float64."""
    block = trained_norms(seeded(lambda: Bottleneck(inputs, 3, stride)))
    state = {name: value.double().numpy() for name, value in block.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(inputs, 6, 4))
    a = np.maximum(normalised(correlate(x, state["conv1.weight"], 1), state, "bn1"), 0)
    b = np.maximum(normalised(correlate(a, state["conv2.weight"], stride), state, "bn2"), 0)
    c = normalised(correlate(b, state["conv3.weight"], 1), state, "bn3")
    shortcut = x
    if "downsample.0.weight" in state:
        shortcut = normalised(correlate(x, state["downsample.0.weight"], stride), state, "downsample.1")
    assert ("downsample.0.weight" in state) == (inputs == 6)
    found = block(torch.from_numpy(x).float()[None])[0].detach().numpy()
    np.testing.assert_allclose(found, np.maximum(c + shortcut, 0), atol=2e-6)


def test_folded_normalisation_is_the_same_function(network: ResNet50) -> None:
    x = seeded(lambda: torch.randn(2, 3, 64, 64))
    light = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in light.modules())
    with torch.no_grad():
        plain, quick = network.double()(x.double()), light(x)
    network.float()
    torch.testing.assert_close(quick.double(), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().mean()))
    assert plain.std(0).mean() > 1e-3 * plain.abs().mean(), "two pictures must look different for this to say anything"


@pytest.mark.parametrize(("size", "resize", "crop"), [(64, 256, 224), (64, 48, 41)])
def test_pictures_are_scaled_cropped_and_normalised(size: int, resize: int, crop: int) -> None:
    """Against Pillow's bilinear filter on floats, which is what torchvision's antialiased one follows."""
    image = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    edge = round((resize - crop) / 2)
    for number, colour in ((0, 0), (1, 2)):
        plane = Image.fromarray(image[number, ..., colour].astype(np.float32))
        wide = np.asarray(plane.resize((resize, resize), Image.Resampling.BILINEAR), np.float64) / 255
        middle = wide[edge : edge + crop, edge : edge + crop]
        wanted = (middle - [0.485, 0.456, 0.406][colour]) / [0.229, 0.224, 0.225][colour]
        found = prepared(torch.from_numpy(image), resize, crop)[number, colour]
        assert found.shape == (crop, crop)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


# Weights


def seen_by(network: ResNet50) -> Tensor:
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    return Encoder(network, 36, 32, CPU, Precision.of("float32", CPU))(image)


def test_r3ms_file_and_torchvisions_state_are_the_same_network(network: ResNet50, published: Path, tmp_path: Path) -> None:
    head = {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}
    old = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(old | head, plain := tmp_path / "resnet50.pth")
    ours, theirs = read_weights(published), read_weights(plain)
    assert (ours.origin, theirs.origin) == ("r3m", "torchvision")
    wanted = seen_by(network)
    assert torch.equal(seen_by(ours.network), wanted) and torch.equal(seen_by(theirs.network), wanted)
    assert not torch.allclose(seen_by(trained_norms(seeded(ResNet50, 1))), wanted, rtol=0.1)


class Foreign:
    """What a file of plain values cannot hold."""


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("layer4.2")}


WRONG: dict[str, tuple[Any, str]] = {
    "text": (b"<html>Google Drive: quota exceeded</html>\n", "not what torch.save writes of weights"),
    "empty": (b"", "not what torch.save writes"),
    "broken": (b"PK\x03\x04" + bytes(100), "not what torch.save writes"),
    "class": ({"r3m": Foreign()}, "not what torch.save writes"),
    "list": ([1, 2], "holds no weights by name"),
    "none": ({"r3m": 3}, "holds no weights by name"),
    "smaller": (renamed, "is no ResNet-50, which R3M's published r3m_50 is: layer4.2.conv1.weight is missing"),
    "more": (lambda state: state | {"layer5.0.conv1.weight": torch.zeros(1)}, "it also has layer5.0.conv1.weight"),
    "shape": (lambda state: state | {"bn1.bias": torch.zeros(3)}, r"bn1.bias is not of shape \[64\]"),
    "type": (lambda state: state | {"bn1.bias": torch.zeros(64).long()}, "bn1.bias is of type torch.int64"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_foreign_file_is_one_sentence(kind: str, network: ResNet50, tmp_path: Path) -> None:
    given, sentence = WRONG[kind]
    path = tmp_path / "weights.pt"
    if isinstance(given, bytes):
        path.write_bytes(given)
    else:
        torch.save(given(network.state_dict()) if callable(given) else given, path)
    with pytest.raises(UsageError, match=sentence) as caught:
        RunSpec("r3m", "toy/point", options={"r3m.weights": str(path)}).plan().settings.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_a_run_without_weights_says_where_they_are(preset: str) -> None:
    with pytest.raises(UsageError, match=r"github.com/facebookresearch/r3m .*--weights FILE") as caught:
        RunSpec("r3m", "metaworld/drawer_close", preset=preset).plan().settings.check()
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"there is no file .*nowhere.pt with weights"):
        RunSpec("r3m", "toy/point", preset=preset, options={"r3m.weights": "nowhere.pt"}).plan().settings.check()


def test_a_plan_without_weights_can_be_looked_at_and_is_refused_before_any_work(tmp_path: Path) -> None:
    plan = parse_plan("toy", {
        "title": "Toy", "quality": "medium-replay", "methods": ["r3m"], "seeds": {"quick": [0]},
        "cells": [{"target": "metaworld/drawer_close"}],
    })  # fmt: skip
    places = {"data": tmp_path / "data", "runs": tmp_path / "runs"}
    assert run(plan, "quick", dry_run=True, quiet=True, **places).runs == 1
    with pytest.raises(UsageError, match="--weights FILE"):
        run(plan, "quick", quiet=True, **places)
    assert not list(tmp_path.rglob("*"))


# The method


@cache
def random_network() -> ResNet50:
    """One for all tests here: drawing 23 million weights takes longer than most of them."""
    return seeded(ResNet50)


def make(folder: Path, memory: Memory | None = None, own: dict[str, str] | None = None, **options: str) -> Any:
    """A learner on `toy/point` under preset smoke."""
    method = load_method("r3m")
    config = override(method.adapt(resolve("smoke", "toy"), "toy"), {k.replace("_", ".", 1): v for k, v in options.items()})
    settings = override(method.defaults("smoke", "toy"), own or {})
    job = job_on_point(config, (), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(r3m, "frozen", lambda settings, seed: (random_network(), "of these tests"))
        return method.learner(settings, job if memory is None else replace(job, data=memory))


def noisy_pictures(rows: int = 30) -> EpisodeMemory:
    rng, memory = np.random.default_rng(0), EpisodeMemory()
    image, action = rng.integers(0, 256, (rows, 8, 8, 3), np.uint8), rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    action[0], zeros = 0, np.zeros(rows, np.float32)
    memory.append(Episode(image.repeat(8, 1).repeat(8, 2), zeros[:, None], action, zeros, zeros.astype(np.uint8)))
    return memory


class Counting:
    """An encoder that reads the number a picture is painted with, and counts what it was shown."""

    part, device = 7, CPU

    def __init__(self) -> None:
        self.shown: list[int] = []

    def __call__(self, image: np.ndarray) -> Tensor:
        self.shown.append(len(image))
        return torch.from_numpy(image[:, 0, 0, :1].astype(np.float32)).expand(-1, 2048)


def numbered(*rows: int) -> EpisodeMemory:
    """Episodes of which every row's picture, state and action tell its number in the memory."""
    memory, first = EpisodeMemory(), 0
    for count in rows:
        number = np.arange(first, first + count, dtype=np.float32)
        image = np.broadcast_to(number.astype(np.uint8)[:, None, None, None], (count, 64, 64, 3)).copy()
        action = np.stack([number, -number], 1) / 100
        action[0] = 0
        zeros = np.zeros(count, np.float32)
        memory.append(Episode(image, np.stack([number, 2 * number], 1), action, zeros, zeros.astype(np.uint8)))
        first += count
    return memory


def test_a_decision_is_what_was_seen_and_the_action_of_the_next_row(tmp_path: Path) -> None:
    """Never across the end of an episode; each picture is encoded once, in parts that are of one episode."""
    learner = make(tmp_path, numbered(20, 9), {"proprio": "2"}, batch_size="200")
    learner.policy.encoder = Counting()
    seen, action = learner.next_decisions()
    assert seen.shape == (200, 2050)
    row = seen[:, 0]
    torch.testing.assert_close(seen[:, 2048:], torch.stack([row, 2 * row], 1))
    torch.testing.assert_close(action, torch.stack([row + 1, -row - 1], 1) / 100)
    assert set(row.tolist()) == set(range(29)) - {19, 28}
    learner.turn()
    assert learner.policy.encoder.shown == [7, 7, 6, 7, 2]


def test_pictures_are_embedded_in_parts(tmp_path: Path) -> None:
    """In their order, as the policy sees them; the evaluator maps them."""
    policy = make(tmp_path, memory := numbered(15)).policy
    policy.encoder = Counting()
    embedded = policy.embed(memory.array("image"))
    assert policy.encoder.shown == [7, 7, 1] and embedded.shape == (15, 2048)
    np.testing.assert_array_equal(embedded[:, 0], np.arange(15))


def test_the_loss_and_the_step_by_hand(tmp_path: Path) -> None:
    """An update against float64: normalisation, tanh, tanh, linear; the mean square; Adam's first step is its rate."""
    learner = make(tmp_path, batch_size="6")
    head = [parameter.detach().double().numpy() for parameter in learner.policy.head.parameters()]
    scale, shift, w1, b1, w2, b2, w3, b3 = head
    x, action = (part.double().numpy() for part in learner.next_decisions())
    learner.batches.k -= 1
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scale + shift
    hidden = np.tanh(np.tanh(x @ w1.T + b1) @ w2.T + b2)
    error = hidden @ w3.T + b3 - action
    (metrics,) = take_turns(learner, 1)
    assert metrics["actor/loss"] == pytest.approx(np.mean(error**2), rel=1e-4)
    moved = list(learner.policy.head.parameters())[-1].detach().double().numpy() - b3
    np.testing.assert_allclose(moved, -1e-3 * np.sign(error.sum(0)), rtol=1e-3)


def test_the_last_layer_begins_small_and_the_activation_is_chosen(tmp_path: Path) -> None:
    small, large = (make(tmp_path, own={"last_layer": scale}).policy.head[1] for scale in ("0.01", "1"))
    for a, b in zip(small[-1].parameters(), large[-1].parameters(), strict=True):
        torch.testing.assert_close(a, 0.01 * b)
    assert torch.equal(small[0].weight, large[0].weight)
    kinds = [type(make(tmp_path, own={"activation": name}).policy.head[1][1]) for name in ("tanh", "relu")]
    assert kinds == [nn.Tanh, nn.ReLU] and load_method("r3m").defaults("paper", "metaworld").activation == "tanh"


def test_it_overfits_a_few_pictures(tmp_path: Path) -> None:
    """Noise with random actions, learnt by heart; the encoder stays as it was."""
    learner = make(tmp_path, noise := noisy_pictures(), batch_size="32", budget_updates="300")
    before = [parameter.clone() for parameter in learner.policy.encoder.network.parameters()]
    losses = [metrics["actor/loss"] for metrics in take_turns(learner, 300)]
    assert losses[0] > 0.2 and np.mean(losses[-20:]) < 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, learner.policy.encoder.network.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in learner.policy.encoder.network.parameters())
    image, action, policy = noise.array("image"), noise.array("action"), learner.policy
    told = [policy.act(picture[None], None, None)[0][0] for picture in image[:-1]]
    assert np.mean((np.stack(told) - action[1:]) ** 2) < 0.05 < 0.2 < np.mean(action[1:] ** 2)


def test_the_policy_is_told_as_much_of_the_state_as_was_asked(tmp_path: Path) -> None:
    image, near, far = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    for proprio, listens in (("0", False), ("2", True)):
        policy = make(tmp_path / proprio, own={"proprio": proprio, "last_layer": "1"}).policy
        actions = [policy.act(image, policy.sense(state, policy.initial()), None)[0] for state in (near, far)]
        assert (not np.array_equal(*actions)) == listens
    with pytest.raises(UsageError, match=r"r3m.proprio=5: the state of toy/point has 4"):
        make(tmp_path, own={"proprio": "5"})


def test_it_spends_its_budget_to_the_end(tmp_path: Path) -> None:
    learner = make(tmp_path)
    while learner.updates < learner.total:
        assert np.isfinite(list(take_turns(learner, 1)[0].values())).all()
    counts = learner.counts()
    assert set(counts) == {"world_model_updates", "behaviour_updates", "source_updates", "source_env_steps"}
    assert counts["behaviour_updates"] == small_config().budget.updates and sum(counts.values()) == learner.total


def test_a_stored_learner_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    """With the features that were kept, or encoded again."""
    whole, stopped = (make(tmp_path / name, noisy_pictures()) for name in ("whole", "stopped"))
    before = take_turns(whole, 3)
    assert take_turns(stopped, 3) == before
    save_state(tmp_path / "state.pt", stopped.state_dict())
    after = take_turns(whole, 3)
    for folder in ("stopped", "new"):
        restored = make(tmp_path / folder, noisy_pictures())
        restored.load_state_dict(load_state(tmp_path / "state.pt"))
        if folder == "stopped":
            restored.policy.encoder = None  # not needed again
        assert take_turns(restored, 3) == after


def test_the_same_seed_gives_the_same_numbers_and_another_others(tmp_path: Path) -> None:
    """The random encoder's weights among them."""
    usual = make(tmp_path, noisy_pictures(10))
    same, again, other = (
        load_method("r3m").learner(usual.settings, replace(usual.job, seed=seed, folder=tmp_path / name))
        for seed, name in ((0, "same"), (0, "again"), (1, "other"))
    )
    numbers = take_turns(same, 2)
    assert take_turns(again, 2) == numbers and take_turns(other, 2) != numbers
    np.testing.assert_array_equal(same.features, again.features)
    assert not np.allclose(same.features, other.features, rtol=0.1)


@pytest.mark.parametrize(("setting", "sentence"), [({"crop": "300"}, "crop 300 must be at most"), ({"crop": "8"}, "32")])
def test_wrong_settings_are_refused(setting: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        override(load_method("r3m").defaults("quick", "toy"), setting)


def test_a_batch_of_one_cannot_be_normalised(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"batch.size must be at least 2"):
        make(tmp_path, batch_size="1")


def scattered(rows: int, episodes: int) -> EpisodeMemory:
    """Pictures of `toy/point` at random places, and the actions that lead to the target from there."""
    memory, toy = EpisodeMemory(), Toy(EnvSpec("toy/point"))
    for number in range(episodes):
        images, states = [], []
        for row in range(rows):
            toy.reset(10_000 + number * rows + row)
            images.append(toy.image())
            states.append(toy.state())
        state, action = np.stack(states), np.zeros((rows, 2), np.float32)
        action[1:] = np.clip((state[:-1, 2:] - state[:-1, :2]) / 0.1, -1, 1)
        zeros = np.zeros(rows, np.float32)
        memory.append(Episode(np.stack(images), state, action, zeros, zeros.astype(np.uint8)))
    return memory


@pytest.mark.slow
def test_it_learns_to_reach_the_target_even_from_random_features(tmp_path: Path) -> None:
    """Random features tell where the point and the target are, roughly (a linear reading explains 0.85 and 0.5 of their
    places' variance); untrained, the point stays where it is."""
    learner = make(tmp_path, scattered(41, 25), {"resize": "46", "crop": "40", "units": "256"}, batch_size="32")
    with evaluator(EnvSpec("toy/point")) as judge:
        untrained = mean_return(judge.checkpoint(learner.policy, 0, 0, 6))
        take_turns(learner, 300)
        assert mean_return(judge.checkpoint(learner.policy, 0, 0, 6)) > max(20.0, untrained + 5)


# Runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    collect("toy/point", preset="smoke", data=home, options=SMALL)
    return home


def spec(**options: str) -> RunSpec:
    return RunSpec("r3m", "toy/point", preset="smoke", options={f"r3m.{name}": value for name, value in options.items()})


def test_a_run_is_named_by_what_is_in_its_file(network: ResNet50, published: Path, data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.pt"
    moved.write_bytes(published.read_bytes())
    first, second = (spec(weights=str(path)).resolve(data) for path in (published, moved))
    assert first.id == second.id != spec().resolve(data).id
    assert first.identity["method_config"]["weights"].startswith("sha256:")
    assert str(tmp_path) not in json.dumps(second.config) and second.config["options"] == {}
    torch.save(trained_norms(seeded(ResNet50, 1)).state_dict(), moved)
    assert spec(weights=str(moved)).resolve(data).id != first.id, "another file in the same place"


def test_smoke_from_end_to_end(data: Path, tmp_path: Path) -> None:
    options = {"r3m.proprio": "4", "evaluation.early_every": "8"}
    result = train("r3m", "toy/point", preset="smoke", options=options, data=data, runs=tmp_path)
    assert [point["updates"] for point in result["evaluations"]] == [0, 8]
    assert result["method_config"]["weights"] == "random"
    assert result["method_report"] == {"encoder": "ResNet-50 with weights drawn at random: not R3M"}
    assert result["domains"]["pictures"]["data"] == PICTURES
    assert result["budget"]["behaviour_updates"] == 8 and result["score"]["checkpoints"] == 1
    again, two = (evaluate(result["run"], episodes=2, data=data, runs=tmp_path, workers=n) for n in (0, 2))
    assert again == two


def test_where_pictures_lie_changes_no_number(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset("toy/point/medium-replay-smoke", data)
    ram, packed = (make(tmp_path / kind, dataset.load(kind)) for kind in ("ram", "packed"))
    assert take_turns(ram, 3) == take_turns(packed, 3)
    np.testing.assert_array_equal(ram.features, packed.features)


PLAN = """
title = "Toy"
quality = "medium-replay"
methods = ["r3m"]
seeds = { smoke = [0] }
[[cells]]
target = "toy/point"
"""


def test_the_command_line_takes_a_file_of_weights(
    published: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train`, its row in a report, `run` that finds it finished, `evaluate` that needs the file again."""
    places = ["--runs", str(tmp_path / "runs"), "--data", str(data)]
    given = ["--weights", str(published)]
    (tmp_path / "toy.toml").write_text(PLAN)

    def told(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main([*words, *places]) == code, capsys.readouterr().err
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    train_words = ["train", "r3m", "--target", "toy/point", "--preset", "smoke", *given, "--json"]
    result = json.loads(told(*train_words))
    assert result["method_report"] == {"encoder": "ResNet-50 with weights from a checkpoint of R3M's code"}
    assert str(published) not in json.dumps(result)

    plan = str(tmp_path / "toy.toml")
    summary = json.loads(told("run", plan, "--preset", "smoke", "--dry-run", *given, "--json"))
    assert summary["runs"] == summary["finished_before"] == 1
    for option in ([], ["-o", f"r3m.weights={published}"]):
        files = json.loads(told("report", plan, "--preset", "smoke", "--json", *option))["files"]
        texts = {Path(path).name: Path(path).read_text() for path in files if Path(path).suffix in (".md", ".csv", ".html")}
        assert result["run"] in texts["toy-smoke-runs.csv"], "its row"
        assert not any(str(published) in text for text in texts.values())
        assert "left out" not in texts["toy-smoke.md"]

    evaluation = ["evaluate", result["run"], "--episodes", "1"]
    assert result["run"] in told(*evaluation, *given)
    assert "read a file as r3m.weights; name it again (--weights FILE" in told(*evaluation, code=USAGE)
    assert "--weights is for method r3m" in told(
        "train", "offline_dv2", "--target", "toy/point", "--preset", "smoke", *given, code=USAGE
    )
