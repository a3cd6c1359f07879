"""From a store to files: a folder per plan and preset, every file named after both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from coworld_bench.config import PRESETS
from coworld_bench.errors import UsageError, unknown
from coworld_bench.files import digest_of, write_text
from coworld_bench.plans import FIGURES, Plan, list_plans, load_plan
from coworld_bench.reporting.claims.page import claims_page
from coworld_bench.reporting.figures import Drawn, draw
from coworld_bench.reporting.formats import FORMATS, USUAL
from coworld_bench.reporting.formats.document import document
from coworld_bench.reporting.formats.html import html
from coworld_bench.reporting.formats.latex import latex
from coworld_bench.reporting.formats.markdown import markdown
from coworld_bench.reporting.formats.text import plain
from coworld_bench.reporting.indexing import write_index
from coworld_bench.reporting.layout import Page, Part
from coworld_bench.reporting.method_pages import fill_pages, find_pages
from coworld_bench.reporting.opened import details, openable
from coworld_bench.reporting.processes import in_processes
from coworld_bench.reporting.published import published_table
from coworld_bench.reporting.selection import Selection, counting, presets_with_results, select
from coworld_bench.reporting.store import Store, read_store
from coworld_bench.reporting.tables.aggregates import aggregates_table
from coworld_bench.reporting.tables.choices import choices_table
from coworld_bench.reporting.tables.details import diagnostics_table, provenance_table
from coworld_bench.reporting.tables.improvement import improvement_table
from coworld_bench.reporting.tables.measured import measured_table, seeds_table, tidy
from coworld_bench.reporting.tables.side_by_side import side_by_side, with_published
from coworld_bench.reporting.tables.times import times_table
from coworld_bench.reporting.words import caveats

SUFFIXES = {"latex": "tex"}  # of files, where the format's name is none
# columns that only select, or that hold more than a number
INTERNAL = "chosen", "distances", "error", "folder", "options", "settings", "source_options", "variant"


@dataclass(frozen=True)
class Asked:
    """What is to be made of every selection: formats, figures besides the plan's own, and methods to draw alone."""

    formats: tuple[str, ...] = USUAL
    figures: tuple[str, ...] = ()
    highlight: tuple[str, ...] = ()

    def checked(self) -> Asked:
        """The same without repetitions. Raises UsageError for an unknown format or figure."""
        for kind, given, known in (("report format", self.formats, FORMATS), ("figure", self.figures, FIGURES)):
            for name in given:
                if name not in known:
                    raise unknown(kind, name, known)
        return replace(self, formats=tuple(dict.fromkeys(self.formats)), highlight=tuple(dict.fromkeys(self.highlight)))

    def figures_of(self, plan: Plan) -> list[str]:
        return [name for name in FIGURES if name in {*plan.figures, *self.figures}]


def write_report(
    plans: Iterable[str | Plan],
    runs: Path | str | None,
    out: Path | str | None,
    preset: str | None,
    options: Mapping[str, str] | None,
    pages: Path | str | None,
    asked: Asked,
    everything: bool = False,
) -> list[Path]:
    """See `coworld_bench.reporting.report`."""
    asked = asked.checked()
    chosen = [as_plan(plan) for plan in plans]
    if chosen and everything:
        raise UsageError(f"all plans are asked for and {chosen[0].name} as well; name plans, or give --all without any")
    store = read_store(runs)
    folder = Path(out) if out is not None else store.folder / "report"
    wanted = whole_paper(store, preset) if everything else with_results(store, chosen, preset)
    selections = [select(store, plan, name, options) for plan, name in wanted]
    check_highlight(selections, asked.highlight)
    found = find_pages(Path(pages)) if pages is not None else {}
    presets = list(dict.fromkeys(selection.preset for selection in selections)) if everything else []
    paths = write_all(selections, presets, folder, asked)
    if everything:
        paths += write_index([(selection, stem_of(selection)) for selection in selections], presets, folder, asked.formats)
    return paths + (fill_pages(selections, found) if found else [])


def write_all(selections: list[Selection], claims: list[str], folder: Path, asked: Asked) -> list[Path]:
    """The report of each selection, and the claims under each preset named; in as many processes as there are processors,
    since drawing takes the time."""

    def one(place: int) -> list[Path]:
        if place < len(selections):
            return write_one(selections[place], folder / stem_of(selections[place]), asked)
        page = claims_page(selections[0].store, claims[place - len(selections)])
        return write_page(page, folder / page.name, asked.formats)

    return [path for paths in in_processes(one, len(selections) + len(claims)) for path in paths]


def whole_paper(store: Store, preset: str | None) -> list[tuple[Plan, str]]:
    """Every shipped plan under the presets that it has results of; where it has none, under the store's commonest."""
    started = store.runs["preset"]
    usual = str(started.mode().iloc[0]) if len(started) else "quick"
    plans = [load_plan(name) for name in list_plans()]
    presets = {plan.name: [preset] if preset else presets_with_results(store, plan) or [usual] for plan in plans}
    return [(plan, name) for plan in plans for name in presets[plan.name]]


