"""Rollouts: a row of pictures for each method, of an episode that its final policy played (the paper's Figures 8 and 9)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from coworld_bench.errors import UsageError
from coworld_bench.plans import Cell
from coworld_bench.reporting.figures import Drawn
from coworld_bench.reporting.figures.one_seed import OneSeed, lack, one_seed
from coworld_bench.reporting.figures.sheet import EDGE, TITLE, inches, width_of, wrapped
from coworld_bench.reporting.figures.style import GREY, INK, PAPER, SMALL, our_style, save
from coworld_bench.reporting.layout import Picture, Table, number
from coworld_bench.reporting.selection import Selection
from coworld_bench.reporting.store import read_checked

FRAME = 0.64  # inches; a picture of 64 pixels is drawn as 128 in a PNG, so that all of them are equally large
LEFT, RIGHT = 1.2, 0.68  # inches beside the pictures, for texts
GAP, HEAD, AXIS, EMPTY, END = 0.04, 0.22, 0.2, 0.13, 0.12  # between rows, over a cell, below its last pictures, of a row
# without any, below a cell
FRAMES = 8  # where no strip says how many
TINY = 6.0  # points
Line = tuple[str, float, str]  # a text, its size in points, and its colour


@dataclass(frozen=True)
class Rollout:
    """An episode: its pictures side by side, uint8 [H, N * W, 3], the env steps at which they were seen, how it went."""

    pictures: np.ndarray
    env_steps: tuple[int, ...]
    seed: int
    total: float
    success: bool | None


@dataclass(frozen=True)
class Row:
    """A method on a cell; `found` is None where there is nothing to be seen, and `lack` says why."""

    label: str
    found: OneSeed[Rollout] | None
    lack: str

    @property
    def height(self) -> float:
        return FRAME if self.found else EMPTY


@dataclass(frozen=True)
class Block:
    """The rows of a cell, below each other and over one axis."""

    cell: Cell
    rows: tuple[Row, ...]

    @property
    def height(self) -> float:
        return HEAD + sum(row.height + GAP for row in self.rows) + AXIS * any(row.found for row in self.rows) + END


def drawn(selection: Selection, folder: Path, name: str) -> Drawn:
    """The methods of every cell; those without a rollout say why."""
    blocks = [block_of(selection, cell) for cell in selection.plan.cells]
    title = f"Rollouts, one episode of the final policy · {selection.plan.quality} · {selection.circumstances}"
    with our_style():
        paths, svg = save(draw(blocks, title), folder, name)
    return Drawn(Picture(name, title, in_words(blocks), svg), tuple(paths), numbers(blocks))


def block_of(selection: Selection, cell: Cell) -> Block:
    """The plan's methods, and others that finished on the cell."""
    rows = []
    for method, label in selection.labels.items():
        found = selection.measurements[method, cell]
        if method in selection.plan.methods or len(found.runs):
            one = one_seed(found, lambda run: read_rollout(selection.store.folder / run["folder"]))
            rows.append(Row(label, one, "" if one else lack(found, "no rollout stored")))
    return Block(cell, tuple(rows))


def read_rollout(run: Path) -> Rollout | None:
    """What lies in a run's folder; None where it was not stored, or not copied. Raises UsageError for a damaged one."""
    if not (run / "rollout.json").is_file() or not (run / "rollout.png").is_file():
        return None
    told = read_checked(run / "rollout.json", "env_steps", "seed", "return", "success", "sha256")
    content = (run / "rollout.png").read_bytes()
    if sha256(content).hexdigest() != told["sha256"]:
        raise UsageError(
            f"{run / 'rollout.png'} is not the picture that rollout.json beside it describes; delete both, or make them "
            f"again where the run has its checkpoint: `coworld-bench evaluate {run.name} --rollout`"
        )
    return Rollout(pixels(content), tuple(told["env_steps"]), told["seed"], told["return"], told["success"])


def pixels(png: bytes) -> np.ndarray:
    """uint8 [H, W, 3]."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def draw(blocks: list[Block], title: str) -> Figure:
    """Cells below each other, each with its rows."""
    frames = max((len(row.found.shown.env_steps) for block in blocks for row in block.rows if row.found), default=FRAMES)
    width = LEFT + frames * FRAME + RIGHT
    lines = wrapped(title, width - 2 * EDGE, TITLE)
    top = EDGE + inches(len(lines), TITLE) + 0.06
    figure = Figure(figsize=(width, top + sum(block.height for block in blocks)))
    write(figure, width / 2, top / 2, [(line, TITLE, INK) for line in lines], ha="center")
    for block in blocks:
        draw_block(figure, block, top)
        top += block.height
    return figure


def draw_block(figure: Figure, block: Block, top: float) -> None:
    """A cell, `top` inches below the figure's upper edge."""
    write(figure, EDGE, top + HEAD / 2, [(f"{block.cell.code}   {block.cell.target}", 7.5, INK)], weight="bold")
    top += HEAD
    last = max((place for place, row in enumerate(block.rows) if row.found), default=None)
    for place, row in enumerate(block.rows):
        draw_row(figure, row, top, labelled=place == last)
        top += row.height + GAP + AXIS * (place == last)


