// Map: the library as points, coloured by a tag; a click plays. The list beside it does the same by keyboard.

import { get } from "../api.js";
import { toView } from "../addresses.js";
import { category, OTHERS, Painted, plain, shade } from "../colours.js";
import { Picture } from "../pictures.js";
import { playButton, player, playSong } from "../player.js";
import { announce, counted, percent } from "../words.js";
import { html, render } from "../vendor/lit-html/lit-html.js";

export const title = "Map";

const [LISTED, REACH, MARGIN, LEGEND] = [50, 14, 26, 8];
const METHODS = { pca: "PCA", tsne: "t-SNE" };

export function mount(root, parameters) {
  const leaving = new AbortController();
  const at = { state: null, map: null, method: "pca", tag: "", shares: null, query: "", busy: false, error: "", hovered: -1, what: "songs", tags: null };
  const draw = () => leaving.signal.aborted || render(page(at, act), root);
  const field = () => root.querySelector("song-map");

  async function ask(work) {
    Object.assign(at, { busy: true, error: "" });
    draw();
    try {
      await work();
    } catch (error) {
      if (error.name === "AbortError") return;
      at.error = error.message;
    }
    at.busy = false;
    draw();
  }

  const load = () => ask(async () => {
    const method = at.method;
    const map = await get("/api/map", { method }, leaving.signal);
    if (method !== at.method) return;
    at.map = map;
    if (at.tag) await colour();
    announce(`${counted(map.songs.length, "song")} by ${METHODS[method]}`);
  });

  async function colour() {
    const { tag, method } = at;
    const answer = tag ? await get("/api/map", { method, tag }, leaving.signal) : null;
    if (tag === at.tag) at.shares = answer?.probabilities.map((byte) => byte / 255) ?? null;
  }

  const act = {
    method(method) {
      at.method = method;
      load();
    },
    tag(tag) {
      at.tag = tag;
      ask(colour);
    },
    what(what) {
      at.what = what;
      if (what === "tags" && !at.tags) ask(async () => (at.tags = await get("/api/tag-map", {}, leaving.signal)));
      else draw();
    },
    query(query) {
      at.query = query.toLowerCase();
      draw();
    },
    hover(index) {
      at.hovered = index;
      field()?.later();
    },
    zoom: (factor) => field()?.zoom(factor),
    whole: () => field()?.reset(),
  };

  player.addEventListener("change", draw, { signal: leaving.signal });
  draw();
  get("/api/state", {}, leaving.signal).then((state) => {
    at.state = state;
    draw();
    if (state.index) load();
  }, (error) => {
    if (error.name === "AbortError") return;
    at.error = error.message;
    draw();
  });
  return { update() {}, leave: () => leaving.abort() };
}

function page(at, act) {
  const intro = html`<h1 tabindex="-1">Map</h1><p>Songs that sound alike lie together. Choose a tag to see where it is heard; a click plays.</p>`;
  if (at.state && !at.state.index) {
    return html`${intro}<div class="stack"><div class="card"><h2>There is no index yet</h2><p><code>autotag index FOLDER</code> listens to every song of a folder once; the map is drawn from what it heard.</p></div></div>`;
  }
  const radio = (value, label, now, onChange, name) => html`<label><input type="radio" name=${name} value=${value} .checked=${value === now} @change=${() => onChange(value)}> ${label}</label>`;
  return html`${intro}
    <div class="stack">
      <div class="row controls card">
        <fieldset><legend>Show</legend>${radio("songs", "songs", at.what, act.what, "what")}${radio("tags", "tags", at.what, act.what, "what")}</fieldset>
        ${at.what === "songs" ? html`<fieldset><legend>By</legend>${Object.entries(METHODS).map(([key, label]) => radio(key, label, at.method, act.method, "method"))}</fieldset>
        <label class="field"><span>Coloured by</span><select id="colour" @change=${(event) => act.tag(event.target.value)}><option value="">strongest tag</option>${(at.map?.tags ?? []).map((tag) => html`<option value=${tag} .selected=${tag === at.tag}>${tag}</option>`)}</select></label>` : ""}
      </div>
      ${at.error ? html`<p class="notice error" role="alert">${at.error}</p>` : ""}
      ${at.what === "tags" ? tagMap(at) : songMap(at, act)}
    </div>`;
}

