"""Plans: which cells make a table of the paper, read from `reports/plans/*.toml` or a file of the user's own.

title = "Table 2: Meta-World, medium-replay"
quality = "medium-replay"
methods = ["offline_dv2", "coworld"]
seeds = { smoke = [0], quick = [0, 1, 2], paper = [0, 1, 2] }
published = "table02.csv"                   # optional: a file of reports/published
figures = ["heatmap", "curves"]             # optional: what its report draws (default: curves)
panels = { "a" = ["offline_dv2"], "b" = ["coworld"] } # optional: rows whose curves share a panel, by its name
options.quick = { "budget.updates" = 3000 } # optional: settings on top of a preset
[arms.no_max]                               # optional: a row of its own, a method of the plan under other settings
method = "coworld"
label = "CoWorld w/o max"
options = { "coworld.alpha" = 0 }
[[cells]]
target = "metaworld/door_close"
source = "metaworld/button_press"           # left out where no method of the plan has a source
candidates = ["metaworld/window_close"]     # optional: what methods with many sources choose from (default: source)
label = "sparse"                            # optional: what tells this column from others of the same tasks
target_options = { "env.action_noise" = 1 } # optional: of the target's environment alone
source_options = { "env.sparse" = true }    # optional: of the source agent alone
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from coworld_bench.config import PRESETS
from coworld_bench.errors import UsageError, unknown
from coworld_bench.paths import shipped
from coworld_bench.seeding import MAX_SEED
from coworld_bench.tasks import find_task

FIGURES = {  # what a report can draw, in the order of its pages; each is a file of `reporting/figures/`
    "heatmap": "source × target, CoWorld's return over Offline DV2's",
    "curves": "return against updates",
    "profiles": "fraction of runs above each normalised score, and the IQM of every method",
    "values": "value predicted minus realised",
    "sweeps": "return against a setting that the plan's arms change",
    "rollouts": "pictures of an episode of the final policy",
    "latents": "where encoders put pictures of data, policy and source",
}
Options = tuple[tuple[str, str], ...]  # sorted, so that cells can be compared


@dataclass(frozen=True)
class Cell:
    """One column of a table: the offline target, and the source that methods which transfer start from."""

    target: str
    source: str | None = None
    candidates: tuple[str, ...] = ()
    label: str = ""
    target_options: Options = ()
    source_options: Options = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", find_task(self.target).id)
        object.__setattr__(self, "candidates", tuple(find_task(task).id for task in self.candidates))
        if self.source is not None:
            object.__setattr__(self, "source", find_task(self.source).id)

    @property
    def code(self) -> str:
        """`BP → DC*` in the paper's codes, and the label."""
        target = find_task(self.target).code
        pair = f"{find_task(self.source).code} → {target}" if self.source else target
        return f"{pair} ({self.label})" if self.label else pair

    @property
    def many_sources(self) -> tuple[str, ...]:
        """What a method with many sources is given."""
        return self.candidates or ((self.source,) if self.source else ())

    @property
    def plain(self) -> bool:
        """Whether its environments are the preset's."""
        return not (self.target_options or self.source_options)


@dataclass(frozen=True)
class Arm:
    """A row of a plan: a method under settings of its own, under every preset or under some."""

    method: str
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    by_preset: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def options_of(self, preset: str) -> dict[str, str]:
        return {**self.options, **self.by_preset.get(preset, {})}


@dataclass(frozen=True)
class Plan:
    """Rows × cells × seeds under one dataset quality. `methods` names the rows: methods, or `arms`. `seeds` and `options`
    are by preset."""

    name: str
    title: str
    quality: str
    methods: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    cells: tuple[Cell, ...]
    published: str | None = None
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    arms: Mapping[str, Arm] = field(default_factory=dict)
    figures: tuple[str, ...] = ("curves",)
    panels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def arm(self, name: str) -> Arm:
        """The row of this name: one of `arms`, or a method as it is."""
        return self.arms.get(name, Arm(name))

    def seeds_of(self, preset: str) -> tuple[int, ...]:
        """The planned seeds; raises UsageError for a preset this plan says nothing of."""
        if preset not in self.seeds:
            raise UsageError(
                f"plan {self.name} names no seeds for preset {preset}, only for {', '.join(self.seeds)}; give --seeds"
            )
        return self.seeds[preset]

    def options_of(self, preset: str) -> dict[str, str]:
        return dict(self.options.get(preset, {}))


def list_plans() -> list[str]:
    """The names of the shipped plans, table 2 before table 10."""
    found = (path.stem for path in (shipped("reports") / "plans").glob("*.toml"))
    return sorted(found, key=lambda name: [part.zfill(3) for part in re.findall(r"\d+|\D+", name)])


def load_plan(name: str) -> Plan:
    """A shipped plan by name, or the user's own by the path of its TOML file.

    Raises UsageError for an unknown name, an unknown key, or a value that cannot be."""
    path = Path(name).expanduser() if name.endswith(".toml") else shipped("reports") / "plans" / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise UsageError(f"there is no file {path}")
        raise unknown("plan", name, list_plans(), "coworld-bench list plans")
    try:
        written = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"plan {path} is not valid TOML: {error}") from error
    return parse_plan(path.stem, written)


