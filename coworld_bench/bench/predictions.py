"""What a job will take where nothing like it was measured, from counts: launches and arithmetic of its updates, env steps
that are drawn, bytes of states and episodes.

An update takes `launches * launch_s + arithmetic / flops`; `bench sizes` counts both for every method and kind of turn, and
weighs states and processes. Drawing is counted as software does it: what a GPU's driver takes was never measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from coworld_bench.alternating import ScheduleSettings, schedule
from coworld_bench.anchors import SEARCH
from coworld_bench.collecting import CollectSpec
from coworld_bench.config import Config
from coworld_bench.files import read_json
from coworld_bench.lompo import LompoSettings
from coworld_bench.paths import shipped
from coworld_bench.run_spec import PlannedRun
from coworld_bench.sources import SourceSpec
from coworld_bench.tasks import EnvSpec, find_task

PLAIN = "dv2_finetune"  # DreamerV2 as it is: what collectors and source agents do, and what unknown methods are taken for
KEPT = 2  # checkpoints of a run
PIXELS = 3 * 64 * 64  # bytes of a decoded row
RUN_FILES = 150_000  # bytes: result, logs, the pictures of an episode
PROCESS_MB = 340  # of a process before it learns anything
CONTEXT_BYTES = 500_000_000  # what CUDA takes before any tensor; a rule of thumb
# Frames per CPU-second in software, medians of `bench render` over the paper's tasks; toy: physics and picture together.
FRAMES_PER_S = {
    ("metaworld", "exact"): 5.3, ("metaworld", "near"): 53.0, ("metaworld", "fast"): 148.0,
    ("robodesk", "exact"): 1.4, ("robodesk", "near"): 29.5, ("robodesk", "fast"): 75.5,
    ("dmc", "exact"): 27.0, ("dmc", "near"): 191.0, ("dmc", "fast"): 727.0,
}  # fmt: skip
TOY_FRAMES_PER_S = 2000.0
# Bytes of a stored row, pictures compressed, of random actions; datasets of preset quick have 1,160 to 1,500.
ROW_BYTES = {
    ("metaworld", "exact"): 1600, ("metaworld", "near"): 1600, ("metaworld", "fast"): 1230,
    ("robodesk", "exact"): 1790, ("robodesk", "near"): 1790, ("robodesk", "fast"): 1620,
    ("dmc", "exact"): 2400, ("dmc", "near"): 2400, ("dmc", "fast"): 1680,
}  # fmt: skip
TOY_ROW_BYTES = 900


@dataclass(frozen=True)
class Machine:
    """What updates are done on: seconds that a launch takes, and what arithmetic is done in a second."""

    name: str
    launch_s: float
    flops: float


CPU = Machine("one CPU core", 27e-6, 55e9)  # fits `bench train` at sizes quick and P, float32
# Launches inside a CUDA graph; half of what the makers print for bfloat16 with dense matrices: 790 and 165 TFLOP/s.
GPUS = {"H200": Machine("H200", 2.5e-6, 395e12), "4090": Machine("RTX 4090", 2.5e-6, 82e12)}


def this_machine(device: str) -> Machine:
    """What this machine is counted as; a GPU that is not in the table as the smaller one of it."""
    if device != "cuda":
        return CPU
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((machine for known, machine in GPUS.items() if known in name), GPUS["4090"])


@dataclass(frozen=True)
class Sizes:
    """One method under one preset, as `bench sizes` counted it: `turns` are (launches, arithmetic) of an update by kind."""

    turns: Mapping[str, tuple[int, float]]
    checkpoint_bytes: int
    row_bytes: int
    source_bytes: int
    memory_bytes: int


@cache
def all_sizes() -> dict[tuple[str, str], Sizes]:
    """By preset and method."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in read_json(shipped("reports") / "measured" / "bench" / "sizes.json")["rows"]:
        rows.setdefault((row["preset"], row["method"]), []).append(row)
    return {key: sizes_of(found) for key, found in rows.items()}


