"""Whether a page is well-formed HTML, by its parts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Elements(HTMLParser):
    """All elements of a page, and whether every one is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.wrong += [f"{tag} has {name} twice" for name in set(names) if names.count(name) > 1]
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if "svg" not in self.open:
            self.wrong.append(f"{tag} closes itself outside of a figure")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"{tag} closes what is not open")

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(name)) is not None]


def check(text: str) -> Elements:
    """Elements nest, ids are unique, links within the page and references of figures lead somewhere."""
    page = Elements(text)
    ids = page.all("id")
    assert not page.wrong and not page.open
    assert len(ids) == len(set(ids))
    inner = {link[1:] for link in page.all("href") if link.startswith("#")}
    inner |= {name for value in page.all("style") + page.all("clip-path") for name in re.findall(r"url\(#(.*?)\)", value)}
    inner |= {name for words in page.all("aria-labelledby") for name in words.split()}
    assert inner <= set(ids), inner - set(ids)
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    return page