function songMap(at, act) {
  if (!at.map) return at.error ? "" : html`<p class="faint">Drawing the map …</p>`;
  const { names, songs } = at.map;
  const order = names.map((_, i) => i).filter((i) => !at.query || names[i].toLowerCase().includes(at.query));
  if (at.shares) order.sort((a, b) => at.shares[b] - at.shares[a]);
  return html`<div class="map-layout" aria-busy=${String(at.busy)}>
    <section class="card" aria-label="Map of the library">
      <div class="map-field"><song-map .shows=${at}></song-map>
        <div class="zoom"><button type="button" aria-label="Nearer" @click=${() => act.zoom(1.5)}>+</button><button type="button" aria-label="Farther" @click=${() => act.zoom(1 / 1.5)}>−</button><button type="button" aria-label="The whole map" @click=${act.whole}>⤢</button></div></div>
      ${legend(at)}
    </section>
    <section class="card" aria-labelledby="list-title">
      <h2 id="list-title">${at.tag ? `Most ‘${at.tag}’` : "Songs"}</h2>
      <label class="unseen" for="map-search">Search the songs</label><input id="map-search" type="search" placeholder="Search by name" @input=${(event) => act.query(event.target.value)}>
      <ul class="map-list" aria-label="Songs of the map">${order.slice(0, LISTED).map((i) => html`<li @pointerenter=${() => act.hover(i)} @pointerleave=${() => act.hover(-1)} @focusin=${() => act.hover(i)} @focusout=${() => act.hover(-1)}>
        ${playButton(songs[i], names[i])}<div><a class="name" href=${toView("listen", { song: songs[i], name: names[i] })}>${names[i]}</a>${at.shares ? html` <span class="faint">${percent(at.shares[i])}</span>` : ""}</div></li>`)}</ul>
      ${order.length > LISTED ? html`<p class="faint">${order.length - LISTED} more: search by name.</p>` : ""}
      ${order.length ? "" : html`<p class="faint">No song has that in its name.</p>`}
    </section></div>`;
}

/** The strongest tags of most songs, each with its colour; the rest share one. */
function kinds(map) {
  const counts = new Map();
  for (const tag of map.top) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  const common = [...counts].sort((a, b) => b[1] - a[1]).slice(0, LEGEND).map(([tag]) => tag);
  return new Map(common.map((tag, n) => [tag, n]));
}

function legend(at) {
  if (at.shares) return html`<div class="legend"><span>${at.tag}: 0 %</span><shade-bar aria-hidden="true"></shade-bar><span>100 %</span></div>`;
  const common = kinds(at.map);
  return html`<ul class="legend" aria-label="Strongest tags">${[...common].map(([tag, n]) => html`<li><category-dot class="swatch" .kind=${n}></category-dot>${at.map.tags[tag]}</li>`)}${new Set(at.map.top).size > common.size ? html`<li><category-dot class="swatch" .kind=${OTHERS}></category-dot>others</li>` : ""}</ul>`;
}

class CategoryDot extends Painted {
  #kind = 0;

  set kind(kind) {
    this.#kind = kind;
    this.paint();
  }

  paint() {
    this.style.background = category(this.#kind);
  }
}

class ShadeBar extends Painted {
  paint() {
    this.style.background = `linear-gradient(to right, ${[0, 0.2, 0.4, 0.6, 0.8, 1].map(shade).join(", ")})`;
  }
}

customElements.define("category-dot", CategoryDot);
customElements.define("shade-bar", ShadeBar);

/** The points: zoomed by wheel, pinch or button, moved by dragging. `shows` is the view's state. */
class SongMap extends Picture {
  #view = { scale: 1, x: 0, y: 0 };
  #pointers = new Map();
  #dragged = false;
  #spots = null;

