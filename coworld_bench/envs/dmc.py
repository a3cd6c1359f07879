"""DeepMind Control suite: any of its tasks as `dmc/domain_task`, and the paper's six changed walkers and cheetahs.

The changed ones are built in memory from dm_control's own models.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np

from coworld_bench.envs.mujoco_scene import MujocoScene
from coworld_bench.envs.rendering import View, importing
from coworld_bench.errors import unknown
from coworld_bench.tasks import EnvSpec, find_task

UPHILL, DOWNHILL = "-2.54 0 -9.47", "2.54 0 -9.47"  # |g| 9.805, turned by 15 degrees; the floor stays level


@dataclass(frozen=True)
class Variant:
    """What a task of the paper changes of its base model, as the attributes in the released model files.

    camera  euler angles of camera `side`, degrees
    shrunk  the capsule that is left with a size of 1 mm
    """

    domain: str
    gravity: str = ""
    camera: str = ""
    shrunk: str = ""


VARIANTS = {
    "walker_downhill": Variant("walker", gravity=DOWNHILL, camera="60 0 15"),
    "walker_uphill": Variant("walker", gravity=UPHILL, camera="60 0 -15"),
    "walker_nofoot": Variant("walker", shrunk="right_foot"),
    "cheetah_downhill": Variant("cheetah", gravity=DOWNHILL, camera="90 0 15"),
    "cheetah_uphill": Variant("cheetah", gravity=UPHILL, camera="90 0 -15"),
    "cheetah_nopaw": Variant("cheetah", shrunk="ffoot"),
}
SHRUNK_SIZE = "0.001 0.001"
FLOOR_HALF_LENGTH = "1000"  # metres, in all six


class ControlSuite(MujocoScene):
    """One task of the suite. It defines no success."""

    has_success = False
    view = View(camera=0)

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__(spec)
        self._env = load(find_task(spec.task).name)
        limits = self._env.action_spec()
        low = np.where(np.isfinite(limits.minimum), limits.minimum, -1.0)  # lqr has no bounds
        high = np.where(np.isfinite(limits.maximum), limits.maximum, 1.0)
        self._centre, self._half = (low + high) / 2, (high - low) / 2
        self.action_size = limits.shape[0]

    def physics(self) -> tuple[Any, Any]:
        return self._env.physics.model.ptr, self._env.physics.data.ptr

    def reset(self, seed: int) -> None:
        self._env.task._random = np.random.RandomState(seed)
        self._time_step = self._env.reset()
        if self._env.physics.model.nhfield:
            super().close()  # a new episode has new hills, which a renderer reads when it is made

    def act(self, action: np.ndarray) -> tuple[float, bool]:
        if self._time_step.last():  # a few tasks end early; what follows is worth nothing
            return 0.0, False
        self._time_step = self._env.step(self._centre + self._half * action.astype(np.float64))
        return float(self._time_step.reward), False

    def state(self) -> np.ndarray:
        """The suite's observation, its parts joined in their order, float32."""
        parts = [np.ravel(value) for value in self._env.task.get_observation(self._env.physics).values()]
        return np.concatenate(parts).astype(np.float32)

    def close(self) -> None:
        super().close()
        self._env.close()


def load(name: str) -> Any:
    """dm_control's environment of a task such as `walker_walk`, or of a variant such as `walker_uphill`.

    Raises UsageError with the names that exist."""
    with importing("dm_control", "pip install 'dm_control>=1.0.28,<1.0.29'"):
        from dm_control import suite
    if name in VARIANTS:
        return load_variant(VARIANTS[name])
    known = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    by_lower = {key.lower(): value for key, value in known.items()}
    if name.lower() not in by_lower:
        raise unknown("task", f"dmc/{name}", [f"dmc/{each}" for each in (*known, *VARIANTS)])
    domain, task = by_lower[name.lower()]
    if domain == "quadruped":
        repair_quadruped()
    return suite.load(domain, task, {"random": 0})  # lqr draws its model from it, others nothing before reset


def repair_quadruped() -> None:
    """Give dm_control's quadruped, and it alone, the `in1d` that numpy 2.4 removed."""
    from dm_control.suite import quadruped

    if not hasattr(quadruped.np, "in1d"):
        quadruped.np = SimpleNamespace(**vars(np), in1d=np.isin)


def load_variant(variant: Variant) -> Any:
    """The suite's walk (walker) or run (cheetah) task on a changed model."""
    from dm_control.rl import control
    from dm_control.suite import cheetah, walker

    module = {"walker": walker, "cheetah": cheetah}[variant.domain]
    xml, assets = module.get_model_and_assets()
    physics = module.Physics.from_xml_string(changed_model(xml, variant), assets)
    if variant.domain == "cheetah":
        return control.Environment(physics, cheetah.Cheetah(), time_limit=cheetah._DEFAULT_TIME_LIMIT)
    task = walker.PlanarWalker(move_speed=walker._WALK_SPEED)
    return control.Environment(
        physics, task, time_limit=walker._DEFAULT_TIME_LIMIT, control_timestep=walker._CONTROL_TIMESTEP
    )


def changed_model(xml: bytes | str, variant: Variant) -> str:
    """The XML of the base model with the variant's attributes."""
    root = ElementTree.fromstring(xml)
    floor = _part(root, "worldbody/geom[@type='plane']")
    _set(floor, size=" ".join([FLOOR_HALF_LENGTH, *floor.attrib["size"].split()[1:]]))
    if variant.gravity:
        _set(_part(root, "option"), gravity=variant.gravity)
    if variant.camera:
        camera = _part(root, ".//camera[@name='side']")
        camera.attrib.pop("quat", None)
        _set(camera, euler=variant.camera)
    if variant.shrunk:
        _set(_part(root, f".//geom[@name='{variant.shrunk}']"), size=SHRUNK_SIZE)
    return ElementTree.tostring(root, encoding="unicode")


def _part(root: ElementTree.Element, path: str) -> ElementTree.Element:
    found = root.findall(path)
    assert len(found) == 1, (path, len(found))
    return found[0]


def _set(element: ElementTree.Element, **attributes: str) -> None:
    element.attrib.update(attributes)
