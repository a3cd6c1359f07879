"""Numbers that describe a dataset: how good its episodes are, what was done in them, what its pictures cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from coworld_bench.data.chunks import read_array
from coworld_bench.data.dataset import Dataset
from coworld_bench.data.layout import STORE

BINS = 20
AT_THE_BOUND = 0.99  # an action beyond it, of a range from -1 to 1
PICTURES = 512  # that means and deviations of pixels are taken over


def statistics(dataset: Dataset) -> dict[str, Any]:
    """Plain values by subject. Pictures are decoded for `pictures` alone, at most 512 of them."""
    memory = dataset.columns()
    decisions = np.flatnonzero(~memory["first"])
    return {
        "returns": spread(dataset.returns) | {"histogram": histogram(dataset.returns)},
        "returns in order of collection": [round(float(part.mean()), 4) for part in tenths(dataset.returns)],
        "by policy": by_policy(dataset),
        "lengths": spread(dataset.lengths - 1) | {"histogram": histogram(dataset.lengths - 1)},
        "rewards": spread(memory["reward"][decisions])
        | {"zero": share(memory["reward"][decisions] == 0), "histogram": histogram(memory["reward"][decisions])},
        "success": {"episodes": share(dataset.successes)} if dataset.card["has_success"] else None,
        "actions": [described(column) for column in memory["action"][decisions].T],
        "state": {"size": dataset.card["state_size"], "finite": bool(np.isfinite(memory["state"]).all())},
        "pictures": pictures(dataset),
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, quartiles and ends."""
    low, first, median, third, high = np.quantile(values.astype(np.float64), [0, 0.25, 0.5, 0.75, 1])
    found = {"mean": values.mean(dtype=np.float64), "sd": values.std(dtype=np.float64), "min": low, "25 %": first}
    found |= {"median": median, "75 %": third, "max": high}
    return {name: round(float(value), 4) for name, value in found.items()}


def histogram(values: np.ndarray, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Counts in bins of one width, and where the first begins and the last ends."""
    low, high = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    counts, edges = np.histogram(values, BINS, (low, high))
    return {"from": float(edges[0]), "to": float(edges[-1]), "counts": counts.tolist()}


def tenths(values: np.ndarray) -> list[np.ndarray]:
    """The values in their order, in at most ten parts."""
    return np.array_split(values, min(10, len(values)))


def by_policy(dataset: Dataset) -> dict[str, Any]:
    """Episodes and mean return of each policy that acted."""
    names = np.array([dataset.policy_of(episode) or "unknown" for episode in range(dataset.episodes)])
    return {
        str(name): {"episodes": int((names == name).sum()), "mean": round(float(dataset.returns[names == name].mean()), 4)}
        for name in dict.fromkeys(names)
    }


def described(column: np.ndarray) -> dict[str, Any]:
    """One dimension of the actions."""
    return spread(column) | {"at a bound": share(np.abs(column) > AT_THE_BOUND), "histogram": histogram(column, -1.0, 1.0)}


def share(which: np.ndarray) -> float:
    return round(float(which.mean()), 4)


def pictures(dataset: Dataset) -> dict[str, Any] | None:
    """Size on disk, and mean and deviation of a few hundred pictures, spread evenly; None where there are none."""
    if not dataset.card["image"]:
        return None
    files = (dataset.folder / STORE / "frames/image/c").rglob("*")
    stored, raw = sum(path.stat().st_size for path in files if path.is_file()), int(np.prod(dataset.card["image"]))
    on_disk, memory = int(read_array(dataset.folder / STORE / "episodes/length").sum()), dataset.load("packed")
    rows = np.linspace(0, dataset.rows - 1, min(PICTURES, dataset.rows)).astype(int)
    seen = memory.windows(rows, np.zeros_like(rows), 1).image
    assert seen is not None
    return {
        "size": dataset.card["image"],
        "bytes on disk": stored,
        "bytes a picture": round(stored / on_disk, 1),
        "smaller than raw": round(raw * on_disk / stored, 2),
        "mean by channel": [round(float(value), 2) for value in seen.mean((0, 1, 2, 3))],
        "sd by channel": [round(float(value), 2) for value in seen.std((0, 1, 2, 3))],
    }
