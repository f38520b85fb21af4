// The page's frame: which view is shown (#/view?...), the switch of themes, keys, and what is dropped.

import { readHash } from "./addresses.js";
import { setTheme } from "./colours.js";
import { takeDrops } from "./incoming.js";
import { playerKey, showBar } from "./player.js";
import { announce, remember, remembered } from "./words.js";
import { html, render } from "./vendor/lit-html/lit-html.js";

const VIEWS = ["listen", "compare", "leaderboard", "find", "map"];
const THEMES = { system: "light", light: "dark", dark: "system" };

const main = document.getElementById("main");
let shown = { name: null, view: null };

async function show() {
  const { view, parameters } = readHash(location.hash || "#/listen");
  const name = VIEWS.includes(view) ? view : "listen";
  if (shown.name === name) {
    shown.view?.update(parameters);
    return;
  }
  const first = shown.name === null;
  shown.view?.leave();
  shown = { name, view: null };
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = document.createElement("div");
  root.className = `view ${name}-view`;
  try {
    const module = await import(`./views/${name}.js`);
    if (shown.name !== name) return;
    main.replaceChildren(root);
    document.title = `${module.title} – autotag`;
    shown.view = module.mount(root, readHash(location.hash).parameters);
    scrollTo(0, 0);
    if (!first) root.querySelector("h1")?.focus({ preventScroll: true });
    if (!first) announce(module.title);
  } catch (error) {
    main.replaceChildren(root);
    render(html`<p class="notice error" role="alert">This view could not be shown: ${error.message}</p>`, root);
    console.error(error);
  }
}

function themes() {
  const button = document.getElementById("theme");
  const label = (theme) => (button.textContent = `Theme: ${theme}`);
  label(remembered("theme") ?? "system");
  button.addEventListener("click", () => {
    const next = THEMES[remembered("theme") ?? document.documentElement.dataset.theme ?? "system"];
    remember("theme", next === "system" ? null : next);
    setTheme(next === "system" ? null : next);
    label(next);
  });
}

function keys() {
  const dialog = document.getElementById("keys");
  document.getElementById("help").addEventListener("click", () => dialog.showModal());
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || dialog.open) return;
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "?" && !typing) dialog.showModal();
    else if (event.key === "/" && !typing && main.querySelector("input[type=search]")) main.querySelector("input[type=search]").focus();
    else if (!playerKey(event)) return;
    event.preventDefault();
  });
}

themes();
keys();
takeDrops(document.getElementById("drop"));
showBar(document.getElementById("player"));
addEventListener("hashchange", show);
show();
