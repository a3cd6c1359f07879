"""Made-up results on disk, in the layout the harness writes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coworld_bench.config import resolve
from coworld_bench.files import write_json

LABELS = {"offline_dv2": "Offline DV2", "dv2_finetune": "DV2 Finetune", "coworld": "CoWorld"}
RULE = "mean over the checkpoints of the last half of training"


def result(method: str, target: str, mean: float, seed: int = 0, source: str = "", **changes: Any) -> dict[str, Any]:
    """A finished run whose two late checkpoints have this mean."""
    content: dict[str, Any] = {
        "schema": 1,
        "protocol": 1,
        "run": run_id(method, target, seed, source, changes.get("preset", "quick")),
        "method": method,
        "label": LABELS.get(method, method),
        "target": target,
        "sources": [source] if source else [],
        "seed": seed,
        "preset": "quick",
        "env": environment(target, changes.get("preset", "quick")),
        "quality": "medium-replay",
        "options": {},
        "config": {"model": {"deter": 128}},
        "method_config": {},
        "dataset": {
            "id": f"{target}/medium-replay-quick-v0",
            "fingerprint": "ab12" * 16,
            "episodes": 4,
            "rows": 1004,
            "return_mean": 860.0,
            "return_std": 1100.0,
            "fired": True,
        },
        "evaluations": [checkpoint(0, 10), checkpoint(750, mean - 50), checkpoint(1500, mean + 50)],
        "score": {"mean": mean, "rule": RULE, "checkpoints": 2, "episodes": 4, "sd_checkpoints": 50.0},
        "diagnostics": {},
        "time": {"wall_s": 200.4, "cpu_s": 190.0, "started": "2025-01-01T10:00:00", "finished": "2025-01-01T10:04:00"},
        "device": "cpu, 1 thread(s)",
        "commit": {"commit": "0123456789abcdef", "dirty": True},
    }
    return content | changes


def checkpoint(updates: int, mean: float) -> dict[str, Any]:
    """Two episodes, 100 to either side of the mean; the critic says 30 where 20 and 40 come true."""
    episode = {"length": 250, "value_predicted": 30.0}
    return {
        "updates": updates,
        "episodes": [
            episode | {"seed": 1, "return": mean - 100.0, "success": False, "value_realised": 20.0},
            episode | {"seed": 2, "return": mean + 100.0, "success": True, "value_realised": 40.0},
        ],
    }


def run_id(method: str, target: str, seed: int, source: str, preset: str) -> str:
    return f"{method}--{target.replace('/', '-')}--{source.replace('/', '-') or 'none'}--s{seed}--{preset}00000"


def put(runs: Path, content: dict[str, Any], kind: str = "result", folder: str | None = None) -> Path:
    """Store a run as `result.json`, `failed.json` or `config.json`."""
    path = runs / (folder or content["run"]) / f"{kind}.json"
    write_json(path, content)
    return path


def put_rollout(folder: Path, total: float, success: bool | None, colours: list[tuple[int, int, int]]) -> None:
    """The strip of an episode, a plain picture for each colour, ten env steps apart."""
    strip = np.concatenate([np.full((64, 64, 3), colour, np.uint8) for colour in colours], axis=1)
    Image.fromarray(strip).save(folder / "rollout.png")
    digest = sha256((folder / "rollout.png").read_bytes()).hexdigest()
    told = {"schema": 1, "run": folder.name, "updates": 1500, "seed": 800000000, "return": total, "length": 71}
    told |= {"success": success, "env_steps": [10 * place for place in range(len(colours))]}
    write_json(folder / "rollout.json", told | {"file": "rollout.png", "sha256": digest})


def domains(shift: float, nearest: float, *groups: str) -> dict[str, Any]:
    """Three points a group; every two groups at the same distances."""
    points = {group: [[place, 0.0], [place, 1.0], [place + 1.0, 0.5]] for place, group in enumerate(groups)}
    pairs = [[a, b] for place, a in enumerate(groups) for b in groups[place + 1 :]]
    return {
        "pictures": dict.fromkeys(groups, 3),
        "distances": [{"between": pair, "mmd": shift, "nearest": nearest} for pair in pairs],
        "map": points,
    }


def put_failed(runs: Path, method: str, target: str, seed: int, source: str = "", preset: str = "quick") -> None:
    run = run_id(method, target, seed, source, preset)
    content = {"run": run, "method": method, "target": target, "sources": [source] if source else [], "seed": seed}
    put(runs, content | {"preset": preset, "error": "Traceback …\nRuntimeError: loss is nan\n"}, "failed")


def put_anchors(runs: Path, target: str, constant: float, preset: str = "quick") -> None:
    kinds = {"random": [300.0, 400.0], "untrained": [10.0, 30.0], "constant": [constant - 10, constant + 10]}
    content = {kind: {"returns": returns, "successes": [False, False]} for kind, returns in kinds.items()}
    path = runs / "anchors" / f"{target.replace('/', '-')}-{preset}.json"
    write_json(path, {"schema": 1, "task": target, "preset": preset, "env": environment(target, preset)} | content)


def environment(target: str, preset: str = "quick") -> dict[str, Any]:
    return resolve(preset, target.split("/")[0]).env.spec(target).to_dict()
