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
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np

from coworld_bench.config import Config, Settings, merge
from coworld_bench.data.memory import Memory
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import digest_of
from coworld_bench.online import SourceAgent
from coworld_bench.paths import shipped
from coworld_bench.tasks import Domain

# the method the project is named after lives in the package
PACKAGED = {"coworld": "coworld_bench.coworld", "coworld_multi": "coworld_bench.coworld_multi"}


class Policy(Protocol):
    """What the evaluator drives. The carry is the policy's own; `generator` is the only randomness it may use.

    `value` is the critic's of the row just observed, or None where there is no critic. It counts the reward received on
    arriving at that row, as a value of states does; a policy whose value does not, such as a Q function's of the action to
    come, has `value_counts_arrival = False`. A policy with an encoder may have `embed(image)`, from uint8 [N, H, W, 3] to
    float32 [N, E]: where it puts pictures is then recorded. It may have `sense(state, carry) -> carry`, which is told the
    environment's state, float32 [B, S], before each picture."""

    @property
    def device(self) -> Any: ...

    def initial(self, batch: int = 1) -> Any: ...

    def act(self, image: np.ndarray, carry: Any, generator: Any, sample: bool = False) -> tuple[np.ndarray, Any]: ...

    def value(self, carry: Any) -> float | None: ...


class Learner(Protocol):
    """A method at work. `updates` counts target world-model updates (for a model-free method, its updates).

    It may also have `report() -> dict`, asked once at the end: what its result tells under `method_report`."""

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
    data: Memory
    sources: tuple[SourceAgent, ...]
    seed: int
    device: str
    folder: Path


@dataclass(frozen=True)
class Variant:
    """The method under other settings of its own, whatever the preset: an ablation, with a row of its own in reports."""

    label: str
    own: Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """A method's name, what it needs and how its learner is made.

    `sources` is how many source tasks it takes, or `many` for all it is given, which are one or more.
    `shared` holds a method's differences from the shared settings, `own` from its own defaults, `source` (dotted options)
    from the settings of the source agents it starts from; all by preset or by `preset/suite` of the target. A variant is
    a method too, by the name `method:variant`; `varied` are its settings. Source agents have the method's world model, or
    the shared one where the method takes their `experience_only`. `revision` is raised when a change of its code makes
    other runs of it."""

    name: str
    label: str
    learner: Callable[[Any, Job], Learner]
    settings: type[Settings] = Settings
    sources: int | Literal["many"] = 0
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    experience_only: bool = False
    revision: int = 1

    @property
    def family(self) -> str:
        """The name without the variant's: what options of its own begin with."""
        return self.name.partition(":")[0]

    def variant(self, name: str) -> Method:
        """The method with a variant's settings. Raises UsageError, with the nearest names, where there is none."""
        if name not in self.variants:
            known = [self.name, *self.variant_names()]
            raise unknown("method", f"{self.name}:{name}", known, "coworld-bench list methods")
        chosen = self.variants[name]
        return replace(self, name=f"{self.name}:{name}", label=chosen.label, varied=chosen.own, variants={})

    def variant_names(self) -> list[str]:
        return [f"{self.name}:{name}" for name in self.variants]

    def take(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The source tasks it uses of those that are given. Raises UsageError where they are too few."""
        wanted = tuple(dict.fromkeys(given)) if self.sources == "many" else given[: self.sources]
        needed = 1 if self.sources == "many" else self.sources
        if len(wanted) < needed:
            more = " or more" if self.sources == "many" else ""
            raise UsageError(f"{self.name} needs {needed}{more} source task(s); give --source suite/task")
        return wanted

    def adapt(self, config: Config, suite: str) -> Config:
        """The shared settings as this method wants them."""
        return Config.model_validate(merge(config.model_dump(), self._layer(self.shared, config.preset, suite)))

    def defaults(self, preset: str, suite: str) -> Settings:
        return self.settings.model_validate(merge(self._layer(self.own, preset, suite), self.varied))

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
    """A shipped method by name, or a user's own by the path of its file; `:variant` behind either gives that variant.

    Raises UsageError for an unknown name, a missing file, or a file without a METHOD."""
    base, variant = parted(name)
    method = getattr(_load(base), "METHOD", None)
    if not isinstance(method, Method):
        raise UsageError(f"{base} defines no METHOD = Method(...); see baselines/offline_dv2.py for one that does")
    return method if variant is None else method.variant(variant)


def parted(name: str) -> tuple[str, str | None]:
    """A method's name or file, and the variant that is named behind it."""
    if name.endswith(".py") or ":" not in name:
        return name, None
    base, _, variant = name.rpartition(":")
    return base, variant


def method_file(name: str) -> Path | None:
    """The whole path of a user's own method; None for a shipped one."""
    base, _ = parted(name)
    return Path(base).expanduser().resolve() if base.endswith(".py") else None


def whole_name(name: str) -> str:
    """A method's name as another process in another folder understands it."""
    file, (_, variant) = method_file(name), parted(name)
    return name if file is None else f"{file}:{variant}" if variant else str(file)


def _load(name: str) -> ModuleType:
    if name in PACKAGED:
        return importlib.import_module(PACKAGED[name])
    path = method_file(name)
    if path is not None:
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
