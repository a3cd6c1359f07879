"""DV2 Finetune + EWC (paper, appendix E; Kirkpatrick et al. 2017): finetuning that holds on to what the source needed.

Phase 1 is DV2 Finetune's: its weights are θ*. In phase 2 a penalty joins the loss of each module (world model, actor,
critic; never the slow critic),

    L + (λ/2) Σ_i F_i (θ_i - θ*_i)²,   F_i = mean over sequences of (∂ℓ/∂θ_i)²

with F the diagonal empirical Fisher information on single sequences of the source's replay, a mean of squared gradients and
not the square of a mean gradient. ℓ is L_wm for the world model, -ln π(a_replay | sg s) for the actor, and ½ (v - sg V)² on
imagined rows, as in training, for the critic. F has mean 1 inside each module: the image likelihood sums 12,288 pixels, so
raw scales differ by orders of magnitude.

No code was published, and the paper gives neither λ, nor the number of sequences, nor which weights are held: all are
settings here. Its result is far below plain finetuning's, as a strong λ would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from coworld_bench.config import Count, Settings, Weight
from coworld_bench.data.memory import BatchStream, EpisodeMemory
from coworld_bench.dreamer import DreamerAgent, Metrics, Rows, Seen
from coworld_bench.losses import discount_weights, squared_error, truncated_log_density
from coworld_bench.methods import Job, Method
from coworld_bench.offline import FINETUNED_SOURCE, FinetunedLearner
from coworld_bench.rssm import State


class EwcSettings(Settings):
    penalty: Weight = 100.0  # λ
    sequences: Count = 512  # of the source's replay, each with a gradient of its own
    modules: Literal["all", "world_model"] = "all"  # which are held


class Anchor(NamedTuple):
    """A module's weights θ* on the source and their importance there, parameter by parameter."""

    weights: list[Tensor]
    fisher: list[Tensor]

    def distance(self, module: nn.Module) -> Tensor:
        """½ Σ_i F_i (θ_i - θ*_i)²."""
        parts = zip(module.parameters(), *self, strict=True)
        return 0.5 * sum((fisher * (weight - held).square()).sum() for weight, held, fisher in parts)


class Dv2FinetuneEwc(FinetunedLearner):
    def __init__(self, settings: EwcSettings, job: Job) -> None:
        super().__init__(job)
        self.settings = settings
        self.anchors: dict[str, Anchor] = {}

    def turn(self) -> Metrics:
        if not self.anchors:
            self.anchors = self.find_anchors()
        if self.settings.modules == "world_model":
            return self.update(self.next_rows(), self.hold_model)
        return self.update(self.next_rows(), self.hold_model, self.hold_critic, actor_terms=self.hold_actor)

    def find_anchors(self) -> dict[str, Anchor]:
        """θ* and F of every module that is held, from the source agent and its replay."""
        source, settings = self.job.sources[0], self.settings
        agent = source.agent(self.job.device)
        held = modules(agent)
        if settings.modules == "world_model":
            held = {"model": agent.model}
        memory = EpisodeMemory().extend(source.episodes())
        sequences = BatchStream(memory, self.job.seed, 1, self.config.batch.length)
        fisher = fisher_information(agent, held, sequences, settings.sequences)
        weights = {name: [weight.detach() for weight in module.parameters()] for name, module in held.items()}
        return {name: Anchor(weights[name], normalised(fisher[name])) for name in held}

    def hold_model(self, seen: Seen, own: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"ewc": self.held("model")}

    def hold_actor(self, feature: Tensor, weight: Tensor) -> tuple[dict[str, Tensor], Metrics]:
        return {"ewc": self.held("actor")}, {}

    def hold_critic(self, feature: Tensor, value: Tensor, weight: Tensor) -> tuple[dict[str, Tensor], Metrics]:
        return {"ewc": self.held("critic")}, {}

    def held(self, name: str) -> Tensor:
        """λ times the distance of a module from its anchor."""
        return self.settings.penalty * self.anchors[name].distance(modules(self.agent)[name])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"anchors": {name: tuple(anchor) for name, anchor in self.anchors.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        device = self.agent.device
        self.anchors = {
            name: Anchor(*([part.to(device) for part in parts] for parts in stored))
            for name, stored in state["anchors"].items()
        }


def modules(agent: DreamerAgent) -> dict[str, nn.Module]:
    """What an optimiser of its own trains."""
    return {"model": agent.model, "actor": agent.behaviour.actor, "critic": agent.behaviour.critic}


def fisher_information(
    agent: DreamerAgent, held: Mapping[str, nn.Module], sequences: BatchStream, count: int
) -> dict[str, list[Tensor]]:
    """F of each module by name, over the next `count` single sequences; in the order of its parameters."""
    totals = {name: [torch.zeros_like(weight) for weight in module.parameters()] for name, module in held.items()}
    step = partial(squared_gradients, agent, held)
    for _ in range(count):
        squares = agent.replay("fisher", step, agent.rows(sequences.next()))
        for name, total in totals.items():
            torch._foreach_add_(total, squares[name], alpha=1 / count)
    return totals


def squared_gradients(agent: DreamerAgent, held: Mapping[str, nn.Module], rows: Rows) -> dict[str, list[Tensor]]:
    """(∂ℓ/∂θ_i)² of each module on one sequence."""
    losses = sequence_losses(agent, rows)
    gradients = {name: torch.autograd.grad(losses[name], list(module.parameters())) for name, module in held.items()}
    return {name: [gradient.square() for gradient in found] for name, found in gradients.items()}


def sequence_losses(agent: DreamerAgent, rows: Rows) -> dict[str, Tensor]:
    """ℓ of each module; no gradient of the behaviour's reaches the world model."""
    seen = agent.see(rows)
    world_model = torch.stack(list(agent.model.terms(rows, seen, None).values())).sum()
    feature = seen.state.feature.detach()
    # row t + 1 holds the action that was taken in the state of row t
    actor = imitation_loss(agent, feature[:-1], rows.action[1:])
    return {"model": world_model, "actor": actor, "critic": regression_loss(agent, seen.state.flat())}


def imitation_loss(agent: DreamerAgent, feature: Tensor, action: Tensor) -> Tensor:
    """-ln π(a | s) over the domain's own dimensions, mean over rows: [T, B, F], [T, B, A_max]."""
    log_density = truncated_log_density(*agent.behaviour.moments(feature), action)
    return -(log_density * agent.behaviour.mask).sum(-1).mean()


def regression_loss(agent: DreamerAgent, starts: State) -> Tensor:
    """The critic's loss in training, imagined from `starts` [N, .]: mean[w ½ (v - sg V)²]."""
    with torch.no_grad():
        imagined = agent.imagine(starts)
        returns, _ = agent.returns(imagined)
    weight = discount_weights(len(returns), agent.config.behaviour.discount, returns)
    value = agent.behaviour.value(imagined.feature[: len(returns)])
    return (weight * squared_error(value, returns)).mean()


def normalised(fisher: list[Tensor]) -> list[Tensor]:
    """Divided by the mean over all weights of the module."""
    mean = torch.cat([part.flatten() for part in fisher]).mean()
    return [part / mean for part in fisher]


METHOD = Method(
    name="dv2_finetune_ewc",
    label="DV2 Finetune+EWC",
    learner=Dv2FinetuneEwc,
    settings=EwcSettings,
    sources=1,
    source=FINETUNED_SOURCE,
    own={"quick": {"sequences": 128}, "smoke": {"sequences": 8}},
)
