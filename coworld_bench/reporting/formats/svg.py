"""A figure of matplotlib as SVG in a page: its ink follows the page, its ids are its own, the data keep their colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from coworld_bench.reporting.inks import OF_PAGE, PAPER

BACKGROUNDS = re.compile(r"(figure|axes)_\d+")  # ids of groups that begin with the paper they are on
REFERENCES = re.compile(r"(?:url\(|href=\")#([^\")]+)")
SCREEN = 1.6  # CSS pixels for a point: 8-point text is as large as the page's small text


def inline(svg: bytes, name: str, alt: str) -> str:
    """The `svg` element for a page. `name` tells its ids from those of other figures, `alt` says what is in it."""
    root = ElementTree.fromstring(svg)
    used = set(REFERENCES.findall(svg.decode()))
    for background in backgrounds(root):
        background.set("style", "fill: none")
    for element in root.iter():
        element.tag = local(element.tag)
        element.attrib = dict(attributes(element, name, used))
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
    drop(root, "metadata", "style")
    width, height = (SCREEN * float(size) for size in root.attrib["viewBox"].split()[2:])
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}"}
    root.attrib = {"viewBox": root.attrib["viewBox"], **size, "role": "img", "aria-label": alt}
    return ElementTree.tostring(root, encoding="unicode")


def attributes(element: Element, name: str, used: set[str]) -> Iterator[tuple[str, str]]:
    """With the page's inks, and of the ids those that are used, under names of this figure."""
    for key, value in element.items():
        if key == "id" and value in used:
            yield key, f"{name}-{value}"
        elif local(key) == "href" and value.startswith("#"):
            yield "href", f"#{name}-{value[1:]}"
        elif key != "id":
            yield local(key), inked(value).replace("url(#", f"url(#{name}-")


def local(name: str) -> str:
    """A name without its namespace: in a page, SVG is known by its element."""
    return name.rpartition("}")[2]


def backgrounds(root: Element) -> Iterator[Element]:
    """The white rectangles below a figure and its panels."""
    for group in root.iter():
        first = next(iter(group), None)
        if BACKGROUNDS.fullmatch(group.get("id", "")) and first is not None and first.get("id", "").startswith("patch"):
            yield from (path for path in first if path.get("style") == f"fill: {PAPER}")


def inked(value: str) -> str:
    """An attribute with the page's inks. Lines of paper between marks, and marks filled with it, are the page's; what is
    written in white stays, since it is on a colour."""
    for ink, own in OF_PAGE.items():
        value = value.replace(ink, own)
    if f"fill: {PAPER}; stroke: #" in value:
        value = value.replace(f"fill: {PAPER}", "fill: var(--page)")
    return value.replace(f"stroke: {PAPER}", "stroke: var(--page)")


def drop(element: Element, *tags: str) -> None:
    """Take out all elements of these tags: what matplotlib says of itself, and its rule for every element of the page."""
    for child in list(element):
        if child.tag in tags:
            element.remove(child)
        else:
            drop(child, *tags)
