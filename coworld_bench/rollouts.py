"""What a policy does, to be looked at: a strip of pictures of one episode, beside the run's result.

RUN/rollout.png   FRAMES pictures side by side, the first and the last among them
RUN/rollout.json  which episode that is, at which env steps the pictures were seen, and how it went

A result is whole without them: they count for no score, and `coworld-bench evaluate RUN --rollout` makes them again.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from coworld_bench.data.preview import png
from coworld_bench.evaluation import Visit, evenly
from coworld_bench.files import atomic, write_json
from coworld_bench.run_spec import SCHEMA

FRAMES = 8


def write_rollout(folder: Path, run: str, updates: int, visit: Visit) -> dict[str, Any]:
    """Write the strip of an episode that the policy of a run played after so many updates; returns what rollout.json holds.

    The picture is written first, so that a description never speaks of one that is not there."""
    chosen = evenly(len(visit.pictures), FRAMES)
    content = png(strip(visit.pictures[chosen]))
    told = {
        "schema": SCHEMA,
        "run": run,
        "updates": updates,
        **{name: visit.record[name] for name in ("seed", "return", "length", "success")},
        "env_steps": visit.env_steps[chosen].tolist(),
        "file": "rollout.png",
        "sha256": sha256(content).hexdigest(),
    }
    with atomic(folder / "rollout.png") as file:
        file.write(content)
    write_json(folder / "rollout.json", told)
    return told


def strip(pictures: np.ndarray) -> np.ndarray:
    """Pictures side by side: [N, H, W, 3] -> [H, N * W, 3]."""
    return np.concatenate(list(pictures), axis=1)
