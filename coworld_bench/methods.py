"""What a method is, what it is given, and the one door through which shipped and users' own methods come in.

A method is a Python file with a `METHOD`. Its learner is made from settings and a `Job`; the harness calls `turn()` until
`updates` reaches `total`, and evaluates `policy` now and then. A job holds the offline dataset and source environments and
no target environment: that a method stays offline is a fact of these types. What else a method must keep is in the
protocols below, and `coworld-bench check-method` finds out whether it does.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np

from coworld_bench.config import PRESETS, Config, S, Settings, merge, validated
from coworld_bench.data.memory import Memory
from coworld_bench.errors import OWN_METHOD, UsageError, UserError, named, own_line, unknown
from coworld_bench.files import digest_of, sha256_file
from coworld_bench.online import SourceAgent
from coworld_bench.paths import shipped
from coworld_bench.tasks import SUITES, Domain

# the method the project is named after lives in the package
PACKAGED = {"coworld": "coworld_bench.coworld", "coworld_multi": "coworld_bench.coworld_multi"}

LEARNER = ("policy", "updates", "total", "turn", "counts", "state_dict", "load_state_dict")
COUNTS = ("world_model_updates", "behaviour_updates", "source_updates", "source_env_steps")


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
        """One unit of the method's schedule, at most one of `updates`; returns metrics by name, on the device."""
        ...

    def counts(self) -> dict[str, int]:
        """How much of everything was spent so far, by the names of `COUNTS`."""
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
    the shared one where the method takes their `experience_only`; with `lowdim_sources` they may see low-dimensional states
    alone. `loss` holds options of the world model that are the method's own and stay when another model is named.
    `revision` is raised when a change of its code makes other runs of it."""

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
    lowdim_sources: bool = False
    loss: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError for what no method can have."""
        fits = isinstance(self.name, str) and re.fullmatch(r"[a-zA-Z]\w*(:\w+)?", self.name, re.ASCII)
        if not fits or self.family in Config.model_fields:
            taken = ", ".join(Config.model_fields)
            raise UsageError(f"name={self.name!r}: a method's name is letters, digits and underscores, and none of {taken}")
        if not isinstance(self.label, str) or not self.label:
            raise UsageError(f"label={self.label!r}: a label is the text that reports show")
        if not callable(self.learner):
            raise UsageError(f"learner={self.learner!r}: a learner is made by calling it with settings and a job")
        if not (isinstance(self.settings, type) and issubclass(self.settings, Settings)):
            raise UsageError(f"settings={self.settings!r}: settings are a subclass of coworld_bench.config.Settings")
        if self.sources != "many" and (not isinstance(self.sources, int) or self.sources < 0):
            raise UsageError(f"sources={self.sources!r}: sources is how many it takes, or 'many'")
        for part in ("shared", "own", "source"):
            check_layers(part, getattr(self, part))

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
        values = merge(config.model_dump(), self._layer(self.shared, config.preset, suite))
        return self._validated("shared", config.preset, Config, values)

    def holding(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, and before them what the method asks of a world model that they name."""
        return {**self.loss, **options} if "model" in options else dict(options)

    def defaults(self, preset: str, suite: str) -> Settings:
        return self._validated("own", preset, self.settings, merge(self._layer(self.own, preset, suite), self.varied))

    def source_options(self, preset: str, suite: str) -> dict[str, str]:
        """The options of this method's source agents."""
        return self._layer(self.source, preset, suite)

    def make(self, settings: Settings, job: Job) -> Learner:
        """The learner. Raises UsageError where it lacks what the harness calls."""
        learner = self.learner(settings, job)
        lacking = [part for part in LEARNER if not has(learner, part)]
        if lacking:
            raise UsageError(f"{defined(learner)} lacks {', '.join(lacking)}, which the learner of {self.name} must have")
        return learner

    def _validated(self, part: str, preset: str, kind: type[S], values: Mapping[str, Any]) -> S:
        try:
            return validated(kind, values)
        except UsageError as error:
            raise UsageError(f"method {self.name}, `{part}` under preset {preset}: {error}") from error

    @staticmethod
    def _layer(layers: Mapping[str, Mapping[str, Any]], preset: str, suite: str) -> dict[str, Any]:
        return merge(layers.get(preset, {}), layers.get(f"{preset}/{suite}", {}))


def check_layers(part: str, layers: Any) -> None:
    """Raises UsageError for settings of a preset or a suite that does not exist: they would never be looked at."""
    known = [*PRESETS, *(f"{preset}/{suite}" for preset in PRESETS for suite in SUITES)]
    if not isinstance(layers, Mapping) or not all(isinstance(layer, Mapping) for layer in layers.values()):
        raise UsageError(f"{part}={layers!r}: it holds settings by preset, as in {{'quick': {{'lr': 1e-3}}}}")
    for name in layers:
        if name not in known:
            raise unknown(f"preset or preset/suite in `{part}`:", name, known)


def has(learner: Any, part: str) -> bool:
    """Whether it has this part; a property is not asked for its value."""
    return inspect.getattr_static(learner, part, learner) is not learner or hasattr(learner, part)


def defined(thing: Any) -> str:
    """A thing's class and where that is written, in words."""
    kind = type(thing)
    try:
        lines, file = inspect.getsourcelines(kind), inspect.getsourcefile(kind)
        return f"{Path(str(file)).name}, line {lines[1]}: class {kind.__name__}"
    except (OSError, TypeError):  # built in, or made without a file
        return f"{thing!r} (class {kind.__name__})"


@cache
def method_names() -> list[str]:
    """The shipped methods."""
    return sorted({*PACKAGED, *(path.stem for path in shipped("baselines").glob("*.py"))})


def load_method(name: str) -> Method:
    """A shipped method by name, or a user's own by the path of its file; `:variant` behind either gives that variant.

    Raises UsageError for an unknown name, a missing file, a file that cannot be loaded or one without a METHOD."""
    base, variant = parted(name)
    module = _load(base)
    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise UsageError(without_method(base, module))
    if method_file(base) is not None and method.name in method_names():
        raise UsageError(f"{base}{line_of(module)}: {method.name} is the name of a shipped method; give yours another")
    return method if variant is None else method.variant(variant)


def without_method(name: str, module: ModuleType) -> str:
    """What is wrong with a file that has no METHOD, in words."""
    if hasattr(module, "METHOD"):
        method = module.METHOD
        kind = f"the class {method.__name__}" if isinstance(method, type) else f"of type {type(method).__name__}"
        return f"{name}{line_of(module)}: METHOD is {kind}; it must be a Method(name=..., label=..., learner=...)"
    others = [other for other, value in vars(module).items() if isinstance(value, Method)]
    hint = f"call its {others[0]} METHOD" if others else "see baselines/offline_dv2.py for one that does"
    return f"{name} defines no METHOD = Method(...); {hint}"


def line_of(module: ModuleType) -> str:
    """Where a file defines its METHOD."""
    for node in ast.parse(Path(str(module.__file__)).read_bytes()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            return f", line {node.lineno}"
    return ""


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
        from coworld_bench.envs.rendering import choose_backend

        choose_backend()  # the file may import mujoco
        return load_own(path)
    if name not in method_names():
        raise unknown("method", name, method_names(), "coworld-bench list methods")
    return _execute(shipped("baselines") / f"{name}.py", f"coworld_method_{name}")


def load_own(path: Path) -> ModuleType:
    """A user's own file as a module. Raises UsageError where it cannot be loaded."""
    try:
        # with its content, which names its runs: a file that was edited is another module
        return _execute(path, f"{OWN_METHOD}{path.stem}_{digest_of([str(path), sha256_file(path)])[:8]}")
    except (Exception, SystemExit) as error:
        raise unloadable(str(path), error) from error


def unloadable(name: str, error: BaseException) -> UserError:
    """The error for a user's own file that cannot be loaded: what was raised, and in which line."""
    if isinstance(error, UserError) and not isinstance(error, UsageError):
        return error
    said = str(error) if isinstance(error, UsageError) else f"it cannot be loaded: {named(error)}"
    place = own_line(error) or name
    if isinstance(error, SyntaxError):
        place, said = f"{error.filename}, line {error.lineno}", f"it cannot be loaded: {error.msg}"
    return UsageError(f"{place}: {said}")


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
