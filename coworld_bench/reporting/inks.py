"""The colours of what figures are drawn on. In a page they follow light and dark (`formats/svg.py`); data keep theirs."""

from __future__ import annotations

INK, PALE, GREY, FAINT, HATCH = "#1a1a1a", "#f1f1f1", "#8a8a8a", "#c9c9c9", "#d0d0d0"
PAPER = "#ffffff"
ON_LIGHT, ON_DARK = "#111111", "#ffffff"  # ink on the colours of data, which stays
OF_PAGE = {  # GREY suits both
    INK: "currentColor",
    "#000000": "currentColor",
    PALE: "var(--pale)",
    FAINT: "var(--faint)",
    HATCH: "var(--hatch)",
}
