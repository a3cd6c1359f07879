"""An HTML page that is one file: no network, light and dark, readable on a phone."""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5f66; --page: #ffffff; --card: #f6f7f9; --line: #d9dce1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --soft: #a2a6ad; --page: #16181c; --card: #1f2228; --line: #363a42; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead, .notes { color: var(--soft); }
.notes { font-size: .85rem; max-width: 46rem; margin: .6rem 0; padding-left: 1.1rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--card); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
th:first-child { background: var(--card); }
td:first-child { font-weight: 600; }
tr:last-child td { border-bottom: 0; }
tr.divider td { border-top: 2px solid var(--soft); }
tr.below td:first-child { font-weight: 400; }
figure { margin: 0; padding: .75rem; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
figure img { display: block; width: 100%; max-width: 46rem; height: auto; margin: 0 auto; }
@media (max-width: 40rem) {
  body { font-size: 15px; } th, td { padding: .35rem .5rem; } td:first-child { white-space: normal; }
}
@media print { body { max-width: none; } .scroll { overflow: visible; } }
""".strip()


def document(title: str, lead: str, body: str) -> str:
    """The page around `body`, which is HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{body}
</body>
</html>
"""
