"""Environments: `make_env("metaworld/button_press")`, or by gymnasium's names, the prefix being the module to import:

    gymnasium.make("coworld_bench.envs:coworld/metaworld-button_press-v0")      a task of the paper
    gymnasium.make("coworld_bench.envs:coworld/any-v0", task="metaworld/reach")     any task, and an EnvSpec's options

Importing this registers them and loads no simulator.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium

from coworld_bench.envs.base import Simulator, TaskEnv
from coworld_bench.envs.rendering import check_opengl, gl_info
from coworld_bench.errors import UsageError
from coworld_bench.tasks import PAPER_TASKS, Domain, EnvSpec, Task, find_task

__all__ = ["TaskEnv", "check_opengl", "check_task", "domain_of", "gl_info", "make_env", "register_all", "registered_id"]

MAKE, ANY = "coworld_bench.envs:make_env", "coworld/any-v0"


def make_env(task: EnvSpec | str, render_mode: str | None = None, **options: Any) -> TaskEnv:
    """The environment of a spec, or of a task name with the spec's fields as keywords.

    Observations are dicts: `image` uint8 [S, S, 3] (unless observation="state") and `state` float32 [n]; actions are
    float32 in [-1, 1]. Raises UsageError for a name or an option that does not exist, NotUsable where a package is
    missing; missing OpenGL shows at the first frame."""
    if isinstance(task, EnvSpec):
        if options:
            raise UsageError(f"options go into the EnvSpec itself; got both a spec and {', '.join(sorted(options))}")
        spec = task
    else:
        try:
            spec = EnvSpec(task, **options)
        except TypeError as error:
            allowed = ", ".join(EnvSpec.__dataclass_fields__)
            raise UsageError(f"unknown option for {task}: {error}; allowed: {allowed}") from error
    return TaskEnv(spec, _simulator(spec), render_mode)


def domain_of(spec: EnvSpec) -> Domain:
    """The spec with the sizes of its image, state and action; asks the simulator, renders nothing."""
    state, action = _sizes(spec.task)
    image = (spec.image_size, spec.image_size, 3) if spec.observation == "image" else ()
    return Domain(spec, image, state, action)


def check_task(name: str) -> Task:
    """The task of this name. One outside the paper's table is asked of its suite: raises UsageError, with the nearest
    names, where that has no such task."""
    task = find_task(name)
    if task.id not in PAPER_TASKS:
        _sizes(task.id)
    return task


def registered_id(task: str) -> str:
    """The name under which gymnasium knows a task of the paper."""
    return f"coworld/{find_task(task).id.replace('/', '-')}-v0"


def register_all() -> None:
    """Make the paper's tasks known to `gymnasium.make` by name, and all others as `ANY`; a second call changes nothing."""
    for task in PAPER_TASKS:
        if registered_id(task) not in gymnasium.registry:
            gymnasium.register(registered_id(task), MAKE, kwargs={"task": task})
    if ANY not in gymnasium.registry:
        gymnasium.register(ANY, MAKE)


@cache
def _sizes(task: str) -> tuple[int, int]:
    simulator = _simulator(EnvSpec(task, observation="state"))
    try:
        simulator.reset(0)
        return simulator.state().size, simulator.action_size
    finally:
        simulator.close()


def _simulator(spec: EnvSpec) -> Simulator:
    suite = find_task(spec.task).suite
    if suite == "metaworld":
        from coworld_bench.envs.metaworld import MetaWorld

        return MetaWorld(spec)
    if suite == "robodesk":
        from coworld_bench.envs.robodesk import Desk

        return Desk(spec)
    if suite == "dmc":
        from coworld_bench.envs.dmc import ControlSuite

        return ControlSuite(spec)
    from coworld_bench.envs.toy import Toy

    return Toy(spec)


register_all()