  set shows(at) {
    this.at = at;
    this.later();
  }

  build() {
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    this.canvas.setAttribute("role", "img");
    this.replaceChildren(this.canvas, this.tip);
    const listen = (event, act) => this.canvas.addEventListener(event, act, { signal: this.signal, passive: false });
    listen("pointerdown", (event) => this.#down(event));
    listen("pointermove", (event) => this.#move(event));
    listen("pointerup", (event) => this.#up(event));
    listen("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    listen("pointerleave", () => this.#point(-1));
    listen("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
    });
  }

  before() {
    this.canvas.setAttribute("aria-label", `${counted(this.at.map.songs.length, "song")} as points. The list beside has the same songs.`);
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const view = this.#view;
    const scale = Math.min(60, Math.max(1, view.scale * factor));
    const by = scale / view.scale;
    this.#view = scale === 1 ? { scale: 1, x: 0, y: 0 } : { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
    this.later();
  }

  reset() {
    this.#view = { scale: 1, x: 0, y: 0 };
    this.later();
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    if (!this.#pointers.size) this.#dragged = false;
    this.#pointers.set(event.pointerId, event);
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      this.#point(this.#nearest(event.offsetX, event.offsetY));
      return;
    }
    const [others] = [...this.#pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.#pointers.set(event.pointerId, event);
    if (others) {
      const apart = (one) => Math.hypot(one.offsetX - others.offsetX, one.offsetY - others.offsetY) || 1;
      this.zoom(apart(event) / apart(before), others.offsetX, others.offsetY);
      this.#dragged = true;
      return;
    }
    const [dx, dy] = [event.offsetX - before.offsetX, event.offsetY - before.offsetY];
    if (Math.abs(dx) + Math.abs(dy) > 2) this.#dragged = true;
    Object.assign(this.#view, { x: this.#view.x + dx, y: this.#view.y + dy });
    this.later();
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#dragged) return;
    const index = this.#nearest(event.offsetX, event.offsetY);
    if (index >= 0) playSong(this.at.map.songs[index], this.at.map.names[index]);
  }

  #nearest(x, y) {
    let [best, near] = [-1, REACH ** 2];
    this.#spots?.forEach(([left, top], i) => {
      const far = (left - x) ** 2 + (top - y) ** 2;
      if (far < near) [best, near] = [i, far];
    });
    return best;
  }

  #point(index) {
    if (index === this.at.hovered) return;
    this.at.hovered = index;
    this.canvas.style.cursor = index < 0 ? "" : "pointer";
    this.later();
  }

  #place(width, height) {
    const { points } = this.at.map;
    const sides = [0, 1].map((k) => points.reduce(([low, high], point) => [Math.min(low, point[k]), Math.max(high, point[k])], [Infinity, -Infinity]));
    const room = [width - 2 * MARGIN, height - 2 * MARGIN];
    const { scale, x, y } = this.#view;
    const at = (point, k) => MARGIN + ((point[k] - sides[k][0]) / (sides[k][1] - sides[k][0] || 1)) * room[k];
    return points.map((point) => [at(point, 0) * scale + x, (height - at(point, 1)) * scale + y]);
  }

