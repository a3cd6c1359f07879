"""Where things lie: shipped files, collected data, runs."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from coworld_bench.errors import UsageError

BUCKETS = ("s3", "gs")  # what results can lie in besides folders
MIRROR = ".mirror"  # in a folder that mirrors a URL: what is known of it


@cache
def shipped(kind: str) -> Path:
    """The folder `datasets`, `baselines` or `reports`, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    wheel = package / "_shipped"
    return (wheel if wheel.is_dir() else package.parent) / kind


def data_home(given: Path | str | None = None) -> Path:
    """Collected datasets and source agents: what was given, else $COWORLD_BENCH_DATA, else ~/.coworld_bench/datasets. A
    folder on this machine, or one that several share; `data push` and `data pull` bring datasets to other machines."""
    fallback = os.environ.get("COWORLD_BENCH_DATA") or Path.home() / ".coworld_bench" / "datasets"
    return Path(given or fallback).expanduser()


def runs_home(given: Path | str | None = None) -> Path:
    """The result store: what was given, else $COWORLD_BENCH_RUNS, else ./runs. For a URL (s3://bucket/folder) the folder
    that mirrors it on this machine, made where there is none; `bench.mirror.open_runs` brings it up to date.

    Raises UsageError for a URL of another kind."""
    text = str(given or os.environ.get("COWORLD_BENCH_RUNS") or "runs")
    url = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.*)", text)  # pathlib makes one slash of two
    return mirror_of(url[1], url[2].strip("/")) if url else Path(text).expanduser()


def mirror_of(scheme: str, place: str) -> Path:
    """The folder that mirrors a URL: $COWORLD_BENCH_MIRRORS, else ~/.coworld_bench/mirrors, and in it one for each URL."""
    if scheme == "file":
        raise UsageError(f"results in a folder of this machine are named by its path: /{place}")
    if scheme not in BUCKETS or not place:
        kinds = " or ".join(f"{known}://bucket/folder" for known in BUCKETS)
        raise UsageError(f"results lie in a folder or in {kinds}; got {scheme}://{place}")
    url = f"{scheme}://{place}"
    home = Path(os.environ.get("COWORLD_BENCH_MIRRORS") or Path.home() / ".coworld_bench" / "mirrors").expanduser()
    folder = home / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', place)}-{sha256(url.encode()).hexdigest()[:8]}"
    told = folder / MIRROR / "remote.json"
    if not told.is_file():
        told.parent.mkdir(parents=True, exist_ok=True)
        partial = told.with_name(f"{uuid4().hex}.partial")
        partial.write_text(json.dumps({"schema": 1, "url": url, "mirror": uuid4().hex}) + "\n")
        with suppress(FileExistsError):
            told.hardlink_to(partial)
        partial.unlink()
    return folder
