// What all parts of the page use: making elements, and one dialog that closes by Esc, by its button and beside it.

const SVG = "http://www.w3.org/2000/svg";

function dressed(element, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const make = (tag, attributes = {}, ...children) => dressed(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => dressed(document.createElementNS(SVG, tag), attributes, children);

/** Open a dialog; the focus returns to where it was. `closed` is called before its content goes. */
function openDialog(kind, title, content, tools = [], closed = () => {}) {
  const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  const heading = make("h2", { id: "dialog-title" }, title);
  const dialog = make(
    "dialog",
    { class: kind, "aria-labelledby": "dialog-title" },
    make("div", { class: "bar" }, heading, ...tools, close),
    content,
  );
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    closed();
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
