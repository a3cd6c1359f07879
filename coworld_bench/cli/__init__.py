"""The command line: `coworld-bench VERB`. One file a verb, no work in it."""

from __future__ import annotations

from coworld_bench.cli.app import main

__all__ = ["main"]
