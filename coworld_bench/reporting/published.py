"""The paper's numbers, read from `reports/published/*.csv`: shown beside measured ones, never in their columns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from coworld_bench.paths import shipped
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.layout import Table, number

SOURCE = "published (paper preset, 3 seeds, RTX 3090)"
# How our methods are called in tables, and their rows in the paper's (the first that a table has).
LABELS = {
    "offline_dv2": "Offline DV2",
    "drq_bc": "DrQ+BC",
    "cql": "CQL",
    "curl": "CURL",
    "bc": "BC",
    "lompo": "LOMPO",
    "dv2_finetune": "DV2 Finetune",
    "dv2_finetune_ewc": "DV2 Finetune+EWC",
    "lompo_finetune": "LOMPO Finetune",
    "multitask_dv2": "Multi-Task DV2",
    "r3m": "R3M (our data)",
    "coworld": "CoWorld",
    "coworld_multi": "CoWorld (Multi-Source)",
    "coworld:without_state_alignment": "CoWorld w/o state alignment",
    "coworld:without_reward_alignment": "CoWorld w/o reward alignment",
    "coworld:without_value_constraint": "CoWorld w/o value constraint",
    "coworld:without_max": "CoWorld w/o max",
}


@dataclass(frozen=True)
class Average:
    """A published row average as printed, and the mean of the row's cells."""

    method: str
    printed: float
    recomputed: float
    cells: int

    @property
    def disagrees(self) -> bool:
        """Whether more than rounding or truncation lies between the two."""
        return abs(self.printed - self.recomputed) >= 1


def read_published(name: str) -> pd.DataFrame:
    """A file of `reports/published` as it is."""
    return pd.read_csv(shipped("reports") / "published" / name, dtype={"source": str, "note": str}, keep_default_na=True)


def averages(rows: pd.DataFrame) -> list[Average]:
    """Both averages of every method that has a printed one."""
    cells = rows[rows["metric"] == "episode_return"]
    printed = rows[rows["metric"] == "episode_return_avg_published"]
    found = []
    for method, mean in zip(printed["method"], printed["mean"], strict=True):
        own = cells.loc[cells["method"] == method, "mean"]
        found.append(Average(method, float(mean), float(own.mean()), len(own)))
    return found


def published_cell(
    rows: pd.DataFrame, method: str, cell: Cell, metric: str = "episode_return"
) -> tuple[float, float] | None:
    """Mean and std that the paper prints for a method on a cell; a source that is no task (several, videos of people) fits
    every cell. Columns of the same tasks are told apart by their label, which the rows' notes say first."""
    fits = (rows["source"] == cell.source) | ~rows["source"].str.contains("/", na=True)
    fits &= (rows["method"] == method) & (rows["target"] == cell.target)
    found = rows[fits & (rows["metric"] == metric)]
    if len(found) > 1 and cell.label:
        settings = found["note"].fillna("").str.split(" in ").str[0]
        found = found[settings.str.endswith(" " + cell.label.replace(" ", ""))]
    return (float(found["mean"].iloc[0]), float(found["std"].iloc[0])) if len(found) else None


def published_table(plan: Plan) -> Table | None:
    """The paper's table in the plan's columns, averages as printed and recomputed; None where there is none."""
    if plan.published is None:
        return None
    rows = read_published(plan.published)
    means = {average.method: average for average in averages(rows)}
    body, wrong = [], []
    for method in dict.fromkeys(rows.loc[rows["metric"] == "episode_return", "method"]):
        cells = [format_published(published_cell(rows, method, cell)) for cell in plan.cells]
        average = means.get(method)
        if average and average.disagrees:
            wrong.append(f"{method} {number(average.printed)} against {number(average.recomputed)}")
        printed = number(average.printed) + " ≠" * average.disagrees if average else "—"
        body.append((method, *cells, printed, number(average.recomputed) if average else "—"))
    notes = ["The paper does not say whether its ± is over seeds, episodes or both (10 episodes, 3 seeds)."]
    if wrong:
        notes.append(f"≠ marks printed averages that are not the mean of their cells: {'; '.join(wrong)}.")
    columns = ("method", *(cell.code for cell in plan.cells), "average printed", "recomputed")
    return Table("published", f"{plan.title} · {SOURCE}", columns, tuple(body), tuple(notes))


def format_published(pair: tuple[float, float] | None) -> str:
    return "—" if pair is None else f"{pair[0]:g} ± {pair[1]:g}"


def not_measured(plan: Plan, labels: set[str]) -> list[str]:
    """Published methods without a row of ours."""
    if plan.published is None:
        return []
    rows = read_published(plan.published)
    names = dict.fromkeys(rows.loc[rows["metric"] == "episode_return", "method"])
    return [name for name in names if name.replace(" (Best-Source)", "") not in labels]
