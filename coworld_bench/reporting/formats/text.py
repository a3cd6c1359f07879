"""Tables as aligned text and as CSV."""

from __future__ import annotations

import csv
import io
from unicodedata import combining

from coworld_bench.reporting.layout import Table


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
