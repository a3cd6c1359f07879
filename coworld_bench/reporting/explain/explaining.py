"""Where a number of a table comes from: its runs, seeds and episodes, its rule, data, settings, code, machine and hours,
what stands beside it, what was left out and why, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from coworld_bench.config import flat, resolve, usual_env
from coworld_bench.files import read_json, read_lines
from coworld_bench.plans import Cell, load_plan
from coworld_bench.recipes import recipe, reference_return
from coworld_bench.reporting.explain.cells import find_cell, plan_and_rest
from coworld_bench.reporting.published import SOURCE, printed_for, read_published
from coworld_bench.reporting.selection import (
    Measurement,
    Selection,
    by_method_and_target,
    env_of,
    of_cell,
    on_plan,
    presets_with_results,
    select,
    sources_of,
)
from coworld_bench.reporting.store import FAILED, FINISHED, UNFINISHED, Store, read_store, short_commit, source_options_text
from coworld_bench.reporting.stores.records import Record, fingerprint_of, read_records
from coworld_bench.reporting.tables.measured import ANCHORS, anchor_summary, beside, cell_text, shortcut, spread_columns
from coworld_bench.reporting.tables.side_by_side import SINGLE_SOURCE
from coworld_bench.tasks import find_task

MADE_BY = ("commit", "versions", "machine", "device")
PLAYED = {**ANCHORS, "scripted": "scripted policy"}
SPREAD = "standard deviation over seeds (n - 1) of the score of a run"
INTERVAL = "95 %, Student's t over seeds"


@dataclass(frozen=True)
class Place:
    """A cell of a plan as it was asked for; `name` is the plan's, or the path of its file."""

    name: str
    selection: Selection
    row: str
    column: int

    @property
    def cell(self) -> Cell:
        return self.selection.plan.cells[self.column - 1]

    @property
    def measured(self) -> Measurement:
        return self.selection.measurements[self.row, self.cell]


