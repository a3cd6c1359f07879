"""What a report is made of, as values: tables, words and figures on pages. `formats/` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = "tables", "figures", "others"  # of the entries of an index


@dataclass(frozen=True)
class Table:
    """Text in rows and columns. A line is drawn before row `divider`; `key` names its files. `opens` has by (row, column)
    what of the page's `details` a cell opens, in formats that can."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    divider: int = 0
    opens: Mapping[tuple[int, int], str] = field(default_factory=dict, hash=False)

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
    """`details` is what cells of its tables open, as JSON (`opened.py` makes it)."""

    title: str
    lead: str
    parts: tuple[Part, ...]
    name: str = ""  # of its files
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Entry:
    """A report in an index: `kind` groups entries, `measured` says how much of it there is, `link` and `thumbnail` are
    relative to the index, `published` is what is to be known of the paper's numbers."""

    name: str
    title: str
    kind: str  # of KINDS
    measured: str
    link: str
    thumbnail: str = ""
    published: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.kind in KINDS, (self.name, self.kind, KINDS)


@dataclass(frozen=True)
class Index:
    """The reports that were made, in the order they are listed in."""

    title: str
    lead: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def groups(self) -> dict[str, list[Entry]]:
        """The entries by kind; no kind without any."""
        found = {kind: [entry for entry in self.entries if entry.kind == kind] for kind in KINDS}
        return {kind: entries for kind, entries in found.items() if entries}


def number(value: float | None, like: float | None = None) -> str:
    """A return as a table shows it, with the decimals that suit `like` (itself by default); — for none."""
    if value is None or value != value:
        return "—"
    size = abs(value if like is None else like)
    text = f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    return text.lstrip("-") if float(text) == 0 else text
