"""How long training and an episode took (the paper's Table 12), and what of the machine."""

from __future__ import annotations

from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.published import read_published
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.details import mean_of

Times = dict[str, tuple[str, str]]  # training minutes and seconds an episode, by label
COLUMNS = ("method", "cell", "seeds", "updates", "training, min", "CPU of the run, min", "episode, s")
COSTS = ("updates/s", "GPU of the run, min", "memory, MB", "GPU memory, MB")
PRINTED = ("paper: training, min", "paper: episode, s")
NOTES = (
    "Means over seeds. Training: wall time without evaluations; source agents, which several runs share, are not in it. "
    "Episode: wall time of one evaluation episode, environment and drawing included.",
    "Runs that share a machine's processors take more wall time than they would alone.",
)
OF_COSTS = (
    "Updates/s: of the time of training. Memory: the most that the run's process held, GPU memory that its tensors did; "
    "the largest of all seeds."
)
OF_PRINTED = "Paper: its Table 12, one RTX 3090 and the budgets it names; not the same work."


def times_table(selection: Selection) -> Table | None:
    """Times by method and cell, the paper's beside them in the plan of its table; None where nothing finished."""
    printed = published_times() if selection.plan.published == "table12.csv" else None
    finished = [found for found in selection.measurements.values() if len(found.runs)]
    if not finished:
        return None
    costs = any(mean_of(found.runs["peak_memory_bytes"]) is not None for found in finished)
    columns = (*COLUMNS, *(COSTS if costs else ()), "device", *(PRINTED if printed else ()))
    notes = (*NOTES, *([OF_COSTS] if costs else []), *([OF_PRINTED] if printed else []))
    rows = tuple(times_row(selection.labels[found.method], found, costs, printed) for found in finished)
    return Table("times", f"Times · {selection.circumstances}", columns, rows, notes)


def times_row(label: str, found: Measurement, costs: bool, printed: Times | None) -> tuple[str, ...]:
    training, cpu, episode = (mean_of(found.runs[name]) for name in ("training_s", "cpu_s", "episode_s"))
    row = (
        label,
        found.cell.code,
        str(len(found.runs)),
        ", ".join(f"{updates:,.0f}" for updates in sorted(set(found.runs["updates"]))),
        "—" if training is None else f"{training / 60:.1f}",
        "—" if cpu is None else f"{cpu / 60:.1f}",
        "—" if episode is None else f"{episode:.2f}",
        *(cost_cells(found) if costs else ()),
        ", ".join(sorted(set(found.runs["device"]))),
    )
    return (*row, *printed.get(label, ("—", "—"))) if printed else row


def cost_cells(found: Measurement) -> tuple[str, ...]:
    """Those of COSTS."""
    runs = found.runs
    speed, gpu = (mean_of(runs[name]) for name in ("updates_per_s", "gpu_s"))
    host, tensors = (runs[name].dropna().max() for name in ("peak_memory_bytes", "peak_gpu_bytes"))
    return (
        "—" if speed is None else f"{speed:.2f}",
        f"{gpu / 60:.1f}" if gpu else "—",
        *(f"{size / 1e6:,.0f}" if size > 0 else "—" for size in (host, tensors)),
    )


def published_times() -> Times:
    """What the paper prints."""
    rows = read_published("table12.csv")
    minutes, seconds = (
        rows[rows["metric"] == metric].set_index("method")["mean"]
        for metric in ("training_time_min", "inference_time_per_episode_s")
    )
    return {label: (f"{minutes[label]:g}", f"{seconds[label]:g}") for label in minutes.index}
