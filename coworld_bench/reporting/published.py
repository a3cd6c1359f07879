"""The paper's numbers, read from `reports/published/*.csv`: shown beside measured ones, never in their columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import pandas as pd

from coworld_bench.errors import UsageError
from coworld_bench.paths import shipped
from coworld_bench.plans import Cell, Plan
from coworld_bench.reporting.layout import Table, number
from coworld_bench.reporting.store import with_plain_text
from coworld_bench.tasks import find_task

FIGURES = "figures.csv"  # what is known of the paper's figures, all in one file
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


PLUS_MINUS = "The paper does not say whether its ± is over seeds, episodes or both (10 episodes, 3 seeds)."
METRICS = {  # how a table calls what the files hold
    "episode_return": "return",
    "ratio_derived": "ratio, derived",
    "count_pairs_ratio_gt_1": "pairs with a ratio above 1",
    "axis_range": "curves",
    "estimated_minus_true_value": "value, estimated − true",
    "training_iterations": "iterations",
    "training_time_min": "training, min",
    "inference_time_per_episode_s": "episode, s",
    "hours_to_90_percent_of_highest_return": "hours to 90 % of the highest return",
    "selected_source": "chosen source",
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


@cache
def read_published(name: str) -> pd.DataFrame:
    """A file of `reports/published` as it is; not to be changed."""
    rows = pd.read_csv(shipped("reports") / "published" / name, dtype={"source": str, "note": str}, keep_default_na=True)
    return with_plain_text(rows)


def published_rows(plan: Plan) -> pd.DataFrame | None:
    """What the paper prints in a plan's table or figure; None for a plan the paper does not have."""
    if plan.published is None:
        return None
    rows = read_published(plan.published)
    return rows[rows["table"].str.startswith(figure_key(plan.name))] if plan.published == FIGURES else rows


def figure_key(name: str) -> str:
    """How the tables of a plan's figure begin in FIGURES: `figure05b`; those of all figures for another name."""
    found = re.fullmatch(r"figure(\d+)([a-z]?)", name)
    return f"figure{int(found[1]):02d}{found[2]}" if found else "figure"


def figure_facts(plan: Plan, metric: str) -> list[str]:
    """What is known of a metric in a plan's figure, as sentences; none for a plan of no figure."""
    rows = published_rows(plan)
    if rows is None or plan.published != FIGURES:
        return []
    rows = rows[rows["metric"] == metric]
    return [f"{method}: {note}." for method, note in zip(rows["method"], rows["note"], strict=True)]


def returns_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The returns that were printed as numbers."""
    return rows[(rows["metric"] == "episode_return") & rows["mean"].notna()]


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
    """Mean and std that the paper prints for a method on a cell."""
    found = printed_for(rows, method, cell, metric)
    return (float(found["mean"].iloc[0]), float(found["std"].iloc[0])) if len(found) else None


def printed_for(rows: pd.DataFrame, method: str, cell: Cell, metric: str = "episode_return") -> pd.DataFrame:
    """What the paper prints for a method on a cell, with its notes; a source that is no task (several, videos of people)
    fits every cell. Columns of the same tasks are told apart by their label, which the rows' notes say first."""
    fits = (rows["method"] == method) & (rows["target"] == cell.target) & (rows["metric"] == metric) & rows["mean"].notna()
    found = rows[fits]
    if len(found):
        found = found[(found["source"] == cell.source) | ~found["source"].str.contains("/", na=True)]
    if len(found) > 1 and cell.label:
        settings = found["note"].fillna("").str.split(" in ").str[0]
        found = found[settings.str.endswith(" " + cell.label.replace(" ", ""))]
    return found


def published_table(plan: Plan) -> Table | None:
    """The paper's table in the plan's columns, averages as printed and recomputed; for figures, and for tables of other
    things than returns, what is known line by line. None where there is nothing."""
    rows = published_rows(plan)
    if rows is None or rows.empty:
        return None
    if plan.published == FIGURES or returns_of(rows).empty:
        return facts_table(plan, rows)
    means = {average.method: average for average in averages(rows)}
    body, wrong = [], []
    for method in dict.fromkeys(rows.loc[rows["metric"] == "episode_return", "method"]):
        cells = [format_published(published_cell(rows, method, cell)) for cell in plan.cells]
        average = means.get(method)
        if average and average.disagrees:
            wrong.append(f"{method} {number(average.printed)} against {number(average.recomputed)}")
        printed = number(average.printed) + " ≠" * average.disagrees if average else "—"
        body.append((method, *cells, printed, number(average.recomputed) if average else "—"))
    notes = [PLUS_MINUS]
    if wrong:
        notes.append(f"≠ marks printed averages that are not the mean of their cells: {'; '.join(wrong)}.")
    columns = ("method", *(cell.code for cell in plan.cells), "average printed", "recomputed")
    return Table("published", f"{plan.title} · {SOURCE}", columns, tuple(body), tuple(notes))


def facts_table(plan: Plan, rows: pd.DataFrame) -> Table:
    """Numbers and words of the paper line by line."""
    columns = ("what", "method", "source → target", "number", "note")
    body = [
        (
            METRICS.get(row["metric"], row["metric"].replace("_", " ")),
            row["method"],
            pair_of(row),
            fact_of(row),
            row["note"],
        )
        for row in rows.fillna({"metric": "curves", "source": "", "target": "", "note": ""}).to_dict("records")
    ]
    notes = ["— : not printed as a number."] if any(row[3] == "—" for row in body) else []
    notes += [PLUS_MINUS] if any("±" in row[3] for row in body) else []
    return Table("published", f"{plan.title} · {SOURCE}", columns, tuple(body), tuple(notes))


def metric_words(metric: str) -> str:
    return METRICS.get(metric, metric.replace("_", " "))


def pair_of(row: dict[str, str]) -> str:
    return " → ".join(code_of(row[end]) for end in ("source", "target") if row[end])


def code_of(task: str) -> str:
    """The code of a task; other words as they are."""
    try:
        return task if task.endswith("*") else find_task(task).code
    except UsageError:
        return task


def fact_of(row: dict[str, float]) -> str:
    return "—" if row["mean"] != row["mean"] else format_published((row["mean"], row["std"]))


def format_published(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "—"
    mean, std = pair
    return f"{mean:g}" if std != std else f"{mean:g} ± {std:g}"


def not_measured(plan: Plan, labels: set[str]) -> list[str]:
    """Published methods without a row of ours."""
    rows = published_rows(plan)
    names = [] if rows is None else dict.fromkeys(returns_of(rows)["method"])
    return [name for name in names if name.replace(" (Best-Source)", "") not in labels]
