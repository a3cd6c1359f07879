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

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from coworld_bench.files import atomic
from coworld_bench.reporting.inks import FAINT, GREY, HATCH, INK, ON_DARK, ON_LIGHT, PALE, PAPER

__all__ = [
    "COLUMN", "FAINT", "GREY", "HATCH", "INK", "KINDS", "LINES", "ON_DARK", "ON_LIGHT", "PALE", "PAPER", "SMALL", "TEXT",
    "our_style", "save",
]  # fmt: skip
COLUMN, TEXT = 3.4, 7.0  # inches: the width of a printed column, and of a page's text
SMALL = 6.5  # points, of everything but titles; nothing is below 6
KINDS = "png", "svg"
UNDATED: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}}
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, told apart by all eyes
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 7.5,
    "axes.titlepad": 3.5,
    "axes.titley": 1.0,  # given, so that matplotlib does not look for it
    "axes.labelsize": 7.0,
    "axes.labelpad": 2.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "coworld-bench",
    "svg.fonttype": "path",
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
}


@contextmanager
def our_style() -> Iterator[None]:
    """Inside, matplotlib's defaults and STYLE hold; afterwards the caller's settings again."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def balanced(text: str, width: int) -> list[str]:
    """Lines of at most `width` letters, as few as there can be and about equally long; only a word that is longer than
    `width` is broken."""
    lines = wrap(text, width, break_on_hyphens=False)
    narrower = range(len(text) // len(lines), width)
    found = (wrap(text, narrow, break_long_words=False, break_on_hyphens=False) for narrow in narrower)
    return next((each for each in found if len(each) <= len(lines) and max(map(len, each)) <= width), lines)


def entitle(figure: Figure, title: str) -> None:
    """Put the title over the figure, in lines that fit its width."""
    figure.suptitle("\n".join(balanced(title, int(15 * figure.get_figwidth()))), fontsize=8)


def save(figure: Figure, folder: Path, name: str, kinds: tuple[str, ...] = KINDS) -> tuple[list[Path], bytes]:
    """Write `name`.png and `name`.svg, or one of them, without dates; returns the files and the SVG if it was made."""
    lay_out(figure)
    contents = {kind: encode(figure, kind) for kind in kinds}
    paths = []
    for kind, content in contents.items():
        paths.append(folder / f"{name}.{kind}")
        with atomic(paths[-1]) as file:
            file.write(content)
    return paths, contents.get("svg", b"")


def lay_out(figure: Figure) -> None:
    """Place everything once: the figure's layout engine, if it has one, would do it again for every file."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def encode(figure: Figure, kind: str) -> bytes:
    """The picture as a file. The canvases are called by themselves, since `savefig` draws every figure twice."""
    figure.set_facecolor(PAPER)
    figure.set_dpi(STYLE["savefig.dpi"])
    buffer = io.BytesIO()
    if kind == "png":
        FigureCanvasAgg(figure).print_png(buffer, metadata=UNDATED[kind])
        return buffer.getvalue()
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata=UNDATED[kind])
    return text.getvalue().encode()
