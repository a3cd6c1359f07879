"""The settings of a run: frozen, complete, and refusing any key that does not exist.

`resolve` lays a preset, the suite's differences and the user's `-o key=value` on top of each other; everything after it
only reads. What is particular to a method is a `Settings` of its own in the method's file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import sha256_file, while_unchanged
from coworld_bench.tasks import EnvSpec, find_task

S = TypeVar("S", bound="Settings")
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Minutes = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
FILE = "sha256:"  # what stands in a result for a file begins so
sha256_of = while_unchanged(sha256_file)


def content_of(path: Path) -> str:
    """What stands in a result for a file of the user's. Raises UsageError where there is none."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    return FILE + sha256_of(path)


class Settings(BaseModel):
    """A frozen group of settings; no number of it is infinite or not a number.

    `later` names those that came after results were stored: they name a run only where they differ from their default.
    `files` names those that are a file of the user's, each with the words that are none: what is in the file names a run,
    and where it lies is stored nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """The settings that name a run."""
        usual = {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
        content = {name: content_of(path) for name, path in self.given_files().items()}
        return {name: value for name, value in (self.to_dict() | content).items() if name not in usual}

    def given_files(self) -> dict[str, Path]:
        """The files of the user's, by setting."""
        given = {name: getattr(self, name) for name, words in self.files.items() if getattr(self, name) not in words}
        return {name: Path(path).expanduser() for name, path in given.items()}

    def check(self) -> None:
        """Raises UsageError where a run with these settings could not be done. Asked before any work."""


class EnvConfig(Settings):
    """The environment that data is collected and policies are judged in; `EnvSpec` says what each option does."""

    action_repeat: Natural = 0  # frames per decision; 0: the paper's for the task
    profile: str = "fast"
    unit_reward: bool = False  # train on rewards divided by the largest reward of one decision
    rewards: Literal["upstream", "fixed"] = "upstream"
    sparse: bool = False
    action_noise: Weight = 0.0
    background: str = ""
    observation: Literal["image", "state"] = "image"  # `state`: for a source alone, whose agent then sees no pictures

    def spec(self, task: str) -> EnvSpec:
        """The environment of `task`. Raises UsageError where the task has no such option."""
        return EnvSpec(task, **self.model_dump(exclude={"unit_reward"}))


class ModelConfig(Settings):
    """The world model; defaults are preset `code` of the released implementation."""

    encoder: Literal["cnn", "patch"] = "cnn"  # `patch` is not the paper's network; quick and smoke use it
    depth: Count = 32
    latent: Literal["gaussian", "categorical"] = "gaussian"
    stoch: Count = 50
    classes: Count = 32  # of each categorical
    deter: Count = 200
    hidden: Count = 200
    units: Count = 400
    reward_layers: Natural = 2
    value_layers: Natural = 3
    actor_layers: Natural = 4
    gru_norm: bool = False
    kl_scale: Weight = 1.0
    kl_balance: Share = 0.8  # on the side that trains the prior
    free_nats: Weight = 1.0
    reward_loss: Weight = 1.0
    state_loss: Weight = 1.0  # of agents that see states alone: their Gaussian then has the variance 1 / state_loss
    lr: Rate = 3e-4


class BehaviourConfig(Settings):
    discount: float = Field(default=0.99, gt=0, lt=1)
    trace: Share = 0.95  # lambda of the lambda-return
    horizon: int = Field(default=15, ge=2)
    starts: Natural = 0  # imagination starts drawn from the batch's states; 0: all of them
    indexing: Literal["code", "dv2"] = "code"  # which imagined rows are targets
    entropy: Weight = 1e-4
    actor_lr: Rate = 8e-5
    critic_lr: Rate = 8e-5
    slow_every: Count = 100  # updates between hard copies of the critic


class OptimiserConfig(Settings):
    eps: Rate = 1e-5
    clip: Rate = 100.0


class BatchConfig(Settings):
    size: Count = 50
    length: int = Field(default=50, ge=2)


class OnlineConfig(Settings):
    """DreamerV2 in an environment: the collector and the source agents."""

    prefill: Count = 5000  # env steps of random actions
    prefill_hold: Count = 1  # env steps for which a random action is held
    prefill_successes: Natural = 0  # go on prefilling until so many episodes succeeded ...
    prefill_limit: Natural = 0  # ... or so many env steps are prefilled
    pretrain: Natural = 100  # updates before the first decision of the agent
    train_every: Count = 5  # env steps per update
    entropy: Weight = 1e-4
    entropy_final: Weight = 1e-4
    entropy_updates: Natural = 0  # the entropy scale moves to its final value over so many updates
    env_steps: Count = 500_000  # the budget of `collect`
    source_env_steps: Count = 35_000  # the budget of a source agent before co-training, prefill included
    evaluate_every: Count = 10_000  # env steps
    evaluate_episodes: Count = 10
    workers: Natural = 0  # environment processes that act together; 0 and 1: none, and no part of a name


