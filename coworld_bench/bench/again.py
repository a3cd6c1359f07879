"""`retry`: failed runs of a store, done again as they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from coworld_bench.bench.estimates import estimate_all
from coworld_bench.bench.execution import LOCAL, Execution
from coworld_bench.bench.finding import one_of
from coworld_bench.bench.job import Job
from coworld_bench.bench.jobs import Place, jobs_of
from coworld_bench.bench.run import RunSummary, check_jobs, do, needed_jobs, width_of
from coworld_bench.bench.standing import FAILED_FILE, Reader, Standing
from coworld_bench.errors import UsageError
from coworld_bench.files import read_json
from coworld_bench.paths import data_home
from coworld_bench.run_spec import RunSpec


def retry(
    specs: Sequence[RunSpec],
    store: Path,
    *,
    jobs: int | None = None,
    execution: Execution = LOCAL,
    dry_run: bool = False,
    data: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> RunSummary:
    """Do these runs, with what they need; options as those of `run`, and what it raises."""
    check_jobs(jobs)
    execution.check()
    if not specs:
        return RunSummary("retry", "", 0, 0, (), 0.0)
    place = Place(data_home(data), store, execution.device(device))
    width = width_of(place, jobs, execution)
    summary = summary_of(specs, place, width or 1)
    about = {"plan": "retry", "preset": summary.preset, "targets": [spec.target for spec in specs]}
    return do(summary, about, place, execution, jobs, width, dry_run, quiet)


def failed_runs(store: Path, names: Sequence[str], everything: bool) -> list[Standing]:
    """The failed runs of these names, or all. Raises UsageError for a name of none."""
    standings = Reader(store).read()
    failed = [found for found in standings if found.is_run and found.state == "failed"]
    if bool(names) == everything:
        raise UsageError(f"give runs, or --failed for all that failed; in {store} {len(failed)} did")
    chosen = failed if everything else [one_of(standings, name) for name in names]
    for found in chosen:
        if found.state != "failed":
            raise UsageError(f"{found.name} did not fail but is {found.state}; `coworld-bench status` shows what failed")
    return chosen


def spec_of(found: Standing) -> RunSpec | None:
    """How a failed run was asked for; None where its file does not tell."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = read_json(found.log.with_name(FAILED_FILE))["spec"]
        return RunSpec(**told | {"sources": tuple(told["sources"])})
    return None


def summary_of(specs: Sequence[RunSpec], place: Place, slots: int) -> RunSummary:
    jobs: dict[str, Job] = {}
    for spec in specs:
        for job in jobs_of(spec, place):
            alike = jobs.setdefault(job.key, job)
            if alike.spec != job.spec:  # the words for runs of two presets or qualities are the same
                key = f"{job.key}, {spec.preset} {spec.quality}"
                jobs[key] = replace(job, key=key)
    needed = needed_jobs(tuple(job for job in jobs.values() if not job.finished()))
    runs = sum(job.kind == "train" for job in jobs.values())
    presets = ", ".join(dict.fromkeys(spec.preset for spec in specs))
    before = runs - sum(job.kind == "train" for job in needed)
    return RunSummary("retry", presets, runs, before, needed, estimate_all(needed, slots))
