"""The pages on methods: what was measured of each is written between two lines of its page, from stored results.

docs/methods/NAME.md         the page of a method and its variants
docs/pictures/methods/       their curves: NAME.png, of further plans NAME-PLAN-PRESET.png
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from coworld_bench.errors import UsageError
from coworld_bench.files import write_text
from coworld_bench.reporting.formats.markdown import markdown_table
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.store import FINISHED, Store
from coworld_bench.reporting.tables.details import mean_of
from coworld_bench.reporting.tables.measured import FEW_MARK, SHORTCUT_MARK, anchor_summary, measured_table

BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
NOTHING = "No run of it on a simulator is stored yet."


def find_pages(folder: Path) -> dict[str, Path]:
    """The pages of a folder that have a measured section, by the method they are named after. Raises UsageError where
    there is none."""
    pages = {path.stem: path for path in sorted(folder.glob("*.md")) if has_section(path.read_text())}
    if not pages:
        raise UsageError(f"{folder} holds no page of a method: one that has the lines {BEGIN} and {END}")
    return pages


def has_section(text: str) -> bool:
    lines = text.splitlines()
    return lines.count(BEGIN) == lines.count(END) == 1 and lines.index(BEGIN) < lines.index(END)


def fill_pages(selections: Sequence[Selection], pages: Mapping[str, Path]) -> list[Path]:
    """Write the measured section of every page whose method has results in the selections, with a picture of each
    selection, and of those that have no result in the whole store; returns the files."""
    paths: list[Path] = []
    for name, page in pages.items():
        chosen = selections_of(name, selections)
        pictures = page.parent.parent / "pictures" / page.parent.name
        if chosen:
            parts = [measured(selection, name, pictures, page.parent, place) for place, selection in enumerate(chosen)]
            paths += [picture for _, picture in parts]
            fill(page, "\n\n".join(text for text, _ in parts))
        elif not finished_in(selections[0].store, name):
            fill(page, NOTHING)
        else:
            continue
        paths.append(page)
    return paths


def selections_of(name: str, selections: Sequence[Selection]) -> list[Selection]:
    """Those whose plan asks for the method; where none does, those on whose cells it was run all the same."""
    found = [selection for selection in selections if of_family(selection, name).labels]
    asked = [selection for selection in found if set(of_family(selection, name).labels) <= set(selection.plan.methods)]
    return asked or found


def of_family(selection: Selection, name: str) -> Selection:
    """The rows of a method, its variants and arms that finished: those of the plan, or where it has none, others."""
    finished = {row for (row, _), found in selection.measurements.items() if len(found.runs)}
    rows = {row for row in finished if family(selection.plan.arm(row).method) == name}
    return selection.only(rows & set(selection.plan.methods) or rows)


def family(method: str) -> str:
    return method.partition(":")[0]


def finished_in(store: Store, name: str) -> bool:
    methods = store.runs.loc[store.runs["state"] == FINISHED, "method"]
    return any(family(method) == name for method in methods)


def fill(page: Path, text: str) -> None:
    """Put `text` between the two lines of a page."""
    before, rest = page.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    write_text(page, f"{before}{BEGIN}\n{text}\n{END}{after}")


def measured(selection: Selection, name: str, pictures: Path, beside: Path, place: int) -> tuple[str, Path]:
    """What a selection holds of a method, as Markdown, and its picture."""
    from coworld_bench.reporting.figures.curves import highlight

    own = of_family(selection, name)
    stem = f"{name}-{selection.plan.name}-{selection.preset}" if place else name
    drawn = highlight(selection, own.methods, pictures, stem, ("png",))
    assert drawn is not None, "a method that finished has a curve"
    picture, (path,) = drawn.picture, drawn.files
    link = Path(os.path.relpath(path, beside)).as_posix()
    table = measured_table(own)
    notes = [note for note in table.notes if note.startswith((FEW_MARK, SHORTCUT_MARK, "—"))]
    blocks = [
        f"{selection.plan.title} · {own.circumstances}.",
        f"![{picture.alt}]({link})",
        markdown_table(table),
        "\n".join(f"- {line}" for line in [*sentences(own), *notes]),
    ]
    return "\n\n".join(blocks), path


def sentences(own: Selection) -> Iterator[str]:
    """What its numbers say of every row, in words."""
    for row, label in own.labels.items():
        found = [own.measurements[row, cell] for cell in own.plan.cells if len(own.measurements[row, cell].runs)]
        parts = filter(None, [above_constant(own, found), overestimation(found)])
        yield f"{label}: {'; '.join(parts)}."
        if never_above(own, found):
            yield (
                f"{label} cannot learn at {own.preset} scale here: its curve never exceeds the best constant action in any "
                "cell."
            )


def above_constant(own: Selection, found: list[Measurement]) -> str:
    """In how many cells its mean is above the best constant action's by more than its std over seeds."""
    compared, above = 0, []
    for measurement in found:
        summary, constant = measurement.summary, anchor_summary(own, measurement.cell, "constant")
        if summary is None or summary.sd is None or constant is None:
            continue
        compared += 1
        above += [measurement.cell.code] * (summary.mean - constant.mean > summary.sd)
    if not compared:
        return "nothing to compare with the best constant action (it takes two seeds and the action's return)"
    which = f" ({', '.join(above)})" if above else ""
    return f"above the best constant action by more than its std over seeds in {len(above)} of {cells(compared)}{which}"


def overestimation(found: list[Measurement]) -> str:
    """Value predicted minus realised, the mean over cells."""
    pairs = [(mean_of(entry.runs["value_predicted"]), mean_of(entry.runs["value_realised"])) for entry in found]
    gaps = [predicted - realised for predicted, realised in pairs if predicted is not None and realised is not None]
    if not gaps:
        return "no critic whose values could be compared"
    between = f", {min(gaps):+.1f} to {max(gaps):+.1f}" if len(gaps) > 1 else ""
    return f"value predicted minus realised {sum(gaps) / len(gaps):+.1f} (mean over {cells(len(gaps))}{between})"


def cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def never_above(own: Selection, found: list[Measurement]) -> bool:
    """Whether no checkpoint's mean over seeds is above the constant action's; not where a cell of the plan was not run, or
    has no such action to compare with."""
    constants = [anchor_summary(own, measurement.cell, "constant") for measurement in found]
    pairs = zip(found, constants, strict=True)
    return len(found) == len(own.plan.cells) and all(
        constant is not None and best(own, entry) <= constant.mean for entry, constant in pairs
    )


def best(own: Selection, found: Measurement) -> float:
    """The highest point of a cell's curve, the mean over its seeds."""
    from coworld_bench.reporting.figures.curves import mean_of_seeds

    curves = own.store.curves
    return float(mean_of_seeds(curves[curves["run"].isin(found.runs["run"])]).max())
