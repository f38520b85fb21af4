// Colours of what is drawn on canvas, which style sheets do not reach, in both themes; and elements that are painted
// with them.

const dark = matchMedia("(prefers-color-scheme: dark)");
const changes = new EventTarget();

dark.addEventListener("change", () => changes.dispatchEvent(new Event("change")));

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

/** "light", "dark", or null for the system's. */
export function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  changes.dispatchEvent(new Event("change"));
}

// From probability 0 to 1, equally far apart in lightness; those of light are the ones of autotag tag --taggram.
const SCALES = {
  light: ["#eef1f4", "#c3d6e8", "#82b0d4", "#3f7fb8", "#1b4f8a", "#0a2450"],
  dark: ["#1b232e", "#1d3f63", "#2565a0", "#4a90cf", "#8fbfe8", "#dcecfa"],
};

const CATEGORIES = {
  light: ["#1b6ec2", "#c2571a", "#2b8a3e", "#9c36b5", "#c92a2a", "#0b7285", "#846200", "#a61e4d", "#5f3dc4", "#5c5f66"],
  dark: ["#74b0f0", "#f0a070", "#7cd08c", "#d79be6", "#ff8787", "#66c8d8", "#e0bc4a", "#f295b5", "#ab98f0", "#a4abb6"],
};

const parsed = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function steps(stops) {
  const colours = stops.map(parsed);
  return Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (colours.length - 1);
    const low = Math.min(colours.length - 2, Math.floor(place));
    const mixed = colours[low].map((c, k) => Math.round(c + (place - low) * (colours[low + 1][k] - c)));
    return `rgb(${mixed.join(" ")})`;
  });
}

const scales = { light: steps(SCALES.light), dark: steps(SCALES.dark) };
const theme = () => (isDark() ? "dark" : "light");

/** The colour of a share of the scale, 0 to 1. */
export const shade = (share) => scales[theme()][Math.max(0, Math.min(255, Math.round(255 * share)))];

/** A colour for the n-th of a few kinds; the tenth stands for the others. */
export const category = (n) => CATEGORIES[theme()][Math.min(9, n)];
export const OTHERS = 9;

/** What is drawn beside the scales. */
export const plain = () =>
  isDark()
    ? { ink: "#e8ecf1", faint: "#8d99a8", line: "#2e3947", accent: "#74b0f0", rest: "#4a5667", silence: "#3a3d42" }
    : { ink: "#1b2430", faint: "#5d6875", line: "#d9dee4", accent: "#1b6ec2", rest: "#a9b6c4", silence: "#b3b0ab" };

/** An element that is painted, by `paint()`, anew when its size or the theme changes; `signal` aborts when it goes. */
export class Painted extends HTMLElement {
  #leaving = null;

  get signal() {
    return this.#leaving.signal;
  }

  connectedCallback() {
    this.#leaving = new AbortController();
    const sizes = new ResizeObserver(() => this.paint());
    sizes.observe(this);
    this.signal.addEventListener("abort", () => sizes.disconnect());
    changes.addEventListener("change", () => this.paint(), { signal: this.signal });
    this.paint();
  }

  disconnectedCallback() {
    this.#leaving.abort();
  }
}
