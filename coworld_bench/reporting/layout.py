"""What a report is made of, as values: tables, words and figures on pages. `formats/` writes them."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    name: str = ""  # of its files


def number(value: float | None, like: float | None = None) -> str:
    """A return as a table shows it, with the decimals that suit `like` (itself by default); — for none."""
    if value is None or value != value:
        return "—"
    size = abs(value if like is None else like)
    text = f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return text.lstrip("-") if float(text) == 0 else text
