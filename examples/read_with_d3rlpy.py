"""A dataset as d3rlpy's replay buffer: python examples/read_with_d3rlpy.py metaworld/window_close/medium-replay-quick

d3rlpy 2.8.1 asks for gymnasium 1.0.0 and works with the one here: pip install --no-deps d3rlpy==2.8.1, then
pip install gym==0.26.2 dataclasses-json structlog click colorama."""

from __future__ import annotations

import sys

import d3rlpy
import numpy as np

from coworld_bench import open_dataset
from coworld_bench.data.episode import Episode

UPDATES, BATCH = 3, 8


def converted(episode: Episode) -> d3rlpy.dataset.Episode:
    """The decisions of an episode; pictures are [3, S, S] there.

    d3rlpy makes a transition of every row but the last, and of the last too where the episode terminated. So the last
    picture is a row of its own, with an action that no transition has, where it did not terminate."""
    seen = episode.state if episode.image is None else episode.image.transpose(0, 3, 1, 2)
    rows = episode.env_steps if episode.terminal else episode.rows
    action, reward = (np.concatenate([array[1:], array[:1]])[:rows] for array in (episode.action, episode.reward[:, None]))
    return d3rlpy.dataset.Episode(np.ascontiguousarray(seen[:rows]), action, reward, episode.terminal)


def main(name: str) -> None:
    """Build the buffer, draw transitions, and do a few updates of TD3+BC."""
    dataset = open_dataset(name)
    episodes = [converted(episode) for episode in dataset]
    buffer = d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(), episodes=episodes, action_space=d3rlpy.ActionSpace.CONTINUOUS
    )
    print(f"d3rlpy {d3rlpy.__version__}: {buffer.transition_count} decisions in {buffer.size()} episodes")
    scaler = d3rlpy.preprocessing.PixelObservationScaler() if dataset.card["image"] else None
    agent = d3rlpy.algos.TD3PlusBCConfig(batch_size=BATCH, observation_scaler=scaler).create(device=False)
    agent.build_with_dataset(buffer)
    for update in range(UPDATES):
        batch = buffer.sample_transition_batch(BATCH)
        losses = agent.update(batch)
        print(f"update {update}: observations {np.shape(batch.observations)}, critic loss {losses['critic_loss']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: read_with_d3rlpy.py DATASET"))
