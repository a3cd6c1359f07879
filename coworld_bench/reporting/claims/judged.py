"""Claims, judged on a store of results and on what the paper prints."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from coworld_bench.config import PRESETS
from coworld_bench.errors import unknown
from coworld_bench.paths import runs_home
from coworld_bench.plans import Plan
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.claims.judging import judge
from coworld_bench.reporting.claims.numbers import Measured, Published
from coworld_bench.reporting.claims.statements import Claim, read_claims
from coworld_bench.reporting.claims.verdicts import Finding
from coworld_bench.reporting.selection import Selection, select
from coworld_bench.reporting.store import CURVE_COLUMNS, RUN_COLUMNS, Store, read_store
from coworld_bench.reporting.tables.measured import References


@dataclass(frozen=True)
class Judged:
    """A claim with its verdicts."""

    claim: Claim
    measured: Finding
    published: Finding


def judge_claims(
    store: Store, preset: str, claims: Iterable[Claim], references: References = reference_return
) -> list[Judged]:
    """Every claim with the verdict of a store's results under a preset, and with that of the printed numbers."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
    wanted = list(claims)
    selections = [(plan, select_for(store, preset, plan, wanted)) for plan in plans_of(wanted)]
    return [
        Judged(
            claim,
            judge(claim, Measured(claim, next(found for plan, found in selections if plan == claim.plan), references)),
            judge(claim, Published(claim)),
        )
        for claim in wanted
    ]


def plans_of(claims: Iterable[Claim]) -> list[Plan]:
    found: list[Plan] = []
    for claim in claims:
        if claim.plan not in found:
            found.append(claim.plan)
    return found


def select_for(store: Store, preset: str, plan: Plan, claims: Iterable[Claim]) -> Selection:
    """What the store holds for the claims on a plan: the rows and cells that they are about, and no other."""
    own = [claim for claim in claims if claim.plan == plan]
    methods = tuple(dict.fromkeys(method for claim in own for method in claim.methods))
    cells = tuple(dict.fromkeys(cell for claim in own for cell in claim.cells))
    runs = store.runs[store.runs["method"].isin({plan.arm(method).method for method in methods})]
    return select(replace(store, runs=runs), replace(plan, methods=methods, cells=cells), preset)


def usual_preset(store: Store) -> str:
    """The preset nearest to the paper's that a store has runs of; quick where it has none."""
    found = set(store.runs["preset"])
    return next((preset for preset in PRESETS if preset in found), "quick")


def judge_stored(
    file: Path | str | None = None, plan: str | None = None, preset: str | None = None, runs: Path | str | None = None
) -> tuple[str, list[Judged]]:
    """The claims of a file, or those of it on a plan, on a folder of results; and the preset that they were judged under.

    Where no folder is named and there is none, only the printed numbers can be judged."""
    store = stored(runs)
    claims = read_claims(file, set(store.runs["method"]))
    chosen = [claim for claim in claims if plan in (None, claim.plan.name)]
    if not chosen:
        raise unknown("plan of a claim", str(plan), [found.name for found in plans_of(claims)])
    used = preset if preset is not None else usual_preset(store)
    return used, judge_claims(store, used, chosen)


def stored(runs: Path | str | None) -> Store:
    """The results that were named, else those of the usual folder, which may be missing."""
    folder = runs_home(runs)
    if runs is None and "COWORLD_BENCH_RUNS" not in os.environ and not folder.is_dir():
        return Store(folder, pd.DataFrame(columns=RUN_COLUMNS), pd.DataFrame(columns=CURVE_COLUMNS), {})
    return read_store(runs)
