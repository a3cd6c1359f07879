// Light or dark: the system's, or the reader's choice, which is kept where the browser allows it.
(() => {
  "use strict";
  const KEY = "coworld-bench-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const system = () => (dark.matches ? "dark" : "light");
  const shown = () => root.dataset.theme ?? system();

  function kept() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // no storage here, as in some browsers for files
    }
  }

  function keep(theme) {
    try {
      if (theme) localStorage.setItem(KEY, theme);
      else localStorage.removeItem(KEY);
    } catch {
      // the choice holds until the page is closed
    }
  }

  function choose(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  function addToggle() {
    const button = document.createElement("button");
    const tell = () => (button.textContent = shown() === "dark" ? "Light" : "Dark");
    button.type = "button";
    button.className = "theme";
    button.title = "Change between light and dark";
    button.addEventListener("click", () => {
      const wanted = shown() === "dark" ? "light" : "dark";
      const own = wanted === system() ? null : wanted; // the system's again: follow it
      choose(own);
      keep(own);
      tell();
    });
    dark.addEventListener("change", tell);
    tell();
    document.querySelector("header").prepend(button);
  }

  root.classList.add("js");
  choose(kept());
  document.addEventListener("DOMContentLoaded", addToggle);
})();
