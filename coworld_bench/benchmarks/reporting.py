"""A report of many results: how its time grows with their number. The results are made up, and their commit says so."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from coworld_bench.anchors import anchors_path
from coworld_bench.bench.jobs import run_spec, select
from coworld_bench.evaluation import PROTOCOL, score
from coworld_bench.files import digest_of
from coworld_bench.plans import list_plans, load_plan
from coworld_bench.recipes import reference_return
from coworld_bench.run_spec import PlannedRun, of_environment

COUNTS = [200, 2_000, 20_000]
PRESETS = "quick", "paper"
CHECKPOINTS, EPISODES, PICTURES = 20, 2, 64  # of a run, as preset quick has them
UPDATES = 1500


def measure(counts: list[int] | None = None, repeats: int = 3) -> dict[str, Any]:
    """A row per number of results: wall seconds to read them, and of the whole `report --all`."""
    rows = [measure_count(results, repeats) for results in counts or COUNTS]
    notes = [
        f"Made-up results of all shipped plans under the presets {' and '.join(PRESETS)}, with as many seeds as it takes; "
        f"{CHECKPOINTS} checkpoints of {EPISODES} episodes each. Wall time, medians of {repeats} round(s).",
        "read: every file into frames. all: `report --all`, reading and drawing included.",
    ]
    return {"rows": rows, "notes": notes}


def measure_count(results: int, repeats: int) -> dict[str, Any]:
    from coworld_bench.reporting import report
    from coworld_bench.reporting.store import read_store

    with tempfile.TemporaryDirectory() as scratch:
        store, out = Path(scratch) / "runs", Path(scratch) / "out"
        size = write_results(store, results)
        read = statistics.median(timed(lambda: read_store(store)) for _ in range(repeats))
        whole = statistics.median(timed(lambda: report(runs=store, out=out, everything=True)) for _ in range(repeats))
    return {
        "results": results,
        "megabytes": round(size / 1e6, 1),
        "read_s": round(read, 2),
        "all_s": round(whole, 2),
        "all_ms_per_result": round(1e3 * whole / results, 2),
    }


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write_results(store: Path, results: int) -> int:
    """Fill a folder with so many results, and the anchors of their targets; returns the bytes of the results."""
    written = 0
    for planned in islice(runs_of_all_plans(), results):
        content = made_up(planned)
        folder = store / content["run"]
        folder.mkdir(parents=True)
        written += (folder / "result.json").write_text(json.dumps(content))
        spec = planned.spec
        path = anchors_path(planned.env.task, spec.preset, store, of_environment({**spec.options, **spec.target_options}))
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(made_up_anchors(planned)))
    return written


def runs_of_all_plans() -> Iterator[PlannedRun]:
    """Every run of every shipped plan once, seed 0 of all before seed 1."""
    first: dict[str, PlannedRun] = {}
    for name in list_plans():
        for preset in PRESETS:
            chosen = select(load_plan(name), preset)
            for cell in chosen.cells:
                for row in chosen.methods:
                    planned = run_spec(chosen, cell, row, 0).plan()
                    first.setdefault(f"{preset} {chosen.plan.quality} {planned.title()}", planned)
    for seed in count():
        yield from (replace(planned, spec=replace(planned.spec, seed=seed)) for planned in first.values())


def made_up(planned: PlannedRun) -> dict[str, Any]:
    """A result such as a run leaves, its numbers drawn at random around a mean of its method's and target's own."""
    spec, words = planned.spec, planned.words
    identity = digest_of([planned.title(), spec.preset, spec.quality])
    rng, usual = random.Random(identity), random.Random(f"{planned.method.name} {planned.env.task}")
    reference = reference_return(planned.env.task, spec.preset)
    mean = usual.uniform(0.2, 0.8) * (reference.value if reference else 1000.0) * rng.uniform(0.7, 1.3)
    evaluations = [made_up_checkpoint(rng, index, mean) for index in range(CHECKPOINTS + 1)]
    return {
        "schema": 1,
        "protocol": PROTOCOL,
        "run": f"{planned.method.name.replace(':', '-')}--{planned.env.task.replace('/', '-')}--{identity[:16]}",
        "method": planned.method.name,
        "target": planned.env.task,
        "env": planned.env.to_dict(),
        "seed": spec.seed,
        "preset": spec.preset,
        "config": planned.config.identity(),
        "method_config": planned.settings.identity(),
        "dataset": {
            "id": planned.dataset_id, "fingerprint": digest_of(planned.dataset_id), "episodes": 40, "rows": 10_040,
            "return_mean": 500.0, "return_std": 400.0, "fired": True,
        },
        "evaluations": evaluations,
        "score": score(evaluations, UPDATES),
        "diagnostics": {"source_value": mean / 20, "constraint_active": rng.random(), "alignment_loss": rng.random()},
        "domains": made_up_domains(rng),
        "time": {"wall_s": 300.0, "cpu_s": 290.0, "evaluation_s": 100.0, "finished": "2026-01-01T00:00:00+00:00"},
        "device": "none",
        "commit": {"commit": "made-up", "dirty": False},
    } | chosen_source(planned, rng) | words  # fmt: skip


def made_up_checkpoint(rng: random.Random, index: int, mean: float) -> dict[str, Any]:
    reached = mean * min(1.0, 0.1 + 1.8 * index / CHECKPOINTS)
    episodes = [
        {
            "seed": 200_000_000 + index * EPISODES + number,
            "return": reached * rng.uniform(0.6, 1.4),
            "length": 250,
            "success": rng.random() < 0.3,
            "value_predicted": mean / 20 * rng.uniform(0.5, 2.0),
            "value_realised": mean / 20,
            "value_predicted_mean": mean / 25,
            "value_realised_mean": mean / 25,
        }
        for number in range(EPISODES)
    ]
    return {"updates": UPDATES * index // CHECKPOINTS, "episodes": episodes}


def made_up_domains(rng: random.Random) -> dict[str, Any]:
    names = ["data", "policy", "source"]
    pairs = [["data", "policy"], ["data", "source"], ["policy", "source"]]
    points = {name: [[round(rng.gauss(x, 3), 2), round(rng.gauss(0, 3), 2)] for _ in range(PICTURES)] for x, name in
              enumerate(names)}  # fmt: skip
    distances = [{"between": pair, "mmd": round(rng.random(), 4), "nearest": round(rng.random(), 4)} for pair in pairs]
    return {"pictures": dict.fromkeys(names, PICTURES), "distances": distances, "map": points}


def chosen_source(planned: PlannedRun, rng: random.Random) -> dict[str, Any]:
    if planned.method.sources != "many":
        return {}
    shares = {source: rng.random() for source in planned.sources}
    total = sum(shares.values())
    told = {source: share / total for source, share in shares.items()}
    return {"method_report": {"chosen": max(told, key=lambda source: told[source]), "share": told, "sources": list(told)}}


def made_up_anchors(planned: PlannedRun) -> dict[str, Any]:
    kinds = {"random": [200.0, 260.0], "untrained": [180.0, 220.0], "constant": [300.0, 340.0]}
    content = {kind: {"returns": returns, "successes": [False, False]} for kind, returns in kinds.items()}
    return {"schema": 1, "task": planned.env.task, "preset": planned.spec.preset, "env": planned.env.to_dict()} | content
