"""How far apart a method's encoder puts its dataset, what its policy meets and the source: the paper's Figure 11 as
numbers."""

from __future__ import annotations

from typing import Any

from coworld_bench.reporting.layout import Table
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import Summary, summarise
from coworld_bench.reporting.tables.measured import spread_text

PAIRS = (("data", "policy"), ("data", "source"), ("policy", "source"))
NOTES = (
    "Between pictures of two groups, in the encoder's embedding, mean ± std over seeds. Data: of the target's dataset. "
    "Policy: of an episode of the final policy in the target. Source: of what the source agent collected; — where a method "
    "has none.",
    "MMD²: the squared maximum mean discrepancy (Gaussian kernel as wide as the median distance, so that encoders can be "
    "compared); about 0 for one distribution, at most 2. Nearest: how often a picture's nearest neighbour is of its own "
    "group; 50 % where two groups cannot be told apart, 100 % where they lie apart.",
)


def distances_table(selection: Selection) -> Table | None:
    """MMD² and nearest-neighbour accuracy by method and cell; None where no run recorded any."""
    names = [f"{a} – {b}, {kind}" for a, b in PAIRS for kind in ("MMD²", "nearest")]
    found = [entry for entry in selection.measurements.values() if entry.runs["distances"].notna().any()]
    rows = tuple(distances_row(selection, entry) for entry in found)
    if not rows:
        return None
    title = f"Domain distance · {selection.circumstances}"
    return Table("distances", title, ("method", "cell", "seeds", *names), rows, NOTES)


def distances_row(selection: Selection, found: Measurement) -> tuple[str, ...]:
    told = [by_pair(distances) for distances in found.runs["distances"].dropna()]
    texts = []
    for pair in PAIRS:
        known = [each[pair] for each in told if pair in each]
        texts += [
            spread_text(summarise([each["mmd"] for each in known])) if known else "—",
            percent_text(summarise([each["nearest"] for each in known])) if known else "—",
        ]
    return (selection.labels[found.method], found.cell.code, str(len(told)), *texts)


def by_pair(distances: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """`mmd` and `nearest` by the two groups they are between."""
    return {(each["between"][0], each["between"][1]): each for each in distances}


def percent_text(summary: Summary) -> str:
    """`91 ± 2 %`."""
    spread = "" if summary.sd is None else f" ± {100 * summary.sd:.0f}"
    return f"{100 * summary.mean:.0f}{spread} %"
