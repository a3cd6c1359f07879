"""coworld-bench: datasets and a benchmark harness for offline visual reinforcement learning with transfer.

    import coworld_bench

    env = coworld_bench.make_env("metaworld/button_press")
    dataset = coworld_bench.open_dataset("metaworld/button_press/medium-replay-quick")
    coworld_bench.run("quickstart")

Importing this loads neither torch nor a simulator: each name is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coworld_bench.api import evaluate, train
    from coworld_bench.bench.opened import report
    from coworld_bench.bench.run import run
    from coworld_bench.collecting import collect
    from coworld_bench.data.dataset import open_dataset
    from coworld_bench.envs import make_env
    from coworld_bench.methods import load_method

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "collect",
    "evaluate",
    "load_method",
    "make_env",
    "open_dataset",
    "report",
    "run",
    "train",
]

HOMES = {
    "collect": "coworld_bench.collecting",
    "evaluate": "coworld_bench.api",
    "load_method": "coworld_bench.methods",
    "make_env": "coworld_bench.envs",
    "open_dataset": "coworld_bench.data.dataset",
    "report": "coworld_bench.bench.opened",
    "run": "coworld_bench.bench.run",
    "train": "coworld_bench.api",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
