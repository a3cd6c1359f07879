"""Take the pictures of reports that the docs show: a headless Chromium looks at pages that were written before.

    coworld-bench report --all --heatmap --runs reports/measured/quick --out OUT
    python docs/screenshots.py OUT                      # docs/pictures/reports/*.png
    python docs/screenshots.py OUT --preview preview/DATASET/index.html

Needs the development tools (`pip install -e ".[dev]"`) and a Chromium on the PATH or in COWORLD_BENCH_CHROMIUM.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))
if TYPE_CHECKING:
    from browser import Browser, Tab

DESK, PHONE = (1280, 900), (360, 740)
COLOURS = 128  # of a picture: a page has few, and a file of so many is a third as large


def main() -> None:
    from browser import WHERE, chromium, find_chromium

    asked = arguments()
    path = find_chromium()
    if path is None:
        sys.exit(f"there is no Chromium on the PATH; name one in {WHERE}")
    with chromium(path) as browser:
        taken = take_all(browser, asked.report, asked.plan, asked.preview, asked.out)
    print("\n".join(map(str, taken)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="the folder that `coworld-bench report` wrote")
    parser.add_argument(
        "--plan", default="table2-quick", help="whose page is shown, with its preset [default: %(default)s]"
    )
    parser.add_argument("--preview", type=Path, help="a page of `coworld-bench data preview`")
    parser.add_argument("--out", type=Path, default=DOCS / "pictures" / "reports")
    return parser.parse_args()


def take_all(browser: Browser, report: Path, plan: str, preview: Path | None, out: Path) -> list[Path]:
    """Every picture whose page is there; the plan's must be."""
    page, index = report / plan / f"{plan}.html", report / "index.html"
    if not page.is_file():
        sys.exit(f"there is no {page}; `coworld-bench report {plan.rsplit('-', 1)[0]} --out {report}` writes it")
    wanted = [
        ("page-light", page, DESK, False, nothing),
        ("page-dark", page, DESK, True, nothing),
        ("page-phone", page, PHONE, False, nothing),
        ("cell", page, DESK, False, open_cell),
        ("cell-phone", page, PHONE, True, open_cell),
        ("figure", page, DESK, True, zoom),
        *(
            [("index", index, DESK, False, thumbnails), ("index-phone", index, PHONE, True, thumbnails)]
            if index.is_file()
            else []
        ),
        *([("preview", preview, DESK, True, nothing)] if preview else []),
    ]
    return [take(browser, out / f"{name}.png", *how) for name, *how in wanted]


def take(browser: Browser, path: Path, page: Path, size: tuple[int, int], dark: bool, do: Callable[[Tab], None]) -> Path:
    tab = browser.open(page.resolve().as_uri(), *size, dark=dark, scale=2 if size is PHONE else 1)
    do(tab)
    tab.picture(path)
    assert not tab.faults, (path.name, tab.faults)
    tab.close()
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def nothing(tab: Tab) -> None:
    """The page as it opens."""


def thumbnails(tab: Tab) -> None:
    """The page with its pictures, which come when they are looked at."""
    seen = "[...document.images].filter((image) => image.getBoundingClientRect().top < innerHeight)"
    tab.until(f"{seen}.every((image) => image.complete && image.naturalWidth)")
    tab.painted()


def open_cell(tab: Tab) -> None:
    """The last number of the measured table with several seeds, pointed at in the middle of its curve."""
    last = "[...document.querySelectorAll('#measured .opens')].filter((found) => found.textContent.includes('±')).at(-1)"
    tab.evaluate(f"void ({last}.id = 'shown')")
    tab.click("#shown")
    tab.painted()
    x, y = tab.place(".chart svg")
    tab.mouse("mouseMoved", x + 60, y)


def zoom(tab: Tab) -> None:
    """The first figure, twice as large."""
    tab.click(".enlarge")
    tab.painted()
    for key in ("+", "+", "ArrowUp"):
        tab.press(key)


if __name__ == "__main__":
    main()
