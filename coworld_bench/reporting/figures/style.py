"""What all figures share: the same look whatever the user's matplotlib settings, and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

from coworld_bench.files import atomic
from coworld_bench.reporting.inks import FAINT, GREY, HATCH, INK, ON_DARK, ON_LIGHT, PALE

__all__ = ["FAINT", "GREY", "HATCH", "INK", "KINDS", "LINES", "ON_DARK", "ON_LIGHT", "PALE", "entitle", "our_style", "save"]
KINDS = "png", "svg"
UNDATED: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}}
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, told apart by all eyes
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "coworld-bench",
    "svg.fonttype": "path",
    "figure.dpi": 200,
    "savefig.dpi": 200,
}


@contextmanager
def our_style() -> Iterator[None]:
    """Inside, matplotlib's defaults and STYLE hold; afterwards the caller's settings again."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def balanced(text: str, width: int) -> list[str]:
    """Lines of at most `width` letters, as few as there can be and about equally long."""
    lines = wrap(text, width)
    return next(
        found for narrow in range(len(text) // len(lines), width + 1) if len(found := wrap(text, narrow)) <= len(lines)
    )


def entitle(figure: Figure, title: str) -> None:
    """Put the title over the figure, in lines that fit its width."""
    figure.suptitle("\n".join(balanced(title, int(15 * figure.get_figwidth()))), fontsize=8)


def save(figure: Figure, folder: Path, name: str, kinds: tuple[str, ...] = KINDS) -> tuple[list[Path], bytes]:
    """Write `name`.png and `name`.svg, or one of them, without dates; returns the files and the SVG if it was made."""
    contents = {kind: encode(figure, kind) for kind in kinds}
    paths = []
    for kind, content in contents.items():
        paths.append(folder / f"{name}.{kind}")
        with atomic(paths[-1]) as file:
            file.write(content)
    return paths, contents.get("svg", b"")


def encode(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=UNDATED[kind], facecolor="white")
    return buffer.getvalue()
