"""The tables of a report as LaTeX, for `\\input` into a paper that has the packages booktabs and longtable."""

from __future__ import annotations

from coworld_bench.reporting.layout import Page, Table

RUNS = "runs"  # the key of the list of runs, which is for files
SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "±": r"$\pm$", "→": r"$\rightarrow$", "×": r"$\times$", "≠": r"$\neq$", "≥": r"$\geq$", "≤": r"$\leq$", "−": "$-$",
    "·": r"$\cdot$", "—": "---", "–": "--", "…": r"\ldots{}", "†": r"\dag{}", "‡": r"\ddag{}", "²": r"\textsuperscript{2}",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "η": r"$\eta$", "τ": r"$\tau$",
    "Δ": r"$\Delta$", "₁": r"\textsubscript{1}", "₂": r"\textsubscript{2}", "§": r"\S{}", "’": "'", "“": "``", "”": "''",
    "\u0304": "",
}  # fmt: skip


def latex(page: Page) -> str:
    """The tables of a page, each with its notes below it; words, figures and the list of runs are left to the paper."""
    tables = [table(part, page) for part in page.parts if isinstance(part, Table) and part.key != RUNS]
    return "\n\n".join(["% \\usepackage{booktabs, longtable}", *tables]) + "\n"


def table(content: Table, page: Page) -> str:
    """A longtable: one page or several."""
    head = [r"\toprule", row(content.columns), r"\midrule"]
    lines = [
        r"{\small\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{l{'r' * (len(content.columns) - 1)}}}",
        rf"\caption{{{escaped(page.title)}: {escaped(content.title.partition(' · ')[0])}}}",
        rf"\label{{tab:{page.name}-{content.key}}} \\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"\bottomrule",
        r"\endlastfoot",
    ]
    for place, cells in enumerate(content.rows):
        lines += [r"\midrule"] * bool(place and place == content.divider) + [row(cells)]
    lines += [r"\end{longtable}}"]
    lines += [rf"\noindent{{\footnotesize {' '.join(map(escaped, content.notes))}\par}}"] * bool(content.notes)
    return "\n".join(lines)


def row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def escaped(text: str) -> str:
    """The text for LaTeX; the signs of our own reports by their commands, so that every engine sets them."""
    return "".join(SIGNS.get(sign, sign) for sign in text)
