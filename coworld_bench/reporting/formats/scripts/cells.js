// A number of the measured table opens what it is made of: its seeds, their curves, its runs. See reporting/opened.py.

const DETAILS = JSON.parse(document.getElementById("details")?.textContent ?? "null");
const MARGIN = { top: 12, right: 24, bottom: 40, left: 56 };
const WIDE = 640; // pixels; from there on the lines across have labels beside the chart
const LABELS = 180; // pixels, their width
const LABEL = 14; // and the least distance of two

const counted = (updates) => updates.toLocaleString("en");
const written = (value) => String(Number(value.toFixed(Math.abs(value) < 100 ? 1 : 0)));

/** [updates, return] of a run, where it is a number. */
const curveOf = (run) =>
  DETAILS.grids[run.grid].map((updates, place) => [updates, run.returns[place]]).filter(([, value]) => value !== null);

/** The mean over runs where all of them were evaluated. */
function meanOf([first, ...others]) {
  const maps = others.map((curve) => new Map(curve));
  const mean = ([updates, value]) => maps.reduce((sum, curve) => sum + curve.get(updates), value) / (1 + maps.length);
  const shared = first.filter(([updates]) => maps.every((curve) => curve.has(updates)));
  return shared.map((point) => [point[0], mean(point)]);
}

/** Round numbers that span `low` to `high` in about `count` steps. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((wide) => wide >= rough);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}

const runsOf = (cell, method = cell.method) =>
  (DETAILS.columns[cell.column].runs[method] ?? []).map((place) => DETAILS.runs[place]);

/** Everything that a cell's chart shows, as curves. */
function chartOf(cell) {
  const { lines, runs } = DETAILS.columns[cell.column];
  const others = Object.keys(runs).filter((method) => method !== cell.method);
  const curve = (name, points) => ({ name, points });
  const drawn = (curves) => curves.filter(({ points }) => points.length);
  const seeds = drawn(runsOf(cell).map((run) => curve(`seed ${run.seed}`, curveOf(run))));
  return {
    lines,
    seeds,
    mean: seeds.length === 1 ? seeds[0] : curve("mean", seeds.length ? meanOf(seeds.map(({ points }) => points)) : []),
    others: drawn(others.map((method) => curve(DETAILS.methods[method], meanOf(runsOf(cell, method).map(curveOf))))),
  };
}

/** The chart at a width in pixels; `tell` is called with the words for the evaluation that is pointed at. */
function chart({ seeds, mean, others, lines }, width, tell) {
  const height = Math.round(Math.min(420, Math.max(240, width * 0.55)));
  const points = [...seeds, ...others].flatMap((curve) => curve.points);
  const values = [0, ...points.map(([, value]) => value), ...lines.map(([, value]) => value)];
  const across = ticks(0, Math.max(0, ...points.map(([updates]) => updates)), width < 480 ? 3 : 6);
  const up = ticks(Math.min(...values), Math.max(...values), 5);
  const right = width - (width < WIDE || !lines.length ? MARGIN.right : LABELS);
  const scale = (marks, from, to) => (value) => from + ((value - marks[0]) / (marks.at(-1) - marks[0])) * (to - from);
  const x = scale(across, MARGIN.left, right);
  const y = scale(up, height - MARGIN.bottom, MARGIN.top);
  const path = (curve, kind) => {
    const places = curve.points.map(([updates, value]) => `${x(updates).toFixed(1)} ${y(value).toFixed(1)}`);
    return draw("path", { class: kind, d: `M${places.join("L")}h0` }, draw("title", {}, curve.name));
  };
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(...axes(height, right, across, up, x, y));
  svg.append(...others.map((curve) => path(curve, "other")));
  if (seeds.length > 1) svg.append(...seeds.map((curve) => path(curve, "seed")));
  svg.append(...references(lines, right, y, width >= WIDE));
  if (!mean.points.length) return svg;

  const pointer = draw("g", { class: "pointer" });
  svg.append(path(mean, "mean"), pointer);
  const own = seeds.length > 1 ? seeds.map((curve) => [curve.name, new Map(curve.points)]) : [];
  point(svg, mean.points.map(([updates]) => x(updates)), (place) => {
    const [updates, value] = mean.points[place];
    const found = [[mean.name, value], ...own.map(([name, curve]) => [name, curve.get(updates)])];
    const dots = found.map(([, at]) => draw("circle", { cx: x(updates), cy: y(at), r: 4 }));
    pointer.replaceChildren(draw("path", { d: `M${x(updates)} ${MARGIN.top}V${height - MARGIN.bottom}` }), ...dots);
    const said = [`${counted(updates)} updates`, ...found.map(([name, at]) => `${name}: ${written(at)}`)].join(" · ");
    tell(said);
    return said;
  });
  return svg;
}

