"""What a run is: asked for (`RunSpec`), planned (all settings known), resolved (with its dataset), and then named.

A run is addressed by the digest of everything that determines its result, so a finished one is recognised and a changed
setting, dataset or source agent makes another run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from coworld_bench.config import (
    FILE,
    NEUTRAL_OPTIONS,
    Config,
    Settings,
    content_of,
    flat,
    need_pictures,
    override,
    read_value,
    resolve,
    usual_env,
)
from coworld_bench.data.dataset import Dataset, dataset_id, open_dataset
from coworld_bench.data.subsets import Rule
from coworld_bench.envs import check_task, domain_of
from coworld_bench.errors import UsageError
from coworld_bench.evaluation import PROTOCOL
from coworld_bench.files import digest_of, sha256_file
from coworld_bench.methods import Method, load_method, method_file, method_names
from coworld_bench.seeding import check_seed
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import EnvSpec, find_task

SCHEMA = 1


@dataclass(frozen=True)
class RunSpec:
    """A run as it is asked for. `quality` may say which of the dataset's episodes: `medium-replay@first=0.5`.

    `options` are dotted settings; a method's own carry its name: `coworld.alpha`. Those of the environment reach the
    sources too; `target_options` and `source_options` (`env.…` alone for the target) reach one side."""

    method: str
    target: str
    sources: tuple[str, ...] = ()
    seed: int = 0
    preset: str = "quick"
    quality: str = "medium-replay"
    options: Mapping[str, str] = field(default_factory=dict)
    target_options: Mapping[str, str] = field(default_factory=dict)
    source_options: Mapping[str, str] = field(default_factory=dict)

    def plan(self) -> PlannedRun:
        """Everything but the dataset's fingerprint. Raises UsageError for anything that does not exist."""
        check_seed(self.seed)
        method = load_method(self.method)
        target = check_task(self.target)
        if "=" in self.quality:
            Rule.parse(self.quality.partition("@")[2])
        sources = method.take(tuple(check_task(source).id for source in self.sources))
        own = {key: value for key, value in self.options.items() if key.startswith(f"{method.family}.")}
        shared = {key: value for key, value in self.options.items() if key not in own and not _of_other_method(key)}
        preset = method.adapt(resolve(self.preset, target.suite), target.suite)
        named = {key: value for key, value in shared.items() if key == "model"}
        usual = override(preset, method.holding(named), target.suite)
        config = override(usual, {**method.holding(shared), **of_environment(self.target_options)}, target.suite)
        need_pictures(config)
        defaults = method.defaults(self.preset, target.suite)
        settings = override(defaults, {key.removeprefix(f"{method.family}."): value for key, value in own.items()})
        changed = changes(usual, config, "") | changes(defaults, settings, f"{method.family}.")
        unsaid = {f"{method.family}.{name}" for name in settings.given_files()} | NEUTRAL_OPTIONS
        changed = {key: value for key, value in changed.items() if key in self.options and key not in unsaid}
        changed |= named if usual != preset else {}
        planned = PlannedRun(self, method, config, settings, config.env.spec(target.id), sources, shared, changed)
        if planned.sources_see_states and not method.lowdim_sources:
            raise UsageError(
                f"{method.name} needs a source that sees pictures; env.observation=state among the source options gives it "
                "low-dimensional states alone, which coworld and coworld_multi can take"
            )
        return planned

    def resolve(self, data: Path | None = None) -> ResolvedRun:
        """The run with its dataset. Raises DatasetError when that is missing or damaged."""
        planned = self.plan()
        return ResolvedRun(planned, open_dataset(planned.dataset_id, data))


def of_environment(options: Mapping[str, str]) -> dict[str, str]:
    """Those that decide what an environment does."""
    return {key: value for key, value in options.items() if key.startswith("env.")}


