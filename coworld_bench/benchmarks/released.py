"""CoWorld's target update written the way the released code is: the benchmark's reference for what users have today.

Same networks, same losses, same sizes as ours, and ours to read: a Python loop with torch.distributions objects at every
row, every projection inside the loop, a prior sample that nobody uses, imagined rows gathered by a growing `cat`, the actor
evaluated three times, images turned into floats on the host, and Adam without fusing. Gaussian latents, `cnn` networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from coworld_bench.data.memory import Batch
from coworld_bench.dreamer import DreamerAgent
from coworld_bench.nets import CnnDecoder, CnnEncoder

Row = dict[str, Tensor]


@contextmanager
def checked_distributions() -> Iterator[None]:
    """torch.distributions with its checks, as users have it: torch.compile switches them off for the whole process."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(True)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


class ReleasedUpdate:
    """Updates of a target agent beside a frozen source agent."""

    def __init__(self, agent: DreamerAgent, source: DreamerAgent | None) -> None:
        self.agent, self.source, config = agent, source, agent.config
        assert config.model.latent == "gaussian" and isinstance(agent.model.decoder, CnnDecoder), "sizes S and P only"
        self.rssm, self.behaviour = agent.model.rssm, agent.behaviour
        self.optimisers = [
            torch.optim.Adam(module.parameters(), lr=1e-4, eps=1e-5)
            for module in (agent.model, agent.behaviour.actor, agent.behaviour.critic)
        ]

    def __call__(self, batch: Batch) -> None:
        with checked_distributions():
            self._update(batch)

    def _update(self, batch: Batch) -> None:
        self.agent.model.requires_grad_(True)
        image, action, reward = self.preprocess(batch)
        embed = self.encode(self.agent, image)
        with torch.no_grad():
            theirs = self.encode(self.source, image) if self.source else None
        posts, priors = self.observe(embed, action)
        feature = torch.cat([posts["stoch"], posts["deter"]], -1)
        predicted = Independent(Normal(self.decode(feature), 1.0), 3)
        rewards = Independent(Normal(self.agent.model.reward(feature), 1.0), 1)
        loss = self.kl(posts, priors) - predicted.log_prob(image).mean() - rewards.log_prob(reward.unsqueeze(-1)).mean()
        if theirs is not None:
            divergence = F.kl_div(embed.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
            loss = loss + divergence
        self.descend(0, loss, retain=False)
        self.behave({name: part.detach() for name, part in posts.items()})

    def preprocess(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Floats on the host, then the device: image [B, L, 64, 64, 3]."""
        device = self.agent.device
        image = torch.Tensor(batch.image) / 255.0 - 0.5
        return image.to(device), torch.Tensor(batch.action).to(device), torch.Tensor(batch.reward).to(device)

    def encode(self, agent: DreamerAgent, image: Tensor) -> Tensor:
        x = image.reshape(-1, 64, 64, 3).permute(0, 3, 1, 2)
        encoder = agent.model.encoder
        assert isinstance(encoder, CnnEncoder)
        for layer in encoder.layers:
            x = F.elu(layer(x))
        return x.flatten(1).reshape(*image.shape[:2], -1)

    def decode(self, feature: Tensor) -> Tensor:
        decoder = self.agent.model.decoder
        assert isinstance(decoder, CnnDecoder)
        x = decoder.widen(feature).reshape(-1, 32 * decoder.depth, 1, 1)
        weight = decoder.first.weight.view(5, 5, 4 * decoder.depth, -1).permute(3, 2, 0, 1)
        x = F.elu(F.conv_transpose2d(x, weight.contiguous(), decoder.first.bias.view(25, -1)[0], 2))
        for layer in decoder.layers[:-1]:
            x = F.elu(layer(x))
        return decoder.layers[-1](x).reshape(*feature.shape[:2], 3, 64, 64).permute(0, 1, 3, 4, 2)

    def observe(self, embed: Tensor, action: Tensor) -> tuple[Row, Row]:
        state = self.initial(len(embed))
        posts: list[Row] = []
        priors: list[Row] = []
        for row in range(embed.shape[1]):
            prior = self.image_step(state, action[:, row])
            hidden = self.rssm.posterior_deter(prior["deter"]) + self.rssm.posterior_embed(embed[:, row])
            state = self.latent(self.rssm.posterior_out(F.elu(hidden))) | {"deter": prior["deter"]}
            posts.append(state)
            priors.append(prior)
        return stack(posts), stack(priors)

    def image_step(self, state: Row, action: Tensor) -> Row:
        deter = self.rssm.recur(state["deter"], state["stoch"], self.rssm.from_action(action))
        return self.latent(self.rssm.prior(deter)) | {"deter": deter}

    def latent(self, statistic: Tensor) -> Row:
        mean, raw = statistic.chunk(2, -1)
        std = 2 * torch.sigmoid(raw / 2) + 0.1
        return {"mean": mean, "std": std, "stoch": Independent(Normal(mean, std), 1).rsample()}

    def initial(self, batch: int) -> Row:
        deter, stoch = self.rssm.initial(batch)
        return {"deter": deter, "stoch": stoch, "mean": stoch, "std": stoch}

    def kl(self, posts: Row, priors: Row) -> Tensor:
        def between(left: Row, right: Row) -> Tensor:
            sides = [Independent(Normal(side["mean"], side["std"]), 1) for side in (left, right)]
            return torch.maximum(kl_divergence(*sides).mean(), torch.ones((), device=left["mean"].device))

        frozen_posts = {name: part.detach() for name, part in posts.items()}
        frozen_priors = {name: part.detach() for name, part in priors.items()}
        return 0.2 * between(posts, frozen_priors) + 0.8 * between(frozen_posts, priors)

    def behave(self, posts: Row) -> None:
        config, behaviour = self.agent.config.behaviour, self.behaviour
        self.agent.model.requires_grad_(False)
        state = {name: part.flatten(0, 1) for name, part in posts.items()}
        features, actions = state["deter"].new_empty(0), state["deter"].new_empty(0)
        for _ in range(config.horizon):
            feature = torch.cat([state["stoch"], state["deter"]], -1)
            action = self.policy(feature.detach()).rsample()
            features = torch.cat([features, feature.unsqueeze(0)])
            actions = torch.cat([actions, action.unsqueeze(0)])
            state = self.image_step(state, action)
        entropy = self.policy(features.detach()).entropy()
        self.policy(features[:-1].detach()).log_prob(actions[:-1].detach())
        reward = Independent(Normal(self.agent.model.reward(features), 1.0), 1).mode.squeeze(-1)
        value = behaviour.slow_critic(features).squeeze(-1)
        discount = config.discount * torch.ones_like(reward)
        returns = self.lambda_return(reward[:-1], value[:-1], discount[:-1], value[-1], config.trace)
        weight = torch.cumprod(torch.cat([torch.ones_like(discount[:1]), discount[:-2]]), 0).detach()
        actor_loss = -(weight * (returns + config.entropy * entropy[:-1])).mean()
        frozen = features[:-1].detach()
        estimate = Independent(Normal(behaviour.critic(frozen), 1.0), 1)
        critic_loss = -(weight * estimate.log_prob(returns.detach().unsqueeze(-1))).mean()
        if self.source:
            with torch.no_grad():
                theirs = self.source.behaviour.critic(frozen)
            critic_loss = critic_loss + (weight * torch.maximum(estimate.mode, theirs).squeeze(-1)).mean()
        self.descend(1, actor_loss, retain=True)
        self.descend(2, critic_loss, retain=False)

    def policy(self, feature: Tensor) -> Independent:
        mean, raw = self.behaviour.actor(feature).chunk(2, -1)
        return Independent(Normal(torch.tanh(mean), 2 * torch.sigmoid(raw / 2) + 0.1), 1)

    def lambda_return(self, reward: Tensor, value: Tensor, discount: Tensor, last: Tensor, trace: float) -> Tensor:
        inputs = reward + discount * torch.cat([value[1:], last.unsqueeze(0)]) * (1 - trace)
        returns = inputs.new_empty(0)
        for row in reversed(range(len(inputs))):
            last = inputs[row] + discount[row] * trace * last
            returns = torch.cat([last.unsqueeze(0), returns])
        return returns

    def descend(self, index: int, loss: Tensor, retain: bool) -> None:
        optimiser = self.optimisers[index]
        optimiser.zero_grad()
        loss.backward(retain_graph=retain)
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 100.0)
        optimiser.step()
        loss.item()  # their metrics are read every update


def stack(rows: list[Row]) -> Row:
    return {name: torch.stack([row[name] for row in rows], 1) for name in rows[0]}
