"""A benchmark's table on disk: JSON for programs, Markdown for people, with the machine that it was measured on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coworld_bench.files import write_json, write_text
from coworld_bench.provenance import git_state, machine, packages


def store(kind: str, found: dict[str, Any], folder: Path) -> tuple[dict[str, Any], Path]:
    """Write `folder/kind.{json,md}`; returns the document and the Markdown's path."""
    made = {"versions": packages(), "machine": machine(), "commit": git_state()}
    document = {"schema": 1, "kind": kind, "measured": datetime.now(UTC).isoformat(timespec="seconds"), **found, **made}
    write_json(folder / f"{kind}.json", document)
    path = folder / f"{kind}.md"
    write_text(path, markdown(document))
    return document, path


def markdown(document: dict[str, Any]) -> str:
    rows, host, commit = document["rows"], document["machine"], document["commit"] or {}
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"# bench {document['kind']}", "", " | ".join(["", *header, ""]).strip()]
    lines += ["|" + "---|" * len(header)]
    lines += [" | ".join(["", *(str(row.get(name, "")) for name in header), ""]).strip() for row in rows]
    where = f"{host['cpu']}, {host['cores']} core(s), {host['platform']}, Python {host['python']}"
    what = f"torch {document['versions'].get('torch')}, commit {(commit.get('commit') or 'none')[:7]}"
    how = document.get("how", "Measured")
    lines += ["", *(f"- {note}" for note in document["notes"]), f"- {how} {document['measured']} on {where}; {what}."]
    return "\n".join(lines) + "\n"
