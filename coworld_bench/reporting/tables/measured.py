"""The measured table, its seeds one by one, and the same numbers as tidy rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from coworld_bench.plans import Cell
from coworld_bench.recipes import Reference, reference_return
from coworld_bench.reporting.layout import Table, number
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import FEW, Summary, summarise

References = Callable[[str, str], Reference | None]
SHORTCUT = 0.5  # from this share of the reference on, a constant action makes a column unfit for claims
ANCHORS = {"random": "random policy", "untrained": "untrained policy", "constant": "best constant action"}
DATASET = "dataset, mean return"
FEW_MARK, SHORTCUT_MARK = "†", "‡"


@dataclass(frozen=True)
class Shortcut:
    """How far the best constant action comes on a target."""

    cell: Cell
    constant: float
    reference: float

    @property
    def share(self) -> float:
        return self.constant / self.reference

    @property
    def unfit(self) -> bool:
        return self.share >= SHORTCUT


def shortcut(selection: Selection, cell: Cell, references: References = reference_return) -> Shortcut | None:
    """None where the constant action was not measured or no reference return is known."""
    constant = anchor_summary(selection, cell, "constant")
    reference = references(cell.target, selection.preset)
    return Shortcut(cell, constant.mean, reference.value) if constant and reference else None


def anchor_summary(selection: Selection, cell: Cell, kind: str) -> Summary | None:
    """Over the episodes of an anchor of the cell's target."""
    found = selection.anchor(cell, kind)
    return summarise(found["returns"]) if found and found["returns"] else None


def dataset_summary(selection: Selection, cell: Cell) -> Summary | None:
    """Over the episodes of the dataset of the cell's target, as its first measured method saw it."""
    for method in selection.methods:
        runs = selection.measurements[method, cell].runs
        if len(runs) and runs["dataset_mean"].notna().iloc[0]:
            first = runs.iloc[0]
            return Summary(first["dataset_mean"], first["dataset_sd"], int(first["dataset_episodes"]), None, None)
    return None


def beside(selection: Selection, cell: Cell) -> dict[str, Summary | None]:
    """What every number of a column must be seen beside, by name."""
    anchors = {name: anchor_summary(selection, cell, kind) for kind, name in ANCHORS.items()}
    return anchors | {DATASET: dataset_summary(selection, cell)}


def measured_table(selection: Selection, references: References = reference_return) -> Table:
    """Methods × cells as mean ± std (seeds), and below a line what they must be seen beside."""
    cells = selection.plan.cells
    unfit = {cell for cell in cells if (found := shortcut(selection, cell, references)) and found.unfit}
    columns = ["method", *(cell.code + f" {SHORTCUT_MARK}" * (cell in unfit) for cell in cells)]
    body = [
        [label, *(cell_text(selection.measurements[method, cell]) for cell in cells)]
        for method, label in selection.labels.items()
    ]
    below = {cell: beside(selection, cell) for cell in cells}
    body += [[name, *(episodes_text(below[cell][name]) for cell in cells)] for name in (*ANCHORS.values(), DATASET)]
    if len(cells) > 1:
        columns.append("average")
        averages = [method_average(selection, method) for method in selection.methods]
        averages += [average([below[cell][name] for cell in cells]) for name in (*ANCHORS.values(), DATASET)]
        body = [[*row, text] for row, text in zip(body, averages, strict=True)]
    title = f"Measured · {selection.circumstances}"
    rows = tuple(map(tuple, body))
    return Table("measured", title, tuple(columns), rows, marks(selection, bool(unfit)), len(selection.methods))


def cell_text(found: Measurement) -> str:
    """`893 ± 351 (3)`; `(1/3)` where planned seeds are missing; `failed`, `0/3` or — where there is no number."""
    trouble = f"{len(found.failed)} failed" if found.failed else ""
    done, planned = len(found.runs), len(found.planned)
    if found.summary is None:
        if not found.started:
            return "—"
        if not found.unfinished and len(found.failed) >= planned:
            return "failed"
        return ", ".join(filter(None, [f"0/{planned}", trouble]))
    counted = ", ".join(filter(None, [f"{done}/{planned}" if done < planned else f"{done}", trouble]))
    mark = FEW_MARK if done < FEW else ""
    return f"{spread_text(found.summary)} ({counted}){mark}"


def spread_text(summary: Summary) -> str:
    mean = number(summary.mean)
    return mean if summary.sd is None else f"{mean} ± {number(summary.sd, summary.mean)}"


def episodes_text(summary: Summary | None) -> str:
    return "—" if summary is None else f"{spread_text(summary)} ({summary.n} ep)"