def changes(usual: Settings, chosen: Settings, prefix: str) -> dict[str, Any]:
    """The settings of `chosen` that differ from the usual ones, by dotted name."""
    mine, others = flat(chosen.to_dict()), flat(usual.to_dict())
    return {prefix + key: value for key, value in mine.items() if value != others[key]}


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
    changes: Mapping[str, Any]  # the options of `spec` that change anything, as settings; files are inputs, not changes

    @property
    def dataset_id(self) -> str:
        variant = self.env.variant(usual_env(self.env.task, self.spec.preset))
        return dataset_id(self.env.task, self.spec.quality, self.spec.preset, variant)

    @property
    def words(self) -> dict[str, Any]:
        """Who the run is in words, as a report reads them."""
        spec = self.spec
        return {
            "label": self.method.label,
            "sources": list(self.sources),
            "options": dict(self.changes),
            "target_options": dict(spec.target_options),
            "source_options": dict(spec.source_options) if self.sources else {},
            "quality": spec.quality,
        }

    def title(self, common: Mapping[str, str] | None = None) -> str:
        """Who the run is in a line; no two of one quality and preset share it. Options in `common` go without saying."""
        spec, said = self.spec, dict(common or {})
        origin = f" from {', '.join(self.sources)}" if self.sources else ""
        source_options = spec.source_options if self.sources else {}
        files = {f"{self.method.family}.{name}": path for name, path in self.settings.given_files().items()}
        told = dict(self.changes) | {key: content_of(path)[: len(FILE) + 8] for key, path in files.items()}
        details = [f"{key}={value}" for key, value in told.items() if key not in said or said[key] != spec.options[key]]
        details += [f"{key}={value}" for key, value in spec.target_options.items()]
        details += [f"source {key}={value}" for key, value in source_options.items()]
        detail = f" ({', '.join(details)})" if details else ""
        return f"{spec.method} {self.env.task}{origin} seed {spec.seed}{detail}"

    def of_seed(self, seed: int) -> PlannedRun:
        """The same with another seed, which nothing else of it depends on."""
        check_seed(seed)
        return replace(self, spec=replace(self.spec, seed=seed))

    def source_specs(self) -> tuple[SourceSpec, ...]:
        """The source agents this run starts from; they understand the actions of every domain."""
        return self._source_specs

    @cached_property
    def _source_specs(self) -> tuple[SourceSpec, ...]:
        if not self.sources:
            return ()
        tasks = [self.env.task, *self.sources]
        domains = [domain_of(EnvSpec(task, observation="state")) for task in tasks]
        widest = max(domain.action for domain in domains)
        state = max(domain.state for domain in domains) if self.sources_see_states else 0
        spec, suite = self.spec, find_task(self.env.task).suite
        shared = resolve(spec.preset, suite, self.shared_options) if self.method.experience_only else self.config
        model, options = shared.model.to_dict(), self.source_options
        return tuple(SourceSpec(task, spec.preset, spec.seed, widest, model, options, state) for task in self.sources)

    @property
    def source_options(self) -> dict[str, str]:
        """All options of its source agents."""
        suite = find_task(self.env.task).suite
        return {
            **self.method.source_options(self.spec.preset, suite), **self.shared_options, **self.spec.source_options
        }  # fmt: skip

    @property
    def sources_see_states(self) -> bool:
        """Whether its sources show low-dimensional states alone."""
        return bool(self.sources) and read_value(self.source_options.get("env.observation")) == "state"


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

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines the result; its digest names the run."""
        planned, spec = self.planned, self.planned.spec
        revision, file = planned.method.revision, method_file(spec.method)
        return ({"revision": revision} if revision > 1 else {}) | {
            "protocol": PROTOCOL,
            "method": planned.method.family,
            "method_file": None if file is None else sha256_file(file),
            "target": planned.env.task,
            "env": planned.env.to_dict(),
            "source_digests": [source.digest for source in planned.source_specs()],
            "seed": spec.seed,
            "preset": spec.preset,
            "config": planned.config.identity(),
            "method_config": planned.settings.identity(),
            "dataset": self.dataset.fingerprint,
        }

    @property
    def id(self) -> str:
        return f"{self.stem}--{digest_of(self.identity)[:10]}"

    @property
    def stem(self) -> str:
        """The name without the digest."""
        spec, planned = self.planned.spec, self.planned
        names = [planned.method.name.replace(":", "-"), planned.env.task.replace("/", "-")]
        sources = [source.replace("/", "-") for source in planned.sources] or ["none"]
        origin = sources[0] if len(sources) == 1 else f"{len(sources)}-sources"
        return "--".join([*names, origin, f"s{spec.seed}"])

    @property
    def config(self) -> dict[str, Any]:
        """What `config.json` holds: the identity, and who it is in words."""
        planned = self.planned
        return self.identity | {"method": planned.method.name, "schema": SCHEMA, "run": self.id} | planned.words