def with_results(store: Store, plans: list[Plan], preset: str | None) -> list[tuple[Plan, str]]:
    """The plans, or all that have results, under each preset that they have results of. Raises UsageError for none."""
    found = [(plan, name) for plan in plans or every_plan(store) for name in presets_of(store, plan, preset)]
    if not found:
        raise UsageError(f"{store.folder} holds no run of any plan; `coworld-bench run {list_plans()[0]}` makes some")
    return found


def as_plan(plan: str | Plan) -> Plan:
    return plan if isinstance(plan, Plan) else load_plan(plan)


def check_highlight(selections: list[Selection], methods: Iterable[str]) -> None:
    """Each of the methods to draw alone must be a row of one of the selections that has results."""
    rows = {row for selection in selections for row in selection.methods}
    finished = {row for selection in selections for (row, _), found in selection.measurements.items() if len(found.runs)}
    for method in methods:
        if method not in rows:
            raise unknown("method in these plans", method, rows)
        if method not in finished:
            raise UsageError(f"{selections[0].store.folder} holds no finished run of {method} in these plans")


def every_plan(store: Store) -> list[Plan]:
    plans = [load_plan(name) for name in list_plans()]
    return [plan for plan in plans if presets_with_results(store, plan)]


def presets_of(store: Store, plan: Plan, preset: str | None) -> list[str]:
    """The preset that was asked for, else all that have results. Raises UsageError where there are none."""
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, "coworld-bench list presets")
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


def stem_of(selection: Selection) -> str:
    """The name of its folder and of all files in it; that of other options than the plan's own ends with their digest."""
    own = counting(selection.plan.options_of(selection.preset))
    other = selection.asked is not None and selection.options != own
    variant = f"-{digest_of(dict(selection.options))[:6]}" if other else ""
    return f"{selection.plan.name}-{selection.preset}{variant}"


def write_one(selection: Selection, folder: Path, asked: Asked) -> list[Path]:
    """The report of one plan under one preset; returns its files."""
    stem, kinds = folder.name, asked.formats
    figures = draw_figures(selection, folder, stem, asked)
    paths = [path for figure in figures for path in figure.files]
    shown: list[Part] = []
    for figure in figures:
        shown += [figure.picture, *figure.tables]
    page = compose(selection, shown)
    paths += write_page(replace(page, details=details(selection)) if "html" in kinds else page, folder, kinds)
    if "json" in kinds:
        paths.append(write(folder / f"{stem}.json", document(selection)))
    if "csv" in kinds:
        paths += write_csv(selection, folder, stem)
    return sorted(paths)


def write_page(page: Page, folder: Path, kinds: tuple[str, ...]) -> list[Path]:
    """The formats that show a page; the others are of what was selected."""
    made = {name: text for name, text in (("md", markdown), ("html", html), ("latex", latex)) if name in kinds}
    return [write(folder / f"{page.name}.{SUFFIXES.get(name, name)}", text(page)) for name, text in made.items()]


def draw_figures(selection: Selection, folder: Path, stem: str, asked: Asked) -> list[Drawn]:
    """The figures, written: the plan's where a format shows them, and those that were asked for."""
    shown = set(asked.formats) & {"md", "html"}
    names = asked.figures_of(selection.plan) if shown else [name for name in FIGURES if name in asked.figures]
    found = [draw(name, selection, folder, stem) for name in names]
    if asked.highlight:
        from coworld_bench.reporting.figures.curves import highlight

        found += [highlight(selection, (row,), folder, f"{stem}-curves-{file_name(row)}") for row in asked.highlight]
    return [figure for figure in found if figure is not None]


def file_name(method: str) -> str:
    """A row's name as part of a file's: `coworld-without_max`."""
    return method.replace(":", "-").replace("/", "-")


def compose(selection: Selection, figures: list[Part]) -> Page:
    """The page of one plan under one preset, in the order it is read; `figures` with the tables that belong to them."""
    parts: list[Part | None] = [openable(measured_table(selection), selection), caveats(selection), *figures]
    parts += [aggregates_table(selection), improvement_table(selection)]
    parts += [side_by_side(selection), published_table(selection.plan)]
    parts += [seeds_table(selection), choices_table(selection), times_table(selection)]
    parts += [diagnostics_table(selection), provenance_table(selection)]
    lead = (
        "Returns per episode, measured by this project. Numbers that the paper printed stand in columns of their own. "
        f"Dataset quality: {selection.plan.quality}."
    )
    title = f"{selection.plan.title} · {selection.circumstances}"
    shown = tuple(part for part in parts if part is not None)
    return Page(title, lead, shown, stem_of(selection))


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
