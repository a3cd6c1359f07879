"""`store VERB`: what one does with stores of results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coworld_bench.cli.common import Json, opened, show
from coworld_bench.errors import DATASET, OK, SOME_FAILED

if TYPE_CHECKING:
    from coworld_bench.bench.merging import Merge
    from coworld_bench.reporting.stores.verifying import Verdict


def merge(
    into: Annotated[Path, typer.Argument(help="The folder of results that is added to; made where there is none.")],
    stores: Annotated[list[Path], typer.Argument(metavar="FROM...", help="Folders of results; they stay as they are.")],
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Also what a run goes on from, and is played again from.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Json = False,
) -> int:
    """Unite stores of several machines; exit code 1 where two hold one run with other numbers."""
    from coworld_bench.bench.merging import merge as merge_stores

    done = merge_stores(into, stores, checkpoints, dry_run)
    show(merge_text(done), done.to_dict(), json)
    return OK if done.ok else SOME_FAILED


def merge_text(done: Merge) -> str:
    """Counts, and below them each run whose numbers differ, with what differs."""
    from coworld_bench.bench.merging import BUSY
    from coworld_bench.reporting.stores.records import in_words

    lines = [f"{kind}: {count}" for kind, count in done.counts.items() if count]
    lines += [f"{step.name}: {step.why}" for step in done.steps if step.kind == BUSY]
    for step in done.conflicts:
        kept = "would be kept" if done.dry_run else "kept"
        lines += ["", f"{step.name}: {step.why} in {step.source}, {kept} as {step.place}"]
        lines += [f"  {line}" for line in in_words(step.found)]
        lines += [f"  made otherwise: {line}" for line in in_words(step.making)]
    would = "nothing was done; this is what would be\n" if done.dry_run else ""
    return would + f"{done.into}\n" + ("\n".join(lines) or "nothing to merge")


def verify(
    store: Annotated[
        Path | None, typer.Argument(help="A folder of results.  [default: $COWORLD_BENCH_RUNS or ./runs]")
    ] = None,
    json: Json = False,
) -> int:
    """Check that a store holds what was written; exit code 3 where something is damaged."""
    from dataclasses import asdict

    from coworld_bench.reporting.stores.verifying import verify_store

    found = verify_store(opened(store))
    faults = [asdict(fault) for fault in found.faults]
    told = {"schema": 1, "store": str(found.store), "ok": found.ok, "runs": found.runs, "anchors": found.anchors}
    show(verify_text(found), told | {"faults": faults}, json)
    return OK if found.ok else DATASET


def verify_text(found: Verdict) -> str:
    """A paragraph for each fault: where, what, and what to do."""
    said = [f"{'note' if fault.warning else 'FAULT'}: {fault.file}\n  {fault.what}\n  {fault.do}" for fault in found.faults]
    counted = ", ".join(f"{count} {state}" for state, count in found.runs.items())
    faults = sum(not fault.warning for fault in found.faults)
    verdict = "no fault" if found.ok else f"{faults} fault{'s' * (faults != 1)}"
    return "\n\n".join([*said, f"{found.store}: {counted}, {found.anchors} anchors; {verdict}"])


VERBS: dict[str, Callable[..., int | None]] = {"merge": merge, "verify": verify}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for name, verb in VERBS.items():
    app.command(name)(verb)
