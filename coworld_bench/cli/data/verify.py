"""`data verify`: whether a dataset is what was built."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from coworld_bench.cli.common import Data, Json, show, table
from coworld_bench.cli.data.show import Name
from coworld_bench.errors import DATASET, OK, UsageError

if TYPE_CHECKING:
    from coworld_bench.data.integrity import Report


def verify_(
    name: Name,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes, headers and shard indices: milliseconds.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Every byte and every episode's digest; the default.")] = False,
    replay: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also play N episodes again, from their seeds, and compare them.")
    ] = 0,
    data: Data = None,
    json: Json = False,
) -> int:
    """Check a dataset; exit code 3 where something is wrong."""
    if quick and full:
        raise UsageError("--quick and --full are two ways to check; give one")
    from coworld_bench.data.dataset import find, parted
    from coworld_bench.data.integrity import verify
    from coworld_bench.paths import data_home

    if parted(name)[1]:
        raise UsageError(f"a dataset is checked whole; name it without its part: {parted(name)[0]}")
    report = verify(find(name, data_home(data)), full=not quick, replay=replay)
    checks = [asdict(check) for check in report.checks]
    praise = "no fault seen; --full reads every byte" if quick else "it is what was built"
    show(text_of(report, praise), {"schema": 1, "folder": str(report.folder), "ok": report.ok, "checks": checks}, json)
    return OK if report.ok else DATASET


def text_of(report: Report, praise: str) -> str:
    """A line for each kind of check that every file passed, and for each that failed or tells something."""
    passed = Counter(check.check for check in report.checks if check.ok and not check.detail)
    files = {check.check: check.file for check in report.checks if check.ok}
    rows = [["ok", kind, files[kind] if count == 1 else f"{count} of them", ""] for kind, count in passed.items()]
    inside = f"{report.folder}/"
    told = [check for check in report.checks if not check.ok or check.detail]
    rows += [["ok" if check.ok else "FAILED", check.check, check.file.removeprefix(inside), check.detail] for check in told]
    verdict = praise if report.ok else f"{len(report.faults)} of {len(report.checks)} checks failed"
    return f"{table(rows, ['', 'check', 'of', ''])}\n\n{report.folder}: {verdict}"