def method_average(selection: Selection, method: str) -> str:
    found = [selection.measurements[method, cell] for cell in selection.plan.cells]
    return average([measurement.summary if measurement.complete else None for measurement in found])


def average(summaries: list[Summary | None]) -> str:
    """The mean of all cells; how many there are where one is missing."""
    known = [summary.mean for summary in summaries if summary is not None]
    if len(known) < len(summaries):
        return f"{len(known)} of {len(summaries)} cells"
    return number(sum(known) / len(known))


def marks(selection: Selection, unfit: bool) -> tuple[str, ...]:
    """What the signs in the table mean; only those that occur."""
    found = [entry for entry in selection.measurements.values() if entry.started]
    notes = ["Methods: mean ± std over seeds of the run's score (number of seeds). Below the line: ± is over episodes."]
    rules = sorted(set(selection.finished["rule"].dropna()))
    if rules:
        notes.append(f"Score of a run: {'; '.join(rules)}, of {episodes_words(selection)}.")
    if any(0 < len(entry.runs) < FEW for entry in found):
        notes.append(f"{FEW_MARK} fewer than {FEW} seeds.")
    if unfit:
        notes.append(f"{SHORTCUT_MARK} a constant action reaches half of the reference or more: can carry no claim.")
    lacking = [entry for entry in selection.measurements.values() if not entry.complete]
    said = {
        "— not started": len(found) < len(selection.measurements),
        "k/n: k of the n planned seeds are finished": any(entry.started for entry in lacking),
        "an average needs all cells complete": bool(lacking) and len(selection.plan.cells) > 1,
    }
    if any(said.values()):
        notes.append("; ".join(words for words, occurs in said.items() if occurs) + ".")
    return tuple(notes)


def episodes_words(selection: Selection) -> str:
    """`1 episode`, `20 episodes`, `20 to 100 episodes`: of every run."""
    counts = [int(count) for count in selection.finished["episodes"].dropna()]
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{low} episode{'s' * (low != 1)}" if low == high else f"{low} to {high} episodes"


def seeds_table(selection: Selection) -> Table | None:
    """Every seed's score, with the Student-t interval of their mean; None where nothing finished."""
    columns = (
        "method", "cell", "score by seed", "mean", "std over seeds", "95 % interval", "episodes", "std over checkpoints",
        "success",
    )  # fmt: skip
    rows = [seeds_row(selection, found) for found in selection.measurements.values() if len(found.runs)]
    notes = (
        "Interval: Student t over seeds; with two or three seeds it is wide because little is known.",
        "Episodes: those that the mean is made of, over all seeds.",
        "Std over checkpoints: within a run, over the checkpoints its score is the mean of.",
    )
    return Table("seeds", f"Every seed · {selection.circumstances}", columns, tuple(rows), notes) if rows else None


def seeds_row(selection: Selection, found: Measurement) -> tuple[str, ...]:
    summary = found.summary
    assert summary is not None
    interval = "—"
    if summary.low is not None:
        interval = f"{number(summary.low, summary.mean)} to {number(summary.high, summary.mean)}"
    return (
        selection.labels[found.method],
        found.cell.code,
        ", ".join(f"{seed}: {number(score, summary.mean)}" for seed, score in found.scores.items()),
        number(summary.mean),
        number(summary.sd, summary.mean),
        interval,
        f"{found.episodes}",
        number(found.runs["sd_checkpoints"].mean(), summary.mean),
        share_text(found.runs["success"].mean()),
    )


def share_text(value: Any) -> str:
    return "—" if value != value or value is None else f"{100 * value:.3g} %"


def tidy(selection: Selection) -> Iterator[dict[str, Any]]:
    """The measured table as one record per method or anchor and cell, unrounded."""
    for (method, cell), found in selection.measurements.items():
        yield (
            identity(selection, selection.labels[method], cell, "seeds")
            | spread_columns(found.summary)
            | {
                "learnt_from": "+".join(found.sources),
                "episodes": found.episodes,
                "planned": len(found.planned),
                "failed": len(found.failed),
                "unfinished": len(found.unfinished),
            }
        )
    for cell in selection.plan.cells:
        for name, summary in beside(selection, cell).items():
            yield identity(selection, name, cell, "episodes") | spread_columns(summary)


def identity(selection: Selection, row: str, cell: Cell, over: str) -> dict[str, Any]:
    return {
        "plan": selection.plan.name,
        "preset": selection.preset,
        "row": row,
        "cell": cell.code,
        "target": cell.target,
        "source": cell.source or "",
        "over": over,
    }


def spread_columns(summary: Summary | None) -> dict[str, Any]:
    if summary is None:
        return {"n": 0}
    return {"mean": summary.mean, "std": summary.sd, "n": summary.n, "low95": summary.low, "high95": summary.high}
