"""The two recurrences of the RSSM with backward passes written by hand: the fast counterparts of the loops in `rssm.py`.

Autograd records some thirty small operations a row and adds up every weight's gradient row by row. Here a row costs a
handful of matrix products each way: what does not depend on the recurrence is computed for all rows before or after the
loop, weight gradients included. Same mathematics, same noise; `Rssm.observe` and `Rssm.imagine` are the oracle.

Axes: T rows, N parallel sequences, D deterministic, S stochastic (flattened), H hidden, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-5  # nn.LayerNorm's default


class Gru(NamedTuple):
    """The recurrence's weights: z -> hidden, [hidden, h] -> three gates, a bias or a LayerNorm on the gates."""

    from_stoch: Tensor  # [H, S]
    gates: Tensor  # [3 D, H + D]
    bias: Tensor | None  # [3 D]
    norm_weight: Tensor | None  # [3 D]
    norm_bias: Tensor | None  # [3 D]


class Latents(NamedTuple):
    """How a latent is drawn: categoricals of `classes`, or a diagonal Gaussian where `classes` is 0."""

    classes: int

    def sample(self, statistic: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The latent [N, S] and what its gradient needs: probabilities, or the sigmoid behind the std."""
        if not self.classes:
            mean, raw = statistic.chunk(2, -1)
            sigmoid = torch.sigmoid(raw / 2)
            return torch.addcmul(mean, 2 * sigmoid + 0.1, noise), sigmoid
        probabilities = statistic.unflatten(-1, (-1, self.classes)).softmax(-1)
        index = (probabilities.cumsum(-1)[..., :-1] < noise.unsqueeze(-1)).sum(-1, keepdim=True)
        return torch.zeros_like(probabilities).scatter_(-1, index, 1.0).flatten(-2), probabilities.flatten(-2)

    def gradient(self, grad: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        """The gradient of the statistic from that of the latent [N, S], straight through a categorical's draw."""
        if not self.classes:
            return torch.cat([grad, grad * noise * kept * (1 - kept)], -1)
        grad, kept = grad.unflatten(-1, (-1, self.classes)), kept.unflatten(-1, (-1, self.classes))
        weighted = grad * kept
        return torch.addcmul(weighted, kept, weighted.sum(-1, keepdim=True), value=-1).flatten(-2)


class Tape:
    """What rows leave behind for the backward pass, by name; `stack` gives [T, N, .] of each."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = {}

    def add(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.rows.setdefault(name, []).append(tensor)

    def stack(self) -> dict[str, Tensor]:
        return {name: torch.stack(rows) for name, rows in self.rows.items()}


def gru_row(gru: Gru, deter: Tensor, stoch: Tensor, action: Tensor, tape: Tape) -> Tensor:
    """h' [N, D] from h, z and the projected action [N, H]."""
    hidden = F.elu(torch.addmm(action, stoch, gru.from_stoch.t()))
    inputs = torch.cat([hidden, deter], -1)
    if gru.norm_weight is None:
        gates = torch.addmm(gru.bias, inputs, gru.gates.t())
        tape.add(inputs=inputs)
    else:
        raw = inputs @ gru.gates.t()
        gates, mean, scale = torch.native_layer_norm(raw, raw.shape[-1:], gru.norm_weight, gru.norm_bias, NORM_EPS)
        tape.add(inputs=inputs, raw=raw, mean=mean, scale=scale)
    reset, candidate, update = gates.chunk(3, -1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    squashed = torch.tanh(reset * candidate)
    tape.add(reset=reset, candidate=candidate, update=update, squashed=squashed)
    return torch.lerp(deter, squashed, update)


class GruBackward:
    """The GRU's backward pass: everything but four products a row is computed for all rows at once."""

    def __init__(self, gru: Gru, tape: dict[str, Tensor]) -> None:
        self.gru, self.tape, self.hidden = gru, tape, gru.from_stoch.shape[0]
        reset, candidate = tape["reset"], tape["candidate"]
        update, squashed = tape["update"], tape["squashed"]
        deter, hidden = tape["inputs"][..., self.hidden :], tape["inputs"][..., : self.hidden]
        self.keep = 1 - update
        through = update * (1 - squashed.square())  # h' -> reset * candidate
        self.factors = torch.stack(
            [through * candidate * reset * (1 - reset), through * reset, (squashed - deter) * update * self.keep], -2
        )  # h' -> the three gates' pre-activations: [T, N, 3, D]
        self.slope = elu_slope(hidden)

    def row(self, row: int, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From the gradient of h' [N, D]: of the gates [N, 3 D], the projected action [N, H], z [N, S] and h [N, D]."""
        gates = (self.factors[row] * grad.unsqueeze(-2)).flatten(-2)
        raw, gru, tape = gates, self.gru, self.tape
        if gru.norm_weight is not None:
            raw = torch.ops.aten.native_layer_norm_backward(
                gates, tape["raw"][row], gates.shape[-1:], tape["mean"][row], tape["scale"][row],
                gru.norm_weight, gru.norm_bias, [True, False, False],
            )[0]  # fmt: skip
        inputs = raw @ gru.gates
        action = inputs[:, : self.hidden] * self.slope[row]
        deter = torch.addcmul(inputs[:, self.hidden :], self.keep[row], grad)
        return torch.stack((gates, raw)) if gru.norm_weight is not None else raw, action, action @ gru.from_stoch, deter


def elu_slope(output: Tensor) -> Tensor:
    """ELU's derivative from its output."""
    return output.clamp(max=0) + 1


class ObserveScan(torch.autograd.Function):
    """Posterior states and statistics over T rows.

    Takes the projected actions and embeddings [T, N, H] (the latter with the posterior's bias), noise, the first state,
    and the weights; returns deter [T, N, D], stoch [T, N, S], statistics [T, N, .]."""

    @staticmethod
    def forward(
        ctx: Any,
        latents: Latents,
        actions: Tensor,
        embeds: Tensor,
        noise: Tensor,
        deter: Tensor,
        stoch: Tensor,
        posterior_deter: Tensor,
        posterior_out: Tensor,
        posterior_bias: Tensor,
        *weights: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gru, tape, first = Gru(*weights), Tape(), stoch  # type: ignore[arg-type]
        stochs, deters, statistics = [], [], []
        for row in range(len(actions)):
            deter = gru_row(gru, deter, stoch, actions[row], tape)
            hidden = F.elu(torch.addmm(embeds[row], deter, posterior_deter.t()))
            statistic = torch.addmm(posterior_bias, hidden, posterior_out.t())
            stoch, kept = latents.sample(statistic, noise[row])
            tape.add(hidden=hidden, kept=kept)
            deters.append(deter)
            stochs.append(stoch)
            statistics.append(statistic)
        out = torch.stack(deters), torch.stack(stochs), torch.stack(statistics)
        ctx.latents, ctx.noise, ctx.first, ctx.gru, ctx.tape = latents, noise, first, gru, tape.stack()
        ctx.weights = posterior_deter, posterior_out
        ctx.states = out[0], out[1]
        return out

    @staticmethod
    def backward(ctx: Any, d_deters: Tensor, d_stochs: Tensor, d_statistics: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gru, tape, latents = ctx.gru, ctx.tape, ctx.latents
        posterior_deter, posterior_out = ctx.weights
        deters, stochs = ctx.states
        back, slope = GruBackward(gru, tape), elu_slope(tape["hidden"])
        d_deter, d_stoch = torch.zeros_like(d_deters[0]), torch.zeros_like(d_stochs[0])
        found = Tape()
        for row in reversed(range(len(deters))):
            d_statistic = latents.gradient(d_stochs[row] + d_stoch, tape["kept"][row], ctx.noise[row]) + d_statistics[row]
            d_hidden = (d_statistic @ posterior_out) * slope[row]
            d_next = torch.addmm(d_deters[row] + d_deter, d_hidden, posterior_deter)
            d_gates, d_action, d_stoch, d_deter = back.row(row, d_next)
            found.add(statistic=d_statistic, hidden=d_hidden, gates=d_gates, action=d_action)
        grads = {name: torch.stack(rows[::-1]) for name, rows in found.rows.items()}
        before = torch.cat([ctx.first.unsqueeze(0), stochs[:-1]])
        return (
            None, grads["action"], grads["hidden"], None, d_deter, d_stoch,
            product(grads["hidden"], deters), product(grads["statistic"], tape["hidden"]),
            grads["statistic"].sum((0, 1)), product(grads["action"], before), *gate_gradients(gru, tape, grads["gates"]),
        )  # fmt: skip


def gate_gradients(gru: Gru, tape: dict[str, Tensor], gates: Tensor) -> tuple[Tensor | None, ...]:
    """Of the gates' weight, bias, and LayerNorm weight and bias, all rows at once."""
    if gru.norm_weight is None:
        return product(gates, tape["inputs"]), gates.sum((0, 1)), None, None
    gates, raw = gates.unbind(1)
    normal = (tape["raw"] - tape["mean"]) * tape["scale"]
    return product(raw, tape["inputs"]), None, (gates * normal).sum((0, 1)), gates.sum((0, 1))


def product(grad: Tensor, inputs: Tensor) -> Tensor:
    """A weight's gradient over all rows: [T, N, out], [T, N, in] -> [out, in]."""
    return grad.flatten(0, 1).t() @ inputs.flatten(0, 1)


class Dynamics(NamedTuple):
    """What imagination needs of a frozen world model: the GRU, the action's projection, and the prior of every row."""

    gru: Gru
    from_action: Tensor  # [H, A]
    action_bias: Tensor  # [H]
    w1: Tensor  # [T, D, H]: a prior head for each row (one row, broadcast, where there is one head)
    b1: Tensor  # [T, H]
    w2: Tensor  # [T, H, .]
    b2: Tensor  # [T, .]
    latents: Latents

    def head(self, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        row = row if len(self.w1) > 1 else 0
        return self.w1[row], self.b1[row], self.w2[row], self.b2[row]


class Rollout(NamedTuple):
    """A policy's rollout: states of T + 1 rows, and what the backward pass through the dynamics needs."""

    deter: Tensor  # [T + 1, N, D]
    stoch: Tensor  # [T + 1, N, S]
    noise: Tensor
    tape: dict[str, Tensor]


@torch.no_grad()
def roll_out(
    dynamics: Dynamics, deter: Tensor, stoch: Tensor, noise: Tensor, policy: Callable[[int, Tensor], Tensor]
) -> Rollout:
    """Act with `policy(row, feature) -> action [N, A]` for T rows, without recording anything of the policy."""
    tape, latents = Tape(), dynamics.latents
    deters, stochs = [deter], [stoch]
    for row in range(len(noise)):
        action = policy(row, torch.cat([stoch, deter], -1))
        projected = torch.addmm(dynamics.action_bias, action, dynamics.from_action.t())
        deter = gru_row(dynamics.gru, deter, stoch, projected, tape)
        w1, b1, w2, b2 = dynamics.head(row)
        hidden = F.elu(torch.addmm(b1, deter, w1))
        stoch, kept = latents.sample(torch.addmm(b2, hidden, w2), noise[row])
        tape.add(hidden=hidden, kept=kept)
        deters.append(deter)
        stochs.append(stoch)
    return Rollout(torch.stack(deters), torch.stack(stochs), noise, tape.stack())


class ImagineScan(torch.autograd.Function):
    """A finished rollout as a function of its actions [T, N, A]: deter [T + 1, N, D] and stoch [T + 1, N, S].

    The world model is frozen here: only the actions get a gradient, and none is computed for weights or starts."""

    @staticmethod
    def forward(ctx: Any, actions: Tensor, dynamics: Dynamics, rollout: Rollout) -> tuple[Tensor, Tensor]:
        ctx.dynamics, ctx.rollout = dynamics, rollout
        return rollout.deter, rollout.stoch

    @staticmethod
    def backward(ctx: Any, d_deters: Tensor, d_stochs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        dynamics, (_, _, noise, tape) = ctx.dynamics, ctx.rollout
        back, slope = GruBackward(dynamics.gru, tape), elu_slope(tape["hidden"])
        d_deter, d_stoch = d_deters[-1], d_stochs[-1]
        d_actions = []
        for row in reversed(range(len(noise))):
            w1, _, w2, _ = dynamics.head(row)
            d_statistic = dynamics.latents.gradient(d_stoch, tape["kept"][row], noise[row])
            d_next = torch.addmm(d_deter, (d_statistic @ w2.t()) * slope[row], w1.t())
            _, d_action, d_stoch, d_deter = back.row(row, d_next)
            d_stoch, d_deter = d_stoch + d_stochs[row], d_deter + d_deters[row]
            d_actions.append(d_action)
        return torch.stack(d_actions[::-1]) @ dynamics.from_action, None, None
