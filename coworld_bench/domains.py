"""Where an encoder puts pictures of its dataset, of what the policy meets, and of the source: distances, and a map.

Recorded with the result of every method that has an encoder (the paper looks at this in figure 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from coworld_bench.data.memory import Memory
from coworld_bench.methods import SourceAgent
from coworld_bench.seeding import generator

PICTURES = 64  # of each group; every distance is over as many
Embed = Callable[[np.ndarray], np.ndarray]


def describe(groups: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Distances between each two groups of embeddings float32 [N, E], and the t-SNE map of all, a point per picture.

    `mmd`: the maximum mean discrepancy, squared; `nearest`: how often a picture's nearest one is of its own group, 0.5
    where the two cannot be told apart, 1 where they lie apart."""
    pairs = list(combinations(groups, 2))
    return {
        "pictures": {name: len(points) for name, points in groups.items()},
        "distances": [
            {
                "between": [a, b],
                "mmd": round(mmd(groups[a], groups[b]), 4),
                "nearest": round(nearest(groups[a], groups[b]), 4),
            }
            for a, b in pairs
        ],
        "map": {name: np.round(points, 2).tolist() for name, points in tsne(groups, seed).items()},
    }


def squared_distances(x: np.ndarray) -> np.ndarray:
    """[N, E] -> [N, N]."""
    x = x.astype(np.float64)
    norms = (x**2).sum(1)
    return np.maximum(norms[:, None] + norms[None] - 2 * x @ x.T, 0.0)


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """MMD², unbiased (Gretton et al. 2012, Eq. 3), with a Gaussian kernel whose width is the median distance of all pairs.

    About 0 for samples of one distribution, where it may be negative; at most 2."""
    squared = squared_distances(np.concatenate([a, b]))
    median = np.median(squared[np.triu_indices(len(squared), 1)])
    kernel = np.exp(-squared / max(median, 1e-12))
    n, m = len(a), len(b)
    of_a, of_b, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    inside = (of_a.sum() - n) / (n * (n - 1)) + (of_b.sum() - m) / (m * (m - 1))
    return float(inside - 2 * across.mean())


def nearest(a: np.ndarray, b: np.ndarray) -> float:
    """Leave-one-out accuracy of the nearest neighbour in telling which group a point is of (Lopez-Paz & Oquab 2017); a
    neighbour of each group at the same distance counts half."""
    squared = squared_distances(np.concatenate([a, b]))
    np.fill_diagonal(squared, np.inf)
    own = np.arange(len(squared)) < len(a)
    ties = squared <= squared.min(1, keepdims=True)
    right = (ties & (own[:, None] == own[None])).sum(1) / ties.sum(1)
    return float((right[own].mean() + right[~own].mean()) / 2)


def tsne(groups: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """A map of all points by t-SNE (van der Maaten & Hinton 2008): [N, 2] for each group."""
    from sklearn.manifold import TSNE

    together = np.concatenate(list(groups.values())).astype(np.float64)
    together = (together - together.mean(0)) / max(float(together.std()), 1e-12)
    perplexity = min(30.0, (len(together) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="random", method="exact", random_state=seed).fit_transform(together)
    ends = np.cumsum([len(points) for points in groups.values()])[:-1]
    return dict(zip(groups, np.split(points, ends), strict=True))


def data_pictures(memory: Memory, seed: int, count: int = PICTURES) -> np.ndarray:
    """Pictures of a dataset: uint8 [N, H, W, 3]."""
    image = memory.sample(generator(seed, "domains", "data"), count, 1).image
    assert image is not None
    return image[:, 0]


def source_pictures(sources: Iterable[SourceAgent], seed: int, count: int = PICTURES) -> np.ndarray | None:
    """Pictures of what the source agents collected before the run, as many of each; None where they saw none."""
    rng, found = generator(seed, "domains", "source"), []
    for source in sources:
        images = [episode.image for episode in source.episodes() if episode.image is not None]
        if images:
            chosen = [images[number] for number in rng.integers(len(images), size=count)]
            found += [image[rng.integers(len(image))] for image in chosen]
    return np.stack(found)[rng.permutation(len(found))[:count]] if found else None
