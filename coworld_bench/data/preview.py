"""Pictures of a dataset: the contact sheet that every dataset has, and strips and an animation of chosen episodes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coworld_bench.data.chunks import ImageReader, read_array
from coworld_bench.data.layout import STORE

if TYPE_CHECKING:
    from PIL.Image import Image

EPISODES, FRAMES, LABEL = 6, 8, 96  # rows and columns of the sheet; pixels for the text beside a row
SCALE, GAP, CAPTION = 2, 4, 14  # of an animation: how much larger, pixels between episodes, pixels for their text


class Pictures:
    """The pictures of a dataset's episodes, by the files alone; with `numbers` of these episodes alone, which are then
    counted anew."""

    def __init__(self, folder: Path, numbers: np.ndarray | None = None) -> None:
        store = folder / STORE
        columns = [read_array(store / "episodes" / name) for name in ("start", "length", "ret")]
        self.numbers = np.arange(len(columns[0])) if numbers is None else numbers
        self.starts, self.lengths, self.returns = (column[self.numbers] for column in columns)
        self._reader = ImageReader(store / "frames/image")

    def spread(self, count: int) -> list[int]:
        """Episodes from the lowest return to the highest."""
        order = np.argsort(self.returns, kind="stable")
        return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]

    def of(self, episode: int) -> np.ndarray:
        """uint8 [N+1, H, W, 3]."""
        return self._reader.rows(int(self.starts[episode]), int(self.lengths[episode]))

    def strip(self, episode: int, frames: int = FRAMES) -> np.ndarray:
        """A few of its pictures side by side, evenly spread: uint8 [H, frames * W, 3]."""
        pictures = self.of(episode)
        return np.concatenate(list(pictures[np.linspace(0, len(pictures) - 1, frames).astype(int)]), axis=1)

    def label(self, episode: int) -> str:
        return f"episode {self.numbers[episode]}\nreturn {self.returns[episode]:.1f}"


def contact_sheet(folder: Path) -> Image | None:
    """A few pictures of a few episodes, from the lowest return to the highest; None when there are no pictures."""
    if not (folder / STORE / "frames/image").is_dir():
        return None
    pictures = Pictures(folder)
    return sheet(pictures, pictures.spread(EPISODES))


def sheet(pictures: Pictures, episodes: Sequence[int]) -> Image:
    """A strip per episode, its text to the left."""
    from PIL import Image, ImageDraw

    strips = [pictures.strip(episode) for episode in episodes]
    height, width = strips[0].shape[:2]
    drawn = Image.new("RGB", (LABEL + width, height * len(strips)), "white")
    pen = ImageDraw.Draw(drawn)
    for row, (episode, strip) in enumerate(zip(episodes, strips, strict=True)):
        drawn.paste(Image.fromarray(strip), (LABEL, row * height))
        pen.text((4, row * height + 4), pictures.label(episode), fill="black")
    return drawn


def animation(pictures: Pictures, episodes: Sequence[int], fps: int) -> bytes:
    """A GIF of episodes that play beside each other; one that is over stays at its last picture."""
    from PIL.Image import Dither

    played = [pictures.of(episode) for episode in episodes]
    frames = list(montages(played, [pictures.label(episode).replace("\n", ", ") for episode in episodes]))
    palette = frames[len(frames) // 2].quantize(256)
    indexed = [frame.quantize(palette=palette, dither=Dither.NONE) for frame in frames]
    content = io.BytesIO()
    indexed[0].save(content, "GIF", save_all=True, append_images=indexed[1:], duration=round(1000 / fps), loop=0)
    return content.getvalue()


def montages(played: Sequence[np.ndarray], labels: Sequence[str]) -> Iterable[Image]:
    """A picture for each row of the longest episode."""
    from PIL import Image, ImageDraw

    height, width = (SCALE * side for side in played[0].shape[1:3])
    columns = min(3, len(played))
    size = (columns * (width + GAP) - GAP, math.ceil(len(played) / columns) * (height + CAPTION + GAP) - GAP)
    for row in range(max(map(len, played))):
        whole = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(whole)
        for place, (pictures, label) in enumerate(zip(played, labels, strict=True)):
            x, y = place % columns * (width + GAP), place // columns * (height + CAPTION + GAP)
            pen.text((x + 2, y + 1), label, fill="black")
            shown = Image.fromarray(pictures[min(row, len(pictures) - 1)])
            whole.paste(shown.resize((width, height), Image.Resampling.NEAREST), (x, y + CAPTION))
        yield whole


def png(picture: Any) -> bytes:
    """Of a Pillow image or of pixels uint8 [H, W, 3]."""
    from PIL import Image

    content = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(content, "PNG")
    return content.getvalue()
