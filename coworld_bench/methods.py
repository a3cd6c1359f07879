"""What a method is, what it is given, and the one door through which shipped and users' own methods come in.

A method is a Python file with a `METHOD`. Its learner is made from settings and a `Job`; the harness calls `turn()` until
`updates` reaches `total`, and evaluates `policy` now and then. A job holds the offline dataset and source environments and
no target environment: that a method stays offline is a fact of these types.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from coworld_bench.config import Config, Settings, merge
from coworld_bench.data.memory import EpisodeMemory
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import digest_of
from coworld_bench.online import SourceAgent
from coworld_bench.paths import shipped
from coworld_bench.tasks import Domain

PACKAGED = {"coworld": "coworld_bench.coworld"}  # the method the project is named after lives in the package


class Policy(Protocol):
    """What the evaluator drives. The carry is the policy's own; `generator` is the only randomness it may use."""

    @property
    def device(self) -> Any: ...

    def initial(self, batch: int = 1) -> Any: ...

    def act(self, image: np.ndarray, carry: Any, generator: Any, sample: bool = False) -> tuple[np.ndarray, Any]: ...

    def value(self, carry: Any) -> float | None: ...


class Learner(Protocol):
    """A method at work. `updates` counts target world-model updates (for a model-free method, its updates)."""

    @property
    def policy(self) -> Policy: ...

    @property
    def updates(self) -> int: ...

    @property
    def total(self) -> int: ...

    def turn(self) -> Mapping[str, Any]:
        """One unit of the method's schedule, usually one update; returns metrics by name, on the device."""
        ...

    def counts(self) -> dict[str, int]:
        """How much of everything was spent so far: updates of each part, source env steps."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Job:
    """What a learner is given. `folder` is the run's own, for what a method must keep on disk."""

    config: Config
    target: Domain
    data: EpisodeMemory
    sources: tuple[SourceAgent, ...]
    seed: int
    device: str
    folder: Path


@dataclass(frozen=True)
class Method:
    """A method's name, what it needs and how its learner is made.

    `shared` holds a method's differences from the shared settings, `own` from its own defaults, `source` (dotted options)
    from the settings of the source agents it starts from; all by preset or by `preset/suite` of the target. Source agents
    have the method's world model, or the shared one where the method takes their `experience_only`. `revision` is raised
    when a change of its code makes other runs of it."""

    name: str
    label: str
    learner: Callable[[Any, Job], Learner]
    settings: type[Settings] = Settings
    sources: int = 0
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    experience_only: bool = False
    revision: int = 1

    def adapt(self, config: Config, suite: str) -> Config:
        """The shared settings as this method wants them."""
        return Config.model_validate(merge(config.model_dump(), self._layer(self.shared, config.preset, suite)))

    def defaults(self, preset: str, suite: str) -> Settings:
        return self.settings.model_validate(self._layer(self.own, preset, suite))

    def source_options(self, preset: str, suite: str) -> dict[str, str]:
        """The options of this method's source agents."""
        return self._layer(self.source, preset, suite)

    @staticmethod
    def _layer(layers: Mapping[str, Mapping[str, Any]], preset: str, suite: str) -> dict[str, Any]:
        return merge(layers.get(preset, {}), layers.get(f"{preset}/{suite}", {}))


def method_names() -> list[str]:
    """The shipped methods."""
    return sorted({*PACKAGED, *(path.stem for path in shipped("baselines").glob("*.py"))})


def load_method(name: str) -> Method:
    """A shipped method by name, or a user's own by the path of its file.

    Raises UsageError for an unknown name, a missing file, or a file without a METHOD."""
    module = _load(name)
    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise UsageError(f"{name} defines no METHOD = Method(...); see baselines/offline_dv2.py for one that does")
    return method


def _load(name: str) -> ModuleType:
    if name in PACKAGED:
        return importlib.import_module(PACKAGED[name])
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"there is no file {name}; give a shipped method ({', '.join(method_names())}) or a path")
        return _execute(path, f"coworld_method_{path.stem}_{digest_of(str(path))[:8]}")
    if name not in method_names():
        raise unknown("method", name, method_names(), "coworld-bench list methods")
    return _execute(shipped("baselines") / f"{name}.py", f"coworld_method_{name}")


def _execute(path: Path, module_name: str) -> ModuleType:
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before exec: dataclasses look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
