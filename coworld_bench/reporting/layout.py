"""Tables, words and figures as values, and their Markdown, plain text and CSV. HTML is in `html.py`."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from unicodedata import combining


@dataclass(frozen=True)
class Table:
    """Text in rows and columns. A line is drawn before row `divider`; `key` names its files."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    divider: int = 0

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.key, self.columns, row)


@dataclass(frozen=True)
class Picture:
    """A figure that was written as `name`.png and `name`.svg; `alt` says in words what is in it."""

    name: str
    title: str
    alt: str
    svg: bytes = field(repr=False, default=b"")


@dataclass(frozen=True)
class Words:
    """A heading with paragraphs."""

    title: str
    paragraphs: tuple[str, ...]


Part = Table | Picture | Words


@dataclass(frozen=True)
class Page:
    title: str
    lead: str
    parts: tuple[Part, ...]


def number(value: float | None, like: float | None = None) -> str:
    """A return as a table shows it, with the decimals that suit `like` (itself by default); — for none."""
    if value is None or value != value:
        return "—"
    size = abs(value if like is None else like)
    text = f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return text.lstrip("-") if float(text) == 0 else text


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


def plain(table: Table) -> str:
    """A table as aligned text: the first column to the left, the others to the right."""
    widths = column_widths([table.columns, *table.rows])
    rule = "  ".join("─" * width for width in widths)
    lines = [table.title, "", plain_row(table.columns, widths), rule]
    for place, row in enumerate(table.rows):
        if place and place == table.divider:
            lines.append(rule)
        lines.append(plain_row(row, widths))
    lines += ["", *table.notes] if table.notes else []
    return "\n".join(lines) + "\n"


def plain_row(row: tuple[str, ...], widths: list[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  ".join(pad(cell, width, right=place > 0) for place, (cell, width) in enumerate(cells)).rstrip()


def csv_text(table: Table) -> str:
    """A table as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([table.columns, *table.rows])
    return buffer.getvalue()


def column_widths(rows: list[list[str]] | list[tuple[str, ...]]) -> list[int]:
    return [max(map(width_of, column)) for column in zip(*rows, strict=True)]


def width_of(text: str) -> int:
    return sum(not combining(character) for character in text)


def pad(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - width_of(text))
    return space + text if right else text + space
