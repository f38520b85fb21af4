// Figures as pictures: SVG, so that the style sheet's themes hold for them and text stays text. <chart-box> draws again
// when its width changes, which keeps letters at their size on a phone.

import { html, render, svg } from "./vendor/lit-html/lit-html.js";

const MARGIN = { left: 58, right: 14, top: 12, bottom: 42 };

class ChartBox extends HTMLElement {
  #draw = null;
  #sizes = null;
  #width = 0;

  /** (width) => template. */
  set draw(draw) {
    this.#draw = draw;
    this.#again();
  }

  connectedCallback() {
    this.#sizes = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      this.#again();
    });
    this.#sizes.observe(this);
  }

  disconnectedCallback() {
    this.#sizes.disconnect();
  }

  #again() {
    if (this.#width && this.#draw) render(this.#draw(this.#width), this);
  }
}

customElements.define("chart-box", ChartBox);

/** Round values from `low` to `high`, about five of them. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const powers = (low, high) => {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const all = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  return all.length > 2 ? all : [1, 2, 5].flatMap((n) => Array.from({ length: last - first + 3 }, (_, i) => n * 10 ** (first - 1 + i))).filter((v) => v >= low && v <= high).sort((a, b) => a - b);
};

/** An axis: {low, high, log, label, format}; `place` maps a value to 0..1. */
export function axis({ low, high, log = false, label, format = String }) {
  const place = log
    ? (value) => (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))
    : (value) => (value - low) / (high - low);
  return { place, label, format, ticks: log ? powers(low, high) : ticks(low, high) };
}

/**
 * A chart with two axes.
 *
 * `body` gets {x, y, width, height}, functions from a value to pixels and the field's size, and returns SVG. `title`
 * says what is seen, for those who do not see it.
 */
export function chart({ width, height, x, y, title, body }) {
  const field = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const px = (value) => x.place(value) * field.width;
  const py = (value) => (1 - y.place(value)) * field.height;
  return html`<svg class="chart" width=${width} height=${height} role="img" aria-label=${title}>
    <g transform=${`translate(${MARGIN.left} ${MARGIN.top})`}>
      ${y.ticks.map((value) => svg`<line class="grid" x1="0" x2=${field.width} y1=${py(value)} y2=${py(value)}/><text class="tick" x="-8" y=${py(value) + 4} text-anchor="end">${y.format(value)}</text>`)}
      ${x.ticks.map((value) => svg`<line class="grid" y1="0" y2=${field.height} x1=${px(value)} x2=${px(value)}/><text class="tick" x=${px(value)} y=${field.height + 17} text-anchor="middle">${x.format(value)}</text>`)}
      <text class="axis" x=${field.width / 2} y=${field.height + 37} text-anchor="middle">${x.label}</text>
      <text class="axis" transform=${`translate(-46 ${field.height / 2}) rotate(-90)`} text-anchor="middle">${y.label}</text>
      ${body({ x: px, y: py, ...field })}
    </g>
  </svg>`;
}

/** An SVG path through the points. */
export const path = (xs, ys, { x, y }) => xs.map((value, i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(ys[i]).toFixed(1)}`).join("");

/**
 * Places for labels beside their points, [left, top, anchor] each, such that none covers another or a point.
 *
 * `points`: [{x, y, text}], the first of them choose first; `width`: of the field, in pixels.
 */
export function labelPlaces(points, width) {
  const [letter, tall, gap] = [7.4, 15, 9];
  const taken = points.map(({ x, y }) => [x - 6, y - 6, x + 6, y + 6]);
  const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return points.map(({ x, y, text }) => {
    const long = text.length * letter;
    const lefts = [x + gap, x - gap - long].map((left) => Math.min(width - long, Math.max(0, left)));
    const tries = [0, 13, -13, 26, -26, 39, -39, 52, -52].flatMap((down) => lefts.map((left) => [left, y - tall / 2 + down]));
    const boxes = tries.map(([left, top]) => [left, top, left + long, top + tall]);
    const box = boxes.find((one) => !taken.some((other) => meets(one, other))) ?? boxes[0];
    taken.push(box);
    return box[0] < x ? [box[2], box[1] + 12, "end"] : [box[0], box[1] + 12, "start"];
  });
}
