"""CoWorld's target update as an unmodified checkout of the authors' released code does it: the folder is the user's.

Its modules have names that anyone's may have (`models`, `tools`) and import packages that an update never calls. They are
imported beside stand-ins for those packages, and nothing of it stays where other code could see it.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
import yaml

from coworld_bench.benchmarks.released import checked_distributions
from coworld_bench.config import Config
from coworld_bench.data.memory import Batch
from coworld_bench.errors import UsageError

FILES = ("co_training.py", "models.py", "networks.py", "tools.py", "co_configs.yaml")
UNUSED = ("PIL", "exploration", "ruamel", "ruamel.yaml", "torch.utils.tensorboard", "wandb", "wrappers")  # by an update


class Checkout(NamedTuple):
    """The class of its agents, and its settings for Meta-World by name."""

    dreamer: Any
    settings: dict[str, Any]


class PeerUpdate:
    """Updates of its target agent beside its frozen source agent: our sizes, its settings otherwise, float32 on the CPU."""

    def __init__(self, folder: Path, config: Config, action: int) -> None:
        checkout = load(folder)
        with deprecated():
            self.agent, self.source = (
                checkout.dreamer(arguments(checkout.settings, config, action, source)) for source in (False, True)
            )
        for agent in (self.agent, self.source):
            agent.requires_grad_(False)  # its updates switch on what they train
        self.agent._wm._tg_wm = self.source._wm  # `_tg_` is the other domain's, here the source's
        self.agent._task_behavior._tg_behavior = self.source._task_behavior

    def __call__(self, batch: Batch) -> None:
        with deprecated(), checked_distributions():
            self.agent._train({"image": batch.image, "action": batch.action, "reward": batch.reward})


def load(folder: Path) -> Checkout:
    """The checkout in `folder`. Raises UsageError where there is none, or none that can be imported."""
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UsageError(
            f"--peer {folder} has no {missing[0]}; it takes the folder of a checkout of github.com/qiwang067/CoWorld"
        )
    try:
        with isolated(folder), deprecated():
            dreamer = importlib.import_module("co_training").Dreamer
        written = yaml.safe_load((folder / "co_configs.yaml").read_text())
        settings = {name: plain(value) for part in ("defaults", "metaworld") for name, value in written[part].items()}
    except Exception as error:  # files of others can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"--peer {folder} is no checkout of the released code that can be imported: {reason}") from error
    return Checkout(dreamer, settings)


@contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """Inside, `folder`'s modules come first; afterwards modules, path and environment are as before, and no file is new."""
    names = {path.stem for path in folder.glob("*.py")} | set(UNUSED)
    ours = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path, environment, without_bytecode = list(sys.path), dict(os.environ), sys.dont_write_bytecode
    sys.modules.update({name: Unused(name) for name in UNUSED})
    sys.path.insert(0, str(folder.resolve()))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(ours)
        sys.path[:], sys.dont_write_bytecode = path, without_bytecode
        os.environ.clear()
        os.environ.update(environment)


class Unused(ModuleType):
    """Stands in for a module: every name can be imported from it, and is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def deprecated() -> Iterator[None]:
    """Its code is of 2023: torch says of every update what has new names since."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def arguments(settings: dict[str, Any], config: Config, action: int, source: bool) -> SimpleNamespace:
    """What its agents read: they replace some of it, so each gets its own."""
    model = config.model
    sizes = {
        "cnn_depth": model.depth,
        "dyn_stoch": model.stoch,
        "dyn_deter": model.deter,
        "dyn_hidden": model.hidden,
        "units": model.units,
        "reward_layers": model.reward_layers,
        "value_layers": model.value_layers,
        "actor_layers": model.actor_layers,
        "imag_horizon": config.behaviour.horizon,
        "num_actions": action,
    }
    here = {"device": "cpu", "precision": 32, "act": getattr(torch.nn, settings["act"]), "step": 0}
    stage = {"sc_domain": source, "pre_train": False}  # after pre-training: the source encoder's alignment is on
    return SimpleNamespace(**(settings | sizes | here | stage))


def plain(value: Any) -> Any:
    """A setting as its code expects it: tuples for lists, and numbers where YAML 1.1 sees a word (`3e-4`)."""
    if isinstance(value, list):
        return tuple(value)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
