"""A report as Markdown that also reads well raw."""

from __future__ import annotations

from coworld_bench.reporting.formats.text import column_widths, pad
from coworld_bench.reporting.layout import Page, Picture, Table


def markdown(page: Page) -> str:
    """A page as Markdown that also reads well raw; figures are linked by file name."""
    blocks = [f"# {page.title}", page.lead]
    for part in page.parts:
        blocks.append(f"## {part.title}")
        if isinstance(part, Table):
            blocks.append(markdown_table(part))
            blocks += bullets(part.notes)
        elif isinstance(part, Picture):
            blocks.append(f"![{part.alt}]({part.name}.png)")
        else:
            blocks += part.paragraphs
    return "\n\n".join(block for block in blocks if block) + "\n"


def bullets(notes: tuple[str, ...]) -> list[str]:
    return ["\n".join(f"- {note}" for note in notes)] if notes else []


def markdown_table(table: Table) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    widths = column_widths(rows)
    lines = ["| " + " | ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
