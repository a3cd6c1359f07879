"""Where encoders put pictures of the dataset, of what the policy meets and of the source: a t-SNE map for each method and
cell (the paper's Figure 11). Maps are of one run each: near and far inside one means something, its axes do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coworld_bench.plans import Cell
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.one_seed import OneSeed, lack, one_seed
from coworld_bench.reporting.figures.sheet import EDGE, Sheet, inches, say, wrapped
from coworld_bench.reporting.figures.style import COLUMN, FAINT, LINES, SMALL, TEXT, our_style, save
from coworld_bench.reporting.layout import Picture, Table, number
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.store import read_checked, with_domains
from coworld_bench.reporting.tables.latents import PAIRS, by_pair, distances_table

TINY = 6.0  # points
SIDE = 2.0  # inches, of a map
GROUPS: dict[str, dict[str, Any]] = {  # told apart by colour and by shape
    "data": {"marker": "o", "color": LINES[0], "markerfacecolor": "none", "markeredgewidth": 0.7},
    "policy": {"marker": "^", "color": LINES[1], "markeredgewidth": 0},
    "source": {"marker": "x", "color": LINES[2], "markeredgewidth": 0.8},
}
NAMES = {"data": "dataset of the target", "policy": "episode of the final policy", "source": "source"}
NOTE = (
    "Each map by itself: near and far mean something, its axes do not. Nearest: how often a picture's nearest neighbour is "
    "of its own group, 50 % where two groups cannot be told apart."
)
Domains = dict[str, Any]  # `map`, points by group, and `distances`: as `coworld_bench.domains` describes them


@dataclass(frozen=True)
class Panel:
    """A method on a cell, by one of its runs; `found` is None where none recorded anything, and `lack` says why."""

    label: str
    cell: Cell
    found: OneSeed[Domains] | None
    lack: str


def drawn(selection: Selection, folder: Path, name: str) -> Drawn:
    """The maps of the plan's methods on every cell, and of others that recorded one; those without say why."""
    panels = panels_of(selection)
    title = f"Latents of pictures, t-SNE · {selection.plan.quality} · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(panels, title), folder, name)
    table = distances_table(selection)
    tables = (table,) if table else ()
    return Drawn(Picture(name, title, in_words(panels), svg), tuple(paths), points(panels), tables)


def panels_of(selection: Selection) -> list[Panel]:
    """Cell by cell, the methods in the plan's order."""
    panels = []
    for cell in selection.plan.cells:
        for method, label in selection.labels.items():
            measured = selection.measurements[method, cell]
            found = one_seed(measured, lambda run: read_domains(selection.store.folder / run["folder"], run))
            if found or method in selection.plan.methods:
                panels.append(Panel(label, cell, found, "" if found else lack(measured, "no latents recorded")))
    return panels


def read_domains(folder: Path, run: Mapping[str, Any]) -> Domains | None:
    """What a run recorded; read here since a store of many runs would not hold their maps."""
    if not isinstance(run["distances"], list):
        return None
    domains: Domains = with_domains(folder, read_checked(folder / "result.json"))["domains"]
    return domains


def draw(panels: list[Panel], title: str, width: float | None = None) -> Figure:
    """A map a panel. `width` in inches, by default a column for one panel and the text for more."""
    shown = [group for group in GROUPS if any(panel.found and group in panel.found.shown["map"] for panel in panels)]
    width = width or (COLUMN if len(panels) == 1 else TEXT)
    sheet = Sheet(
        title, len(panels), width, SIDE, least=SIDE, left=0.0, gap=0.15, right=EDGE, label=0.06,
        foot=inches(3, TINY) + 0.06,
        legend={NAMES[group]: Line2D([], [], linewidth=0, markersize=4, **GROUPS[group]) for group in shown},
        note=NOTE if shown else "",
    )  # fmt: skip
    heads = [head_of(panel, sheet.panel_width) for panel in panels]
    figure, places = replace(sheet, head=inches(max(map(len, heads)), SMALL) + 0.08).open()
    for axes, panel, head in zip(places, panels, heads, strict=True):
        axes.set_title("\n".join(head), fontsize=SMALL, linespacing=1.15)
        draw_panel(axes, panel)
    return figure


def head_of(panel: Panel, width: float) -> list[str]:
    """Method, and below it cell and seed, in lines of so many inches."""
    which = f"{panel.cell.code} · {panel.found.words}" if panel.found else panel.cell.code
    return [*wrapped(panel.label, width, SMALL), *wrapped(which, width, SMALL)]


def draw_panel(axes: Axes, panel: Panel) -> None:
    """The points of each group, and below them the distances in words."""
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(FAINT)
    axes.set_xticks([])
    axes.set_yticks([])
    if panel.found is None:
        say(axes, panel.lack)
        return
    for group, look in GROUPS.items():
        if group in panel.found.shown["map"]:
            x, y = zip(*panel.found.shown["map"][group], strict=True)
            axes.plot(x, y, linewidth=0, markersize=3.4, **look)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("\n".join(distances_in_words(panel.found.shown)), fontsize=TINY, linespacing=1.15, labelpad=3)


def distances_in_words(domains: Domains) -> list[str]:
    """`data and policy: MMD² 0.14, nearest 91 %`, a line for each two groups."""
    told = by_pair(domains["distances"])
    return [
        f"{pair[0]} and {pair[1]}: MMD² {number(told[pair]['mmd'])}, nearest {100 * told[pair]['nearest']:.0f} %"
        for pair in PAIRS
        if pair in told
    ]


def in_words(panels: list[Panel]) -> str:
    told = [
        f"{panel.label} on {panel.cell.code} ({panel.found.words}): {'; '.join(distances_in_words(panel.found.shown))}."
        for panel in panels
        if panel.found
    ]
    silent = [f"{panel.label} on {panel.cell.code}: {panel.lack}" for panel in panels if not panel.found]
    parts = ["Maps of where encoders put pictures.", *told] if told else []
    return " ".join([*parts, *([f"Without a map: {'; '.join(silent)}."] if silent else [])])


def points(panels: list[Panel]) -> Table:
    """A point a row."""
    columns = ("method", "target", "source", "seed", "run", "group", "x", "y")
    rows = [
        (panel.label, panel.cell.target, panel.cell.source or "", str(run["seed"]), run["run"], group, f"{x:g}", f"{y:g}")
        for panel in panels
        if panel.found
        for run in [panel.found.run]
        for group, found in panel.found.shown["map"].items()
        for x, y in found
    ]
    return Table("latents", "Latents", columns, tuple(rows))
