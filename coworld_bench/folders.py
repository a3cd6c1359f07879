"""Emptying a folder of the project's own."""

from __future__ import annotations

import shutil
from pathlib import Path


def clear_folder(folder: Path) -> None:
    """Remove `folder` with everything in it; nothing happens where there is none."""
    if folder.is_dir():
        shutil.rmtree(folder)
