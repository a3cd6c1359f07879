"""Claims as they are written: `reports/claims.toml`, or a file of the user's own in the same format (its head tells it)."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coworld_bench.errors import UsageError, unknown
from coworld_bench.paths import shipped
from coworld_bench.plans import Cell, Plan, load_plan
from coworld_bench.reporting.claims.kinds import KINDS, Chosen, Kind, Rank
from coworld_bench.reporting.published import LABELS

# What is compared, and how the paper's tables call it.
QUANTITIES = {
    "return": "episode_return",
    "training_time": "training_time_min",
    "episode_time": "inference_time_per_episode_s",
    "hours_to_90": "hours_to_90_percent_of_highest_return",
}
UNITS = "cells", "average"
KEYS = "id", "statement", "where", "plan", "kind", "cells", "at_least", "unit", "quantity", "published", "note"


@dataclass(frozen=True)
class Claim:
    """One statement. It is about each of `cells`, of which it must hold in `needed`, or about their average; `published`
    are the files that its printed numbers stand in."""

    id: str
    statement: str
    where: str
    plan: Plan
    kind: str
    asks: Kind
    cells: tuple[Cell, ...]
    unit: str
    needed: int
    quantity: str
    published: tuple[str, ...]
    note: str

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.asks.methods(self.plan)))

    def label(self, method: str) -> str:
        """How tables call a method."""
        return self.plan.arm(method).label or LABELS.get(method, method)


def read_claims(path: Path | str | None = None, methods: Collection[str] = ()) -> list[Claim]:
    """The claims of a file, by default of the shipped one. `methods` may be named besides a plan's and the shipped ones.

    Raises UsageError for a file that is no TOML, and for an unknown key, kind, method, plan or cell."""
    file = Path(path).expanduser() if path is not None else shipped("reports") / "claims.toml"
    if not file.is_file():
        raise UsageError(f"there is no file of claims {file}; `coworld-bench claims` without a file takes the paper's")
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from error
    refuse_unknown_keys(file.name, written, ["claims"])
    entries = written.get("claims")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{file} needs at least one [[claims]]; got {entries!r}")
    claims = [parse_claim(entry, methods) for entry in entries]
    for place, claim in enumerate(claims):
        if claim.id in [other.id for other in claims[:place]]:
            raise UsageError(f"{file} has two claims with the id {claim.id}; each needs its own")
    return claims


def parse_claim(written: Mapping[str, Any], methods: Collection[str] = ()) -> Claim:
    """The claim that a TOML table writes."""
    about = f"claim {text('a claim', written, 'id')}"
    plan = load_plan(text(about, written, "plan"))
    kind = one_of(about, written, "kind", KINDS, "")
    refuse_unknown_keys(about, written, [*KEYS, *KINDS[kind].model_fields])
    refuse_unfit_keys(about, kind, written)
    asks = parse_kind(about, kind, {key: value for key, value in written.items() if key not in KEYS}, plan)
    cells = cells_of(about, asks, plan, written)
    unit = one_of(about, written, "unit", UNITS, asks.unit)
    claim = Claim(
        id=written["id"],
        statement=text(about, written, "statement"),
        where=text(about, written, "where"),
        plan=plan,
        kind=kind,
        asks=asks,
        cells=cells,
        unit=unit,
        needed=needed(about, written, 1 if unit == "average" else len(cells)),
        quantity=one_of(about, written, "quantity", QUANTITIES, "return"),
        published=published_files(about, written, plan),
        note=text(about, written, "note") if "note" in written else "",
    )
    for method in claim.methods:
        if method not in {*plan.methods, *LABELS, *methods}:
            raise unknown(f"method ({about}, plan {plan.name})", method, plan.methods, "coworld-bench list methods")
    return claim


def parse_kind(about: str, kind: str, written: Mapping[str, Any], plan: Plan) -> Kind:
    """What the kind of a claim asks for."""
    try:
        asks = KINDS[kind].model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f"; got {first['input']!r}"
        raise UsageError(f"{about}, kind {kind}, {key}: {first['msg'].lower()}{given}") from error
    if isinstance(asks, Rank) and asks.rank > (most := len(asks.rivals(plan)) + 1):
        raise UsageError(f"{about}: of {most} methods none has rank {asks.rank}")
    return asks


def cells_of(about: str, asks: Kind, plan: Plan, written: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The plan's cells, or those named by code or target; of a choice those of its targets."""
    if isinstance(asks, Chosen):
        wanted = tuple(asks.stated)
    elif "cells" in written:
        wanted = names(about, written, "cells")
    else:
        return plan.cells
    found: list[Cell] = []
    for name in wanted:
        fitting = [cell for cell in plan.cells if name in (cell.code, cell.target)]
        if not fitting:
            known = {name for cell in plan.cells for name in (cell.code, cell.target)}
            raise unknown(f"cell ({about}, plan {plan.name})", name, known)
        found += fitting
    return tuple(dict.fromkeys(found))


def needed(about: str, written: Mapping[str, Any], places: int) -> int:
    """In how many of its places the claim must hold: in all, unless it says in at least how many."""
    given = written.get("at_least", places)
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= places:
        raise UsageError(f"{about}: at_least is a whole number from 1 to {places}; got {given!r}")
    return given


def published_files(about: str, written: Mapping[str, Any], plan: Plan) -> tuple[str, ...]:
    """The files that are named, else the plan's."""
    if "published" not in written:
        return (plan.published,) if plan.published else ()
    known = [path.name for path in (shipped("reports") / "published").glob("*.csv")]
    for name in (files := names(about, written, "published")):
        if name not in known:
            raise unknown(f"published table ({about})", name, known)
    return files


def refuse_unknown_keys(about: str, written: Mapping[str, Any], known: Collection[str]) -> None:
    for key in written:
        if key not in known:
            raise unknown(f"key in {about}:", key, known)


def refuse_unfit_keys(about: str, kind: str, written: Mapping[str, Any]) -> None:
    """What a kind cannot be told: a gap and a choice have no other quantity, and choices no average."""
    for key in {"gap": ("quantity",), "chosen": ("quantity", "unit", "cells")}.get(kind, ()):
        if key in written:
            raise UsageError(f"{about}: {key} says nothing in a claim of kind {kind}; leave it out")


def text(about: str, written: Mapping[str, Any], key: str) -> str:
    value = written.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{about} needs {key} = a text; got {value!r}")
    return value


def one_of(about: str, written: Mapping[str, Any], key: str, known: Collection[str], usual: str) -> str:
    value = written.get(key, usual)
    if not isinstance(value, str) or value not in known:
        raise unknown(f"{key} ({about})", str(value), known)
    return value


def names(about: str, written: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """One name, or a list of them."""
    given = written[key]
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise UsageError(f"{about}: {key} is a name or a list of names; got {given!r}")
    return tuple(found)
