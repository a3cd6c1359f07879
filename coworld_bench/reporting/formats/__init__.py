"""What a report can be written as: a file each, from the values of `layout.py`."""

from __future__ import annotations

FORMATS = ("md", "csv", "html", "latex", "json")
USUAL = ("md", "csv", "html")
