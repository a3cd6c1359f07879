"""A report as one HTML file."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from coworld_bench.pages import document
from coworld_bench.reporting.layout import Page, Part, Picture, Table


def html(page: Page) -> str:
    """The page; figures are inside it."""
    return document(page.title, page.lead, "\n".join(section(part) for part in page.parts))


def section(part: Part) -> str:
    if isinstance(part, Table):
        body = table(part)
    elif isinstance(part, Picture):
        image = b64encode(part.svg).decode()
        body = f'<figure><img alt="{escape(part.alt)}" src="data:image/svg+xml;base64,{image}"></figure>'
    else:
        body = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in part.paragraphs)
    return f"<section>\n<h2>{escape(part.title)}</h2>\n{body}\n</section>"


def table(content: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in content.columns)
    rows = "\n".join(row(cells, place, content.divider) for place, cells in enumerate(content.rows))
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    listed = f'\n<ul class="notes">{notes}</ul>' if notes else ""
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>{listed}"
    )


def row(cells: tuple[str, ...], place: int, divider: int) -> str:
    kinds = ["divider"] * bool(divider and place == divider) + ["below"] * bool(divider and place >= divider)
    mark = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
