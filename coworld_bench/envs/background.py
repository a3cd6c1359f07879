"""Moving pictures behind the scene: a seeded procedural texture, or the frames of a folder (paper, table 10).

The picture is fixed to the screen, and fills only what shows neither robot nor object nor floor."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from coworld_bench.errors import UsageError
from coworld_bench.seeding import generator

GENERATED = "generated"
SUFFIXES = (".png", ".jpg", ".jpeg", ".npy")
WAVES = 6  # sines of which each colour channel of a generated texture is the sum


class Background:
    """The moving background of one environment; `source` is `generated` or a folder of .png, .jpg or .npy frames."""

    def __init__(self, source: str, size: int) -> None:
        self.size = size
        self._frames = None if source == GENERATED else load_frames(source, size)
        self.reset(0)

    def reset(self, seed: int) -> None:
        rng = generator(seed, "background")
        self._shown = 0
        if self._frames is None:
            self._texture = Texture(rng, self.size)
        else:
            self._start = int(rng.integers(2 * len(self._frames)))

    def behind(self, image: np.ndarray, sky: np.ndarray) -> np.ndarray:
        """The image with the next background frame where `sky` is true; uint8 [S, S, 3]."""
        frame = self._next()
        return np.where(sky[..., None], frame, image)

    def _next(self) -> np.ndarray:
        shown, self._shown = self._shown, self._shown + 1
        if self._frames is None:
            return self._texture.at(shown)
        return self._frames[ping_pong(self._start + shown, len(self._frames))]


def ping_pong(index: int, count: int) -> int:
    """Frame `index` of a film of `count` frames that runs forwards, then backwards, without end."""
    if count == 1:
        return 0
    place = index % (2 * count - 2)
    return place if place < count else 2 * count - 2 - place


class Texture:
    """Coloured waves that drift: three channels, each a sum of sines with random directions and speeds."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        rows, columns = np.mgrid[0:size, 0:size] / size
        angle = rng.uniform(0, 2 * np.pi, (3, WAVES, 1, 1))
        cycles = rng.uniform(1.0, 5.0, (3, WAVES, 1, 1))
        offset = rng.uniform(0, 2 * np.pi, (3, WAVES, 1, 1))
        along = rows * np.sin(angle) + columns * np.cos(angle)
        self._phase = (2 * np.pi * cycles * along + offset).astype(np.float32)  # [3, W, S, S]
        self._speed = rng.uniform(-0.3, 0.3, (3, WAVES, 1, 1)).astype(np.float32)  # radians per frame

    def at(self, time: int) -> np.ndarray:
        """Frame `time`, uint8 [S, S, 3]."""
        waves = np.sin(self._phase + time * self._speed).mean(axis=1)  # [3, S, S]
        return np.clip(127.5 + 220 * waves, 0, 255).astype(np.uint8).transpose(1, 2, 0)


@lru_cache(maxsize=4)
def load_frames(folder: str, size: int) -> np.ndarray:
    """All frames of a folder in the order of their names, resized to [N, S, S, 3] uint8."""
    paths = sorted(path for path in Path(folder).expanduser().glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UsageError(f"background must be {GENERATED!r} or a folder of .png, .jpg or .npy frames; got {folder!r}")
    return np.concatenate([_read_frames(path, size) for path in paths])


def _read_frames(path: Path, size: int) -> np.ndarray:
    from PIL import Image

    if path.suffix.lower() != ".npy":
        frames = np.asarray(Image.open(path).convert("RGB"))[None]
    else:
        frames = np.load(path, allow_pickle=False)
        frames = frames[None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise UsageError(f"{path} must hold uint8 frames [height, width, 3]; got {frames.dtype} {frames.shape}")
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size))) for frame in frames])
