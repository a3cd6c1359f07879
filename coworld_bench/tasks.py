"""The table of tasks, and the value an environment is made from.

Step words, used everywhere: a *frame* is one simulator step, an *env step* is one decision of the agent
(`action_repeat` frames), an *update* is one optimiser step on one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import digest_of

SUITES = ("metaworld", "robodesk", "dmc", "toy")
PROFILES = ("exact", "near", "fast")
SPARSE_REWARD = 500.0  # at the first success of an episode (paper, table 5)
VARIANT_WORDS: dict[str, Callable[[Any], str]] = {  # letters, digits and underscores: Minari's names allow no others
    "action_repeat": lambda repeat: f"repeat{repeat}",
    "profile": str,
    "observation": str,
    "image_size": lambda pixels: f"{pixels}px",
    "rewards": str,
    "sparse": lambda sparse: "sparse" if sparse else "dense",
    "action_noise": lambda noise: f"noise{noise:g}".replace(".", "p").replace("-", "m"),
    "background": lambda folder: {"": "plain", "generated": "generated"}.get(folder) or f"frames{digest_of(folder)[:6]}",
}


@dataclass(frozen=True)
class Task:
    """One task. `horizon` is in frames, `action_repeat` is the paper's, `max_reward` is per frame."""

    id: str
    code: str
    horizon: int
    action_repeat: int
    max_reward: float

    @property
    def suite(self) -> str:
        return self.id.split("/")[0]

    @property
    def name(self) -> str:
        return self.id.split("/")[1]


def _suite(suite: str, horizon: int, repeat: int, max_reward: float, **codes: str) -> list[Task]:
    return [Task(f"{suite}/{name}", code, horizon, repeat, max_reward) for name, code in codes.items()]


# The paper's tasks with its codes (section 4.2; DC* is door_close, DC is drawer_close).
PAPER_TASKS = {
    task.id: task
    for task in [
        *_suite(
            "metaworld", 500, 1, 10.0,
            button_press="BP", button_press_topdown="BT", door_close="DC*", drawer_close="DC",
            handle_press="HP", window_close="WC",
        ),
        *_suite(
            "robodesk", 500, 1, 1.0,
            push_green="PG", open_slide="OS", open_drawer="OD", upright_block_off_table="UB",
        ),
        *_suite(
            "dmc", 1000, 2, 1.0,
            walker_walk="WW", walker_downhill="WD", walker_uphill="WU", walker_nofoot="WN",
            cheetah_run="CR", cheetah_downhill="CD", cheetah_uphill="CU", cheetah_nopaw="CN",
        ),
        *_suite("toy", 50, 1, 1.0, point="PT", point_mirrored="PM"),
    ]
}  # fmt: skip
SUITE_DEFAULTS = {"metaworld": (500, 1, 10.0), "robodesk": (500, 1, 1.0), "dmc": (1000, 2, 1.0)}


def find_task(name: str) -> Task:
    """The task of this id; hyphens are read as underscores. A name outside the paper's table is taken on trust here
    and checked against its simulator when the environment is made.

    Raises UsageError with the nearest names for an unknown suite or a toy task that does not exist."""
    id = name.strip().replace("-", "_")
    if id in PAPER_TASKS:
        return PAPER_TASKS[id]
    suite, _, task = id.partition("/")
    if not task or suite not in SUITE_DEFAULTS:
        raise unknown("task", name, PAPER_TASKS, "coworld-bench list tasks")
    horizon, repeat, max_reward = SUITE_DEFAULTS[suite]
    return Task(id, task, horizon, repeat, max_reward)


@dataclass(frozen=True)
class EnvSpec:
    """Everything that decides what an environment does, as plain data; stored with every dataset and result.

    task           `suite/name`
    action_repeat  frames per decision; 0 takes the paper's (Meta-World and RoboDesk 1, DMC 2)
    profile        how it is rendered: `exact` (upstream's pixels), `near`, `fast`
    observation    `image` gives image and state, `state` gives the state alone and never renders
    image_size     pixels a side
    rewards        RoboDesk only: `upstream` keeps its aliased-position fault, `fixed` repairs it
    sparse         500 at the first success of an episode, else 0 (paper, table 5)
    action_noise   w of a + w n, n ~ N(0, I), executed action clipped to [-1, 1] (paper, table 10)
    background     "" (none), `generated`, or a folder of video frames (paper, table 10)
    """

    task: str
    action_repeat: int = 0
    profile: str = "fast"
    observation: Literal["image", "state"] = "image"
    image_size: int = 64
    rewards: Literal["upstream", "fixed"] = "upstream"
    sparse: bool = False
    action_noise: float = 0.0
    background: str = ""

    def __post_init__(self) -> None:
        task = find_task(self.task)
        object.__setattr__(self, "task", task.id)
        object.__setattr__(self, "action_repeat", self.action_repeat or task.action_repeat)
        if self.action_repeat < 1 or task.horizon % self.action_repeat:
            raise UsageError(f"action_repeat must divide the {task.horizon} frames of {task.id}; got {self.action_repeat}")
        if self.profile not in PROFILES:
            raise unknown("render profile", self.profile, PROFILES)
        if self.observation not in ("image", "state"):
            raise unknown("observation", self.observation, ("image", "state"))
        if self.rewards not in ("upstream", "fixed"):
            raise unknown("rewards", self.rewards, ("upstream", "fixed"))
        if self.rewards == "fixed" and task.suite != "robodesk":
            raise UsageError(f"rewards='fixed' exists for RoboDesk alone; {task.id} has no second version")
        if self.sparse and task.suite == "dmc":
            raise UsageError(f"sparse rewards are paid for success, and {task.id} has none")
        if not 0 <= self.action_noise < math.inf:
            raise UsageError(f"action_noise must be a number of at least 0; got {self.action_noise}")
        if self.image_size < 16:
            raise UsageError(f"image_size must be at least 16; got {self.image_size}")

    @property
    def env_steps(self) -> int:
        """Decisions per episode."""
        return find_task(self.task).horizon // self.action_repeat

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def variant(self, usual: EnvSpec) -> str:
        """What differs from the `usual` environment of a task, as a part of a dataset's name; empty where nothing does."""
        mine, others = self.to_dict(), usual.to_dict()
        words = [VARIANT_WORDS[name](value) for name, value in mine.items() if value != others[name]]
        return "_".join(words)

    @property
    def digest(self) -> str:
        return digest_of(self.to_dict())


@dataclass(frozen=True)
class Domain:
    """An environment as a method sees it: the spec and the sizes of what goes in and out."""

    env: EnvSpec
    image: tuple[int, ...] = field(default=(64, 64, 3))  # () when the observation is the state alone
    state: int = 0
    action: int = 0

    @property
    def task(self) -> Task:
        return find_task(self.env.task)

    @property
    def largest_reward(self) -> float:
        """The most that one decision can be paid."""
        return SPARSE_REWARD if self.env.sparse else self.task.max_reward * self.env.action_repeat