def explain(
    text: str, runs: Path | str | None = None, preset: str | None = None, options: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What made the number of a cell, `PLAN:ROW:COLUMN`, as one JSON document; where the text names no column or no row,
    the rows and columns there are.

    Without `preset`, the largest that has results; `options` as `report` has them. Raises UsageError for a name that does
    not exist, and with all that fit where several do."""
    name, rest = plan_and_rest(text)
    plan, store = load_plan(name), read_store(runs)
    measured = presets_with_results(store, plan)
    chosen = preset or (measured[0] if measured else "quick")
    selection = select(store, plan, chosen, options)
    asked = find_cell(rest, plan, selection.labels)
    if asked.row is None or asked.column is None:
        return listing(name, selection, asked.row) | {"measured_presets": measured}
    return explanation(Place(name, selection, asked.row, asked.column)) | {"measured_presets": measured}


def listing(name: str, selection: Selection, row: str | None) -> dict[str, Any]:
    """The rows (or one of them) and columns of a plan, with what is measured in each cell."""
    cells = selection.plan.cells
    rows = [row] if row else selection.methods
    return {
        "schema": 1,
        "plan": name,
        "title": selection.plan.title,
        "preset": selection.preset,
        "columns": [column_words(cell, place) for place, cell in enumerate(cells, 1)],
        "rows": [
            {
                "row": each,
                "label": selection.labels[each],
                "cells": [cell_text(selection.measurements[each, cell]) for cell in cells],
            }
            for each in rows
        ],
    }


def column_words(cell: Cell, place: int) -> dict[str, Any]:
    return {
        "column": place,
        "code": cell.code,
        "target": cell.target,
        "source": cell.source,
        "candidates": list(cell.candidates),
        "column_label": cell.label,
    }


def explanation(place: Place) -> dict[str, Any]:
    """Everything that is known of one cell."""
    selection, found = place.selection, place.measured
    records = records_of(selection.store, found)
    return {
        "schema": 1,
        "plan": place.name,
        "title": selection.plan.title,
        "preset": selection.preset,
        "store": str(selection.store.folder),
        "row": place.row,
        "label": selection.labels[place.row],
        **column_words(place.cell, place.column),
        "learnt_from": list(found.sources) if len(found.runs) else list(filter(None, [place.cell.source])),
        "text": cell_text(found),
        "number": spread_columns(found.summary) | {"spread": SPREAD, "interval": INTERVAL},
        "seeds": seed_words(found),
        "runs": [run_words(record) for record in records],
        "made_by": made_by(records),
        "hours": hours(found.runs),
        **(shared_words(place, records[0].content) if records else {}),
        "beside": beside_words(place),
        "published": published_words(place),
        "left_out": left_out(place),
        "command": command(place, records),
        "columns_made": sum(cell.target == place.cell.target for cell in selection.plan.cells),
    }


def records_of(store: Store, found: Measurement) -> list[Record]:
    """The runs that count as they were written, by seed."""
    wanted = dict(zip(found.runs["run"], found.runs["seed"], strict=True)) if len(found.runs) else {}
    if not wanted:
        return []
    records = {each.run: each for each in read_records(store.folder) if each.run in wanted and each.state == FINISHED}
    return [records[run] for run in sorted(wanted, key=lambda run: wanted[run])]


def seed_words(found: Measurement) -> dict[str, list[int]]:
    known = {*found.scores, *found.failed, *found.unfinished}
    return {
        "planned": list(found.planned),
        "finished": sorted(found.scores),
        "failed": list(found.failed),
        "unfinished": list(found.unfinished),
        "not_started": [seed for seed in found.planned if seed not in known],
    }


def run_words(record: Record) -> dict[str, Any]:
    """One seed: its score, the episodes it is made of, and how long it took."""
    content = record.content
    score, time = content["score"], content.get("time", {})
    late = content["evaluations"][-score["checkpoints"] :]
    episodes = [episode for evaluation in late for episode in evaluation["episodes"]]
    wins = [episode.get("success") for episode in episodes]
    return {
        "run": record.run,
        "file": str(record.folder / "result.json"),
        "seed": content["seed"],
        "score": score["mean"],
        "sd_checkpoints": score.get("sd_checkpoints"),
        "success": None if None in wins else sum(wins) / len(wins),
        "checkpoints": score["checkpoints"],
        "updates": [evaluation["updates"] for evaluation in late],
        "episodes": len(episodes),
        "episodes_per_checkpoint": sorted({len(evaluation["episodes"]) for evaluation in late}),
        "episode_seeds": [episode["seed"] for episode in episodes],
        "wall_s": time.get("wall_s"),
        "cpu_s": time.get("cpu_s"),
        "training_s": time["wall_s"] - time["evaluation_s"] if "evaluation_s" in time else None,
        "finished": time.get("finished", ""),
        "source_agents": content.get("source_agents", []),
        "commit": short_commit(content.get("commit")),
    }


def made_by(records: list[Record]) -> list[dict[str, Any]]:
    """Commit, versions, machine and device, with the seeds that share them."""
    groups: list[dict[str, Any]] = []
    for record in records:
        told = {key: record.content.get(key) for key in MADE_BY}
        group = next((each for each in groups if all(each[key] == told[key] for key in MADE_BY)), None)
        if group is None:
            groups.append(group := {"seeds": [], **told})
        group["seeds"].append(record.content["seed"])
    return groups


def hours(runs: pd.DataFrame) -> dict[str, float | None]:
    """Hours of all runs that count, where every one of them has recorded it."""
    names = {"wall": "wall_s", "cpu": "cpu_s", "training": "training_s"}
    return {name: total(runs[column]) if column in runs else None for name, column in names.items()}


def total(seconds: pd.Series) -> float | None:
    return float(seconds.sum()) / 3600 if len(seconds) and bool(seconds.notna().all()) else None


def shared_words(place: Place, content: dict[str, Any]) -> dict[str, Any]:
    """What all seeds of a cell share: rule, protocol, dataset, settings, environment."""
    dataset = content["dataset"] if isinstance(content["dataset"], dict) else {"fingerprint": fingerprint_of(content)}
    pinned = recipe(place.cell.target, place.selection.preset)
    return {
        "rule": content["score"]["rule"],
        "protocol": content.get("protocol"),
        "dataset": dataset | {"quality": content.get("quality", ""), "recipe": pinned.model_dump()},
        "settings": {
            "options": {key: content.get(key, {}) for key in ("options", "target_options", "source_options")},
            "changed": changed_settings(content),
            "method": content.get("method_config", {}),
            "environment": changed_environment(content),
        },
    }


def changed_settings(content: dict[str, Any]) -> dict[str, list[Any]]:
    """Settings that are not the preset's: what the preset has, and what the run had. A method may adapt its preset, so not
    all of them were asked for."""
    usual = flat(resolve(content["preset"], find_task(content["target"]).suite).to_dict())
    had = flat(content.get("config", {}))
    return {key: [usual.get(key), value] for key, value in sorted(had.items()) if usual.get(key) != value}


def changed_environment(content: dict[str, Any]) -> dict[str, list[Any]]:
    """The same of the target's environment."""
    usual = usual_env(content["target"], content["preset"]).to_dict()
    had = content.get("env", {})
    return {key: [usual.get(key), value] for key, value in sorted(had.items()) if usual.get(key) != value}


def beside_words(place: Place) -> dict[str, Any]:
    """Anchors and dataset, and whether the column can carry a claim."""
    selection, cell = place.selection, place.cell
    played = {name: anchor_summary(selection, cell, kind) for kind, name in PLAYED.items()}
    found = played | {name: summary for name, summary in beside(selection, cell).items() if name not in played}
    words: dict[str, Any] = {name: spread_columns(summary) for name, summary in found.items()}
    entry, reference = shortcut(selection, cell), reference_return(cell.target, selection.preset)
    words["reference"] = reference.model_dump() if reference else None
    words["constant_share"] = entry.share if entry else None
    words["carries_a_claim"] = not entry.unfit if entry else None
    return words


def published_words(place: Place) -> list[dict[str, Any]]:
    """What the paper prints for the row on the cell, with its note."""
    plan, cell = place.selection.plan, place.cell
    if plan.published is None:
        return []
    rows, label = read_published(plan.published), place.selection.labels[place.row]
    own = printed_for(rows, label, cell)
    if own.empty and label == "CoWorld":
        own = printed_for(rows, SINGLE_SOURCE, cell)
    return [
        {
            "file": f"reports/published/{plan.published}",
            "what": SOURCE,
            **{key: None if row[key] != row[key] else row[key] for key in ("method", "metric", "mean", "std", "note")},
        }
        for row in own.to_dict("records")
    ]


def left_out(place: Place) -> list[dict[str, Any]]:
    """The runs of the row's method on the cell that do not count, and why."""
    selection, found, cell = place.selection, place.measured, place.cell
    arm, preset = selection.plan.arm(place.row), selection.preset
    rows = on_plan(selection.store.runs, selection.plan)
    rows = rows[rows["preset"] == preset]
    newest = int(rows["protocol"].max()) if len(rows) else 0
    rows = rows[(rows["method"] == arm.method) & (rows["target"] == cell.target) & rows["source"].isin(sources_of(cell))]
    rows = rows[~rows["run"].isin(found.runs["run"] if len(found.runs) else [])]
    asked = selection.plan.options_of(preset) if selection.asked is None else dict(selection.asked)
    fitting = {run.run for run in of_cell(by_method_and_target(rows), arm, cell, preset, asked)}
    return [
        {
            "run": row["run"],
            "seed": int(row["seed"]),
            "state": row["state"],
            "why": why(place, row, newest) if row["run"] in fitting else other_settings(place, row, asked),
        }
        for row in rows.sort_values(["seed", "run"]).to_dict("records")
    ]


def other_settings(place: Place, row: Mapping[str, Any], asked: Mapping[str, str]) -> str:
    """What of a run is not as the cell asks: its target's environment, its source, or its settings."""
    wanted = {**asked, **place.selection.plan.arm(place.row).options_of(place.selection.preset)}
    if row["env"] not in ("", env_of(place.cell, place.selection.preset, wanted)):
        return f"another environment: digest {row['env'][:10]}"
    source_options = source_options_text(wanted, dict(place.cell.source_options))
    if row["source_options"] not in ("", source_options):
        return f"other options of its source: {row['source_options']} instead of {source_options}"
    return f"other settings: {row['options'] if row['options'] != '{}' else 'none on top of the preset'}"


def why(place: Place, row: Mapping[str, Any], newest: int) -> str:
    """Why a run with the settings of the cell does not count."""
    counted = place.measured.runs
    if 0 < row["protocol"] < newest:
        return f"evaluation protocol {row['protocol']}; {newest} is the newest here"
    if row["state"] == FAILED:
        lines = [line.strip() for line in str(row["error"]).splitlines() if line.strip()]
        done = "; another run of this seed finished" if row["seed"] in place.measured.scores else ""
        return f"failed: {lines[-1] if lines else 'it left no message'}{done}"
    if row["state"] == UNFINISHED:
        return f"unfinished: {progress(place.selection.store, row)}"
    if row["fingerprint"] not in set(counted["fingerprint"]):
        return f"another dataset: fingerprint {str(row['fingerprint'])[:10]}"
    if row["variant"] not in set(counted["variant"]):
        return "settings that the others do not have, or another revision of the method"
    return "a newer run of this seed counts"


def progress(store: Store, row: Mapping[str, Any]) -> str:
    """How far an unfinished run has come, from what it logged."""
    folders = [parent / row["run"] for parent in (store.folder, store.folder / "runs")]
    folder = next((folder for folder in folders if (folder / "config.json").is_file()), None)
    if folder is None:
        return "its folder has another name"
    lines = read_lines(folder / "metrics.jsonl")
    total = read_json(folder / "config.json").get("config", {}).get("budget", {}).get("updates")
    done = lines[-1]["updates"] if lines else 0
    return f"{done:,} of {total:,} updates" if total else f"{done:,} updates"


def command(place: Place, records: list[Record]) -> str:
    """What makes the cell, or goes on with it: finished runs are kept. It chooses columns by their target alone."""
    selection, found = place.selection, place.measured
    seeds = sorted({*found.scores, *found.failed, *found.unfinished})
    words = ["coworld-bench", "run", place.name, "--preset", selection.preset, "--methods", place.row]
    words += ["--targets", place.cell.target]
    if set(seeds) - set(found.planned):
        words += ["--seeds", ",".join(map(str, sorted({*seeds, *found.planned})))]
    for key, value in sorted((selection.asked or {}).items()):
        words += ["-o", f"{key}={value}"]
    store = selection.store.folder
    folder = records[0].folder.parent if records else store / "runs" if (store / "runs").is_dir() else store
    return shlex.join([*words, "--runs", str(folder)])
