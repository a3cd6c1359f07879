"""An HTML page that is one file: no network, light and dark, for a phone, a keyboard, paper, and without scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
# What a page may load: what is inside it. A browser refuses all else.
CLOSED = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
BESIDE = f"{CLOSED} 'self' file:"  # and pictures that lie beside it

MANY = 20  # links


def document(
    title: str,
    lead: str,
    body: str,
    contents: Iterable[tuple[str, str]] = (),
    style: str = "",
    script: str = "",
    policy: str = CLOSED,
) -> str:
    """The page around `body`, which is HTML. `contents` are ids in it and what to call them; `style` and `script` are CSS
    and a JavaScript module that it needs besides what all pages have."""
    css, theme = read(HERE / "page.css") + style, read(HERE / "theme.js")
    module = f'\n<script type="module">\n{script}</script>' if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
<script>
{theme}</script>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header>
<h1>{heading(title)}</h1>
<p class="lead">{escape(lead)}</p>
{navigation(contents)}</header>
<main id="main" tabindex="-1">
{body}
</main>{module}
</body>
</html>
"""


def heading(title: str) -> str:
    """As HTML, with what comes after the first · in small letters."""
    first, dot, rest = title.partition(" · ")
    return escape(first) + (f" <small>· {escape(rest)}</small>" if dot else "")


def navigation(contents: Iterable[tuple[str, str]]) -> str:
    """Links to the sections, folded where there are many; nothing where there are none."""
    links = [f'<li><a href="#{escape(place)}">{escape(name)}</a></li>' for place, name in contents]
    listed = f"<ul>{''.join(links)}</ul>"
    if len(links) > MANY:
        listed = f"<details><summary>{len(links)} sections</summary>{listed}</details>"
    return f'<nav aria-label="On this page">{listed}</nav>\n' if links else ""


def read(path: Path) -> str:
    """A file that is put into pages."""
    return path.read_text(encoding="utf-8")
