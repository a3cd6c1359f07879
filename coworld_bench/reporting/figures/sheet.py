"""Figures of equal panels with a title above and a legend and a note below, placed in inches.

What is written where is known before anything is drawn, so no layout engine has to draw the figure to find out, and the
size of text does not depend on how much there is of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from coworld_bench.reporting.figures.style import GREY, SMALL, STYLE, balanced

TITLE = 8.0  # points
LINE = 1.35  # of the size of text: from line to line
PAD = 0.05  # inches between a frame and what is in it
EDGE = 0.06  # inches that stay free at the edges


@dataclass(frozen=True)
class Sheet:
    """`count` panels, `panel` inches high, on a figure `width` inches wide; as many beside each other as are at least
    `least` wide, and no more than `most`. `left`, `gap`, `right`, `head`, `foot` are the room left of the first column,
    between columns, right of the last, above a panel for its title, and below it for its tick labels; `label` that of the
    x axis."""

    title: str
    count: int
    width: float
    panel: float
    least: float = 1.05
    most: int = 3
    left: float = 0.52
    gap: float = 0.4
    right: float = 0.13
    head: float = 0.2
    foot: float = 0.19
    label: float = 0.15
    legend: Mapping[str, Artist] = field(default_factory=dict)
    note: str = ""
    box: str = ""  # what the paper says, in a frame of its own below all

    @property
    def across(self) -> int:
        fit = int((self.width - self.left - EDGE - self.right + self.gap) / (self.least + self.gap))
        return max(1, min(self.most, self.count, fit))

    @property
    def down(self) -> int:
        return ceil(self.count / self.across)

    @property
    def panel_width(self) -> float:
        return (self.width - self.left - EDGE - self.right - self.gap * (self.across - 1)) / self.across

    def in_last_row(self, place: int) -> bool:
        """Whether there is no panel below this one."""
        return place + self.across >= self.count

    def in_first_column(self, place: int) -> bool:
        return place % self.across == 0

    def open(self) -> tuple[Figure, list[Axes]]:
        """The figure, and its panels row by row."""
        inner = self.width - 2 * EDGE
        box = wrapped(self.box, inner - 4 * PAD, SMALL)
        framed = inches(len(box), SMALL) + 3 * PAD if box else 0.0
        title = wrapped(self.title, inner, TITLE)
        note = wrapped(self.note, inner, SMALL)
        columns = legend_columns(list(self.legend), inner)
        top = EDGE + inches(len(title), TITLE)
        row = self.head + self.panel + self.foot
        legend = inches(ceil(len(self.legend) / columns), SMALL) + 0.08 * bool(self.legend)
        bottom = EDGE + framed + inches(len(note), SMALL) + legend
        height = top + row * self.down + self.label + bottom
        figure = Figure(figsize=(self.width, height))
        figure.text(0.5, 1 - EDGE / height, "\n".join(title), ha="center", va="top", fontsize=TITLE, linespacing=1.2)
        panels = [
            figure.add_axes((
                (self.left + EDGE + (place % self.across) * (self.panel_width + self.gap)) / self.width,
                (height - top - row * (place // self.across) - self.head - self.panel) / height,
                self.panel_width / self.width,
                self.panel / height,
            ))
            for place in range(self.count)
        ]  # fmt: skip
        if self.legend:
            above = EDGE + framed + inches(len(note), SMALL) + 0.03
            figure.legend(
                list(self.legend.values()), list(self.legend), loc="lower center", bbox_to_anchor=(0.5, above / height),
                ncols=columns, fontsize=SMALL, handlelength=2.6, columnspacing=1.4, labelspacing=LINE - 1.12,
                borderpad=0, borderaxespad=0,
            )  # fmt: skip
        if note:
            text = "\n".join(note)
            bottom = (EDGE + framed) / height
            figure.text(0.5, bottom, text, ha="center", va="bottom", fontsize=SMALL, linespacing=1.15)
        if box:
            self.frame(figure, box, framed)
        return figure, panels

    def frame(self, figure: Figure, lines: list[str], high: float) -> None:
        """The lines in a frame at the bottom."""
        width, height = figure.get_size_inches()
        size = (width - 2 * EDGE) / width, (high - PAD) / height
        corner = EDGE / width, EDGE / height
        figure.add_artist(Rectangle(corner, *size, facecolor="none", edgecolor=GREY, linewidth=0.7))
        middle = corner[1] + size[1] / 2
        figure.text(0.5, middle, "\n".join(lines), ha="center", va="center", fontsize=SMALL, linespacing=1.15)


def say(panel: Axes, words: str, ticks: bool = False) -> None:
    """Words in the middle of a panel that has nothing else to show; with `ticks` its axis across stays."""
    panel.text(0.5, 0.5, words, ha="center", va="center", transform=panel.transAxes, fontsize=7, color=GREY)
    panel.set_yticks([])
    if not ticks:
        panel.set_xticks([])


def short_ticks(panel: Axes, across: int = 4, up: int = 5) -> None:
    """Few ticks, in thousands from ten thousand on."""
    for axis, count in ((panel.xaxis, across), (panel.yaxis, up)):
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(in_thousands)


def in_thousands(value: float, _: float | None = None) -> str:
    """`1500`, `80k`."""
    text = f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
    return text.replace("-", "−")


def legend_columns(labels: list[str], width: float) -> int:
    """How many columns of a legend fit, its rows about equally long."""
    if not labels:
        return 1
    widest = max(width_of(label, SMALL) for label in labels) + SMALL * (2.6 + 0.8 + 1.4) / 72
    fit = max(1, int((width + SMALL * 1.4 / 72) / widest))
    return ceil(len(labels) / ceil(len(labels) / fit))


def inches(lines: int, size: float) -> float:
    return lines * size * LINE / 72


@cache
def width_of(text: str, size: float) -> float:
    """Inches that a line of text takes."""
    font = FontProperties(family=STYLE["font.family"], size=size)
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width / 72


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text in lines of at most `width` inches, as few as there can be and about equally long."""
    if not text:
        return []
    letters = min(len(text), int(width * 72 / size / 0.4))  # no font of figures is narrower
    while letters > 1:
        lines = balanced(text, letters)
        if all(width_of(line, size) <= width for line in lines):
            return lines
        letters = max(map(len, lines)) - 1
    return [text]
