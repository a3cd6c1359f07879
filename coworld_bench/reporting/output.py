"""From a store to files: a folder per plan and preset, every file named after both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import write_text
from coworld_bench.plans import Plan, list_plans, load_plan
from coworld_bench.reporting import FORMATS
from coworld_bench.reporting.choices import choices_table
from coworld_bench.reporting.details import diagnostics_table, provenance_table
from coworld_bench.reporting.html import html
from coworld_bench.reporting.layout import Page, Part, csv_text, markdown, plain
from coworld_bench.reporting.method_pages import fill_pages, find_pages
from coworld_bench.reporting.published import published_table
from coworld_bench.reporting.selection import Selection, presets_with_results, select
from coworld_bench.reporting.side_by_side import side_by_side, with_published
from coworld_bench.reporting.store import Store, read_store
from coworld_bench.reporting.tables import measured_table, seeds_table, tidy
from coworld_bench.reporting.times import times_table
from coworld_bench.reporting.words import caveats

INTERNAL = "chosen", "error", "options", "settings", "source_options", "variant"  # columns that only select


def write_report(
    plans: Iterable[str | Plan],
    runs: Path | str | None,
    out: Path | str | None,
    preset: str | None,
    heatmap: bool,
    formats: Iterable[str],
    options: Mapping[str, str] | None,
    highlight: Iterable[str] = (),
    pages: Path | str | None = None,
) -> list[Path]:
    """See `coworld_bench.reporting.report`. Without plans, every shipped plan that has results."""
    kinds = check_formats(formats)
    chosen = [as_plan(plan) for plan in plans]
    store = read_store(runs)
    folder = Path(out) if out is not None else store.folder / "report"
    wanted = [(plan, name) for plan in chosen or every_plan(store) for name in presets_of(store, plan, preset)]
    if not wanted:
        raise UsageError(f"{store.folder} holds no run of any plan; `coworld-bench run {list_plans()[0]}` makes some")
    selections = [select(store, plan, name, options) for plan, name in wanted]
    lit = check_highlight(selections, highlight)
    found = find_pages(Path(pages)) if pages is not None else {}
    paths: list[Path] = []
    for selection in selections:
        paths += write_one(selection, folder / f"{selection.plan.name}-{selection.preset}", kinds, heatmap, lit, options)
    return paths + (fill_pages(selections, found) if found else [])


def as_plan(plan: str | Plan) -> Plan:
    return plan if isinstance(plan, Plan) else load_plan(plan)


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(formats))
    for kind in kinds:
        if kind not in FORMATS:
            raise unknown("report format", kind, FORMATS)
    return kinds


def check_highlight(selections: list[Selection], methods: Iterable[str]) -> tuple[str, ...]:
    """The methods to draw alone; each must be a row of one of the selections that has results."""
    asked = tuple(dict.fromkeys(methods))
    rows = {row for selection in selections for row in selection.methods}
    finished = {row for selection in selections for (row, _), found in selection.measurements.items() if len(found.runs)}
    for method in asked:
        if method not in rows:
            raise unknown("method in these plans", method, rows)
        if method not in finished:
            raise UsageError(f"{selections[0].store.folder} holds no finished run of {method} in these plans")
    return asked


def every_plan(store: Store) -> list[Plan]:
    plans = [load_plan(name) for name in list_plans()]
    return [plan for plan in plans if presets_with_results(store, plan)]


def presets_of(store: Store, plan: Plan, preset: str | None) -> list[str]:
    """The preset that was asked for, else all that have results. Raises UsageError where there are none."""
    found = presets_with_results(store, plan)
    if preset is None and found:
        return found
    if preset is not None and preset in found:
        return [preset]
    given = f" under preset {preset}" if preset else ""
    has = f" (it has {', '.join(found)})" if found else ""
    flag = f" --preset {preset}" if preset else ""
    raise UsageError(
        f"{store.folder} holds no run of plan {plan.name}{given}{has}; `coworld-bench run {plan.name}{flag}` makes them"
    )


def write_one(
    selection: Selection,
    folder: Path,
    kinds: tuple[str, ...],
    heatmap: bool,
    lit: tuple[str, ...],
    options: Mapping[str, str] | None,
) -> list[Path]:
    """The report of one plan under one preset; returns its files."""
    stem = folder.name
    pictures, paths = draw_pictures(selection, folder, stem, kinds, heatmap, lit, options)
    page = compose(selection, pictures)
    if "md" in kinds:
        paths.append(write(folder / f"{stem}.md", markdown(page)))
    if "html" in kinds:
        paths.append(write(folder / f"{stem}.html", html(page)))
    if "csv" in kinds:
        paths += write_csv(selection, folder, stem)
    return sorted(paths)


def draw_pictures(
    selection: Selection,
    folder: Path,
    stem: str,
    kinds: tuple[str, ...],
    with_heatmap: bool,
    lit: tuple[str, ...],
    options: Mapping[str, str] | None,
) -> tuple[list[Part], list[Path]]:
    """The figures, written; matplotlib is loaded here and not before."""
    from coworld_bench.reporting.curves import curves, highlight
    from coworld_bench.reporting.heatmap import heatmap

    pictures: list[Part] = []
    paths: list[Path] = []
    if with_heatmap and (
        drawn := heatmap(selection.store, selection.plan, selection.preset, folder, f"{stem}-heatmap", options)
    ):
        picture, numbers, files = drawn
        pictures.append(picture)
        paths += [*files, write(folder / f"{stem}-heatmap.csv", csv_text(numbers))]
    if set(kinds) & {"md", "html"} and (drawn_curves := curves(selection, folder, f"{stem}-curves")):
        pictures.append(drawn_curves[0])
        paths += drawn_curves[1]
    for method in lit:
        if drawn_curves := highlight(selection, (method,), folder, f"{stem}-curves-{file_name(method)}"):
            pictures.append(drawn_curves[0])
            paths += drawn_curves[1]
    return pictures, paths


def file_name(method: str) -> str:
    """A row's name as part of a file's: `coworld-without_max`."""
    return method.replace(":", "-").replace("/", "-")


def compose(selection: Selection, pictures: list[Part]) -> Page:
    """The page of one plan under one preset, in the order it is read."""
    parts: list[Part | None] = [measured_table(selection), caveats(selection), *pictures]
    parts += [side_by_side(selection), published_table(selection.plan)]
    parts += [seeds_table(selection), choices_table(selection), times_table(selection)]
    parts += [diagnostics_table(selection), provenance_table(selection)]
    lead = (
        "Returns per episode, measured by this project. Numbers that the paper printed stand in columns of their own. "
        f"Dataset quality: {selection.plan.quality}."
    )
    return Page(
        f"{selection.plan.title} · {selection.circumstances}", lead, tuple(part for part in parts if part is not None)
    )


def write_csv(selection: Selection, folder: Path, stem: str) -> list[Path]:
    """The measured table and the single runs, as tidy CSV with unrounded numbers."""
    cells = with_published(selection, pd.DataFrame(tidy(selection)))
    frames = {
        "": cells,
        "-runs": selection.finished.drop(columns=list(INTERNAL)),
    }
    return [
        write(folder / f"{stem}{suffix}.csv", frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
        for suffix, frame in frames.items()
    ]


def write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def plain_table(plan: str | Plan, runs: Path | str | None, preset: str, options: Mapping[str, str] | None = None) -> str:
    """See `coworld_bench.reporting.table_text`."""
    selection = select(read_store(runs), as_plan(plan), preset, options)
    words = caveats(selection)
    return "\n".join([selection.plan.title, plain(measured_table(selection)), *words.paragraphs]) + "\n"
