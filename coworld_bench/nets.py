"""The networks around the RSSM: image encoders and decoders, and multi-layer perceptrons.

`cnn` is DreamerV2's (kernel 4 stride 2 four times; transposed kernels 5, 5, 6, 6). `patch` replaces convolutions by
matrix products over 8x8 patches: not the paper's network, several times cheaper on a CPU; quick and smoke use it.
Both encoders end in 32 * depth or 1024 features after an ELU, the vector that stage A aligns.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coworld_bench.config import ModelConfig

PATCH, GRID = 8, 8  # a 64-pixel image is 8 x 8 patches of 8 x 8 pixels


def mlp(inputs: int, units: int, layers: int, outputs: int) -> nn.Sequential:
    """`layers` hidden layers of `units` with ELU, then a linear one."""
    sizes = [inputs] + [units] * layers
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ELU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


def center(image: Tensor) -> Tensor:
    """uint8 pixels as floats in [-0.5, 0.5]."""
    return image.to(torch.float32).div_(255.0).sub_(0.5)


class CnnEncoder(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        channels = [3, depth, 2 * depth, 4 * depth, 8 * depth]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2) for a, b in itertools.pairwise(channels))
        self.size = 32 * depth  # 2 x 2 x 8 depth

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 [N, 64, 64, 3] -> [N, 3, 64, 64] in [-0.5, 0.5], channels last in memory."""
        return center(image).permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, 64, 64] -> [N, 32 depth]."""
        x = pixels
        for layer in self.layers:
            x = F.elu(layer(x))
        return x.flatten(1)


class CnnDecoder(nn.Module):
    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.widen = nn.Linear(inputs, 32 * depth)
        self.first = nn.Linear(32 * depth, 25 * 4 * depth)  # a transposed 5x5 convolution of a 1x1 image
        self.layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * depth, 2 * depth, 5, 2),
                nn.ConvTranspose2d(2 * depth, depth, 6, 2),
                nn.ConvTranspose2d(depth, 3, 6, 2),
            ]
        )
        self.depth = depth

    def forward(self, feature: Tensor) -> Tensor:
        """[N, F] -> [N, 3, 64, 64], the mean of a unit-variance Gaussian over the encoder's pixels."""
        x = F.elu(self.first(self.widen(feature)))
        x = x.view(-1, 5, 5, 4 * self.depth).permute(0, 3, 1, 2)
        for layer in self.layers[:-1]:
            x = F.elu(layer(x))
        return self.layers[-1](x)

    @torch.no_grad()
    def picture(self, feature: Tensor) -> Tensor:
        """The predicted images, uint8 [N, 64, 64, 3]."""
        return to_pixels(self(feature).permute(0, 2, 3, 1))


class PatchEncoder(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH * 3, 4 * depth)
        self.merge = nn.Linear(4 * 4 * depth, 1024 // 16)  # 2 x 2 neighbours become one token
        self.size = 1024

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 [N, 64, 64, 3] -> [N, 64, 192] in [-0.5, 0.5]: the image as its 8x8 patches, row by row."""
        count = image.shape[0]
        grid = image.reshape(count, GRID, PATCH, GRID, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        return center(grid.reshape(count, GRID * GRID, PATCH * PATCH * 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 64, 192] -> [N, 1024]."""
        x = F.elu(self.embed(pixels))
        x = x.view(-1, 4, 2, 4, 2, x.shape[-1]).permute(0, 1, 3, 2, 4, 5).flatten(3)  # [N, 4, 4, 16 depth]
        return F.elu(self.merge(x)).flatten(1)


class PatchDecoder(nn.Module):
    def __init__(self, inputs: int, depth: int) -> None:
        super().__init__()
        self.widen = nn.Linear(inputs, 1024)
        self.split = nn.Linear(1024 // 16, 4 * 4 * depth)
        self.paint = nn.Linear(4 * depth, PATCH * PATCH * 3)

    def forward(self, feature: Tensor) -> Tensor:
        """[N, F] -> [N, 64, 192]: the mean of every patch, over the encoder's pixels."""
        x = F.elu(self.widen(feature)).view(-1, 4, 4, 1024 // 16)
        x = F.elu(self.split(x)).view(x.shape[0], 4, 4, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return self.paint(x.reshape(x.shape[0], GRID * GRID, -1))

    @torch.no_grad()
    def picture(self, feature: Tensor) -> Tensor:
        """The predicted images, uint8 [N, 64, 64, 3]."""
        grid = self(feature).view(-1, GRID, GRID, PATCH, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        return to_pixels(grid.reshape(-1, GRID * PATCH, GRID * PATCH, 3))


def image_loss(prediction: Tensor, pixels: Tensor) -> Tensor:
    """-ln p(image) less its constant, summed over pixels, mean over images: ½ Σ (x - y)² / N, in one pass."""
    return 0.5 / len(pixels) * F.mse_loss(prediction, pixels, reduction="sum")


def to_pixels(mean: Tensor) -> Tensor:
    return ((mean + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def image_encoder(config: ModelConfig) -> CnnEncoder | PatchEncoder:
    return (CnnEncoder if config.encoder == "cnn" else PatchEncoder)(config.depth)


def image_decoder(config: ModelConfig, inputs: int) -> CnnDecoder | PatchDecoder:
    return (CnnDecoder if config.encoder == "cnn" else PatchDecoder)(inputs, config.depth)
