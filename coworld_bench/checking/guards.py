"""What a method must leave alone, watched while its code is at work: environments, and the global random streams."""

from __future__ import annotations

import pickle
import random
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from coworld_bench.errors import OWN_METHOD

# Functions that open an environment, by module and name, and their argument that says which. They are recognised when they
# are called, so it does not matter under which name, or when, a method has imported them.
DOORS = {
    ("coworld_bench.envs.base", "TaskEnv.__init__"): "spec",
    ("coworld_bench.envs.pool", "EnvProcess.__init__"): "spec",
    ("coworld_bench.envs.toy", "Toy.__init__"): "spec",
    ("gymnasium.envs.registration", "make"): "id",
    ("gymnasium.envs.registration", "make_vec"): "id",
}
MUJOCO = ("from_xml_string", "from_xml_path", "from_binary_path")  # what Meta-World, RoboDesk and DMC end in
OURS = "coworld/"  # gymnasium's names of environments that come through a door of their own


@contextmanager
def watched_doors(allowed: Collection[str]) -> Iterator[dict[str, str]]:
    """Yields what is opened inside, by name, other than the `allowed` tasks: and where a user's own method did it.

    It sees calls of this process's threads, and not those of processes that a method starts."""
    opened: dict[str, str] = {}

    def see(frame: FrameType, event: str, called: Any) -> None:
        name = at_door(frame) if event == "call" else at_mujoco(called) if event == "c_call" else None
        if name is not None and name not in allowed and OURS not in name:
            opened.setdefault(name, own_place(frame))

    before = sys.getprofile()
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield opened
    finally:
        sys.setprofile(before)
        threading.setprofile(before)


def at_door(frame: FrameType) -> str | None:
    """The task or gymnasium name of the environment that this call opens; None for any other call."""
    argument = DOORS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))
    if argument is None:
        return None
    asked = frame.f_locals[argument]
    return str(getattr(asked, "task", None) or getattr(asked, "id", asked))


def at_mujoco(called: Any) -> str | None:
    return "a MuJoCo model" if getattr(called, "__name__", "") in MUJOCO else None


def own_place(frame: FrameType | None) -> str:
    """Where the user's own method was when it made this call; empty where it was none of its."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(OWN_METHOD):
            return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


class GlobalStreams:
    """The random streams that all code of a process shares, as they are now."""

    def __init__(self) -> None:
        self.python, self.numpy, self.torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def parts(self) -> dict[str, bytes]:
        return {
            "random": pickle.dumps(self.python),
            "numpy.random": pickle.dumps(self.numpy),
            "torch": self.torch.numpy().tobytes(),
            "torch.cuda": b"".join(state.numpy().tobytes() for state in self.cuda),
        }

    def moved(self) -> list[str]:
        """Those that were drawn from, or seeded, since."""
        mine, now = self.parts(), GlobalStreams().parts()
        return [name for name in mine if mine[name] != now[name] and mine[name]]

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def streams_kept() -> Iterator[None]:
    """Afterwards the global streams are what they were."""
    before = GlobalStreams()
    try:
        yield
    finally:
        before.restore()


def scramble_streams(seed: int) -> None:
    """Other global streams: numbers that change with them do not depend on a run's seed alone."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
