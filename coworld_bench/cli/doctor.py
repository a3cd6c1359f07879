"""`doctor`: whether this machine can do the work."""

from __future__ import annotations

from coworld_bench.cli.common import Data, Json, Runs, opened, show, table
from coworld_bench.errors import NOT_USABLE, OK


def doctor(runs: Runs = None, data: Data = None, json: Json = False) -> int:
    """Check Python, packages, OpenGL, CUDA, RoboDesk and disk; exit code 4 where a needed part is missing."""
    from coworld_bench.health import examine
    from coworld_bench.paths import data_home, runs_home

    checks = examine(data_home(data), runs_home(opened(runs)))
    rows = [[check.name, check.verdict, check.detail] for check in checks]
    usable = not any(check.needed and not check.ok for check in checks)
    document = {"schema": 1, "usable": usable, "checks": [{**vars(check), "verdict": check.verdict} for check in checks]}
    show(table(rows, ["part", "state", "detail"]), document, json)
    return OK if usable else NOT_USABLE
