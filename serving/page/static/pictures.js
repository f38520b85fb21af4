// Pictures on canvas, and those of a song over time: <song-waveform> and <tag-gram>. Both seek where they are clicked; for
// those who do not see them the waveform is a slider and the taggram has a table.

import { Painted, plain, shade } from "./colours.js";
import { player } from "./player.js";
import { song } from "./song.js";
import { clock, modelLabel, percent } from "./words.js";
import { html, render } from "./vendor/lit-html/lit-html.js";

const TAGS_BY_MEAN = 8;
const MOST_TAGS = 12;
const TABLE_COLUMNS = 24;
const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

/** An element with a canvas that is drawn again when its size, the theme or what it shows changes. */
export class Picture extends Painted {
  #frame = 0;
  canvas = document.createElement("canvas");

  connectedCallback() {
    super.connectedCallback();
    this.build();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  paint() {
    this.later();
  }

  later() {
    if (this.isConnected) this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    this.before?.();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.draw(context, width, height);
  }
}

/** Moves the playheads below `root` as the song plays; calls `draw` when another window of an answer is to be heard. */
export function followPlayback(root, answers, draw, signal) {
  let before = "";
  const moved = () => {
    const share = song.seconds ? Math.min(1, player.time / song.seconds) : 0;
    root.querySelectorAll(".song-time").forEach((one) => one.style.setProperty("--at", String(share)));
    const windows = answers().map((answer) => answer.windowAt(player.time)).join();
    if (windows === before) return;
    before = windows;
    draw();
  };
  for (const event of ["change", "time"]) player.addEventListener(event, moved, { signal });
}

/** Share of the song, 0 to 1, at which an event points into an element. */
function shareAt(event, element) {
  const box = element.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
}

class SongWaveform extends Picture {
  #peaks = null;
  #seconds = null;