def parse_plan(name: str, written: Mapping[str, Any]) -> Plan:
    """The plan that a TOML table writes."""
    _refuse_unknown_keys(name, written, {entry.name for entry in fields(Plan)} - {"name"})
    return Plan(
        name=name,
        title=_text(name, written, "title"),
        quality=_text(name, written, "quality"),
        methods=_methods(name, written.get("methods")),
        seeds=_seeds(name, written.get("seeds")),
        cells=_cells(name, written.get("cells")),
        published=_published(name, written.get("published")),
        options=_options(name, written.get("options", {})),
        arms=_arms(name, written.get("arms", {}), written.get("methods")),
        figures=_figures(name, written.get("figures", ["curves"])),
        panels=_panels(name, written.get("panels", {}), written.get("methods")),
    )


def _refuse_unknown_keys(name: str, written: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in written:
        if key not in known:
            raise unknown(f"key in plan {name}:", key, known)


def _text(name: str, written: Mapping[str, Any], key: str) -> str:
    value = written.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"plan {name} needs {key} = a text; got {value!r}")
    return value


def _methods(name: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(method, str) for method in given):
        raise UsageError(f"plan {name} needs methods = a list of names; got {given!r}")
    return tuple(dict.fromkeys(given))


def _seeds(name: str, given: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(given, dict) or not given:
        raise UsageError(f"plan {name} needs seeds = {{ quick = [0, 1, 2], … }}; got {given!r}")
    for preset, seeds in given.items():
        _check_preset(preset)
        if not isinstance(seeds, list) or not seeds or not all(_is_seed(seed) for seed in seeds):
            raise UsageError(f"plan {name}: seeds of {preset} must be whole numbers in [0, {MAX_SEED}); got {seeds!r}")
    return {preset: tuple(dict.fromkeys(seeds)) for preset, seeds in given.items()}


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SEED


def _check_preset(preset: str) -> None:
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")


def _cells(name: str, given: Any) -> tuple[Cell, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(cell, dict) for cell in given):
        raise UsageError(f"plan {name} needs at least one [[cells]] with a target; got {given!r}")
    for cell in given:
        _refuse_unknown_keys(name, cell, [entry.name for entry in fields(Cell)])
    return tuple(dict.fromkeys(_cell(name, cell) for cell in given))


def _cell(name: str, given: Mapping[str, Any]) -> Cell:
    texts = {key: given[key] for key in ("target", "source", "label") if key in given}
    candidates = given.get("candidates", [])
    target_options, source_options = given.get("target_options", {}), given.get("source_options", {})
    if "target" not in given or not all(isinstance(text, str) for text in [*texts.values(), *candidates]):
        raise UsageError(f"plan {name}: a cell is target = 'suite/task' and perhaps source; got {given!r}")
    if not isinstance(target_options, dict) or not isinstance(source_options, dict):
        raise UsageError(f"plan {name}: options of a cell are {{ 'env.sparse' = true }}; got {given!r}")
    for key in target_options:
        if not key.startswith("env."):
            raise UsageError(f"plan {name}: target_options are of the environment, env.…; got {key}")
    return Cell(
        **texts,
        candidates=tuple(candidates),
        target_options=_pairs(target_options),
        source_options=_pairs(source_options),
    )


def _pairs(options: Mapping[str, Any]) -> Options:
    return tuple((key, _as_option(value)) for key, value in sorted(options.items()))


def _arms(name: str, given: Any, methods: Any) -> dict[str, Arm]:
    if not isinstance(given, dict):
        raise UsageError(f"plan {name}: arms are written [arms.NAME] with a method; got {given!r}")
    for arm, written in given.items():
        _refuse_unknown_keys(name, written, [entry.name for entry in fields(Arm)])
        if not isinstance(written.get("method"), str) or arm not in (methods or ()):
            raise UsageError(f"plan {name}: arm {arm} needs a method, and its name among the plan's methods")
    return {arm: _arm(name, written) for arm, written in given.items()}


def _arm(name: str, written: Mapping[str, Any]) -> Arm:
    options = {key: _as_option(value) for key, value in written.get("options", {}).items()}
    return Arm(written["method"], written.get("label", ""), options, _options(name, written.get("by_preset", {})))


def _published(name: str, given: Any) -> str | None:
    known = sorted(path.name for path in (shipped("reports") / "published").glob("*.csv"))
    if given is not None and given not in known:
        raise unknown(f"published table (plan {name})", str(given), known)
    return given


def _figures(name: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise UsageError(f"plan {name}: figures is a list of names; got {given!r}")
    for figure in given:
        if figure not in FIGURES:
            raise unknown(f"figure (plan {name})", str(figure), FIGURES)
    return tuple(dict.fromkeys(given))


def _panels(name: str, given: Any, methods: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict) or not all(isinstance(rows, list) and rows for rows in given.values()):
        raise UsageError(f"plan {name}: panels are lists of methods by name, panels.a = ['coworld']; got {given!r}")
    for row in (row for rows in given.values() for row in rows):
        if row not in methods:
            raise unknown(f"method in plan {name} for panels:", str(row), methods)
    absent = [method for method in methods if given and not any(method in rows for rows in given.values())]
    if absent:
        raise UsageError(f"plan {name}: panels must show every method of the plan; none of them has {', '.join(absent)}")
    return {group: tuple(dict.fromkeys(rows)) for group, rows in given.items()}


def _options(name: str, given: Any) -> dict[str, dict[str, str]]:
    if not isinstance(given, dict) or not all(isinstance(options, dict) for options in given.values()):
        raise UsageError(
            f"plan {name}: options are by preset, options.quick = {{ 'budget.updates' = 3000 }}; got {given!r}"
        )
    for preset in given:
        _check_preset(preset)
    return {preset: {key: _as_option(value) for key, value in group.items()} for preset, group in given.items()}


def _as_option(value: Any) -> str:
    """The text that `-o key=…` would hold for this value."""
    return value if isinstance(value, str) else json.dumps(value)
