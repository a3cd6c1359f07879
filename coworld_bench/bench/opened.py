"""Opening a store of results for reading: a folder as it is, the mirror of a bucket brought up to date."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from coworld_bench.bench.claims import claim_name, claimed, freshen
from coworld_bench.bench.mirror import Listing, Mirror, OutOfReach, mirror_at, ours, part_of, plainly, say
from coworld_bench.data.lock import Busy
from coworld_bench.data.remote import Absent
from coworld_bench.errors import NotUsable
from coworld_bench.paths import MIRROR, runs_home
from coworld_bench.reporting import report as write_report

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 8
FRESH_S = 10.0


def open_runs(runs: Path | str | None = None) -> Path:
    """The folder of a store of results, which for a URL is the mirror of it, with what is new there."""
    home = runs_home(runs)
    refresh(home)
    return home


def refresh(home: Path) -> None:
    """Where a folder of results mirrors a bucket: send what could not be sent, and fetch what is new of what reports read.
    Where the bucket does not answer, what was fetched before is all there is.

    Raises NotUsable where nothing was ever fetched, or the bucket refuses."""
    mirror = mirror_at(home)
    if mirror is None:
        return
    REFRESHED[home] = time.monotonic()
    try:
        with plainly():
            bring(mirror)
    except OutOfReach as error:
        if not (home / MIRROR / "parts").is_dir():
            raise NotUsable(str(error)) from error
        say(f"{error}. This is what {home} has of it")


def keep_fresh(home: Path) -> None:
    """`refresh`, for whoever looks again and again: every FRESH_S at most."""
    if mirror_at(home) is not None and time.monotonic() - REFRESHED.get(home, 0.0) > FRESH_S:
        refresh(home)


REFRESHED: dict[Path, float] = {}


def bring(mirror: Mirror) -> None:
    """See `refresh`."""
    for part in mirror.unsent():
        with suppress(Busy), claimed(mirror.home, claim_name(part), mirror.home / part, whole=False):
            pass
    parts: dict[str, dict[str, Any]] = {part: {} for part in mirror.parts()}
    for name, info in everything(mirror).items():
        if ours(name):
            parts.setdefault(part_of(name), {})[name] = info
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda part: freshen(mirror, part, parts[part]), parts):
            pass


def everything(mirror: Mirror) -> Listing:
    try:
        return mirror.remote.listing(there=True)
    except Absent as error:
        raise NotUsable(f"there is no bucket for {mirror.remote.url}; make it, or correct its name") from error


@contextmanager
def whole(home: Path, folder: Path) -> Iterator[None]:
    """Where `home` mirrors a bucket: fetch also what plays a run again, and send what is added to its folder. Where the
    bucket does not answer, what is here is used."""
    with ExitStack() as held:
        if mirror_at(home) is not None and folder.is_relative_to(home):
            with suppress(OutOfReach):
                held.enter_context(claimed(home, folder.name, folder))
        yield


def with_opened_runs(function: Callable[P, T]) -> Callable[P, T]:
    """A function of a store of results, `runs`, which may then be named by a URL."""
    signature = inspect.signature(function)

    @wraps(function)
    def opened(*args: P.args, **kwargs: P.kwargs) -> T:
        given = signature.bind(*args, **kwargs)
        home = open_runs(given.arguments.get("runs"))
        if mirror_at(home) is not None:
            given.arguments["runs"] = home
        return function(*given.args, **given.kwargs)

    return opened


report = with_opened_runs(write_report)
