"""`data repair`: what can be saved of a damaged dataset."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from coworld_bench.cli.common import Data, Json, show
from coworld_bench.cli.data.show import Name

if TYPE_CHECKING:
    from coworld_bench.data.repair import Repaired


def repair_(name: Name, data: Data = None, json: Json = False) -> None:
    """Build a damaged dataset anew from the episodes before the first damaged one, and say what is lost; the damaged files
    are kept."""
    from coworld_bench.data.dataset import find
    from coworld_bench.data.repair import repair
    from coworld_bench.paths import data_home

    found = repair(find(name, data_home(data)))
    show(text_of(found), {"schema": 1, "repaired": asdict(found)}, json)


def text_of(found: Repaired) -> str:
    if found.damaged is None:
        return f"{found.folder} is what was built; there is nothing to repair"
    lines = [f"fault: {fault}" for fault in found.faults]
    lost = (
        f"{found.lost} of {found.kept + found.lost} episodes lost, from number {found.kept}"
        if found.lost
        else "no episode lost"
    )
    lines.append(f"{lost}; {found.kept} kept, each compared with its SHA-256")
    lines += [f"no longer known of those that were kept: {name}" for name in found.forgotten]
    same = found.fingerprint == found.before
    lines.append(f"fingerprint {found.fingerprint}" + (", as before" if same else ": it is another dataset now"))
    lines.append(f"the damaged files are in {found.damaged}; remove them when they are not wanted any more")
    return "\n".join(lines)
