"""The networks of the model-free methods: encoders of stacks of pictures, actors, twin critics; and the random shift.

Axes: K stacks of a window, S pictures of a stack, B batch, N stacks in a row, E encoded, F feature, A action.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coworld_bench.config import Config, Count, Natural, Rate, Settings
from coworld_bench.nets import Precision, center, image_encoder, mlp


class PixelSettings(Settings):
    """Defaults are DrQ-v2's, as V-D4RL uses it."""

    encoder: Literal["conv", "shared"] = "conv"  # `shared`: the world models' image encoder on every picture
    stack: Count = 3  # pictures of an observation
    shift: Natural = 4  # pixels of random shift
    feature: Count = 50  # outputs of the trunks
    units: Count = 1024
    lr: Rate = 3e-4


def shifted_stacks(image: Tensor, firsts: tuple[int, ...], stack: int, shift: Tensor, pad: int) -> Tensor:
    """DrQ's random shift: stacks of pictures, each stack moved as a whole, its edges replicated.

    image uint8 [T, B, H, W, C]; stack k begins at row firsts[k] and is moved by shift[k] (int64 [K, B, 2], by lines and by
    columns, at most `pad`) -> uint8 [K, S, B, H, W, C]. DrQ pads and then samples a grid bilinearly; since its draws are
    whole pixels, the grid's points are pixel centres and one pixel has all the weight, so that a copy gives the same. Here
    one copy picks pictures and moves them: W pixels of a widened line are one contiguous piece, wherever they begin."""
    rows, batch, height, width, channels = image.shape
    device, line = image.device, width + 2 * pad
    left, right = (edge.expand(-1, -1, -1, pad, -1) for edge in (image[..., :1, :], image[..., -1:, :]))
    wide = torch.cat([left, image, right], 3).contiguous()
    pieces = wide.view(-1).as_strided((rows * batch * height * line - width + 1, width * channels), (channels, 1))
    row = torch.stack([torch.arange(first, first + stack, device=device) for first in firsts])  # [K, S]
    picture = row[..., None] * batch + torch.arange(batch, device=device)  # [K, S, B]
    y = (torch.arange(height, device=device) + shift[..., :1]).clamp(0, height - 1)  # [K, B, H]
    x = shift[..., 1:] + pad  # [K, B, 1]
    begin = (picture[..., None] * height + y[:, None]) * line + x[:, None]  # [K, S, B, H], in pixels of `wide`
    return pieces.index_select(0, begin.flatten()).view(*picture.shape, height, width, channels)