  set peaks(peaks) {
    if (peaks === this.#peaks) return;
    this.#peaks = peaks;
    this.later();
  }

  set seconds(seconds) {
    this.#seconds = seconds;
    this.#tell();
  }

  build() {
    this.setAttribute("role", "slider");
    this.setAttribute("aria-label", "Position in the song");
    this.setAttribute("aria-valuemin", "0");
    this.dataset.keys = "player";
    this.tabIndex = 0;
    this.replaceChildren(this.canvas);
    this.addEventListener("pointerdown", (event) => this.#drag(event), { signal: this.signal });
    for (const event of ["change", "time"]) player.addEventListener(event, () => this.#moved(), { signal: this.signal });
    this.#tell();
  }

  #drag(event) {
    if (!this.#seconds || event.button) return;
    this.setPointerCapture(event.pointerId);
    const moving = new AbortController();
    const seek = (at) => player.seek(shareAt(at, this.canvas) * this.#seconds);
    seek(event);
    this.addEventListener("pointermove", seek, { signal: moving.signal });
    for (const end of ["pointerup", "pointercancel"]) this.addEventListener(end, () => moving.abort(), { signal: moving.signal });
  }

  #moved() {
    this.#tell();
    this.later();
  }

  #tell() {
    const length = this.#seconds ?? 0;
    this.setAttribute("aria-valuemax", String(Math.floor(length)));
    this.setAttribute("aria-valuenow", String(Math.floor(Math.min(player.time, length))));
    this.setAttribute("aria-valuetext", `${clock(player.time)} of ${clock(length)}`);
  }

  draw(context, width, height) {
    const { accent, rest } = plain();
    const step = 3;
    const bars = Math.floor(width / step);
    const played = this.#seconds ? (player.time / this.#seconds) * width : 0;
    for (let bar = 0; bar < bars; bar++) {
      const tall = Math.max(2, this.#peak(bar, bars) * (height - 4));
      context.fillStyle = bar * step < played ? accent : rest;
      context.fillRect(bar * step, (height - tall) / 2, step - 1, tall);
    }
  }

  #peak(bar, bars) {
    if (!this.#peaks) return 0;
    const [from, to] = [bar, bar + 1].map((at) => Math.floor((at * this.#peaks.length) / bars));
    let peak = 0;
    for (let i = from; i < Math.max(to, from + 1); i++) peak = Math.max(peak, this.#peaks[i] ?? 0);
    return peak;
  }
}

/** The tags that a taggram shows: eight by their mean and, of the others, the four that reach highest in a window. */
function shownTags(answer, all = false) {
  const order = answer.order;
  if (all || order.length <= MOST_TAGS) return order;
  const [first, others] = [order.slice(0, TAGS_BY_MEAN), order.slice(TAGS_BY_MEAN)];
  const highest = new Map(others.map((tag) => [tag, Math.max(0, ...answer.rows.map((row) => row[tag]))]));
  const reaching = [...others].sort((a, b) => highest.get(b) - highest.get(a)).slice(0, MOST_TAGS - TAGS_BY_MEAN);
  return [...first, ...others.filter((tag) => reaching.includes(tag))];
}

class TagGram extends Picture {
  #answer = null;
  #all = false;
  #tags = null;
  #length = null;
  #shown = [];
  #seen = "";

  set answer(answer) {
    this.#answer = answer;
    this.later();
  }

  set all(all) {
    this.#all = all;
    this.later();
  }

  /** Indices of the tags to be shown; null for those that shownTags chooses. */
  set tags(tags) {
    this.#tags = tags;
    this.later();
  }

  /** Seconds of the song, where they are known before the model's answer ends. */
  set length(seconds) {
    this.#length = seconds;
    this.later();
  }

  get #seconds() {
    return this.#length ?? this.#answer?.seconds ?? 0;
  }

  build() {
    this.labels = Object.assign(document.createElement("div"), { className: "gram-labels" });
    this.field = Object.assign(document.createElement("div"), { className: "gram-field" });
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    this.labels.setAttribute("aria-hidden", "true");
    this.canvas.setAttribute("role", "img");
    this.field.append(this.canvas, this.tip);
    this.replaceChildren(this.labels, this.field);
    const listen = (event, act) => this.canvas.addEventListener(event, act, { signal: this.signal });
    listen("click", (event) => this.#seconds && player.seek(shareAt(event, this.canvas) * this.#seconds));
    listen("pointermove", (event) => this.#point(event));
    listen("pointerleave", () => (this.tip.hidden = true));
  }

  before() {
    const answer = this.#answer;
    this.#shown = answer ? (this.#tags ?? shownTags(answer, this.#all)) : [];
    const names = this.#shown.map((tag) => answer.tags[tag]);
    if (names.join("\n") === this.#seen && names.length) return;
    this.#seen = names.join("\n");
    this.style.setProperty("--rows", String(names.length || MOST_TAGS));
    render(names.map((name) => html`<span title=${name}>${name}</span>`), this.labels);
    const model = answer ? ` by ${modelLabel(answer.model)}` : "";
    this.canvas.setAttribute("aria-label", `Taggram${model}: ${names.length} tags over time${names.length ? `, most probable first: ${names.join(", ")}` : ""}. The same as a table follows.`);
  }

  draw(context, width, height) {
    const answer = this.#answer;
    const rows = this.#shown.length || MOST_TAGS;
    const tall = height / rows;
    context.fillStyle = shade(0);
    for (let row = 0; row < rows; row++) context.fillRect(0, row * tall, width, tall - 1);
    if (!answer?.rows.length || !this.#seconds) return;
    const { silence } = plain();
    const top = this.#top();
    let left = 0;
    answer.starts.forEach((_, i) => {
      const right = (Math.min(this.#seconds, answer.end(i)) / this.#seconds) * width;
      const wide = Math.max(0.5, right - left);
      this.#shown.forEach((tag, row) => {
        context.fillStyle = answer.silent[i] ? silence : shade(answer.rows[i][tag] / top);
        context.fillRect(left, row * tall, wide + 0.3, tall - 1);
      });
      left = right;
    });
  }

  // The scale ends at the highest value shown, a tenth or more: a model that is never sure of a tag is still legible.
  #top() {
    let top = 0.1;
    for (const row of this.#answer.rows) for (const tag of this.#shown) top = Math.max(top, row[tag]);
    return Math.ceil(10 * top) / 10;
  }

  #point(event) {
    const answer = this.#answer;
    const box = this.canvas.getBoundingClientRect();
    const tag = this.#shown[Math.floor(((event.clientY - box.top) / box.height) * this.#shown.length)];
    const second = shareAt(event, this.canvas) * this.#seconds;
    const at = answer?.windowAt(second) ?? -1;
    this.tip.hidden = tag === undefined;
    if (this.tip.hidden) return;
    const value = at < 0 ? "not heard" : percent(answer.rows[at][tag]);
    this.tip.textContent = `${answer.tags[tag]} at ${clock(second)}: ${value}`;
    const left = Math.min(box.width - this.tip.offsetWidth, Math.max(0, event.clientX - box.left - this.tip.offsetWidth / 2));
    this.tip.style.transform = `translate(${left}px, ${Math.max(-30, event.clientY - box.top - 36)}px)`;
  }
}

/** Round times under a picture of a song, as many as there is room for. */
class TimeRuler extends HTMLElement {
  #seconds = 0;
  #sizes = new ResizeObserver(() => this.#draw());

  set seconds(seconds) {
    if (seconds === this.#seconds) return;
    this.#seconds = seconds;
    this.#draw();
  }

  connectedCallback() {
    this.setAttribute("aria-hidden", "true");
    this.#sizes.observe(this);
  }

  disconnectedCallback() {
    this.#sizes.disconnect();
  }

  #draw() {
    if (!this.#seconds || !this.clientWidth) return;
    const most = Math.max(2, Math.floor(this.clientWidth / 52));
    const step = TICK_STEPS.find((seconds) => this.#seconds / seconds <= most) ?? TICK_STEPS.at(-1);
    const times = Array.from({ length: Math.floor(this.#seconds / step) + 1 }, (_, i) => i * step);
    render(times.map((time) => html`<span>${clock(time)}</span>`), this);
    [...this.children].forEach((mark, i) => {
      const share = times[i] / this.#seconds;
      mark.style.setProperty("--at", String(share));
      mark.classList.toggle("last", i > 0 && (1 - share) * this.clientWidth < 20);
    });
  }
}

customElements.define("time-ruler", TimeRuler);
customElements.define("song-waveform", SongWaveform);
customElements.define("tag-gram", TagGram);

/** The taggram's figures as a table, made when it is opened; long songs in steps of several windows. */
export function taggramTable(answer, open, toggled) {
  return html`<details class="as-table" ?open=${open} @toggle=${(event) => toggled(event.target.open)}>
    <summary>Taggram as a table</summary>
    ${open ? table(answer) : ""}
  </details>`;
}

function table(answer) {
  const every = Math.max(1, Math.ceil(answer.rows.length / TABLE_COLUMNS));
  const columns = answer.rows.map((_, i) => i).filter((i) => i % every === 0);
  const value = (i, tag) => {
    const rows = answer.rows.slice(i, i + every).filter((_, k) => !answer.silent[i + k]);
    return rows.length ? Math.round((100 * rows.reduce((sum, row) => sum + row[tag], 0)) / rows.length) : "silent";
  };
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Taggram as a table"><table>
    <caption>Probability in per cent, ${modelLabel(answer.model)}</caption>
    <thead><tr><th scope="col">Tag</th>${columns.map((i) => html`<th scope="col" class="number">${clock(answer.starts[i])}</th>`)}</tr></thead>
    <tbody>${shownTags(answer).map((tag) => html`<tr><th scope="row">${answer.tags[tag]}</th>${columns.map((i) => html`<td class="number">${value(i, tag)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