def sizes_of(rows: list[dict[str, Any]]) -> Sizes:
    """Of the rows of one method."""
    first = rows[0]
    turns = {row["turn"]: (row["launches"], 1e12 * row["tflop"]) for row in rows}
    checkpoint, source, memory = (int(1e6 * first[name]) for name in ("checkpoint_mb", "source_mb", "memory_mb"))
    return Sizes(turns, checkpoint, first["row_bytes"], source, memory)


def sizes(method: str, preset: str) -> Sizes:
    """Those of a method that is not in the table are the plain agent's."""
    known = all_sizes()
    return known.get((preset, method)) or known[preset, PLAIN]


@dataclass(frozen=True)
class Work:
    """Updates by kind of turn, and env steps with the environments that take them."""

    method: str
    preset: str
    turns: Mapping[str, int]
    env_steps: tuple[tuple[EnvSpec, int], ...]

    def update_s(self, machine: Machine) -> float:
        """Predicted seconds of all updates."""
        known = sizes(self.method, self.preset).turns
        each = {kind: launches * machine.launch_s + flop / machine.flops for kind, (launches, flop) in known.items()}
        return sum(count * each[kind] for kind, count in self.turns.items())

    @property
    def drawing_s(self) -> float:
        """Processor seconds of drawing all env steps in software."""
        return sum(steps / frames_per_s(env) for env, steps in self.env_steps)


def frames_per_s(env: EnvSpec) -> float:
    return FRAMES_PER_S.get((find_task(env.task).suite, env.profile), TOY_FRAMES_PER_S)


def work_of_run(planned: PlannedRun) -> Work:
    method, preset, config = planned.method.family, planned.spec.preset, planned.config
    kinds = sizes(method, preset).turns
    source_updates, source_steps = work_at_source(planned)
    steps = [
        (planned.env, checkpoints(config, total_updates(planned)) * config.evaluation.episodes * planned.env.env_steps)
    ]
    if source_steps:
        steps.append((planned.source_specs()[0].env, source_steps))
    turns = {kind: updates_of_kind(kind, set(kinds), planned, source_updates) for kind in kinds}
    return Work(method, preset, turns, tuple(steps))


def model_updates(planned: PlannedRun) -> tuple[int, int]:
    """World-model and behaviour updates of a method that has both."""
    budget = planned.config.budget
    extra = updates_of_second_phase(planned)
    return budget.updates, extra or budget.updates - budget.warmup


def total_updates(planned: PlannedRun) -> int:
    """What the learner counts to."""
    return planned.config.budget.updates + updates_of_second_phase(planned)


def updates_of_second_phase(planned: PlannedRun) -> int:
    """Of the behaviour, with a finished world model; 0 for methods without such a phase."""
    settings = planned.settings
    return int(getattr(settings, "behaviour_updates", 0)) if getattr(settings, "schedule", "") == "phased" else 0


def updates_of_kind(kind: str, kinds: set[str], planned: PlannedRun, source_updates: int) -> int:
    model, behaviour = model_updates(planned)
    if kind == "source":
        return source_updates
    if not any("world model" in other for other in kinds):
        return planned.config.budget.updates
    if "behaviour" in kind:
        return behaviour * (2 if phases_twice(planned) else 1)
    joint = any("world model" in other and "behaviour" in other for other in kinds)
    return model - behaviour if joint else model


def phases_twice(planned: PlannedRun) -> bool:
    """Whether it is LOMPO on the source's data and then on the target's, each with a phase of the behaviour."""
    return isinstance(planned.settings, LompoSettings) and bool(planned.sources) and bool(updates_of_second_phase(planned))


def work_at_source(planned: PlannedRun) -> tuple[int, int]:
    """Updates of the source agent inside the run, and env steps in its environment."""
    settings, config = planned.settings, planned.config
    if isinstance(settings, ScheduleSettings):
        steps = sum(block.amount for block in schedule(settings, config) if block.side == "source")
        return steps // config.online.train_every, steps
    if isinstance(settings, LompoSettings) and planned.sources:
        return getattr(settings, "source_updates", 0) or config.budget.updates, 0
    return 0, 0


def checkpoints(config: Config, total: int) -> int:
    """How often a run of so many updates is evaluated."""
    early, late = config.evaluation.early_every, config.evaluation.every
    half = total // 2
    return 1 + half // early + (total // late - half // late) + bool(total % late)


