"""Judged claims as a table, a page, plain text and a document for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from coworld_bench.errors import unknown
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.claims.judged import Judged, judge_claims
from coworld_bench.reporting.claims.statements import Claim, read_claims
from coworld_bench.reporting.claims.verdicts import Verdict
from coworld_bench.reporting.formats.html import html
from coworld_bench.reporting.formats.markdown import markdown
from coworld_bench.reporting.layout import Page, Part, Table, Words
from coworld_bench.reporting.store import Store
from coworld_bench.reporting.tables.measured import References

WIDTH = 118  # characters of a line of plain text
FORMATS = "text", "md", "html"
NOTES = (
    "Measured: Welch's 95 % intervals of differences over seeds decide. A comparison holds or is contradicted where its "
    "interval lies on one side of 0; it is undecided where it does not, or where the evidence names what is lacking. Every "
    "comparison is made at 5 %, uncorrected: of many, one is contradicted by chance more often. Δ: difference of two means "
    "and its interval.",
    "Published: the paper's means decide. (means only): their difference is within what ± allows, read as the std over 3 "
    "seeds (the paper does not say what it is over), or no ± is printed.",
)


def claims_page(
    store: Store, preset: str, claims: Sequence[Claim] | None = None, references: References = reference_return
) -> Page:
    """The page of all claims: by default the paper's, on what a store holds under a preset."""
    chosen = read_claims(methods=set(store.runs["method"])) if claims is None else claims
    return as_page(judge_claims(store, preset, chosen, references), preset)


def claims_table(judged: Sequence[Judged], preset: str) -> Table:
    """One row per claim."""
    columns = ("claim", f"measured, preset {preset}", "published", "statement", "where")
    rows = tuple(
        (found.claim.id, found.measured.text, found.published.text, found.claim.statement, found.claim.where)
        for found in judged
    )
    return Table("claims", f"Claims · preset {preset}", columns, rows, NOTES)


def as_page(judged: Sequence[Judged], preset: str) -> Page:
    """The table, then the evidence of each claim."""
    lead = " ".join([scale(preset), *tallies(judged, preset)])
    parts: list[Part] = [claims_table(judged, preset)]
    parts += [Words(found.claim.id, tuple(evidence(found, preset))) for found in judged]
    return Page(f"Claims · preset {preset}", lead, tuple(parts), f"claims-{preset}")


def scale(preset: str) -> str:
    """What the verdicts are about."""
    if preset == "paper":
        return "What the paper states, tested on measured results and on the numbers that it prints."
    return (
        f"What the paper states, tested on results measured under preset {preset} and on the numbers that it prints. A "
        f"measured verdict is about this scale alone: it neither confirms nor refutes the paper."
    )


def tallies(judged: Sequence[Judged], preset: str) -> list[str]:
    sides = (
        (f"Measured, preset {preset}", [found.measured for found in judged]),
        ("Published", [f.published for f in judged]),
    )
    return [
        f"{side}: {', '.join(f'{sum(each.verdict == verdict for each in found)} {verdict}' for verdict in Verdict)}."
        for side, found in sides
    ]


def evidence(found: Judged, preset: str) -> list[str]:
    """The statement, and what speaks for and against it."""
    claim = found.claim
    lines = [f"{claim.statement} ({claim.where}; plan {claim.plan.name})."]
    for side, finding in ((f"Measured, preset {preset}", found.measured), ("Published", found.published)):
        first, *rest = finding.lines
        lines += [f"{side}: {finding.text}; {first}", *rest]
    return [*lines, *[f"Note: {claim.note}"] * bool(claim.note)]


def rendered(judged: Sequence[Judged], preset: str, format: str = "text", brief: bool = False) -> str:
    """The claims as text, Markdown or HTML. Raises UsageError for another format."""
    if format not in FORMATS:
        raise unknown("format of claims", format, FORMATS)
    if format == "text":
        return plain_claims(judged, preset, brief)
    page = as_page(judged, preset)
    return markdown(page) if format == "md" else html(page)


def plain_claims(judged: Sequence[Judged], preset: str, brief: bool = False) -> str:
    """One line per claim with its verdicts and statement, the evidence below it, and the tallies at the end."""
    header = ("claim", f"measured ({preset})", "published", "statement")
    rows = [(f.claim.id, f.measured.text, f.published.text, f.claim.statement) for f in judged]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(3)]
    lines = [aligned(header, widths), "  ".join("─" * width for width in [*widths, len(header[3])])]
    for row, found in zip(rows, judged, strict=True):
        lines.append(aligned(row, widths))
        if not brief:
            lines += [*plain_evidence(found), ""]
    return "\n".join([*lines, *[""] * brief, scale(preset), *NOTES, *tallies(judged, preset)]) + "\n"


def aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, *row[len(widths) :]])


def plain_evidence(found: Judged) -> list[str]:
    lines = wrapped(f"where: {found.claim.where}; plan {found.claim.plan.name}")
    for side, finding in (("measured", found.measured), ("published", found.published)):
        first, *rest = finding.lines
        lines += wrapped(f"{side}: {first}")
        lines += [part for line in rest for part in wrapped(line, depth=6)]
    return lines + (wrapped(f"note: {found.claim.note}") if found.claim.note else [])


def wrapped(line: str, depth: int = 4) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, initial_indent=" " * depth, subsequent_indent=" " * (depth + 2), break_on_hyphens=False
    )


def document(judged: Sequence[Judged], preset: str) -> dict[str, Any]:
    """The same for programs."""
    return {"schema": 1, "preset": preset, "claims": [entry(found) for found in judged]}


def entry(found: Judged) -> dict[str, Any]:
    claim = found.claim
    return {
        "id": claim.id,
        "statement": claim.statement,
        "where": claim.where,
        "plan": claim.plan.name,
        "kind": claim.kind,
        "note": claim.note,
        "measured": {"verdict": str(found.measured.verdict), "evidence": list(found.measured.lines)},
        "published": {
            "verdict": str(found.published.verdict),
            "means_only": found.published.means_only,
            "evidence": list(found.published.lines),
        },
    }
