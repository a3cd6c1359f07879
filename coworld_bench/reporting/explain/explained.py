"""An explanation as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from coworld_bench.provenance import ROUNDING
from coworld_bench.reporting.formats.text import pad, width_of
from coworld_bench.reporting.layout import number
from coworld_bench.reporting.stats import FEW
from coworld_bench.reporting.tables.details import duration
from coworld_bench.reporting.tables.measured import share_text

WIDTH = 100  # of what stands beside a name


def explanation_text(document: dict[str, Any]) -> str:
    """What `explaining.explain` returns, for people."""
    return "\n".join(cell_lines(document) if "number" in document else listing_lines(document))


def listing_lines(found: dict[str, Any]) -> Iterator[str]:
    """Rows against columns, and how to name a cell."""
    yield f"{found['title']} · preset {found['preset']}{also(found)}"
    yield ""
    yield from aligned(
        [
            ["column", "code", "target", "source"],
            *([str(each["column"]), each["code"], each["target"], source_text(each)] for each in found["columns"]),
        ]
    )
    yield ""
    codes = [each["code"] for each in found["columns"]]
    if len(found["rows"]) == 1:
        row = found["rows"][0]
        yield f"{row['row']}: {row['label']}"
        yield from aligned([[code, text] for code, text in zip(codes, row["cells"], strict=True)])
    else:
        yield from aligned([["row", "label", "cells with results"], *(row_words(row) for row in found["rows"])])
    yield ""
    yield f"coworld-bench explain {found['plan']}:{found['rows'][0]['row']}:1 explains the first cell"


def row_words(row: dict[str, Any]) -> list[str]:
    some = sum("(" in text for text in row["cells"])
    return [row["row"], row["label"], f"{some} of {len(row['cells'])}"]


def source_text(column: dict[str, Any]) -> str:
    others = [task for task in column["candidates"] if task != column["source"]]
    return ", ".join(filter(None, [column["source"], f"{len(others)} more to choose from" if others else ""])) or "—"


def also(found: dict[str, Any]) -> str:
    others = [preset for preset in found["measured_presets"] if preset != found["preset"]]
    return f" (results under {', '.join(others)} too)" if others else ""


def cell_lines(found: dict[str, Any]) -> Iterator[str]:
    """One paragraph a question: what, from which runs, of which data and settings, by whom, beside what, and what else."""
    sources = ", ".join(found["learnt_from"])
    pair = f"{sources} → {found['target']}" if sources else found["target"]
    yield f"{found['label']} on {found['code']}: {found['text']}"
    yield f"{found['title']} · preset {found['preset']}{also(found)}"
    yield ""
    yield from wrapped(
        [
            ["tasks", pair],
            ["cell", f"{found['plan']}:{found['row']}:{found['column']} of {found['store']}"],
            *number_lines(found),
            *shared_lines(found),
            *maker_lines(found),
            *hour_lines(found),
        ]
    )
    yield from table_of_runs(found)
    yield from paragraph("Beside it", beside_lines(found["beside"]))
    yield from paragraph("Published", published_lines(found))
    yield from paragraph("Left out", [f"seed {each['seed']}, {each['run']}: {each['why']}" for each in found["left_out"]])
    others = found["columns_made"] - 1
    more = [f"({others} more column{'s' * (others != 1)} of this target with it)"] if others else []
    yield from paragraph("Makes it, or goes on with it", [found["command"], *more])


def number_lines(found: dict[str, Any]) -> list[list[str]]:
    """The number, its interval, the seeds and episodes behind it, and the rule of a run's score."""
    told, seeds = found["number"], found["seeds"]
    lines = [["seeds", seed_text(seeds)]]
    if not told["n"]:
        return [["number", "none: no run of this cell has finished"], *lines]
    mean = told["mean"]
    if told["std"] is not None:
        lines = [
            ["±", f"{number(told['std'], mean)}: {told['spread']}"],
            ["interval", f"{number(told['low95'], mean)} to {number(told['high95'], mean)}: {told['interval']}"],
            *lines,
        ]
    few = f"; fewer than {FEW} seeds say little" if told["n"] < FEW else ""
    return [
        ["number", f"{number(mean)}: mean of {told['n']} seed{'s' * (told['n'] != 1)}{few}"],
        *lines,
        *score_lines(found),
    ]


