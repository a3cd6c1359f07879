"""`bench`: how fast the parts of the project are here, beside what users have today."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from coworld_bench.cli.common import Json, names, show, table
from coworld_bench.errors import UsageError, unknown

MODULES = {
    "train": "training",
    "scan": "scanning",
    "render": "rendering",
    "collect": "collecting",
    "data": "data",
    "evaluate": "evaluating",
    "growth": "growth",
    "faults": "faults",
    "kills": "kills",
    "executors": "executors",
    "report": "reporting",
    "sizes": "sizes",
    "plans": "plans",
    "scale": "scaling",
}


def bench(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(MODULES)}.")],
    sizes: Annotated[
        str | None,
        typer.Option(
            help="For train and scan: a,b of quick, XS, S, P, T8; for sizes and plans: presets; for scale: numbers."
        ),
    ] = None,
    arms: Annotated[str | None, typer.Option(help="For train: a,b of released, plain, fast, bfloat16, compiled.")] = None,
    peer: Annotated[Path | None, typer.Option(help="For train: a checkout of the released code, as one more arm.")] = None,
    method: Annotated[
        str | None, typer.Option(help="For train and sizes: these methods, a,b or all, turn by turn.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="For render: suite/name,…")] = None,
    episodes: Annotated[int | None, typer.Option(min=2, help="For data: how many.")] = None,
    dataset: Annotated[str | None, typer.Option(help="For data: whose episodes, instead of drawn ones.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds of measurement.")] = None,
    out: Annotated[Path, typer.Option(help="Where the table is stored.")] = Path("reports/measured/bench"),
    json: Json = False,
) -> None:
    """Measure and store a table: CPU and wall time, medians of rounds in which the arms take turns."""
    if kind not in MODULES:
        raise unknown("benchmark", kind, MODULES)
    own: dict[str, dict[str, Any]] = {
        "train": {"sizes": names(sizes), "arms": names(arms), "peer": peer, "method": chosen_methods(method)},
        "scan": {"sizes": names(sizes)},
        "plans": {"sizes": names(sizes)},
        "scale": {"sizes": names(sizes)},
        "sizes": {"sizes": names(sizes), "method": chosen_methods(method)},
        "render": {"tasks": names(tasks)},
        "data": {"episodes": episodes, "dataset": dataset},
    }
    given = {
        "sizes": sizes,
        "arms": arms,
        "peer": peer,
        "method": method,
        "tasks": tasks,
        "episodes": episodes,
        "dataset": dataset,
    }
    for option, value in given.items():
        if value is not None and option not in own.get(kind, {}):
            raise UsageError(f"bench {kind} has no --{option}")
    asked: dict[str, Any] = {name: value for name, value in own.get(kind, {}).items() if value is not None}
    if repeats is not None:
        asked["repeats"] = repeats
    from coworld_bench.benchmarks.figures import draw
    from coworld_bench.benchmarks.tables import store

    found = import_module(f"coworld_bench.benchmarks.{MODULES[kind]}").measure(**asked)
    name = f"{kind}-methods" if method and kind == "train" else kind
    document, path = store(name, found, out)
    pictures = draw(name, found["rows"], out)
    header = list(dict.fromkeys(name for row in found["rows"] for name in row))
    rows = [[str(row.get(name, "")) for name in header] for row in found["rows"]]
    text = "\n".join([table(rows, header), "", *found["notes"], "", *map(str, [path, *pictures])])
    show(text, document, json)


def chosen_methods(given: str | None) -> list[str] | None:
    """The methods named, `all` for every shipped one."""
    from coworld_bench.methods import method_names

    return method_names() if given == "all" else names(given)
