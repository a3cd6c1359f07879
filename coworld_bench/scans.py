"""The two recurrences of the RSSM with backward passes written by hand: the fast counterparts of the loops in `rssm.py`.

Autograd records some thirty small operations a row and adds up every weight's gradient row by row. Here a row costs a
handful of matrix products each way: what does not depend on the recurrence is computed for all rows before or after the
loop, weight gradients included. Same mathematics, same noise; `Rssm.observe` and `Rssm.imagine` are the oracle.

A row is a pure function of tensors, so that `torch.compile` can fuse it; `Latents` says whether it does.
Axes: T rows, N parallel sequences, D deterministic, S stochastic (flattened), H hidden, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coworld_bench.fusing import made

NORM_EPS = 1e-5  # nn.LayerNorm's default


class Latents(NamedTuple):
    """How a latent is drawn (categoricals of `classes`, or a diagonal Gaussian where `classes` is 0), and whether rows are
    compiled."""

    classes: int
    compiled: bool = False

    def made(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return made(function, self.compiled)

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


class Gru(NamedTuple):
    """The recurrence's weights: z -> hidden, [hidden, h] -> three gates, a bias or a LayerNorm on the gates."""

    from_stoch: Tensor  # [H, S]
    gates: Tensor  # [3 D, H + D]
    bias: Tensor | None  # [3 D]
    norm_weight: Tensor | None  # [3 D]
    norm_bias: Tensor | None  # [3 D]


class Kept(NamedTuple):
    """What rows leave behind for the backward pass: tensors [N, .] of a row, [T, N, .] once stacked."""

    inputs: Tensor  # ELU's output, then h
    reset: Tensor
    candidate: Tensor
    update: Tensor
    squashed: Tensor
    raw: Tensor  # the gates before LayerNorm, its mean and 1/std; empty without one
    mean: Tensor
    scale: Tensor
    hidden: Tensor  # ELU's output in the head that gives the statistic
    latent: Tensor  # see `Latents.sample`

    @classmethod
    def stack(cls, rows: list[Kept]) -> Kept:
        return cls(*(torch.stack(tensors) for tensors in zip(*rows, strict=True)))


