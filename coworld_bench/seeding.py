"""Which seed every episode and every random stream gets. Collection and evaluation never share an episode seed."""

from __future__ import annotations

import zlib

import numpy as np

from coworld_bench.errors import UsageError

MAX_SEED, MAX_EPISODES = 2_000, 100_000
STREAMS = {"collect": 0, "evaluate": 1, "anchor": 2, "select": 3, "visit": 4}
# select: the evaluations of a collecting agent; visit: an episode whose pictures are looked at


def episode_seed(stream: str, seed: int, index: int) -> int:
    """The reset seed of episode `index` of run seed `seed`: a range of its own per (stream, seed), below 2**31."""
    check_seed(seed)
    assert 0 <= index < MAX_EPISODES, index
    return (STREAMS[stream] * MAX_SEED + seed) * MAX_EPISODES + index


def check_seed(seed: int) -> None:
    """Raises UsageError for a seed that no run can have."""
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"a seed must be in [0, {MAX_SEED}); got {seed}")


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random stream of its own for each purpose of a run."""
    words = [zlib.crc32(str(word).encode()) for word in purpose]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *words])))


def torch_seed(seed: int, *purpose: str | int) -> int:
    """A seed for `torch.Generator.manual_seed` or `torch.manual_seed`."""
    return int(generator(seed, *purpose).integers(2**62))