def seed_text(seeds: dict[str, list[int]]) -> str:
    """`0, 1 finished; 2 failed (planned: 0, 1, 2)`."""
    names = {"finished": "finished", "failed": "failed", "unfinished": "unfinished", "not_started": "not started"}
    parts = [f"{listed(seeds[key])} {name}" for key, name in names.items() if seeds[key]]
    return f"{'; '.join(parts) or 'none'} (planned: {listed(seeds['planned']) or 'none'})"


def score_lines(found: dict[str, Any]) -> list[list[str]]:
    runs = found["runs"]
    updates = sorted({tuple(run["updates"]) for run in runs})
    each = sorted({size for run in runs for size in run["episodes_per_checkpoint"]})
    total = sum(run["episodes"] for run in runs)
    return [
        ["score", f"{found['rule']}, {listed({run['checkpoints'] for run in runs})} of them"],
        ["checkpoints", "; ".join(f"after {listed(steps)} updates" for steps in updates)],
        ["episodes", f"{listed(each)} per checkpoint, {listed({run['episodes'] for run in runs})} a seed, {total} in all"],
        ["protocol", str(found["protocol"])],
    ]


def shared_lines(found: dict[str, Any]) -> list[list[str]]:
    """Dataset, settings, environment and source agents."""
    if "dataset" not in found:
        return []
    data = found["dataset"]
    lines = [["dataset", str(data.get("id", "not recorded"))], ["", f"fingerprint {data['fingerprint']}"]]
    if "episodes" in data:
        size = f"{data['episodes']} episodes" + (f" ({data['rows']:,} rows)" if "rows" in data else "")
        lines.append(
            ["", f"{size}, mean return {number(data['return_mean'])} ± {number(data['return_std'])} over episodes"]
        )
        fired = data.get("fired", True)
        lines.append(["", "its stop rule fired" if fired else "it ended at its budget, before its stop rule fired"])
    pinned = data["recipe"]
    options = "".join(f", {key}={value}" for key, value in sorted(pinned["options"].items()))
    lines.append(["", f"recipe of this version: seed {pinned['seed']}{options}"])
    return lines + setting_lines(found) + source_lines(found)


def setting_lines(found: dict[str, Any]) -> list[list[str]]:
    told = found["settings"]
    sides = {"options": "", "target_options": "target: ", "source_options": "source: "}
    asked = [f"{side}{key}={value}" for name, side in sides.items() for key, value in sorted(told["options"][name].items())]
    changed = [f"{key} {had} instead of {usual}" for key, (usual, had) in told["changed"].items()]
    around = [f"{key} {had!r} instead of {usual!r}" for key, (usual, had) in told["environment"].items()]
    own = [f"{key}={value}" for key, value in sorted(told["method"].items())]
    return [
        ["asked for", "; ".join(asked) or "nothing on top of the preset"],
        ["not the preset's", "; ".join(changed) or "no setting"],
        ["environment", "; ".join(around) or "the preset's"],
        ["of the method", ", ".join(own) or "no setting"],
    ]


def source_lines(found: dict[str, Any]) -> list[list[str]]:
    lines = [
        f"seed {run['seed']}: {agent['task']}, {agent['digest'][:10]}, its last episodes {number(agent.get('return_mean'))}"
        for run in found["runs"]
        for agent in run["source_agents"]
    ]
    return [["source agents" if not place else "", line] for place, line in enumerate(lines)]