class ConvEncoder(nn.Module):
    """DrQ's, for 64 pixels: four 3x3 convolutions of 32 channels, stride 2 then 1, ReLU: 32 x 25 x 25 features."""

    def __init__(self, stack: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3 * stack, 32, 3, 2), *(nn.Conv2d(32, 32, 3) for _ in range(3))])
        self.size = 32 * 25 * 25
        self.apply(orthogonal)

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [S, N, 64, 64, 3] -> [N, 20000]."""
        x = center(pictures.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2))  # [N, 3 S, 64, 64], channels last
        for layer in self.layers:
            x = F.relu(layer(x))
        return x.flatten(1)


class SharedEncoder(nn.Module):
    """The world models' image encoder on every picture of a stack, the embeddings side by side."""

    def __init__(self, config: Config, stack: int) -> None:
        super().__init__()
        self.picture = image_encoder(config.model, config.compute.plain)
        self.size = stack * self.picture.size
        self.apply(orthogonal)

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [S, N, 64, 64, 3] -> [N, S * embedding]."""
        embed = self.picture(self.picture.pixels(pictures.flatten(0, 1)))
        return embed.unflatten(0, pictures.shape[:2]).transpose(0, 1).flatten(1)


def orthogonal(module: nn.Module) -> None:
    """DrQ's initialisation: orthogonal weights, by √2 before a convolution's ReLU; no bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.orthogonal_(module.weight, math.sqrt(2) if isinstance(module, nn.Conv2d) else 1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def trunk(inputs: int, feature: int, bounded: bool) -> nn.Sequential:
    """What is encoded, narrowed down: [N, E] -> [N, F], within [-1, 1] where `bounded`."""
    made = nn.Sequential(nn.Linear(inputs, feature), nn.LayerNorm(feature), *([nn.Tanh()] if bounded else []))
    return made.apply(orthogonal)


class TwinQ(nn.Module):
    """Two Q functions of [feature, action] with two hidden layers; one product a layer computes both."""

    def __init__(self, feature: int, action: int, units: int) -> None:
        super().__init__()
        self.feature = feature
        self.w1, self.b1 = self._linear(feature + action, units)
        self.w2, self.b2 = self._linear(units, units)
        self.w3, self.b3 = self._linear(units, 1)

    @staticmethod
    def _linear(inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
        weight = torch.stack([nn.init.orthogonal_(torch.empty(inputs, outputs)) for _ in range(2)])
        return nn.Parameter(weight), nn.Parameter(torch.zeros(2, 1, outputs))

    def forward(self, feature: Tensor, action: Tensor) -> Tensor:
        """feature [B, F], action [..., B, A] (any number of actions at one state) -> [2, ..., B]."""
        of_feature = feature @ self.w1[:, : self.feature] + self.b1  # [2, B, U]
        of_action = action.reshape(-1, action.shape[-1]) @ self.w1[:, self.feature :]
        hidden = of_action.unflatten(1, (-1, len(feature))) + of_feature.unsqueeze(1)  # [2, actions, B, U]
        hidden = torch.baddbmm(self.b2, F.relu(hidden).flatten(1, 2), self.w2)
        q: Tensor = torch.baddbmm(self.b3, F.relu(hidden), self.w3)
        return q.view(2, *action.shape[:-1])


class Critic(nn.Module):
    def __init__(self, inputs: int, action: int, settings: PixelSettings, bounded: bool) -> None:
        super().__init__()
        self.trunk = trunk(inputs, settings.feature, bounded)
        self.q = TwinQ(settings.feature, action, settings.units)

    def forward(self, encoded: Tensor, action: Tensor) -> Tensor:
        """[B, E] and [..., B, A] -> [2, ..., B]."""
        out: Tensor = self.q(self.trunk(encoded), action)
        return out


class PixelNetworks(nn.Module):
    """The encoder of stacks and the actor: all that acting takes."""

    bounded: ClassVar[bool] = True  # whether a tanh follows the trunks
    moments: ClassVar[int] = 1  # outputs of the actor for each action component, the mean first

    def __init__(self, settings: PixelSettings, config: Config, action: int, precision: Precision) -> None:
        super().__init__()
        self.action, self.precision = action, precision
        conv = settings.encoder == "conv"
        self.encoder = ConvEncoder(settings.stack) if conv else SharedEncoder(config, settings.stack)
        head = mlp(settings.feature, settings.units, 2, self.moments * action, nn.ReLU).apply(orthogonal)
        self.actor = nn.Sequential(trunk(self.encoder.size, settings.feature, self.bounded), head)

    def run(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """What a network makes of its inputs, computed in the precision asked for."""
        with self.precision():
            out: Tensor = network(*inputs)
        return out.float()

    def encode(self, pictures: Tensor) -> Tensor:
        """uint8 [S, N, 64, 64, 3] -> [N, E]."""
        return self.run(self.encoder, pictures)

    def mode(self, encoded: Tensor) -> Tensor:
        """The action without noise: [N, E] -> [N, A]."""
        return torch.tanh(self.run(self.actor, encoded)[..., : self.action])

    def value(self, encoded: Tensor, action: Tensor) -> Tensor | None:
        """What the critic says of an action [N], where there is one."""
        return None


class CriticNetworks(PixelNetworks):
    """With twin critics, and slow copies of them to bootstrap from."""

    def __init__(self, settings: PixelSettings, config: Config, action: int, precision: Precision) -> None:
        super().__init__(settings, config, action, precision)
        self.critic = Critic(self.encoder.size, action, settings, self.bounded)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def q(self, encoded: Tensor, action: Tensor) -> Tensor:
        """Both critics on [B, E] and [..., B, A]: [2, ..., B]."""
        return self.run(self.critic, encoded, action)

    def slow_q(self, encoded: Tensor, action: Tensor) -> Tensor:
        return self.run(self.slow_critic, encoded, action)

    def value(self, encoded: Tensor, action: Tensor) -> Tensor | None:
        return self.q(encoded, action).amin(0)
