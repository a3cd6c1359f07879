"""A page as one HTML file: no network, light and dark, readable on a phone."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from coworld_bench.reporting.layout import Page, Part, Picture, Table

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5f66; --page: #ffffff; --card: #f6f7f9; --line: #d9dce1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --soft: #a2a6ad; --page: #16181c; --card: #1f2228; --line: #363a42; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead, .notes { color: var(--soft); }
.notes { font-size: .85rem; max-width: 46rem; margin: .6rem 0; padding-left: 1.1rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--card); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
th:first-child { background: var(--card); }
td:first-child { font-weight: 600; }
tr:last-child td { border-bottom: 0; }
tr.divider td { border-top: 2px solid var(--soft); }
tr.below td:first-child { font-weight: 400; }
figure { margin: 0; padding: .75rem; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
figure img { display: block; width: 100%; max-width: 46rem; height: auto; margin: 0 auto; }
@media (max-width: 40rem) {
  body { font-size: 15px; } th, td { padding: .35rem .5rem; } td:first-child { white-space: normal; }
}
@media print { body { max-width: none; } .scroll { overflow: visible; } }
""".strip()


def html(page: Page) -> str:
    """The page; figures are inside it."""
    parts = "\n".join(section(part) for part in page.parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(page.title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{escape(page.title)}</h1>
<p class="lead">{escape(page.lead)}</p>
{parts}
</body>
</html>
"""


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