def maker_lines(found: dict[str, Any]) -> list[list[str]]:
    """Commit, versions, machine and device of the seeds that share them."""
    lines: list[list[str]] = []
    for group in found["made_by"]:
        versions = [f"{name} {version}" for name, version in sorted((group["versions"] or {}).items()) if version]
        lines.append(["made by", f"seed {listed(group['seeds'])}: {commit_text(group['commit'])}"])
        lines += [["", text] for text in (", ".join(versions), machine_text(group)) if text]
    return lines


def commit_text(commit: dict[str, Any] | None) -> str:
    if not commit or not commit.get("commit"):
        return "commit not recorded"
    return f"commit {commit['commit']}" + (", files were changed in it" if commit.get("dirty") else ", no file changed")


def machine_text(group: dict[str, Any]) -> str:
    machine = group["machine"] or {}
    cores, python = machine.get("cores"), machine.get("python")
    parts = [group["device"], machine.get("cpu"), cores and f"{cores} cores", machine.get("platform")]
    rounding = [f"{name}={machine[name]}" for name in ROUNDING if name in machine]
    return ", ".join(filter(None, [*parts, python and f"Python {python}", *rounding]))


def hour_lines(found: dict[str, Any]) -> list[list[str]]:
    known = [f"{duration(value * 3600)} {name}" for name, value in found["hours"].items() if value is not None]
    return [["time", f"{', '.join(known)}; dataset and source agents not counted"]] if known else []


def table_of_runs(found: dict[str, Any]) -> Iterator[str]:
    """A line a seed."""
    if not found["runs"]:
        return
    head = ["seed", "score", "± checkpoints", "success", "episode seeds", "wall", "training", "finished", "run"]
    rows = [
        [
            str(run["seed"]),
            number(run["score"]),
            number(run["sd_checkpoints"], run["score"]),
            share_text(run["success"]),
            spans(run["episode_seeds"]),
            duration(run["wall_s"]),
            duration(run["training_s"]),
            run["finished"] or "—",
            run["run"],
        ]
        for run in found["runs"]
    ]
    yield ""
    yield from aligned([head, *rows])


def beside_lines(told: dict[str, Any]) -> list[str]:
    """Anchors, the dataset and the reference; whether a constant action does as well."""
    rows = []
    for name, summary in told.items():
        if isinstance(summary, dict) and summary.get("n"):
            spread = f" ± {number(summary['std'], summary['mean'])}" if summary["std"] is not None else ""
            rows.append([name, f"{number(summary['mean'])}{spread} ({summary['n']} episodes)"])
    if told["reference"]:
        rows.append(["reference return", f"{number(told['reference']['value'])} ({told['reference']['how']})"])
    lines = list(aligned(rows))
    if told["constant_share"] is not None:
        verdict = "the column can carry a claim" if told["carries_a_claim"] else "the column can carry no claim"
        lines.append(f"The best constant action reaches {100 * told['constant_share']:.0f} % of the reference: {verdict}.")
    return lines


def published_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for row in found["published"]:
        spread = f" ± {row['std']:g}" if row["std"] is not None else ""
        value = f"{row['mean']:g}{spread}" if row["mean"] is not None else "no number"
        lines.append(f"{row['method']}: {value}, {row['what']}" + (f"; {row['note']}" if row["note"] else ""))
    if lines and found["preset"] != "paper":
        lines.append(f"Preset {found['preset']} is not the paper's: a difference to it means nothing.")
    return lines


def paragraph(title: str, lines: Iterable[str]) -> list[str]:
    told = [f"  {line}" for line in lines]
    return ["", title, *told] if told else []


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns aligned with spaces."""
    if not rows:
        return []
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(pad(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def wrapped(rows: list[list[str]]) -> list[str]:
    """The same of names and texts, in lines of WIDTH characters at most where the words allow it."""
    lines = []
    for name, text in rows:
        parts = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [[name, parts[0]], *(["", part] for part in parts[1:])]
    return aligned(lines)


def listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(values)))


def spans(values: list[int]) -> str:
    """`3-5, 9` for 3, 4, 5, 9."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)