const text = (kind, words, left, top) => draw("text", { class: kind, x: left, y: top }, words);

function axes(height, right, across, up, x, y) {
  const bottom = height - MARGIN.bottom;
  const middle = `translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`;
  return [
    ...up.map((value) => draw("path", { class: "grid", d: `M${MARGIN.left} ${y(value)}H${right}` })),
    ...up.map((value) => text("tick left", written(value), MARGIN.left - 8, y(value) + 4)),
    ...across.map((value) => text("tick", counted(value), x(value), bottom + 18)),
    text("axis", "updates", (MARGIN.left + right) / 2, height - 5),
    draw("text", { class: "axis", transform: middle }, "return"),
  ];
}

const kindOf = (name) => `line ${name.split(/\W/)[0]}`;

/** Dashed lines across; beside them, where there is room, labels that keep out of each other's way. */
function references(lines, right, y, labelled) {
  let last = Infinity;
  return [...lines].sort(([, a], [, b]) => a - b).flatMap(([name, value]) => {
    last = Math.min(y(value) + 4, last - LABEL);
    const line = draw("path", { class: kindOf(name), d: `M${MARGIN.left} ${y(value)}H${right}` });
    return labelled ? [line, text("label", `${name} ${written(value)}`, right + 6, last)] : [line];
  });
}

/** Evaluations are pointed at by pointer and, as on a slider, by keys; `shown` shows one and returns its words. */
function point(svg, lefts, shown) {
  const most = lefts.length - 1;
  const keys = { ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, Home: () => 0, End: () => most };
  const own = { tabindex: 0, role: "slider", "aria-label": "Evaluation", "aria-valuemin": 0, "aria-valuemax": most };
  let now = most;
  function show(place) {
    now = Math.min(most, Math.max(0, place));
    dressed(svg, { "aria-valuenow": now, "aria-valuetext": shown(now) });
  }
  function follow(event) {
    const far = lefts.map((left) => Math.abs(svg.getBoundingClientRect().x + left - event.clientX));
    show(far.indexOf(Math.min(...far)));
  }
  dressed(svg, { ...own, "aria-valuenow": now });
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("focus", () => show(now));
  svg.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    show(keys[event.key](now));
  });
}

function legend({ seeds, mean, others, lines }) {
  const kinds = [
    ["mean", seeds.length > 1 ? `mean over ${seeds.length} seeds` : mean.name, mean.points.length],
    ["seed", "each seed", seeds.length > 1],
    ["other", `means of the other methods (${others.length})`, others.length],
    ...lines.map(([name, value]) => [kindOf(name), `${name} ${written(value)}`, true]),
  ];
  const swatch = (kind) => draw("svg", { width: 26, height: 10, "aria-hidden": "true" }, draw("path", { class: kind, d: "M1 5H25" }));
  const shown = kinds.filter(([, , some]) => some).map(([kind, words]) => make("li", {}, swatch(kind), words));
  return make("ul", { class: "legend" }, ...shown);
}

function runsTable(runs) {
  const head = make("tr", {}, ...DETAILS.facts.map((fact) => make("th", { scope: "col" }, fact)));
  const rows = runs.map(({ facts: [seed, ...facts] }) =>
    make("tr", {}, make("th", { scope: "row" }, seed), ...facts.map((fact) => make("td", {}, fact))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, table);
}

function openCell(cell) {
  const facts = cell.facts.flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)]);
  const content = make("div", { class: "content" }, make("dl", {}, ...facts));
  const dialog = openDialog("cell", cell.title, content);
  const runs = runsOf(cell);
  if (runs.length) content.append(...curves(chartOf(cell), dialog), runsTable(runs));
  content.append(make("p", {}, "More of it: ", make("code", {}, cell.command)));
}

/** A chart as wide as there is room for, the words for where it is pointed at, and what its lines are. */
function curves(found, dialog) {
  const words = make("p", { class: "told", role: "status" }, "Point at the curve, or use the arrow keys on it.");
  const place = make("div", { class: "chart" });
  let width = 0;
  new ResizeObserver(() => {
    if (!dialog.open || place.clientWidth === width) return;
    width = place.clientWidth;
    place.replaceChildren(chart(found, width, (said) => (words.textContent = said)));
  }).observe(place);
  return [place, words, legend(found)];
}

function makeOpenable(place) {
  const button = make("button", { type: "button", class: "opens" }, ...place.childNodes);
  button.addEventListener("click", () => openCell(DETAILS.cells[place.dataset.opens]));
  place.append(button);
}

if (DETAILS) document.querySelectorAll("td[data-opens]").forEach(makeOpenable);