  draw(context, width, height) {
    const { map, shares, hovered } = this.at;
    this.#spots = this.#place(width, height);
    const radius = Math.min(6, Math.max(2.2, 60 / Math.sqrt(this.#spots.length))) * Math.min(2, this.#view.scale ** 0.3);
    const common = shares ? null : kinds(map);
    const order = this.#spots.map((_, i) => i);
    if (shares) order.sort((a, b) => shares[a] - shares[b]);
    const { ink, line } = plain();
    const dot = (i, size) => {
      context.beginPath();
      context.arc(...this.#spots[i], size, 0, 7);
      context.fillStyle = shares ? shade(0.08 + 0.92 * shares[i]) : category(common.get(map.top[i]) ?? OTHERS);
      context.fill();
    };
    for (const i of order) {
      dot(i, radius);
      if (shares) [context.strokeStyle, context.lineWidth] = [line, 1];
      if (shares) context.stroke();
    }
    const ring = (i, size) => {
      dot(i, size);
      [context.strokeStyle, context.lineWidth] = [ink, 2];
      context.stroke();
    };
    const playing = map.songs.indexOf(player.song);
    if (playing >= 0) ring(playing, radius + 3);
    if (hovered >= 0) ring(hovered, radius + 2);
    this.#label(hovered, width);
  }

  #label(index, width) {
    this.tip.hidden = index < 0 || !this.#spots?.[index];
    if (this.tip.hidden) return;
    const { map, shares, tag } = this.at;
    this.tip.textContent = `${map.names[index]} (${shares ? `${tag} ${percent(shares[index])}` : map.tags[map.top[index]]})`;
    const [x, y] = this.#spots[index];
    const left = Math.min(width - this.tip.offsetWidth - 4, Math.max(4, x - this.tip.offsetWidth / 2));
    this.tip.style.transform = `translate(${left}px, ${Math.max(4, y - 38)}px)`;
  }
}

function tagMap(at) {
  if (!at.tags) return at.error ? "" : html`<p class="faint">Drawing the map …</p>`;
  return html`<section class="card" aria-label="Map of the tags">
    <tag-cloud .map=${at.tags}></tag-cloud>
    <ul class="legend" aria-label="Groups">${groupsOf(at.tags).map((group, n) => html`<li><category-dot class="swatch" .kind=${n}></category-dot>${group}</li>`)}</ul>
    <p class="faint">Tags that are heard in the same songs lie together. A tag leads to its songs.</p></section>`;
}

/** The groups of a map's tags, in the order of their colours. */
const groupsOf = ({ groups }) => [...new Set(groups)];

/** Tags as links at their places: text, so that it is found, read out and reached by keyboard. */
class TagCloud extends Painted {
  #map = null;

  set map(map) {
    this.#map = map;
    this.paint();
  }

  paint() {
    const [width, height] = [this.clientWidth, this.clientHeight];
    if (!this.#map || !width) return;
    const { tags, groups, points } = this.#map;
    render(html`<ul aria-label="Tags">${tags.map((tag) => html`<li><a href=${toView("find", { q: tag })}>${tag}</a></li>`)}</ul>`, this);
    const sides = [0, 1].map((k) => [Math.min(...points.map((p) => p[k])), Math.max(...points.map((p) => p[k]))]);
    const share = (point, k) => (point[k] - sides[k][0]) / (sides[k][1] - sides[k][0] || 1);
    const kinds = groupsOf(this.#map);
    const taken = [];
    [...this.querySelectorAll("li")].forEach((item, i) => {
      item.firstElementChild.style.color = category(kinds.indexOf(groups[i]));
      const [wide, tall] = [item.offsetWidth, item.offsetHeight];
      const box = free([share(points[i], 0) * (width - wide), (1 - share(points[i], 1)) * (height - tall)], [wide, tall], [width, height], taken);
      taken.push(box);
      item.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
    });
  }
}

/** The place nearest to the one wanted at which a label covers no other, searched in a spiral. */
function free([x, y], [wide, tall], [width, height], taken) {
  for (let step = 0; step < 400; step++) {
    const [far, angle] = [step * 0.9, step * 0.7];
    const left = Math.min(width - wide, Math.max(0, x + far * Math.cos(angle)));
    const top = Math.min(height - tall, Math.max(0, y + 0.6 * far * Math.sin(angle)));
    const box = [left, top, left + wide, top + tall];
    if (!taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) return box;
  }
  return [x, y, x + wide, y + tall];
}

customElements.define("song-map", SongMap);
customElements.define("tag-cloud", TagCloud);