class BudgetConfig(Settings):
    """Target updates of every method: the warm-up counts, so that all get the same."""

    warmup: Natural = 20_000  # world-model updates before the first behaviour update
    updates: Count = 80_000  # world-model updates in all

    @model_validator(mode="after")
    def _behaviour_is_learnt(self) -> BudgetConfig:
        if self.warmup >= self.updates:
            raise ValueError(f"warmup {self.warmup} must be less than updates {self.updates}, or no behaviour is learnt")
        return self


class EvaluationConfig(Settings):
    """When the policy is evaluated; the score is the mean over the checkpoints of the last half."""

    early_every: Count = 10_000  # updates, in the first half of training
    every: Count = 2_000  # updates, in the last half
    episodes: Count = 10  # per checkpoint


NEUTRAL = "memory", "checkpoint_minutes"  # of `compute`: they change no number of a run
NEUTRAL_OPTIONS = frozenset(f"compute.{name}" for name in NEUTRAL)


class ComputeConfig(Settings):
    """How the same mathematics is computed. At its defaults it is no part of what names a run; NEUTRAL ones never are."""

    plain: bool = False  # simple loops differentiated by autograd: the slow oracle of the fast code
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of convolutions and heads; auto: bfloat16 on CUDA
    compile: bool = False  # fuse elementwise work with torch.compile; pays on CUDA, needs a compiler
    graph: bool = True  # on CUDA, replay a whole update as one CUDA graph
    memory: Literal["auto", "ram", "packed", "shared"] = "auto"  # where a dataset's pictures lie; batches are the same
    checkpoint_minutes: Minutes = 5.0  # between two checkpoints; there is one at every evaluation as well


class Config(Settings):
    preset: str = "paper"
    env: EnvConfig = EnvConfig()
    model: ModelConfig = ModelConfig()
    behaviour: BehaviourConfig = BehaviourConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    batch: BatchConfig = BatchConfig()
    online: OnlineConfig = OnlineConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    compute: ComputeConfig = ComputeConfig()

    def identity(self) -> dict[str, Any]:
        """The settings that name a run: all but those of `compute` that change no number, and those that came later only
        where they were changed: `compute`, `online.workers`, the options of the environment that `env` names in full
        beside them, and `model.state_loss`, which the digest of such an agent has."""
        named = self.to_dict()
        for name in ("rewards", "sparse", "action_noise", "background", "observation"):
            del named["env"][name]
        del named["model"]["state_loss"]
        for name in NEUTRAL:
            del named["compute"][name]
        if named["compute"] == {name: value for name, value in ComputeConfig() if name in named["compute"]}:
            del named["compute"]
        if self.online.workers <= 1:
            del named["online"]["workers"]
        return named

    def part(self, *groups: str) -> dict[str, Any]:
        """These groups of the settings that name a run."""
        return {group: settings for group, settings in self.identity().items() if group in groups}


CODE_ON_DMC: dict[str, Any] = {"gru_norm": True, "reward_loss": 2.0}
# World models by name, as differences from the defaults above: `-o model=NAME` puts one in the place of the whole group
# `model`. How many prior heads there are is each method's own.
WORLD_MODELS: dict[str, dict[str, Any]] = {
    "code": {},  # the released configuration: preset paper's
    "table8": {  # the paper's Table 8; what it does not print is DreamerV2's, whose table for Atari it otherwise is
        "latent": "categorical", "stoch": 32, "classes": 32, "deter": 600, "hidden": 600, "depth": 48, "gru_norm": True,
        "reward_layers": 4, "value_layers": 4, "actor_layers": 4, "free_nats": 0.0, "reward_loss": 1.0, "lr": 2e-4,
    },
    "dv2_dmc": {  # DreamerV2's `dmc_vision`, as Offline DV2 uses it
        "latent": "categorical", "stoch": 32, "classes": 32, "depth": 48, "gru_norm": True,
        "reward_layers": 4, "value_layers": 4, "actor_layers": 4, "reward_loss": 1.0,
    },
}  # fmt: skip
# What each preset changes of the defaults above, then what a suite changes of that.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"env": {"profile": "exact"}},
    "quick": {
        "env": {"action_repeat": 2, "profile": "fast", "unit_reward": True},
        "model": {
            "encoder": "patch", "depth": 8, "latent": "categorical", "stoch": 8, "classes": 8, "deter": 128,
            "hidden": 128, "units": 128, "reward_layers": 2, "value_layers": 2, "actor_layers": 2,
            "reward_loss": 50.0, "lr": 1e-3,
        },
        "behaviour": {
            "horizon": 10, "starts": 64, "entropy": 5e-3, "actor_lr": 3e-4, "critic_lr": 5e-4, "slow_every": 50,
        },
        "batch": {"size": 16, "length": 16},
        "online": {
            "prefill": 1250, "entropy": 1e-3, "entropy_final": 1e-3,
            "env_steps": 20_000, "source_env_steps": 4_500, "evaluate_every": 1_000, "evaluate_episodes": 4,
        },
        "budget": {"warmup": 150, "updates": 1500},
        "evaluation": {"early_every": 375, "every": 75, "episodes": 2},
    },
    "smoke": {
        "env": {"action_repeat": 20, "profile": "fast", "unit_reward": True},
        "model": {
            "encoder": "patch", "depth": 4, "latent": "categorical", "stoch": 4, "classes": 4, "deter": 32,
            "hidden": 32, "units": 32, "reward_layers": 1, "value_layers": 1, "actor_layers": 1, "lr": 1e-3,
        },
        "behaviour": {"horizon": 5, "starts": 16, "actor_lr": 3e-4, "critic_lr": 5e-4, "slow_every": 5},
        "batch": {"size": 4, "length": 8},
        "online": {
            "prefill": 200, "pretrain": 2, "train_every": 25, "env_steps": 400, "source_env_steps": 100,
            "evaluate_every": 100, "evaluate_episodes": 1,
        },
        "budget": {"warmup": 2, "updates": 8},
        "evaluation": {"early_every": 4, "every": 4, "episodes": 1},
    },
}  # fmt: skip
SUITES: dict[tuple[str, str], dict[str, Any]] = {
    ("paper", "dmc"): {
        "model": CODE_ON_DMC,
        "online": {"prefill": 2500, "source_env_steps": 17_500, "evaluate_every": 5_000},
        # 10,000 world-model updates, then 30 epochs of 2,000 (methods page 2.2: the released 6 fall short of the paper)
        "budget": {"warmup": 10_000, "updates": 70_000},
    },
    ("smoke", "toy"): {"env": {"action_repeat": 1}},
    ("quick", "toy"): {"env": {"action_repeat": 1}},
}


