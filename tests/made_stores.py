"""Stores of made-up runs, at whatever they are to be at."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from coworld_bench.bench.processes import whoami
from coworld_bench.bench.status import LOST_S
from coworld_bench.files import write_json

ELSEWHERE = {"host": "far", "boot": "b", "namespace": "n", "pid": 7, "started": "1"}  # no process of this machine


def content(method: str = "offline_dv2", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What a run says of itself."""
    sources = ["toy/point_mirrored"] if method != "offline_dv2" else []
    said = {"method": method, "target": "toy/point", "sources": sources, "seed": seed, "preset": "smoke"}
    return said | {"quality": "medium-replay", "options": {}, "protocol": 1} | changes


def begun(store: Path, method: str = "offline_dv2", seed: int = 0, **changes: Any) -> Path:
    """The folder of a run that nobody tells more of."""
    folder = store / f"{method}--s{seed}"
    write_json(folder / "config.json", content(method, seed, **changes))
    return folder


def done(store: Path, method: str = "offline_dv2", seed: int = 0, wall_s: float = 60.0, **changes: Any) -> Path:
    folder = begun(store, method, seed, **changes)
    result = content(method, seed, **changes) | {"score": {"mean": 1.0}, "evaluations": []}
    write_json(folder / "result.json", result | {"time": {"wall_s": wall_s, "cpu_s": 2 * wall_s}, "versions": {"a": "1"}})
    return folder


def failed(store: Path, method: str = "offline_dv2", seed: int = 0, **changes: Any) -> Path:
    folder = begun(store, method, seed)
    write_json(
        folder / "failed.json", content(method, seed) | {"error": "Traceback\nValueError: bees", "attempts": 3} | changes
    )
    return folder


def tell(folder: Path, state: str = "running", name: str = "status.json", age_s: float = 0.0, **told: Any) -> Path:
    """A status file that says so, written so long ago."""
    usual = {"kind": "train", "job": f"train {folder.name}", "attempt": 1, "began": "2020-01-01T00:00:00+00:00"}
    usual |= {"beat": "2020-01-01T00:01:40+00:00", "progress": {}}
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whoami() | usual | {"state": state} | told))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def running(store: Path, method: str = "offline_dv2", seed: int = 0, share: float = 0.0, wall_s: float = 0.0) -> Path:
    folder = begun(store, method, seed)
    progress = {"updates": 100 * share, "updates_total": 100, "wall_s": wall_s, "cpu_s": wall_s, "evaluation": 7.0}
    tell(folder, progress=progress if share else {}, **ELSEWHERE)
    return folder


SILENT = LOST_S + 30
