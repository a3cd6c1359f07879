"""The networks around the RSSM: encoders and decoders of images or states, and multi-layer perceptrons.

`cnn` is DreamerV2's (kernel 4 stride 2 four times; transposed kernels 5, 5, 6, 6). `patch` replaces convolutions by
matrix products over 8x8 patches: not the paper's network, several times cheaper on a CPU; quick and smoke use it.
Both encoders end in 32 * depth or 1024 features after an ELU, the vector that stage A aligns; an encoder of low-dimensional
states ends in as many as the image encoder beside it, so that the two can be aligned.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coworld_bench.config import ModelConfig

PART = 1024  # patches worked on at a time on a CPU
STATE_LAYERS = 4  # of the networks that read and predict states; the paper says nothing of them
PATCH, GRID = 8, 8  # a 64-pixel image is 8 x 8 patches of 8 x 8 pixels


def mlp(inputs: int, units: int, layers: int, outputs: int, activation: type[nn.Module] = nn.ELU) -> nn.Sequential:
    """`layers` hidden layers of `units` with an activation, then a linear one."""
    sizes = [inputs] + [units] * layers
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


class Precision(NamedTuple):
    """In what networks compute: `with precision():` autocasts to `dtype`, or does nothing where it is None."""

    device: str
    dtype: torch.dtype | None

    @classmethod
    def of(cls, wanted: str, device: torch.device) -> Precision:
        """`auto` is bfloat16 on CUDA and float32 elsewhere."""
        low = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
        return cls(device.type, torch.bfloat16 if low else None)

    def __call__(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device, self.dtype)


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
        """uint8 [N, 64, 64, 3] -> uint8 [N, 3, 64, 64], channels last in memory."""
        return image.permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 3, 64, 64] -> [N, 32 depth]."""
        x = center(pixels)
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

    def loss(self, feature: Tensor, pixels: Tensor) -> Tensor:
        """-ln p(image) less its constant, summed over pixels, mean over images."""
        return image_loss(self(feature), center(pixels))

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
    def __init__(self, depth: int, plain: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH * 3, 4 * depth)
        self.merge = nn.Linear(4 * 4 * depth, 1024 // 16)  # 2 x 2 neighbours become one token
        self.size, self.plain = 1024, plain

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 [N, 64, 64, 3] -> uint8 [N, 64, 192]: the image as its 8x8 patches, row by row."""
        count = image.shape[0]
        grid = image.reshape(count, GRID, PATCH, GRID, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        return grid.reshape(count, GRID * GRID, PATCH * PATCH * 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 64, 192] -> [N, 1024]."""
        if self.plain:
            embedded = self.embed(center(pixels).to(self.embed.weight.dtype))
        else:
            with torch.autocast(pixels.device.type, enabled=False):
                embedded = EmbedPixels.apply(pixels, self.embed.weight, self.embed.bias)
        x = F.elu(embedded)
        x = x.view(-1, 4, 2, 4, 2, x.shape[-1]).permute(0, 1, 3, 2, 4, 5).flatten(3)  # [N, 4, 4, 16 depth]
        return F.elu(self.merge(x)).flatten(1)


class PatchDecoder(nn.Module):
    def __init__(self, inputs: int, depth: int, plain: bool) -> None:
        super().__init__()
        self.widen = nn.Linear(inputs, 1024)
        self.split = nn.Linear(1024 // 16, 4 * 4 * depth)
        self.paint = nn.Linear(4 * depth, PATCH * PATCH * 3)
        self.plain = plain

    def forward(self, feature: Tensor) -> Tensor:
        """[N, F] -> [N, 64, 192]: the mean of every patch, over the encoder's pixels."""
        return self.paint(self._tokens(feature))

    def loss(self, feature: Tensor, pixels: Tensor) -> Tensor:
        """-ln p(image) less its constant, summed over pixels, mean over images."""
        tokens = self._tokens(feature)
        if self.plain:
            return image_loss(self.paint(tokens), center(pixels).to(tokens.dtype))
        with torch.autocast(pixels.device.type, enabled=False):
            return PaintLoss.apply(tokens.to(self.paint.weight.dtype), self.paint.weight, self.paint.bias, pixels)

    def _tokens(self, feature: Tensor) -> Tensor:
        """[N, F] -> [N, 64, 4 depth], one for each patch."""
        x = F.elu(self.widen(feature)).view(-1, 4, 4, 1024 // 16)
        x = F.elu(self.split(x)).view(x.shape[0], 4, 4, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(x.shape[0], GRID * GRID, -1)

    @torch.no_grad()
    def picture(self, feature: Tensor) -> Tensor:
        """The predicted images, uint8 [N, 64, 64, 3]."""
        grid = self(feature).view(-1, GRID, GRID, PATCH, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
        return to_pixels(grid.reshape(-1, GRID * PATCH, GRID * PATCH, 3))


class StateEncoder(nn.Module):
    """An MLP on low-dimensional states; in float32, whose last digits matter there, whatever the others compute in."""

    def __init__(self, inputs: int, units: int, size: int) -> None:
        super().__init__()
        self.layers, self.size = mlp(inputs, units, STATE_LAYERS, size), size

    def pixels(self, state: Tensor) -> Tensor:
        """States are read as they are: [N, D]."""
        return state

    def forward(self, state: Tensor) -> Tensor:
        """[N, D] -> [N, size]."""
        with torch.autocast(state.device.type, enabled=False):
            return F.elu(self.layers(state))


class StateDecoder(nn.Module):
    """The mean of a unit-variance Gaussian over states."""

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.layers = mlp(inputs, units, STATE_LAYERS, outputs)

    def forward(self, feature: Tensor) -> Tensor:
        """[N, F] -> [N, D]."""
        mean: Tensor = self.layers(feature)
        return mean

    def loss(self, feature: Tensor, state: Tensor) -> Tensor:
        """-ln p(state) less its constant, summed over components, mean over states."""
        return image_loss(self(feature).float(), state)


class EmbedPixels(torch.autograd.Function):
    """A linear layer on centred pixels: uint8 [..., P], weight [C, P] -> [..., C].

    The pixels become floats in parts that stay in the cache; /255 - 0.5 is folded into the weights."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, scaled = pixels.flatten(0, -2), (weight / 255).t()
        shifted = bias - 0.5 * weight.sum(1)
        out = weight.new_empty(len(rows), len(weight))
        for part in parts(rows):
            torch.addmm(shifted, rows[part].to(weight.dtype), scaled, out=out[part])
        ctx.save_for_backward(rows)
        return out.unflatten(0, pixels.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (rows,) = ctx.saved_tensors
        grad = grad.flatten(0, -2)
        weight = grad.new_zeros(grad.shape[1], rows.shape[1])
        for part in parts(rows):
            weight.addmm_(grad[part].t(), rows[part].to(grad.dtype))
        bias = grad.sum(0)
        return None, torch.add(weight / 255, bias.unsqueeze(1), alpha=-0.5), bias


class PaintLoss(torch.autograd.Function):
    """A linear layer whose output is held against centred pixels: ½ Σ (x W' + b - y)² / N, N images.

    Prediction, error and gradients are made in parts that stay in the cache; no picture of floats is ever whole."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, pixels: Tensor) -> Tensor:
        x, y, count = tokens.flatten(0, -2), pixels.flatten(0, -2), len(pixels)
        total, shifted = x.new_zeros(()), bias + 0.5
        d_x, d_weight, d_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        for part in parts(y):
            error = torch.addmm(shifted, x[part], weight.t()).sub_(y[part].to(x.dtype), alpha=1 / 255)
            flat = error.view(-1)
            total += torch.dot(flat, flat)
            d_weight.addmm_(error.t(), x[part])
            d_bias += error.sum(0)
            torch.mm(error, weight, out=d_x[part])
        ctx.save_for_backward(d_x.view_as(tokens), d_weight, d_bias)
        ctx.count = count
        return total * (0.5 / count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale = grad / ctx.count
        return *(saved * scale for saved in ctx.saved_tensors), None


def parts(rows: Tensor) -> list[slice]:
    """All rows, in parts of a few hundred kilobytes where a cache matters."""
    size = PART if rows.device.type == "cpu" else len(rows)
    return [slice(first, first + size) for first in range(0, len(rows), size)]


def image_loss(prediction: Tensor, pixels: Tensor) -> Tensor:
    """-ln p(image) less its constant, summed over pixels, mean over images: ½ Σ (x - y)² / N, in one pass; or of states."""
    return 0.5 / len(pixels) * F.mse_loss(prediction, pixels, reduction="sum")


def to_pixels(mean: Tensor) -> Tensor:
    return ((mean + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def image_encoder(config: ModelConfig, plain: bool = False) -> CnnEncoder | PatchEncoder:
    return CnnEncoder(config.depth) if config.encoder == "cnn" else PatchEncoder(config.depth, plain)


def image_decoder(config: ModelConfig, inputs: int, plain: bool = False) -> CnnDecoder | PatchDecoder:
    return CnnDecoder(inputs, config.depth) if config.encoder == "cnn" else PatchDecoder(inputs, config.depth, plain)


def embedding_size(config: ModelConfig) -> int:
    """How many features an image encoder ends in."""
    return 32 * config.depth if config.encoder == "cnn" else 1024
