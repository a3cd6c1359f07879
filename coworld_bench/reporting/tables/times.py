"""How long training and an episode took (the paper's Table 12)."""

from __future__ import annotations

from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.published import read_published
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.details import mean_of

Times = dict[str, tuple[str, str]]  # training minutes and seconds an episode, by label
COLUMNS = ("method", "cell", "seeds", "updates", "training, min", "CPU of the run, min", "episode, s", "device")
PRINTED = ("paper: training, min", "paper: episode, s")
NOTES = (
    "Means over seeds. Training: wall time without evaluations; source agents, which several runs share, are not in it. "
    "Episode: wall time of one evaluation episode, environment and drawing included.",
    "Runs that share a machine's processors take more wall time than they would alone.",
)
OF_PRINTED = "Paper: its Table 12, one RTX 3090 and the budgets it names; not the same work."


def times_table(selection: Selection) -> Table | None:
    """Times by method and cell, the paper's beside them in the plan of its table; None where nothing finished."""
    printed = published_times() if selection.plan.published == "table12.csv" else None
    finished = [found for found in selection.measurements.values() if len(found.runs)]
    if not finished:
        return None
    columns, notes = ((*COLUMNS, *PRINTED), (*NOTES, OF_PRINTED)) if printed else (COLUMNS, NOTES)
    rows = tuple(times_row(selection.labels[found.method], found, printed) for found in finished)
    return Table("times", f"Times · {selection.circumstances}", columns, rows, notes)


def times_row(label: str, found: Measurement, printed: Times | None) -> tuple[str, ...]:
    training, cpu, episode = (mean_of(found.runs[name]) for name in ("training_s", "cpu_s", "episode_s"))
    row = (
        label,
        found.cell.code,
        str(len(found.runs)),
        ", ".join(f"{updates:,.0f}" for updates in sorted(set(found.runs["updates"]))),
        "—" if training is None else f"{training / 60:.1f}",
        "—" if cpu is None else f"{cpu / 60:.1f}",
        "—" if episode is None else f"{episode:.2f}",
        ", ".join(sorted(set(found.runs["device"]))),
    )
    return (*row, *printed.get(label, ("—", "—"))) if printed else row


def published_times() -> Times:
    """What the paper prints."""
    rows = read_published("table12.csv")
    minutes, seconds = (
        rows[rows["metric"] == metric].set_index("method")["mean"]
        for metric in ("training_time_min", "inference_time_per_episode_s")
    )
    return {label: (f"{minutes[label]:g}", f"{seconds[label]:g}") for label in minutes.index}