def resolve(preset: str, suite: str, options: Mapping[str, str] | None = None) -> Config:
    """The complete settings of `preset` on `suite`, with the `options` that `override` takes, such as `model.deter=200`.

    Raises UsageError for an unknown preset or key, or a value of the wrong type."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
    layers = merge(PRESETS[preset], SUITES.get((preset, suite), {}))
    return override(Config.model_validate({"preset": preset, **layers}), options or {}, suite)


def world_model(name: str, suite: str = "") -> ModelConfig:
    """The world model of this name, on `suite`. Raises UsageError, with the names there are, for another."""
    if name not in WORLD_MODELS:
        raise unknown("world model", name, WORLD_MODELS, "coworld-bench list presets")
    on_suite = CODE_ON_DMC if (name, suite) == ("code", "dmc") else {}
    return ModelConfig.model_validate({**WORLD_MODELS[name], **on_suite})


def usual_env(task: str, preset: str) -> EnvSpec:
    """The environment of a task under a preset, without options."""
    found = find_task(task)
    return resolve(preset, found.suite).env.spec(found.id)


def need_pictures(config: Config) -> None:
    """Raises UsageError where the environment would show none."""
    if config.env.observation != "image":
        raise UsageError(
            "datasets and their tasks have pictures, so env.observation must be image; state is for source agents alone, "
            "as an option of theirs: --source-option env.observation=state"
        )


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`, group by group."""
    merged = dict(base)
    for key, value in top.items():
        merged[key] = merge(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


def override(settings: S, options: Mapping[str, str], suite: str = "") -> S:
    """`settings` with dotted keys replaced; text is read as JSON where it is JSON, else taken as it is.

    `model` names a world model that takes the place of the whole group, on `suite`, before any dotted key."""
    values = settings.model_dump()
    if "model" in options and isinstance(settings, Config):
        values["model"] = world_model(options["model"], suite).model_dump()
        options = {key: text for key, text in options.items() if key != "model"}
    for key, text in options.items():
        if key == "preset":
            raise UsageError("the preset is chosen with --preset, it is no option")
        group: Any = values
        *path, last = key.split(".")
        for part in path:
            group = group.get(part) if isinstance(group, dict) else None
        if not isinstance(group, dict) or last not in group or isinstance(group[last], dict):
            raise unknown("setting", key, keys(settings), "coworld-bench list settings")
        group[last] = read_value(text)
    return validated(type(settings), values)


def validated(kind: type[S], values: Mapping[str, Any]) -> S:
    """Settings of these values. Raises UsageError that names the first which is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        given = "" if isinstance(first["input"], dict) else f"={first['input']!r}"
        raise UsageError(f"setting {key}{given}: {first['msg'].removeprefix('Value error, ').lower()}") from error


def read_value(text: Any) -> Any:
    """The value that `text` writes: a JSON value where it is one, else the text itself."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def keys(settings: Settings, prefix: str = "") -> list[str]:
    """The dotted name of every setting, in order."""
    names: list[str] = []
    for name in type(settings).model_fields:
        if name == "preset":
            continue
        value = getattr(settings, name)
        names += keys(value, f"{prefix}{name}.") if isinstance(value, Settings) else [prefix + name]
    return names


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups as one dictionary with dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def parse_options(pairs: list[str]) -> dict[str, str]:
    """`["a.b=1", …]` as a dict. Raises UsageError for an item without `=`."""
    options = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"an option is written key=value; got {pair!r}")
        options[key.strip()] = value.strip()
    return options
