"""ResNet-50 (He et al. 2015, "Deep Residual Learning for Image Recognition") as a fixed encoder of pictures.

Parameters and buffers have the names and shapes that published weights come with, torchvision's. As there, and unlike the
paper, the stride of a bottleneck lies in its 3x3 convolution ("v1.5"), not in the first 1x1.

Axes: N pictures, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from coworld_bench.errors import UsageError, about_file
from coworld_bench.files import while_unchanged
from coworld_bench.nets import Precision

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width and number of bottlenecks (He et al., table 1, 50-layer)
EXPANSION = 4  # a bottleneck's outputs per width
FEATURES = EXPANSION * STAGES[-1][0]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures in [0, 1], by colour
PREFIXES = ("module.", "convnet.")  # of a DataParallel, and of the encoder in R3M
COUNT = "num_batches_tracked"  # a buffer that old files do not have, and that evaluation does not read
LANGUAGE = ("lang_enc", "lang_rew")  # the parts of R3M that read text
PARTS = {"cpu": 8, "cuda": 256}  # pictures at a time; more are slower on a CPU core, whose cache they leave


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """relu( norm(1x1) -> relu -> norm(3x3) -> relu -> norm(1x1) + shortcut )."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1, self.bn1 = convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, 4 width, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)


class ResNet50(nn.Module):
    def __init__(self, classes: int = 0) -> None:
        """With random weights (He et al.'s). Without `classes` it ends in features, before the classifier."""
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [64, *(EXPANSION * width for width, _ in STAGES)]
        for number, (inputs, (width, count)) in enumerate(zip(widths, STAGES, strict=False), 1):
            first = Bottleneck(inputs, width, 1 if number == 1 else 2)
            more = (Bottleneck(EXPANSION * width, width) for _ in range(count - 1))
            setattr(self, f"layer{number}", nn.Sequential(first, *more))
        self.fc: nn.Module = nn.Linear(FEATURES, classes) if classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W], normalised -> [N, 2048]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(pixels)), inplace=True))
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def folded(network: ResNet50) -> ResNet50:
    """A copy with every normalisation inside the convolution before it: for evaluation the same function, less work."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        pairs = [("0", "1")] if isinstance(module, nn.Sequential) else [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        for convolution_name, norm_name in pairs:
            norm = getattr(module, norm_name, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, convolution_name, fuse_conv_bn_eval(getattr(module, convolution_name), norm))
                setattr(module, norm_name, nn.Identity())
    return network


def prepared(image: Tensor, resize: int, crop: int) -> Tensor:
    """What these networks were trained to see: square pictures, uint8 [N, S, S, 3], scaled to `resize` pixels a side
    (bilinear), the middle `crop` of them, by ImageNet's mean and deviation -> [N, 3, crop, crop], channels last."""
    assert image.shape[1] == image.shape[2], image.shape
    x = image.permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, (resize, resize), mode="bilinear", align_corners=False, antialias=True)
    edge = round((resize - crop) / 2)
    x = x[..., edge : edge + crop, edge : edge + crop]
    mean, std = (x.new_tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


class Encoder:
    """A fixed ResNet-50 that reads pictures as they are stored."""

    def __init__(self, network: ResNet50, resize: int, crop: int, device: torch.device, precision: Precision) -> None:
        self.network = folded(network).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stubs lack it
        self.resize, self.crop, self.device, self.precision = resize, crop, device, precision
        self.part = PARTS[device.type]

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 [N, S, S, 3] -> float32 [N, 2048] on the device."""
        pixels = prepared(torch.from_numpy(image).to(self.device), self.resize, self.crop)
        with self.precision():
            return self.network(pixels).float()


class Weights(NamedTuple):
    """A ResNet-50 without its classifier, and how its weights were written."""

    origin: str  # `r3m` or `torchvision`
    network: ResNet50


def read_weights(path: Path) -> Weights:
    """The network in R3M's published file, or in a state of torchvision's `resnet50`.

    Raises UsageError for a file that is missing, unreadable or something else."""
    written = load_plain(path)
    inner = written["r3m"] if isinstance(written, Mapping) and "r3m" in written else written
    if not isinstance(inner, Mapping) or not all(isinstance(name, str) for name in inner):
        raise UsageError(f"{path} holds no weights by name, as R3M's published file or torchvision's resnet50 does")
    state = {plain_name(name): value for name, value in inner.items() if not any(part in name for part in LANGUAGE)}
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    with torch.device("meta"):
        network = ResNet50()
    counts = {name: torch.zeros((), dtype=torch.int64) for name in network.state_dict() if name.endswith(COUNT)}
    state = counts | state
    if found := difference(state, network.state_dict()):
        raise UsageError(f"{path} is no ResNet-50, which R3M's published r3m_50 is: {found}")
    network.load_state_dict(state, assign=True)
    return Weights("r3m" if any(PREFIXES[1] in name for name in inner) else "torchvision", network.float())


def load_plain(path: Path) -> Any:
    """What `torch.save` wrote, nothing but plain values and tensors."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"the weights cannot be read: {about_file(error)}") from error
    except Exception as error:  # whatever a reader of archives and pickles makes of a foreign file
        raise UsageError(f"{path} is not what torch.save writes of weights; download it again") from error


def plain_name(name: str) -> str:
    """torchvision's name of a parameter."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def difference(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str:
    """The first thing in which a state is not the wanted one, in words; empty where there is none."""
    for name, value in wanted.items():
        if name not in state:
            return f"{name} is missing"
        given = state[name]
        if not isinstance(given, Tensor) or given.shape != value.shape:
            return f"{name} is not of shape {list(value.shape)}"
        if given.is_floating_point() != value.is_floating_point():
            return f"{name} is of type {given.dtype}"
    unknown = sorted(set(state) - set(wanted))
    return f"it also has {unknown[0]}" if unknown else ""


@while_unchanged
def origin_of(path: Path) -> str:
    """How the weights in a file were written. Raises UsageError as `read_weights` does."""
    return read_weights(path).origin


def check_weights(path: Path) -> None:
    """Raises UsageError for a file that is missing or whose weights cannot be used."""
    if not path.is_file():
        raise UsageError(f"there is no file {path} with weights")
    origin_of(path)
