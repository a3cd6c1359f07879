"""Where things lie: shipped files, collected data, runs."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def shipped(kind: str) -> Path:
    """The folder `datasets`, `baselines` or `reports`, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    wheel = package / "_shipped"
    return (wheel if wheel.is_dir() else package.parent) / kind


def data_home(given: Path | str | None = None) -> Path:
    """Collected datasets and source agents: what was given, else $COWORLD_BENCH_DATA, else ~/.coworld_bench/datasets."""
    fallback = os.environ.get("COWORLD_BENCH_DATA") or Path.home() / ".coworld_bench" / "datasets"
    return Path(given or fallback).expanduser()


def runs_home(given: Path | str | None = None) -> Path:
    """The result store: what was given, else $COWORLD_BENCH_RUNS, else ./runs."""
    return Path(given or os.environ.get("COWORLD_BENCH_RUNS") or "runs").expanduser()
