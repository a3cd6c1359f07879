"""The index of many reports, as HTML and as Markdown: a card or a line for each, with how much of it was measured."""

from __future__ import annotations

from html import escape

from coworld_bench.pages import BESIDE, document, read
from coworld_bench.reporting.formats.html import HERE
from coworld_bench.reporting.formats.markdown import bullets
from coworld_bench.reporting.layout import Entry, Index


def index_html(index: Index) -> str:
    """A page of cards; thumbnails are files beside it, loaded when they come into sight."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in index.notes)
    groups = [cards(kind, entries) for kind, entries in index.groups().items()]
    body = "\n".join([*groups, f'<ul class="notes">{notes}</ul>'] if notes else groups)
    contents = [(kind, kind.capitalize()) for kind in index.groups()]
    return document(index.title, index.lead, body, contents, read(HERE / "index.css"), policy=BESIDE)


def cards(kind: str, entries: list[Entry]) -> str:
    listed = "\n".join(card(entry) for entry in entries)
    return f'<section id="{kind}">\n<h2>{kind.capitalize()}</h2>\n<ul class="cards">\n{listed}\n</ul>\n</section>'


def card(entry: Entry) -> str:
    """One link as large as the card, named by its title."""
    picture = f'<img src="{escape(entry.thumbnail)}" alt="" loading="lazy" decoding="async">' if entry.thumbnail else ""
    published = "".join(f"<li>{escape(fact)}</li>" for fact in entry.published)
    listed = f'<ul class="published">{published}</ul>' if published else ""
    return (
        f'<li class="card"><div class="thumbnail">{picture}</div>\n<div class="words">'
        f'<h3><a href="{escape(entry.link)}">{escape(entry.title)}</a></h3>\n'
        f'<p class="measured">{escape(entry.measured)}</p>{listed}</div></li>'
    )


def index_markdown(index: Index) -> str:
    """The same as lists that link to the reports."""
    blocks = [f"# {index.title}", index.lead]
    for kind, entries in index.groups().items():
        blocks += [f"## {kind.capitalize()}", "\n".join(map(item, entries))]
    return "\n\n".join(block for block in [*blocks, *bullets(index.notes)] if block) + "\n"


def item(entry: Entry) -> str:
    return f"- [{entry.title}]({entry.link}): {'; '.join([entry.measured, *entry.published])}"
