"""What a run is: asked for (`RunSpec`), planned (all settings known), resolved (with its dataset), and then named.

A run is addressed by the digest of everything that determines its result, so a finished one is recognised and a changed
setting, dataset or source agent makes another run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coworld_bench.config import Config, Settings, override, resolve
from coworld_bench.data.dataset import Dataset, dataset_id, open_dataset
from coworld_bench.envs import check_task, domain_of
from coworld_bench.errors import UsageError
from coworld_bench.evaluation import PROTOCOL
from coworld_bench.files import digest_of, sha256_file
from coworld_bench.methods import Method, load_method, method_names
from coworld_bench.seeding import check_seed
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import EnvSpec, find_task

SCHEMA = 1


@dataclass(frozen=True)
class RunSpec:
    """A run as it is asked for. `options` are dotted settings; a method's own carry its name: `coworld.alpha`."""

    method: str
    target: str
    sources: tuple[str, ...] = ()
    seed: int = 0
    preset: str = "quick"
    quality: str = "medium-replay"
    options: Mapping[str, str] = field(default_factory=dict)

    def plan(self) -> PlannedRun:
        """Everything but the dataset's fingerprint. Raises UsageError for anything that does not exist."""
        check_seed(self.seed)
        method = load_method(self.method)
        target = check_task(self.target)
        sources = tuple(check_task(source).id for source in self.sources)[: method.sources]
        if len(sources) < method.sources:
            raise UsageError(f"{method.name} needs {method.sources} source task(s); give --source suite/task")
        own = {key: value for key, value in self.options.items() if key.startswith(f"{method.name}.")}
        shared = {key: value for key, value in self.options.items() if key not in own and not _of_other_method(key)}
        config = override(method.adapt(resolve(self.preset, target.suite), target.suite), shared)
        settings = override(
            method.defaults(self.preset, target.suite),
            {key.removeprefix(f"{method.name}."): value for key, value in own.items()},
        )
        return PlannedRun(self, method, config, settings, config.env.spec(target.id), sources, shared)

    def resolve(self, data: Path | None = None) -> ResolvedRun:
        """The run with its dataset. Raises DatasetError when that is missing or damaged."""
        planned = self.plan()
        return ResolvedRun(planned, open_dataset(planned.dataset_id, data))


def _of_other_method(key: str) -> bool:
    """Whether an option belongs to some method's own settings; `run` hands all options to every method."""
    return key.split(".")[0] in method_names()


@dataclass(frozen=True)
class PlannedRun:
    spec: RunSpec
    method: Method
    config: Config
    settings: Settings
    env: EnvSpec
    sources: tuple[str, ...]
    shared_options: Mapping[str, str]

    @property
    def dataset_id(self) -> str:
        return dataset_id(self.env.task, self.spec.quality, self.spec.preset)

    def source_specs(self) -> tuple[SourceSpec, ...]:
        """The source agents this run starts from; they understand the actions of every domain."""
        if not self.sources:
            return ()
        tasks = [self.env.task, *self.sources]
        widest = max(domain_of(EnvSpec(task, observation="state")).action for task in tasks)
        spec, suite = self.spec, find_task(self.env.task).suite
        shared = override(resolve(spec.preset, suite), self.shared_options) if self.method.experience_only else self.config
        model = shared.model.to_dict()
        options = {**self.method.source_options(spec.preset, suite), **self.shared_options}
        return tuple(SourceSpec(task, spec.preset, spec.seed, widest, model, options) for task in self.sources)


@dataclass(frozen=True)
class ResolvedRun:
    planned: PlannedRun
    dataset: Dataset

    def __post_init__(self) -> None:
        has, wants = self.dataset.env_spec, self.planned.env
        if has != wants:
            differ = [key for key, value in wants.to_dict().items() if has.to_dict()[key] != value]
            pairs = ", ".join(f"{key} {getattr(has, key)!r} against {getattr(wants, key)!r}" for key in differ)
            raise UsageError(
                f"dataset {self.dataset.id} was made in another environment than this run would be evaluated in: {pairs}; "
                f"set env.{differ[0]} to the dataset's, or collect again"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """All that determines the result; its digest names the run."""
        planned, spec = self.planned, self.planned.spec
        revision = planned.method.revision
        return ({"revision": revision} if revision > 1 else {}) | {
            "protocol": PROTOCOL,
            "method": planned.method.name,
            "method_file": sha256_file(Path(spec.method).expanduser()) if spec.method.endswith(".py") else None,
            "target": planned.env.task,
            "env": planned.env.to_dict(),
            "source_digests": [source.digest for source in planned.source_specs()],
            "seed": spec.seed,
            "preset": spec.preset,
            "config": planned.config.identity(),
            "method_config": planned.settings.to_dict(),
            "dataset": self.dataset.fingerprint,
        }

    @property
    def id(self) -> str:
        spec, planned = self.planned.spec, self.planned
        names = [planned.method.name, planned.env.task.replace("/", "-")]
        names += [source.replace("/", "-") for source in planned.sources] or ["none"]
        return "--".join([*names, f"s{spec.seed}", digest_of(self.identity)[:10]])

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds: the identity, and who it is in words."""
        planned, spec = self.planned, self.planned.spec
        return self.identity | {
            "schema": SCHEMA,
            "run": self.id,
            "label": planned.method.label,
            "sources": list(planned.sources),
            "options": dict(spec.options),
            "quality": spec.quality,
        }