def draw_row(figure: Figure, row: Row, top: float, labelled: bool) -> None:
    """Label and seed, pictures, return and success; below the pictures env steps where the row is `labelled`."""
    middle, room = top + row.height / 2, LEFT - EDGE - 0.05
    if row.found is None:
        write(figure, EDGE, middle, [(row.label, SMALL, INK)])
        write(figure, max(LEFT, EDGE + width_of(row.label, SMALL) + 0.15), middle, [(row.lack, TINY, GREY)])
        return
    shown = row.found.shown
    label: list[Line] = [(line, SMALL, INK) for line in wrapped(row.label, room, SMALL)]
    write(figure, EDGE, middle, label + [(line, TINY, GREY) for line in wrapped(row.found.words, room, TINY)])
    draw_strip(figure, shown, top, labelled)
    told: list[Line] = [(f"return {number(shown.total)}", SMALL, INK)]
    if shown.success is not None:
        told.append(("success" if shown.success else "no success", TINY, INK))
    write(figure, LEFT + len(shown.env_steps) * FRAME + 0.05, middle, told)


def draw_strip(figure: Figure, shown: Rollout, top: float, labelled: bool) -> None:
    """The pictures, each FRAME inches wide, and lines between them."""
    count = len(shown.env_steps)
    wide, high = figure.get_size_inches()
    panel = figure.add_axes((LEFT / wide, 1 - (top + FRAME) / high, count * FRAME / wide, FRAME / high))
    panel.imshow(shown.pictures, extent=(0, count, 0, 1), aspect="auto", interpolation="none")
    for place in range(1, count):
        panel.axvline(place, color=PAPER, linewidth=0.7)
    panel.spines[:].set_visible(False)
    panel.set_yticks([])
    panel.set_xticks([place + 0.5 for place in range(count)] if labelled else [])
    panel.tick_params(length=1.5, pad=1.5, labelsize=TINY, width=0.5)
    if labelled:
        panel.set_xticklabels([str(step) for step in shown.env_steps])
        write(figure, LEFT - 0.05, top + FRAME + 0.08, [("env step", TINY, INK)], ha="right")


def write(figure: Figure, x: float, middle: float, lines: list[Line], **look: Any) -> None:
    """Lines of text below each other, `x` inches from the left, their middle so many inches from the top."""
    wide, high = figure.get_size_inches()
    top = middle - sum(inches(1, size) for _, size, _ in lines) / 2
    for text, size, colour in lines:
        y = 1 - (top + inches(1, size) / 2) / high
        figure.text(x / wide, y, text, va="center", fontsize=size, color=colour, **look)
        top += inches(1, size)


def in_words(blocks: list[Block]) -> str:
    return f"Pictures of episodes. {' '.join(f'{block.cell.code}: {rows_in_words(block)}.' for block in blocks)}"


def rows_in_words(block: Block) -> str:
    return "; ".join(
        f"{row.label} ({row.found.words}) return {number(row.found.shown.total)}{success_words(row.found.shown.success)}"
        if row.found
        else f"{row.label}: {row.lack}"
        for row in block.rows
    )


def success_words(success: bool | None) -> str:
    return "" if success is None else f", {'success' if success else 'no success'}"


def numbers(blocks: list[Block]) -> Table:
    """An episode a row."""
    columns = ("method", "target", "source", "seed", "run", "episode_seed", "env_steps", "return", "success")
    rows = [
        (
            row.label,
            block.cell.target,
            block.cell.source or "",
            str(row.found.run["seed"]),
            row.found.run["run"],
            str(row.found.shown.seed),
            " ".join(map(str, row.found.shown.env_steps)),
            f"{row.found.shown.total:.10g}",
            "" if row.found.shown.success is None else str(row.found.shown.success).lower(),
        )
        for block in blocks
        for row in block.rows
        if row.found
    ]
    return Table("rollouts", "Rollouts", columns, tuple(rows))
