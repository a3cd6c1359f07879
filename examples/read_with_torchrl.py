"""A dataset as TorchRL's replay buffer: python examples/read_with_torchrl.py metaworld/window_close/medium-replay-quick"""

from __future__ import annotations

import sys

import torch
from tensordict import TensorDict
from torchrl.data import LazyMemmapStorage, SliceSampler, TensorDictReplayBuffer

from coworld_bench import open_dataset
from coworld_bench.data.episode import Episode

SLICE, SLICES = 8, 4  # decisions of a slice, slices of a batch


def steps(episode: Episode, number: int) -> TensorDict:
    """The decisions of an episode in TorchRL's layout: what was seen, what was done, and what came of it under `next`."""
    seen = {"state": episode.state} | ({} if episode.image is None else {"pixels": episode.image.transpose(0, 3, 1, 2)})
    last = torch.arange(episode.env_steps)[:, None] == episode.env_steps - 1
    after = {key: torch.from_numpy(array[1:].copy()) for key, array in seen.items()} | {
        "reward": torch.from_numpy(episode.reward[1:, None].copy()), "done": last,
        "terminated": last & episode.terminal, "truncated": last & (not episode.terminal),
    }  # fmt: skip
    before = {key: torch.from_numpy(array[:-1].copy()) for key, array in seen.items()}
    done = {"action": torch.from_numpy(episode.action[1:].copy()), "episode": torch.full((episode.env_steps,), number)}
    return TensorDict({**before, **done, "next": after}, [episode.env_steps])


def main(name: str) -> None:
    """Fill a memory-mapped storage, one episode at a time, and draw slices of trajectories."""
    dataset = open_dataset(name)
    buffer = TensorDictReplayBuffer(
        storage=LazyMemmapStorage(dataset.rows - dataset.episodes),
        sampler=SliceSampler(slice_len=SLICE, traj_key="episode", strict_length=True),
        batch_size=SLICE * SLICES,
    )
    for number, episode in enumerate(dataset):
        buffer.extend(steps(episode, number))
    print(f"{dataset.id}: {len(buffer)} decisions in {dataset.episodes} episodes")
    for _ in range(3):
        batch = buffer.sample().reshape(SLICES, SLICE)
        assert (batch["episode"] == batch["episode"][:, :1]).all(), "a slice is of one episode"
        shown = batch["pixels"] if "pixels" in batch else batch["state"]
        print(f"slices of episodes {batch['episode'][:, 0].tolist()}: {tuple(shown.shape)}, {tuple(batch['action'].shape)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: read_with_torchrl.py DATASET"))