def gru_row(gru: Gru, deter: Tensor, stoch: Tensor, action: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """h' [N, D] from h, z and the projected action [N, H], and the first eight of `Kept`."""
    hidden = F.elu(torch.addmm(action, stoch, gru.from_stoch.t()))
    inputs = torch.cat([hidden, deter], -1)
    if gru.norm_weight is None:
        assert gru.bias is not None
        gates = torch.addmm(gru.bias, inputs, gru.gates.t())
        raw = mean = scale = gates.new_empty(0)
    else:
        raw = inputs @ gru.gates.t()
        gates, mean, scale = torch.native_layer_norm(raw, raw.shape[-1:], gru.norm_weight, gru.norm_bias, NORM_EPS)
    reset, candidate, update = gates.chunk(3, -1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    squashed = torch.tanh(reset * candidate)
    return torch.lerp(deter, squashed, update), (inputs, reset, candidate, update, squashed, raw, mean, scale)


class Slopes(NamedTuple):
    """Derivatives that do not wait for the recurrence, for all rows [T, ...] or one."""

    gates: Tensor  # h' -> the three gates' pre-activations: [.., N, 3, D]
    keep: Tensor  # h' -> h past the gates
    inputs: Tensor  # of the ELU before the gates
    hidden: Tensor  # of the ELU in the head

    def row(self, row: int) -> Slopes:
        return Slopes(*(slope[row] for slope in self))


def slopes(kept: Kept, hidden_size: int) -> Slopes:
    reset, update, squashed = kept.reset, kept.update, kept.squashed
    keep, through = 1 - update, update * (1 - squashed.square())
    deter = kept.inputs[..., hidden_size:]
    gates = [through * kept.candidate * reset * (1 - reset), through * reset, (squashed - deter) * update * keep]
    return Slopes(torch.stack(gates, -2), keep, elu_slope(kept.inputs[..., :hidden_size]), elu_slope(kept.hidden))


def elu_slope(output: Tensor) -> Tensor:
    """ELU's derivative from its output."""
    return output.clamp(max=0) + 1


def gru_row_back(
    gru: Gru, slope: Slopes, norm: tuple[Tensor, Tensor, Tensor], grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the gradient of h' [N, D] to those of the gates after and before LayerNorm [N, 3 D], of the projected action
    [N, H], of z [N, S] and of h [N, D]."""
    gates = raw = (slope.gates * grad.unsqueeze(-2)).flatten(-2)
    if gru.norm_weight is not None:
        raw = torch.ops.aten.native_layer_norm_backward(
            gates, norm[0], gates.shape[-1:], norm[1], norm[2], gru.norm_weight, gru.norm_bias, [True, False, False]
        )[0]
    inputs = raw @ gru.gates
    hidden = slope.inputs.shape[-1]
    action = inputs[:, :hidden] * slope.inputs
    return gates, raw, action, action @ gru.from_stoch, torch.addcmul(inputs[:, hidden:], slope.keep, grad)


class Posterior(NamedTuple):
    """The weights of the posterior's head: h -> hidden (embeddings join there), hidden -> statistic."""

    deter: Tensor  # [H, D]
    out: Tensor  # [., H]
    bias: Tensor  # [.]


def observe_row(
    latents: Latents, gru: Gru, head: Posterior, action: Tensor, embed: Tensor, noise: Tensor, deter: Tensor, stoch: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """The next state, its statistic, and `Kept`."""
    deter, kept = gru_row(gru, deter, stoch, action)
    hidden = F.elu(torch.addmm(embed, deter, head.deter.t()))
    statistic = torch.addmm(head.bias, hidden, head.out.t())
    stoch, latent = latents.sample(statistic, noise)
    return deter, stoch, statistic, (*kept, hidden, latent)


def observe_row_back(
    latents: Latents, gru: Gru, head: Posterior, slope: Slopes, norm: tuple[Tensor, Tensor, Tensor], latent: Tensor,
    noise: Tensor, given: tuple[Tensor, Tensor, Tensor], d_deter: Tensor, d_stoch: Tensor,
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:  # fmt: skip
    """Gradients of the statistic, the head's hidden layer, the gates (twice) and the action; and of h and z before.

    `given` are the outputs' own gradients: of z and the statistic in this row, and of h in the row before, which joins the
    one returned: there a compiled row has a kernel that can take it along."""
    d_before, d_stochs, d_statistics = given
    d_statistic = latents.gradient(d_stochs + d_stoch, latent, noise) + d_statistics
    d_hidden = (d_statistic @ head.out) * slope.hidden
    d_next = torch.addmm(d_deter, d_hidden, head.deter)
    d_gates, d_raw, d_action, d_stoch, d_deter = gru_row_back(gru, slope, norm, d_next)
    return (d_statistic, d_hidden, d_gates, d_raw, d_action), d_deter + d_before, d_stoch


class ObserveScan(torch.autograd.Function):
    """Posterior states and statistics over T rows.

    Takes the projected actions and embeddings [T, N, H] (the latter with the posterior's bias), noise, the first state,
    and the weights of `Posterior` and `Gru`; returns deter [T, N, D], stoch [T, N, S], statistics [T, N, .]."""

    @staticmethod
    def forward(
        ctx: Any, latents: Latents, actions: Tensor, embeds: Tensor, noise: Tensor, deter: Tensor, stoch: Tensor,
        *weights: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        head, gru = Posterior(*weights[:3]), Gru(*weights[3:])  # type: ignore[arg-type]
        step, first = latents.made(observe_row), stoch
        rows, kept = [], []
        for row in range(len(actions)):
            deter, stoch, statistic, left = step(latents, gru, head, actions[row], embeds[row], noise[row], deter, stoch)
            rows.append((deter, stoch, statistic))
            kept.append(Kept(*left))
        deters, stochs, statistics = (torch.stack(tensors) for tensors in zip(*rows, strict=True))
        ctx.latents, ctx.noise, ctx.head, ctx.gru = latents, noise, head, gru
        ctx.kept, ctx.first = Kept.stack(kept), first
        ctx.save_for_backward(deters, stochs)  # outputs held by ctx itself would be a cycle, and live until collected
        return deters, stochs, statistics

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        latents, head, gru, kept, noise = ctx.latents, ctx.head, ctx.gru, ctx.kept, ctx.noise
        (deters, stochs), (d_deters, d_stochs, d_statistics) = ctx.saved_tensors, given
        step, slope = latents.made(observe_row_back), latents.made(slopes)(kept, len(gru.from_stoch))
        d_deter, d_stoch, nothing = d_deters[-1], torch.zeros_like(stochs[0]), torch.zeros_like(deters[0])
        rows = []
        for row in reversed(range(len(deters))):
            norm = kept.raw[row], kept.mean[row], kept.scale[row]
            parts = d_deters[row - 1] if row else nothing, d_stochs[row], d_statistics[row]
            left, d_deter, d_stoch = step(
                latents, gru, head, slope.row(row), norm, kept.latent[row], noise[row], parts, d_deter, d_stoch
            )
            rows.append(left)
        statistic, hidden, gates, raw, action = (torch.stack(list(part)) for part in zip(*rows[::-1], strict=True))
        before = torch.cat([ctx.first.unsqueeze(0), stochs[:-1]])
        return (
            None, action, hidden, None, d_deter, d_stoch,
            product(hidden, deters), product(statistic, kept.hidden), statistic.sum((0, 1)),
            product(action, before), product(raw, kept.inputs), *gate_gradients(gru, kept, gates),
        )  # fmt: skip


def gate_gradients(gru: Gru, kept: Kept, gates: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of the gates' bias, and LayerNorm's weight and bias, over all rows."""
    if gru.norm_weight is None:
        return gates.sum((0, 1)), None, None
    return None, (gates * (kept.raw - kept.mean) * kept.scale).sum((0, 1)), gates.sum((0, 1))


def product(grad: Tensor, inputs: Tensor) -> Tensor:
    """A weight's gradient over all rows: [T, N, out], [T, N, in] -> [out, in]."""
    return grad.flatten(0, 1).t() @ inputs.flatten(0, 1)


class Prior(NamedTuple):
    """The weights of a prior head, stored inputs first."""

    w1: Tensor  # [D, H]
    b1: Tensor  # [1, H]
    w2: Tensor  # [H, .]
    b2: Tensor  # [1, .]


class Dynamics(NamedTuple):
    """What imagination needs of a frozen world model; `priors` has one head for all rows, or one for each."""

    latents: Latents
    gru: Gru
    from_action: Tensor  # [H, A]
    action_bias: Tensor  # [H]
    priors: tuple[Prior, ...]

    def prior(self, row: int) -> Prior:
        return self.priors[row] if len(self.priors) > 1 else self.priors[0]


def imagine_row(
    dynamics: Dynamics, prior: Prior, action: Tensor, noise: Tensor, deter: Tensor, stoch: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """One row ahead under the prior, and `Kept`."""
    projected = torch.addmm(dynamics.action_bias, action, dynamics.from_action.t())
    deter, kept = gru_row(dynamics.gru, deter, stoch, projected)
    hidden = F.elu(torch.addmm(prior.b1, deter, prior.w1))
    stoch, latent = dynamics.latents.sample(torch.addmm(prior.b2, hidden, prior.w2), noise)
    return deter, stoch, (*kept, hidden, latent)


def imagine_row_back(
    dynamics: Dynamics, prior: Prior, slope: Slopes, norm: tuple[Tensor, Tensor, Tensor], latent: Tensor, noise: Tensor,
    given: tuple[Tensor, Tensor], d_deter: Tensor, d_stoch: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the projected action, and of h and z before; `given` are the states' own."""
    d_statistic = dynamics.latents.gradient(d_stoch, latent, noise)
    d_next = torch.addmm(d_deter, (d_statistic @ prior.w2.t()) * slope.hidden, prior.w1.t())
    _, _, d_action, d_stoch, d_deter = gru_row_back(dynamics.gru, slope, norm, d_next)
    return d_action, d_deter + given[0], d_stoch + given[1]


class Rollout(NamedTuple):
    """A policy's rollout: states of T + 1 rows, and what the backward pass through the dynamics needs."""

    deter: Tensor  # [T + 1, N, D]
    stoch: Tensor  # [T + 1, N, S]
    noise: Tensor
    kept: Kept


@torch.no_grad()
def roll_out(
    dynamics: Dynamics, deter: Tensor, stoch: Tensor, noise: Tensor, policy: Callable[[int, Tensor], Tensor]
) -> Rollout:
    """Act with `policy(row, feature) -> action [N, A]` for T rows, without recording anything of the policy."""
    step = dynamics.latents.made(imagine_row)
    deters, stochs, kept = [deter], [stoch], []
    for row in range(len(noise)):
        action = policy(row, torch.cat([stoch, deter], -1))
        deter, stoch, left = step(dynamics, dynamics.prior(row), action, noise[row], deter, stoch)
        deters.append(deter)
        stochs.append(stoch)
        kept.append(Kept(*left))
    return Rollout(torch.stack(deters), torch.stack(stochs), noise, Kept.stack(kept))


class ImagineScan(torch.autograd.Function):
    """A finished rollout as a function of its actions [T, N, A]: deter [T + 1, N, D] and stoch [T + 1, N, S].

    The world model is frozen here: only the actions get a gradient, and none is computed for weights or starts."""

    @staticmethod
    def forward(ctx: Any, actions: Tensor, dynamics: Dynamics, rollout: Rollout) -> tuple[Tensor, Tensor]:
        ctx.dynamics, ctx.noise, ctx.kept = dynamics, rollout.noise, rollout.kept  # not the states: see ObserveScan
        return rollout.deter, rollout.stoch

    @staticmethod
    def backward(ctx: Any, d_deters: Tensor, d_stochs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        dynamics, noise, kept = ctx.dynamics, ctx.noise, ctx.kept
        made = dynamics.latents.made
        step, slope = made(imagine_row_back), made(slopes)(kept, len(dynamics.from_action))
        d_deter, d_stoch = d_deters[-1], d_stochs[-1]
        d_actions = []
        for row in reversed(range(len(noise))):
            norm = kept.raw[row], kept.mean[row], kept.scale[row]
            d_action, d_deter, d_stoch = step(
                dynamics, dynamics.prior(row), slope.row(row), norm, kept.latent[row], noise[row],
                (d_deters[row], d_stochs[row]), d_deter, d_stoch,
            )  # fmt: skip
            d_actions.append(d_action)
        return torch.stack(d_actions[::-1]) @ dynamics.from_action, None, None
