"""The first page of `report --all`: every table and figure of the paper, and how much of each was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coworld_bench.files import write_text
from coworld_bench.plans import Plan
from coworld_bench.reporting.formats.index import index_html, index_markdown
from coworld_bench.reporting.layout import Entry, Index
from coworld_bench.reporting.published import averages, read_published
from coworld_bench.reporting.selection import Selection

LEAD = (
    "Each page shows what this store holds, measured by this project, and beside it, in columns and panels of their own, "
    "what the paper printed. A preset other than paper is neither the paper's network nor its budget."
)


def write_index(
    made: Sequence[tuple[Selection, str]], claims: Sequence[str], folder: Path, formats: Sequence[str]
) -> list[Path]:
    """`index.html` and `index.md`, those of them that are among `formats`; `made` are selections and the names of their
    pages, `claims` the presets under which the paper's claims were judged."""
    entries = [entry(selection, folder, name) for selection, name in made] + [claims_entry(preset) for preset in claims]
    index = Index("The paper's tables and figures", LEAD, tuple(entries))
    texts = {kind: text for kind, text in (("html", index_html), ("md", index_markdown)) if kind in formats}
    for kind, text in texts.items():
        write_text(folder / f"index.{kind}", text(index))
    return [folder / f"index.{kind}" for kind in texts]


def entry(selection: Selection, folder: Path, name: str) -> Entry:
    plan = selection.plan
    pictures = (folder / name / f"{name}-{figure}.png" for figure in plan.figures)
    picture = next((path for path in pictures if path.is_file()), None)
    return Entry(
        name=name,
        title=f"{plan.title} · preset {selection.preset}",
        kind=kind_of(plan),
        measured=how_much(selection),
        link=f"{name}/{name}.html",
        thumbnail="" if picture is None else picture.relative_to(folder).as_posix(),
        published=published_facts(plan),
    )


def claims_entry(preset: str) -> Entry:
    name = f"claims-{preset}"
    words = "every statement of the paper that can be tested, on these results and on its own numbers"
    return Entry(name, f"Claims · preset {preset}", "others", words, f"{name}/{name}.html")


def kind_of(plan: Plan) -> str:
    return next((kind for kind in ("table", "figure") if plan.name.startswith(kind)), "other") + "s"


def how_much(selection: Selection) -> str:
    """`54 of 60 cells, 160 runs; 2 failed`: cells of the plan's own rows that have all their seeds."""
    own = [found for (row, _), found in selection.measurements.items() if row in selection.plan.methods]
    complete, started = sum(found.complete for found in own), any(found.started for found in own)
    failed = sum(len(found.failed) for found in own)
    if not started:
        return "not measured yet"
    runs = len({run for found in own for run in found.runs["run"]})
    return f"{complete} of {len(own)} cells complete, {runs} runs" + f"; {failed} failed" * bool(failed)


def published_facts(plan: Plan) -> tuple[str, ...]:
    """What is to be known of the paper's own numbers: that there are none, or that its averages are not its cells'."""
    if plan.published is None:
        return ("not in the paper" if kind_of(plan) == "others" else "the paper has pictures alone",)
    wrong = [average.method for average in averages(read_published(plan.published)) if average.disagrees]
    return (f"published averages that are not the mean of their cells: {', '.join(wrong)}",) if wrong else ()
