"""A dataset as one HTML page: what it is, how good its episodes are, what was done in them, and what they look like."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from coworld_bench.data.card import facts, told
from coworld_bench.data.dataset import Dataset
from coworld_bench.data.preview import EPISODES, Pictures, animation, png, sheet
from coworld_bench.data.stats import statistics
from coworld_bench.errors import UsageError
from coworld_bench.files import atomic, write_text
from coworld_bench.pages import document

WIDTH, HEIGHT, BOTTOM = 360, 120, 18  # of a chart, and of the line for its ends
STRIP = 12  # pictures
LEFT_OUT = ("versions", "machine", "policy", "commit", "renderer", "folder", "seed")  # `data show` tells them
TITLES = {
    "facts": "What it is",
    "looks": "What they look like",
    "quality": "How good its episodes are",
    "actions": "What was done",
}
LOOK = """.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
.chart { flex: 1 1 18rem; max-width: 23.5rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .75rem; }
.chart p { font-size: .75rem; color: var(--soft); margin: 0 0 .3rem; }
.chart h3 { font-size: .85rem; margin: 0 0 .4rem; font-weight: 600; } .chart svg { width: 100%; height: auto; }
.chart rect, .chart circle { fill: #3b8bc4; } .chart text { fill: var(--soft); font-size: 11px; }
.chart line { stroke: var(--line); } .scroll td.words { min-width: 0; }
h1, td.words { overflow-wrap: anywhere; }
.strip img, .plays img { image-rendering: pixelated; max-width: 100%; } .strip { margin: .6rem 0; }
.strip img { width: 100%; max-width: 60rem; display: block; margin: 0; }
.charts + .scroll { margin-top: 1rem; } figcaption { font-size: .85rem; color: var(--soft); }
.strip, .plays { background: none; border: 0; padding: 0; } .plays img { width: auto; margin: 0; }
"""


def write_preview(dataset: Dataset, out: Path, episodes: Sequence[int] | None = None, fps: int = 20) -> list[Path]:
    """`sheet.png`, `episodes.gif` and `index.html` of these episodes (six from the lowest return to the highest by
    default) in `out`; the page needs no other file. Only the page where the dataset has no pictures.

    Raises UsageError for an episode that does not exist."""
    unknown = [episode for episode in episodes or [] if not 0 <= episode < dataset.episodes]
    if unknown:
        raise UsageError(f"{dataset.id} has episodes 0 to {dataset.episodes - 1}; got {unknown[0]}")
    if not dataset.card["image"]:
        write_text(out / "index.html", page(dataset, ""))
        return [out / "index.html"]
    pictures = Pictures(dataset.folder, dataset.numbers)
    chosen = list(episodes or pictures.spread(EPISODES))
    files = {"sheet.png": png(sheet(pictures, chosen)), "episodes.gif": animation(pictures, chosen, fps)}
    files["index.html"] = page(dataset, seen(pictures, chosen, files["episodes.gif"])).encode()
    for name, content in files.items():
        with atomic(out / name) as file:
            file.write(content)
    return [out / name for name in files]


def page(dataset: Dataset, looks: str) -> str:
    """The page, with what the episodes look like between the facts and the charts."""
    numbers, known = statistics(dataset), told(facts(dataset))
    lead = f"{known['episodes']} episodes, {known['env steps']} env steps; return {known['return']}."
    shown = {name: words for name, words in known.items() if name not in LEFT_OUT and name != "id"}
    bodies = {"facts": table(shown), "looks": looks, "quality": returns(dataset, numbers), "actions": actions(numbers)}
    found = {place: content for place, content in bodies.items() if content}
    sections = "\n".join(section(place, TITLES[place], content) for place, content in found.items())
    return document(dataset.id, lead, sections, [(place, TITLES[place]) for place in found], LOOK)


def seen(pictures: Pictures, episodes: Sequence[int], gif: bytes) -> str:
    """The chosen episodes, playing and as strips."""
    labels = {episode: pictures.label(episode).replace("\n", ", ") for episode in episodes}
    plays = (
        f'<figure class="plays"><img alt="The episodes, playing beside each other" src="{embedded("gif", gif)}"></figure>'
    )
    strips = [
        f'<figure class="strip"><figcaption>{label}</figcaption>'
        f'<img alt="{STRIP} pictures of {label}" src="{embedded("png", png(pictures.strip(episode, STRIP)))}"></figure>'
        for episode, label in labels.items()
    ]
    return "\n".join([plays, *strips])


def returns(dataset: Dataset, numbers: Mapping[str, Any]) -> str:
    charts = [
        bars("Returns of episodes", numbers["returns"]["histogram"]),
        points("Return of each episode, in order of collection", dataset.returns.tolist()),
        bars("Lengths of episodes, in env steps", numbers["lengths"]["histogram"]),
        bars("Rewards of decisions", numbers["rewards"]["histogram"]),
    ]
    by = {name: f"{row['episodes']} episodes, mean return {row['mean']:.2f}" for name, row in numbers["by policy"].items()}
    return f'<div class="charts">{"".join(charts)}</div>\n{table(by)}'


def actions(numbers: Mapping[str, Any]) -> str:
    charts = [
        bars(
            f"Action {number}: mean {row['mean']:.2f}, sd {row['sd']:.2f}, at a bound {100 * row['at a bound']:.1f} %",
            row["histogram"],
        )
        for number, row in enumerate(numbers["actions"])
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def section(place: str, title: str, body: str) -> str:
    return f'<section id="{place}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def table(rows: Mapping[str, str]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="words">{escape(words)}</td></tr>'
        for name, words in rows.items()
    )
    return f'<div class="scroll"><table>{lines}</table></div>'


def bars(title: str, histogram: Mapping[str, Any]) -> str:
    """A histogram; the number above a bar is shown when it is pointed at."""
    counts, low, high = histogram["counts"], histogram["from"], histogram["to"]
    width, tallest = WIDTH / len(counts), max(1, *counts)
    step = (high - low) / len(counts)
    drawn = [
        f'<rect x="{place * width:.1f}" y="{HEIGHT - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}">'
        f"<title>{low + place * step:.4g} to {low + (place + 1) * step:.4g}: {count}</title></rect>"
        for place, count in enumerate(counts)
        for tall in [HEIGHT * count / tallest]
    ]
    return chart(title, "".join(drawn), f"{low:.4g}", f"{high:.4g}", f"up to {tallest} in a bar")


def points(title: str, values: Sequence[float]) -> str:
    """A point for each value, in their order."""
    low, high = min(0.0, *values), max(0.0, *values) or 1.0
    drawn = [
        f'<circle cx="{WIDTH * (place + 0.5) / len(values):.1f}" cy="{HEIGHT * (high - value) / (high - low):.1f}" r="2.5">'
        f"<title>{place}: {value:.2f}</title></circle>"
        for place, value in enumerate(values)
    ]
    return chart(title, "".join(drawn), "0", str(len(values) - 1), f"from {low:.4g} below to {high:.4g} above")


def chart(title: str, drawn: str, left: str, right: str, said: str) -> str:
    line = HEIGHT + BOTTOM - 4
    return (
        f'<div class="chart"><h3>{escape(title)}</h3><p>{said}</p>'
        f'<svg viewBox="-4 -4 {WIDTH + 8} {HEIGHT + BOTTOM + 6}" role="img" aria-label="{escape(title)}">{drawn}'
        f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/><text x="0" y="{line}">{left}</text>'
        f'<text x="{WIDTH}" y="{line}" text-anchor="end">{right}</text></svg></div>'
    )


def embedded(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
