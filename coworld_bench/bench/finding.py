"""The run or other job of a store that a user means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.errors import FEW, UsageError, unknown
from coworld_bench.paths import runs_home


def open_store(runs: Path | None) -> Path:
    """The store of results. Raises UsageError where there is none."""
    store = runs_home(runs)
    if not store.is_dir():
        raise UsageError(f"there is no folder of results {store}; `coworld-bench run` makes one, --runs names another")
    return store


def find_job(store: Path, name: str) -> Standing:
    """The run of this id or unique beginning of one, or the job that `status` names so. Raises UsageError for others."""
    return one_of(Reader(store).read(), name)


def one_of(standings: Sequence[Standing], name: str) -> Standing:
    found = [standing for standing in standings if name in names_of(standing)]
    found = found or [standing for standing in standings if standing.name.startswith(name)]
    if not found:
        raise unknown("run", name, (standing.name for standing in standings), "coworld-bench status")
    if len(found) > 1:
        few = ", ".join(standing.name for standing in found[:FEW])
        more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
        raise UsageError(f"{name} may be {few}{more}; give more of its name")
    return found[0]


def names_of(standing: Standing) -> set[str]:
    return {standing.name, standing.words, standing.words.partition(" ")[2]}
