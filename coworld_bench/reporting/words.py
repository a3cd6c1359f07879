"""What a table can and cannot tell, in words, from the numbers in it."""

from __future__ import annotations

from statistics import median, mode

from coworld_bench.config import resolve
from coworld_bench.recipes import reference_return
from coworld_bench.reporting.layout import Words, number
from coworld_bench.reporting.published import not_measured
from coworld_bench.reporting.selection import Measurement, Selection
from coworld_bench.reporting.stats import detectable_difference, seeds_needed
from coworld_bench.reporting.tables.details import failures
from coworld_bench.reporting.tables.measured import References, shortcut
from coworld_bench.tasks import find_task


def caveats(selection: Selection, references: References = reference_return) -> Words:
    """The paragraphs below a measured table: scale, seeds, shortcuts, and what was left out."""
    paragraphs = [scale(selection), seeds(selection), *shortcuts(selection, references), *left_out(selection)]
    return Words("What this can and cannot tell", tuple(filter(None, paragraphs)))


def scale(selection: Selection) -> str:
    """How far the preset is from the paper."""
    preset = selection.preset
    if preset == "paper":
        return ""
    suite = find_task(selection.plan.cells[0].target).suite
    ours, paper = selection.config, resolve("paper", suite)
    sentence = (
        f"Preset {preset} is neither the paper's network nor its budget: {ours.budget.updates:,} world-model updates "
        f"instead of {paper.budget.updates:,}, batches of {ours.batch.size} × {ours.batch.length} instead of "
        f"{paper.batch.size} × {paper.batch.length}, {ours.model.deter} recurrent units and a {ours.model.encoder} "
        f"encoder of depth {ours.model.depth} instead of {paper.model.deter} and a {paper.model.encoder} of depth "
        f"{paper.model.depth}."
    )
    if selection.plan.published:
        sentence += " Published numbers stand beside it for orientation; a difference to them means nothing."
    if preset == "smoke":
        sentence += " In so few updates nothing is learnt: a smoke table shows that the parts run, and no more."
    return sentence


def seeds(selection: Selection) -> str:
    """What difference between methods so few seeds can show, at the spread that was measured."""
    several = [found for found in once(selection) if len(found.runs) > 1]
    spreads = [found.summary.spread for found in several if found.summary and found.summary.spread is not None]
    if not spreads:
        return "No cell has two seeds, so nothing is known of the spread between seeds: do not rank methods by this table."
    n, spread = mode(sorted(len(found.runs) for found in several)), median(spreads)
    difference = detectable_difference(spread, n)
    assert difference is not None
    cells = f"{len(spreads)} cell{'s' * (len(spreads) != 1)}"
    return (
        f"Over the {cells} with at least two seeds the median spread, sd/mean, is {spread:.2f}. At that spread {n} seeds "
        f"per method can show a difference of about {100 * difference:.0f} % (two-sided t test at 5 %, 80 % power), and "
        f"a 30 % difference takes about {seeds_needed(spread, 0.3)} seeds per method. The spread itself is only roughly "
        f"known from so few seeds. Do not rank methods by smaller differences."
    )


def once(selection: Selection) -> list[Measurement]:
    """The measurements, of those that are made of the same runs one: a method without a source stands in the columns of all
    sources of its target."""
    return list({(row, *found.runs["run"]): found for (row, _), found in selection.measurements.items()}.values())


def shortcuts(selection: Selection, references: References) -> list[str]:
    """Targets that a constant action solves, and targets of which that is not known."""
    targets = {(cell.target, cell.target_options): cell for cell in reversed(selection.plan.cells)}
    found = {cell: shortcut(selection, cell, references) for cell in selection.plan.cells if cell in targets.values()}
    unfit = [entry for entry in found.values() if entry and entry.unfit]
    unknown = [cell.code for cell, entry in found.items() if entry is None]
    words = []
    if unfit:
        listed = "; ".join(
            f"{entry.cell.code}: {number(entry.constant)} of {number(entry.reference)}, {100 * entry.share:.0f} %"
            for entry in unfit
        )
        words.append(
            "Columns marked ‡ can carry no claim: one constant action, blind, already reaches half of the reference "
            f"return or more ({listed})."
        )
    if unknown:
        words.append(
            f"Not known for {', '.join(unknown)}: how far a constant action comes (the anchor was not measured, or no "
            f"reference return is recorded under preset {selection.preset}). Blind actions may solve these targets."
        )
    return words


def left_out(selection: Selection) -> list[str]:
    """Runs that do not count, failures, and published methods without a measured row."""
    words = [f"{note[0].upper()}{note[1:]}." for note in selection.notes]
    words += [f"Failed: {sentence}" for sentence in failures(selection)]
    absent = not_measured(selection.plan, set(selection.labels.values()))
    if absent:
        words.append(f"Published but not measured here: {', '.join(absent)}.")
    return words
