// Figures that open in a dialog, where the wheel, two fingers, + and − zoom, and dragging and arrow keys move.

const MOST = 40; // times
const STEP = 1.4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function makeZoomable(figure) {
  const svg = figure.querySelector("svg");
  const name = svg.getAttribute("aria-label");
  const button = make("button", { type: "button", class: "enlarge", "aria-label": `Enlarge: ${name}` }, svg);
  figure.prepend(button);
  button.addEventListener("click", () => {
    button.style.minHeight = `${button.offsetHeight}px`; // the page keeps its place while the figure is away
    const title = figure.closest("section").querySelector("h2").firstChild.textContent;
    enlarge(svg, title, () => {
      button.append(svg);
      button.style.minHeight = "";
    });
  });
}

function enlarge(svg, title, back) {
  const [x, y, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const start = { x, y, width, height };
  const view = { ...start };
  const scale = make("output", { class: "scale" });
  const stage = make("div", { class: "stage", tabindex: "0", "aria-label": "The figure; arrow keys move, + and − zoom" }, svg);
  const fingers = new Map();

  function show() {
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    scale.textContent = `${Math.round((100 * start.width) / view.width)} %`;
  }
  const pixel = () => 1 / svg.getScreenCTM().a; // in units of the figure

  function zoom(factor, clientX, clientY) {
    const box = stage.getBoundingClientRect();
    const screen = new DOMPoint(clientX ?? box.x + box.width / 2, clientY ?? box.y + box.height / 2);
    const fixed = screen.matrixTransform(svg.getScreenCTM().inverse());
    const width = Math.min(start.width, Math.max(start.width / MOST, view.width / factor));
    const ratio = width / view.width;
    view.x = fixed.x - (fixed.x - view.x) * ratio;
    view.y = fixed.y - (fixed.y - view.y) * ratio;
    view.width = width;
    view.height = start.height * (width / start.width);
    move(0, 0);
  }
  function move(right, down) {
    const within = (value, low, high) => Math.min(high, Math.max(low, value));
    view.x = within(view.x + right, start.x, start.x + start.width - view.width);
    view.y = within(view.y + down, start.y, start.y + start.height - view.height);
    show();
  }
  function reset() {
    Object.assign(view, start);
    show();
  }

  function dragged(event) {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, finger]) => finger);
    fingers.set(event.pointerId, event);
    if (!other) return move((before.clientX - event.clientX) * pixel(), (before.clientY - event.clientY) * pixel());
    const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
    zoom(apart(event) / Math.max(1, apart(before)), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
  }
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", dragged);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
  }, { passive: false });

  const tool = (text, label, act) => {
    const button = make("button", { type: "button", "aria-label": label }, text);
    button.addEventListener("click", () => act());
    return button;
  };
  const tools = [
    tool("−", "Zoom out", () => zoom(1 / STEP)), scale,
    tool("+", "Zoom in", () => zoom(STEP)), tool("Fit", "Show the whole figure", reset),
  ];
  const keys = { "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), "_": () => zoom(1 / STEP), 0: reset };
  const dialog = openDialog("figure", title, stage, tools, () => {
    reset();
    back();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (!arrow && !keys[event.key]) return;
    event.preventDefault();
    if (arrow) move(arrow[0] * view.width * 0.1, arrow[1] * view.height * 0.1);
    else keys[event.key]();
  });
  stage.focus();
  show();
}

document.querySelectorAll("figure.zoomable").forEach(makeZoomable);
