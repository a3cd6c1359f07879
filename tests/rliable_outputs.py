"""What rliable 1.2.0 computes from some score matrices: the oracle of tests/test_report_aggregates.py.

rliable does not import beside pandas 3, so this runs in an environment of its own, and needs nothing of this project:

    python -m venv ENV && ENV/bin/pip install "rliable==1.2.0" "pandas<3" "arch<8" "numpy<2.5"
    ENV/bin/python tests/rliable_outputs.py > tests/rliable_outputs.json
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np

REQUIRED = ("rliable==1.2.0", "pandas<3", "arch<8", "numpy<2.5")
TAUS = [-0.2, 0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5]
REPS = {"aggregate": 5_000, "profile": 1_000, "probability": 1_000}  # the last two take rliable a millisecond and more each


def matrices() -> dict[str, np.ndarray]:
    """Scores [runs, tasks]: of a table's size and its mirror, odd sizes, ties, a single task, a single run."""
    draws = np.random.RandomState(0)
    table = draws.uniform(-0.1, 1.3, (3, 6)).round(3)
    return {
        "table": table,
        "other": (table[::-1, ::-1] * 0.8 + 0.1).round(3),
        "five": draws.normal(0.6, 0.3, (5, 6)).round(3),
        "odd": draws.uniform(0, 1, (7, 3)).round(3),
        "ties": draws.randint(0, 5, (4, 7)) / 4,
        "more ties": draws.randint(0, 5, (6, 7)) / 4,
        "one task": draws.uniform(0, 2, (10, 1)).round(3),
        "one run": draws.uniform(0, 2, (1, 9)).round(3),
    }


PAIRS = [("table", "other"), ("other", "table"), ("table", "table"), ("five", "table"), ("ties", "more ties")]


def computed() -> dict[str, Any]:
    """Aggregates and profiles of every matrix, probabilities of the pairs, and percentile intervals of some."""
    from rliable import library, metrics

    scores = matrices()
    aggregates = {
        "iqm": metrics.aggregate_iqm,
        "median": metrics.aggregate_median,
        "mean": metrics.aggregate_mean,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }

    def ends(given: Any, function: Any, kind: str) -> list[list[float]]:
        np.random.seed(0)  # rliable draws from numpy's global state whatever it is given
        _, found = library.get_interval_estimates({"it": given}, function, reps=REPS[kind])
        return np.asarray(found["it"]).tolist()

    def both_ways(x: Any, y: Any) -> Any:
        return np.array([metrics.probability_of_improvement(x, y)])

    return {
        "versions": {name: version(name) for name in ("rliable", "arch", "numpy", "pandas", "scipy")},
        "scores": {name: each.tolist() for name, each in scores.items()},
        "aggregates": {
            name: {key: float(function(each)) for key, function in aggregates.items()} for name, each in scores.items()
        },
        "taus": TAUS,
        "profiles": {name: library.score_distributions(each, TAUS).tolist() for name, each in scores.items()},
        "probabilities": [[x, y, float(metrics.probability_of_improvement(scores[x], scores[y]))] for x, y in PAIRS],
        "intervals": {
            name: {
                key: ends(scores[name], lambda given, function=function: np.array([function(given)]), "aggregate")
                for key, function in aggregates.items()
            }
            for name in ("table", "five", "ties")
        },
        "bands": {"five": ends(scores["five"], lambda given: library.score_distributions(given, TAUS), "profile")},
        "probability_intervals": [
            [x, y, ends([scores[x], scores[y]], both_ways, "probability")] for x, y in (PAIRS[0], PAIRS[3])
        ],
    }


if __name__ == "__main__":
    print(json.dumps(computed(), indent=1, sort_keys=True))
