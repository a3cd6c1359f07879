"""A dataset in Minari's hands: python examples/read_with_minari.py metaworld/window_close/medium-replay-quick"""

from __future__ import annotations

import sys

import minari

from coworld_bench import open_dataset
from coworld_bench.data.formats.minari import export_minari


def main(name: str) -> None:
    """Export the dataset to where Minari keeps its own, and draw episodes of it by Minari's own means."""
    exported = export_minari(open_dataset(name))
    dataset = minari.load_dataset(exported)
    print(f"minari {minari.__version__}: {exported}, {dataset.total_episodes} episodes, {dataset.total_steps} steps")
    dataset.set_seed(0)
    for episode in dataset.sample_episodes(3):
        seen = {key: array.shape for key, array in episode.observations.items()}
        print(f"episode {episode.id}: observations {seen}, return {episode.rewards.sum():.2f}")
    long = dataset.filter_episodes(lambda episode: episode.rewards.sum() > 0)
    print(f"{long.total_episodes} episodes have a return above 0")
    environment = dataset.recover_environment()
    observation, _ = environment.reset(seed=0)
    print(f"its environment shows {sorted(observation)} and takes {environment.action_space}")
    environment.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: read_with_minari.py DATASET"))
