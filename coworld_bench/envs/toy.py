"""A point that is to reach a target: no simulator, thousands of frames per second, learnable from pixels in minutes.

`point_mirrored` has the same rules, other colours, and a left-right mirrored control: a source to transfer from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coworld_bench.errors import UsageError
from coworld_bench.seeding import generator
from coworld_bench.tasks import EnvSpec, find_task

SPEED = 0.1  # per frame, on a field that reaches from -1 to 1
REACH = 0.15  # nearer than this is success
SCALE = 1.0  # the distance from which on the reward is 0
AGENT_RADIUS, TARGET_RADIUS = 0.13, 0.2
EDGE = 0.85  # centres stay within this


@dataclass(frozen=True)
class Looks:
    """Colours, and what the first action component does."""

    field: tuple[int, int, int]
    agent: tuple[int, int, int]
    target: tuple[int, int, int]
    sideways: float


LOOKS = {
    "point": Looks(field=(16, 16, 32), agent=(255, 255, 255), target=(230, 90, 40), sideways=1.0),
    "point_mirrored": Looks(field=(40, 24, 16), agent=(250, 240, 120), target=(60, 140, 240), sideways=-1.0),
}


class Toy:
    """One toy task; the state is the agent's place and the target's, float32 [4]."""

    action_size = 2
    has_success = True

    def __init__(self, spec: EnvSpec) -> None:
        if spec.background:
            raise UsageError(f"background exists for simulated scenes; {spec.task} has nothing behind its field")
        self.looks = LOOKS[find_task(spec.task).name]
        self.size = spec.image_size
        centres = ((np.arange(self.size) + 0.5) / self.size * 2 - 1).astype(np.float32)
        self._columns, self._rows = centres[None, :], -centres[:, None]  # y points up
        self.agent = self.target = np.zeros(2)

    def reset(self, seed: int) -> None:
        rng = generator(seed, "toy")
        self.agent, self.target = rng.uniform(-EDGE, EDGE, 2), rng.uniform(-EDGE, EDGE, 2)
        self._field = np.empty((self.size, self.size, 3), np.float32)
        self._field[:] = self.looks.field
        self._paint(self._field, self.target, TARGET_RADIUS, self.looks.target)

    def act(self, action: np.ndarray) -> tuple[float, bool]:
        move = SPEED * np.array([self.looks.sideways * action[0], action[1]])
        self.agent = np.clip(self.agent + move, -EDGE, EDGE)
        distance = float(np.linalg.norm(self.agent - self.target))
        return max(0.0, 1 - distance / SCALE), distance < REACH

    def state(self) -> np.ndarray:
        return np.concatenate([self.agent, self.target]).astype(np.float32)

    def image(self) -> np.ndarray:
        picture = self._field.copy()
        self._paint(picture, self.agent, AGENT_RADIUS, self.looks.agent)
        return picture.astype(np.uint8)

    def sky(self) -> np.ndarray:
        raise UsageError("a toy task has no background")

    def close(self) -> None:
        """Nothing is held."""

    def _paint(self, picture: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
        """Draw a disc with a soft edge one pixel wide."""
        pixel = 2 / self.size
        left, upper = (centre * (1, -1) + 1 - radius) / pixel
        reach = int(2 * radius / pixel) + 3
        rows, columns = (slice(max(0, int(start) - 1), max(0, int(start) - 1) + reach) for start in (upper, left))
        x, y = centre.astype(np.float32)
        distance = np.sqrt((self._columns[:, columns] - x) ** 2 + (self._rows[rows] - y) ** 2)
        cover = np.minimum(np.maximum((np.float32(radius) - distance) / np.float32(pixel) + 0.5, 0), 1)[..., None]
        picture[rows, columns] += cover * (np.array(colour, np.float32) - picture[rows, columns])
