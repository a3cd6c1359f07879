// Tables that are sorted by a button in each heading. Rows below the line stay where they are.

const NUMBER = /^([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?=$|\s*(?:±|\(|%|to\b|≠|†|‡|×))/;
const DURATION = /^(?:(\d+) h ?)?(?:(\d+) min ?)?(?:(\d+) s)?$/;
const NOTHING = /^(?:—|–|failed|\d+\/\d+.*|\d+ of \d+ cells)?$/;
const NEXT = { none: "first", first: "second", second: "none" };

/** What a cell is sorted by: a mean, seconds, or null where it says neither. */
function valueOf(text) {
  const number = NUMBER.exec(text);
  if (number) return Number(number[1].replaceAll(",", ""));
  const [whole, hours = 0, minutes = 0, seconds = 0] = DURATION.exec(text) ?? [];
  return whole ? 3600 * hours + 60 * minutes + Number(seconds) : null;
}

const textOf = (row, column) => row.cells[column].textContent.trim();

function isNumeric(rows, column) {
  const texts = rows.map((row) => textOf(row, column)).filter((text) => !NOTHING.test(text));
  return texts.length > 0 && texts.every((text) => valueOf(text) !== null);
}

/** The rows in order; those that say nothing come last whichever way they are sorted. */
function sorted(rows, column, numeric, down) {
  const key = (row) => {
    const text = textOf(row, column);
    if (NOTHING.test(text)) return null;
    return numeric ? valueOf(text) : text;
  };
  const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
  const keyed = rows.map((row) => [key(row), row]);
  const known = keyed.filter(([value]) => value !== null).sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
  return [...known, ...keyed.filter(([value]) => value === null)].map(([, row]) => row);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const states = headings.map(() => "none");

  function turn(column) {
    const state = NEXT[states[column]];
    const numeric = isNumeric(original, column);
    const down = numeric === (state === "first"); // the largest number first, but the first of words
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    states.fill("none");
    states[column] = state;
    if (state !== "none") headings[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...(state === "none" ? original : sorted(original, column, numeric, down)));
  }

  headings.forEach((heading, column) => {
    const button = make("button", { type: "button", class: "sort" }, ...heading.childNodes);
    button.addEventListener("click", () => turn(column));
    heading.append(button);
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
