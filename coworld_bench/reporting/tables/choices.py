"""Which source a method with many took (the paper's Table 13)."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.published import read_published
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.tables.measured import share_text
from coworld_bench.tasks import find_task

Choice = dict[str, Any]  # share of updates and entropy, by source


def choices_table(selection: Selection) -> Table | None:
    """Which source was nearest, for methods that choose among many; None where none does."""
    columns = (
        "method",
        "target",
        "seeds",
        "nearest in most updates, by seed",
        "share · entropy, by source",
        "paper's choice",
    )
    chose = [found for found in selection.measurements.values() if found.runs["chosen"].notna().any()]
    notes = (
        "Share: of all target updates, mean over seeds. Entropy: of the softmax of the source's embedding of target "
        "pictures, in nats. The distance is a divergence of such softmaxes; a flat one is near to everything.",
        "The paper gave every target two or three candidates and does not say which; here they are the plan's.",
    )
    if not chose:
        return None
    rows = tuple(choices_row(selection, found) for found in chose)
    return Table("choices", f"Chosen sources · {selection.circumstances}", columns, rows, notes)


def choices_row(selection: Selection, found: Measurement) -> tuple[str, ...]:
    told = found.runs["chosen"].dropna().tolist()
    shares = {name: fmean(each["share"].get(name, 0.0) for each in told) for each in told for name in each["share"]}
    return (
        selection.labels[found.method],
        find_task(found.cell.target).code,
        str(len(told)),
        ", ".join(find_task(max(each["share"], key=each["share"].get)).code for each in told),
        ", ".join(
            f"{find_task(name).code} {share_text(shares[name])} · {entropy_text(told, name)}"
            for name in sorted(shares, key=lambda name: (-shares[name], name))
        ),
        published_choice(found.cell.target),
    )


def entropy_text(told: list[Choice], name: str) -> str:
    known = [each["entropy"][name] for each in told if each["entropy"].get(name) is not None]
    return f"{fmean(known):.2f}" if known else "—"


def published_choice(target: str) -> str:
    """The code of the source that the paper's multi-source CoWorld chose for a target."""
    rows = read_published("table13.csv")
    found = rows.loc[(rows["target"] == target) & (rows["metric"] == "selected_source"), "source"]
    return find_task(found.iloc[0]).code if len(found) else "—"
