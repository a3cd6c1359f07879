"""The run or other job of a store that a user means."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from coworld_bench.bench.standing import Reader, Standing
from coworld_bench.errors import FEW, UsageError
from coworld_bench.paths import MIRROR, runs_home

MANY = 1000  # jobs among whose names the nearest is looked for


def open_store(runs: Path | None) -> Path:
    """The store of results; that of a URL is brought up to date. Raises UsageError where there is none."""
    store = runs_home(runs)
    if (store / MIRROR).is_dir():
        from coworld_bench.bench.opened import refresh

        refresh(store)
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
        raise UsageError(
            f"no run {name!r} in the store; {nearest(standings, name)}`coworld-bench status` shows what was begun"
        )
    running = [standing for standing in found if standing.state == "running"]
    found = running if len(running) == 1 else found  # of namesakes the one at work is meant
    if len(found) > 1:
        few = ", ".join(f"{standing.name} ({asked_for(standing)})" for standing in found[:FEW])
        more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
        raise UsageError(f"{name} may be {few}{more}; give the beginning of one, or more of it")
    return found[0]


def asked_for(standing: Standing) -> str:
    """What tells a run from its namesakes: its state and its options."""
    options = standing.content.get("options") or {}
    return ", ".join([standing.state, *(f"{key}={value}" for key, value in sorted(options.items()))])


def nearest(standings: Sequence[Standing], name: str) -> str:
    """A question, where there are names like this one."""
    words = {word for standing in standings[-MANY:] for word in names_of(standing)}
    close = get_close_matches(name, words, n=2)
    return f"did you mean {' or '.join(close)}? " if close else ""


def names_of(standing: Standing) -> set[str]:
    return {standing.name, standing.words, standing.words.partition(" ")[2]}
