"""A report as one HTML file. Without scripts all of it can be read; with them tables sort, figures zoom, cells open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from coworld_bench.pages import document, heading, read
from coworld_bench.reporting.formats.svg import inline
from coworld_bench.reporting.layout import Page, Part, Picture, Table

HERE = Path(__file__).parent
SCRIPTS = "dialog.js", "tables.js", "figures.js", "cells.js"  # one module, in this order
SENTENCE = 48  # letters; a column with more is set in lines
LONG = 20  # rows; a longer table scrolls below its headings
HINT = "A click on a number shows its seeds and its learning curve; a click on a heading sorts."


def html(page: Page) -> str:
    """The page; figures and what its cells open are inside it."""
    placed = list(places(page.parts))
    plan = page.title.split(" · ")[0]
    body = "\n".join([*(section(part, place) for place, part in placed), *data(page.details)])
    contents = [(place, short(part.title, plan)) for place, part in placed]
    script = "\n".join(read(HERE / "scripts" / name) for name in SCRIPTS)
    return document(page.title, page.lead, body, contents, read(HERE / "report.css"), script)


def places(parts: tuple[Part, ...]) -> Iterator[tuple[str, Part]]:
    """Every part with its id, by which links find it."""
    seen: set[str] = set()
    for part in parts:
        name = part.key if isinstance(part, Table) else part.name if isinstance(part, Picture) else part.title
        place = slug(name)
        while place in seen:
            place += "-more"
        seen.add(place)
        yield place, part


def slug(name: str) -> str:
    """`What this can and cannot tell` -> `what-this-can-and-cannot-tell`."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def short(title: str, plan: str) -> str:
    """How the table of contents calls a part: the first words of its title that are neither the plan's nor its preset."""
    first, *others = title.split(" · ")
    own = [words for words in others if not words.startswith("preset ")]
    return own[0][0].upper() + own[0][1:] if first == plan and own else first


def section(part: Part, place: str) -> str:
    if isinstance(part, Table):
        body = table(part, place)
    elif isinstance(part, Picture) and not part.svg:
        body = f"<p>{escape(part.alt)} ({escape(part.name)}.png)</p>"
    elif isinstance(part, Picture):
        body = f'<figure class="zoomable">{inline(part.svg, place, part.alt)}</figure>'
    else:
        body = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in part.paragraphs)
    return f'<section id="{place}">\n<h2 id="{place}-title">{heading(part.title)}</h2>\n{body}\n</section>'


def table(content: Table, place: str) -> str:
    wordy = wordy_columns(content)
    names = enumerate(content.columns)
    head = "".join(f'<th scope="col"{kind_of(place, wordy)}>{escape(name)}</th>' for place, name in names)
    rows = [row(cells, number, content.opens, wordy) for number, cells in enumerate(content.rows)]
    divider = content.divider or len(rows)
    bodies = [bodied(rows[:divider]), bodied(rows[divider:], ' class="below"') if rows[divider:] else ""]
    hint = f'<p class="hint">{HINT}</p>\n' if content.opens else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    listed = f'\n<ul class="notes">{notes}</ul>' if notes else ""
    kind = "scroll long" if len(rows) > LONG else "scroll"
    return (
        f'{hint}<div class="{kind}" tabindex="0" role="region" aria-labelledby="{place}-title"><table class="sortable">\n'
        f"<thead><tr>{head}</tr></thead>\n{''.join(bodies)}</table></div>{listed}"
    )


def wordy_columns(content: Table) -> set[int]:
    """The columns, after the first, that hold sentences rather than numbers: they are set in lines."""
    columns = enumerate(zip(*content.rows, strict=True))
    return {place for place, cells in columns if place and max(map(len, cells)) > SENTENCE}


def kind_of(place: int, wordy: set[int]) -> str:
    return ' class="words"' if place in wordy else ""


def bodied(rows: list[str], kind: str = "") -> str:
    return f"<tbody{kind}>\n" + "\n".join(rows) + "\n</tbody>\n"


def row(cells: tuple[str, ...], number: int, opens: Mapping[tuple[int, int], str], wordy: set[int]) -> str:
    first, *others = cells
    marks = [kind_of(place, wordy) + opening(opens.get((number, place), "")) for place in range(1, len(cells))]
    texts = "".join(f"<td{mark}>{escape(text)}</td>" for mark, text in zip(marks, others, strict=True))
    return f'<tr><th scope="row">{escape(first)}</th>{texts}</tr>'


def opening(key: str) -> str:
    return f' data-opens="{escape(key)}"' if key else ""


def data(details: Mapping[str, Any]) -> Iterator[str]:
    """What cells open, as JSON that cannot end its element."""
    if details:
        text = json.dumps(details, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        yield f'<script type="application/json" id="details">{text}</script>'