def work_of_source(spec: SourceSpec) -> Work:
    return online_work(spec.config, spec.env, spec.preset, spec.config.online.source_env_steps)


def work_of_collection(spec: CollectSpec) -> Work:
    """With all of its budget: the rule may end it earlier."""
    online, env = spec.config.online, spec.env
    work = online_work(spec.config, env, spec.preset, online.env_steps)
    judged = online.env_steps // online.evaluate_every * online.evaluate_episodes * env.env_steps
    return Work(work.method, work.preset, work.turns, (*work.env_steps, (env, judged)))


def online_work(config: Config, env: EnvSpec, preset: str, steps: int) -> Work:
    """DreamerV2 in its environment for so many env steps, the random ones at the beginning included."""
    learning = max(0, steps - config.online.prefill) // config.online.train_every
    updates = config.online.pretrain + learning
    return Work(PLAIN, preset, {"world model + behaviour": updates}, ((env, steps),))


def work_of_anchors(env: EnvSpec, preset: str) -> Work:
    candidates, tries, finalists, episodes, random_episodes, untrained = SEARCH[preset]
    played = candidates * tries + (finalists + 1) * episodes + random_episodes + untrained
    return Work(PLAIN, preset, {}, ((env, played * env.env_steps),))


def row_bytes(env: EnvSpec) -> int:
    return ROW_BYTES.get((find_task(env.task).suite, env.profile), TOY_ROW_BYTES)


def disk_of_run(planned: PlannedRun, rows: int) -> int:
    """Bytes that a run leaves, its dataset having so many rows: checkpoints, its sources' episodes, its files."""
    known, sources = sizes(planned.method.family, planned.spec.preset), planned.source_specs()
    more_sources = max(0, len(sources) - 1) * known.source_bytes
    state = known.checkpoint_bytes + more_sources + known.row_bytes * rows
    return KEPT * state + scratch_of_run(planned) + RUN_FILES


def scratch_of_run(planned: PlannedRun) -> int:
    """Bytes of what a run keeps beside its checkpoints: the source's episodes, old and new, or LOMPO's first phase."""
    sources, settings = planned.source_specs(), planned.settings
    known = sizes(planned.method.family, planned.spec.preset)
    if isinstance(settings, ScheduleSettings):
        new = work_at_source(planned)[1]
        steps = sum(source.config.online.source_env_steps for source in sources) + new
        return steps * row_bytes(sources[0].env)
    if isinstance(settings, LompoSettings) and sources:
        return known.checkpoint_bytes + known.row_bytes * sources[0].config.online.source_env_steps
    return 0


def disk_of_source(spec: SourceSpec) -> int:
    state = sizes(PLAIN, spec.preset).source_bytes
    return state + spec.config.online.source_env_steps * row_bytes(spec.env)


def disk_of_collection(spec: CollectSpec) -> int:
    return spec.config.online.env_steps * row_bytes(spec.env)


def memory_of_run(planned: PlannedRun, rows: int) -> tuple[int, int]:
    """Bytes at most on the host and on a GPU, where it learns there: networks, optimisers and an update, counted as float32
    on a CPU, and all pictures decoded."""
    known, in_source = sizes(planned.method.family, planned.spec.preset), source_rows(planned)
    episodes = PIXELS * (rows + in_source) + known.row_bytes * rows
    learning = max(0, known.memory_bytes - PROCESS_MB * 10**6)
    return known.memory_bytes + episodes, learning + CONTEXT_BYTES + episodes


def source_rows(planned: PlannedRun) -> int:
    """Rows of the sources' experience that a run holds in memory."""
    settings = planned.settings
    if not planned.sources or not isinstance(settings, ScheduleSettings | LompoSettings):
        return 0
    own = sum(source.config.online.source_env_steps for source in planned.source_specs())
    return own + work_at_source(planned)[1]


def memory_of_agent(preset: str, rows: int) -> tuple[int, int]:
    """The same of a collector or source agent that has collected so many rows."""
    process = sizes(PLAIN, preset).memory_bytes
    return process + PIXELS * rows, max(0, process - PROCESS_MB * 10**6) + CONTEXT_BYTES + PIXELS * rows
