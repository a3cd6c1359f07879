"""What a sceptic asks for: do the critics tell the truth, is the constraint alive, who made each number."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd

from coworld_bench.reporting.layout import Table, number
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.measured import share_text

PROVENANCE = "run", "seed", "score", "checkpoints", "episodes", "fingerprint", "commit", "device", "wall_s"
DIAGNOSTICS = ("source_value", "constraint_active", "alignment_loss")


def diagnostics_table(selection: Selection) -> Table | None:
    """Critic against truth, and CoWorld's source value, constraint and alignment; None where no method has a critic."""
    columns = (
        "method", "cell", "seeds", "value predicted", "value realised", "gap", "mean absolute gap",
        "source value on target latents", "constraint active", "alignment loss",
    )  # fmt: skip
    rows = [diagnostics_row(selection, found) for found in selection.measurements.values() if has_critic(found)]
    notes = (
        "Values are discounted, in the reward units the method trains on, at the first row of an episode; means over "
        "the episodes of the score, then over seeds. Gap is predicted minus realised: positive is overestimation. Gaps of "
        "successes and failures cancel in the mean, not in the absolute one.",
        "Constraint active: share of imagined states where the target's value exceeds the source's. Near 0 % the "
        "constraint changes nothing, whatever the scores say.",
    )
    title = f"Diagnostics · {selection.circumstances}"
    return Table("diagnostics", title, columns, tuple(rows), notes) if rows else None


def has_critic(found: Measurement) -> bool:
    return any(mean_of(found.runs[name]) is not None for name in ("value_predicted", *DIAGNOSTICS))


def diagnostics_row(selection: Selection, found: Measurement) -> tuple[str, ...]:
    means = {name: mean_of(found.runs[name]) for name in ("value_predicted", "value_realised", "value_miss", *DIAGNOSTICS)}
    predicted, realised = means["value_predicted"], means["value_realised"]
    gap = None if predicted is None or realised is None else predicted - realised
    return (
        selection.labels[found.method],
        found.cell.code,
        str(len(found.runs)),
        number(predicted),
        number(realised),
        "—" if gap is None else f"{gap:+.2f}",
        number(means["value_miss"]),
        number(means["source_value"]),
        share_text(means["constraint_active"]),
        "—" if means["alignment_loss"] is None else f"{means['alignment_loss']:.4g}",
    )


def mean_of(column: pd.Series) -> float | None:
    known = [float(value) for value in column if value is not None and value == value]
    return fmean(known) if known else None


def provenance_table(selection: Selection) -> Table | None:
    """Every run that counts: its seed, episodes, data, code and machine; None where there is none."""
    columns = (
        "run", "method", "cell", "seed", "score", "checkpoints", "episodes", "dataset", "commit", "device", "wall time",
    )  # fmt: skip
    rows = [
        provenance_row(selection, found, run) for found in selection.measurements.values() for run in records(found.runs)
    ]
    notes = (
        f"Score: {'; '.join(sorted(set(selection.finished['rule'].dropna())))}.",
        "Checkpoints and episodes: those the score is made of. Dataset: the first characters of its fingerprint. "
        "A plus after the commit: files were changed since.",
    )
    return Table("runs", f"Who made this · {selection.circumstances}", columns, tuple(rows), notes) if rows else None


def records(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What PROVENANCE says of each run; all columns would take long."""
    return [dict(zip(PROVENANCE, values, strict=True)) for values in zip(*(runs[name] for name in PROVENANCE), strict=True)]


def provenance_row(selection: Selection, found: Measurement, run: dict[str, Any]) -> tuple[str, ...]:
    return (
        run["run"].rsplit("-", 1)[-1],
        selection.labels[found.method],
        found.cell.code,
        str(run["seed"]),
        number(run["score"]),
        f"{run['checkpoints']:.0f}",
        f"{run['episodes']:.0f}",
        run["fingerprint"][:10] or "—",
        run["commit"],
        run["device"] or "—",
        duration(run["wall_s"]),
    )


def duration(seconds: float | None) -> str:
    """`3 min 20 s`, `56 h 12 min`."""
    if seconds is None or seconds != seconds:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def failures(selection: Selection) -> list[str]:
    """A sentence for the failed seeds of a cell that ended with the same last line."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for entry in selection.measurements.values():
        for seed in entry.failed:
            key = selection.labels[entry.method], entry.cell.code, last_line(selection, entry, seed)
            seeds.setdefault(key, []).append(str(seed))
    return [f"{label} on {code}, seed {', '.join(which)}: {line}" for (label, code, line), which in seeds.items()]


def last_line(selection: Selection, entry: Measurement, seed: int) -> str:
    rows = selection.store.runs
    fits = (rows["method"] == entry.method) & (rows["target"] == entry.cell.target) & (rows["seed"] == seed)
    errors = rows.loc[fits & (rows["state"] == "failed") & (rows["preset"] == selection.preset), "error"]
    lines = [line for text in errors for line in str(text).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it left no message"
