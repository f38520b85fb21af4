// The tags of a song as lists: over their thresholds, grouped, the most probable first, with marks right and wrong.

import { player } from "./player.js";
import { clock, percent } from "./words.js";
import { html } from "./vendor/lit-html/lit-html.js";

const GROUPS = { instrument: "Instruments", voice: "Voice", genre: "Genre", mood: "Mood", other: "Other" };

/** [[heading, [index of a tag, ...]], ...] in the groups' order; groups without a tag are left out. */
export function grouped(answer, tags) {
  const known = (tag) => (answer.groups[tag] in GROUPS ? answer.groups[tag] : "other");
  return Object.entries(GROUPS)
    .map(([group, heading]) => [heading, tags.filter((tag) => known(tag) === group)])
    .filter(([, members]) => members.length);
}

class TagBar extends HTMLElement {
  /** {value, threshold, now}: probabilities; null for no threshold, and `now`, of the window being played, likewise. */
  set shows({ value, threshold, now = null }) {
    this.style.setProperty("--value", String(value));
    this.toggleAttribute("thresholded", threshold !== null);
    this.style.setProperty("--threshold", String(threshold ?? 0));
    this.toggleAttribute("moving", now !== null);
    if (now !== null) this.style.setProperty("--now", String(now));
  }
}

customElements.define("tag-bar", TagBar);

/** One tag of a list; `mark` and `onMark` where it can be corrected. */
export function tagRow(answer, tag, { mark = null, onMark = null } = {}) {
  const [name, value] = [answer.tags[tag], answer.probabilities[tag]];
  const threshold = answer.hasThreshold(tag) ? answer.thresholds[tag] : null;
  const limit = threshold === null ? "" : `, threshold ${percent(threshold)}`;
  const window = player.playing || player.time > 0 ? answer.windowAt(player.time) : -1;
  const now = window < 0 ? null : answer.rows[window][tag];
  const title = `${name}: ${percent(value)}${limit}${now === null ? "" : `, at ${clock(player.time)} ${percent(now)}`}`;
  return html`<li class="tag ${mark ? `marked ${mark}` : ""}" title=${title}>
    <span class="tag-name">${name}</span>
    <tag-bar aria-hidden="true" .shows=${{ value, threshold, now }}></tag-bar>
    <span class="tag-value"><span class="unseen">, probability </span>${percent(value)}<span class="unseen">${limit}${mark ? `, marked ${mark}` : ""}</span></span>
    ${onMark ? markButtons(name, mark, onMark) : ""}
  </li>`;
}

const RIGHT = html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3 8.5l3.4 3.4L13 4.8" /></svg>`;
const WRONG = html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 4l8 8M12 4l-8 8" /></svg>`;

function markButtons(name, mark, onMark) {
  const button = (kind, icon) => html`<button type="button" class="mark ${kind}" aria-pressed=${String(mark === kind)} aria-label=${`${name} is ${kind}`} title=${`${name} is ${kind}`} @click=${() => onMark(name, mark === kind ? null : kind)}>${icon}</button>`;
  return html`<span class="marks">${button("right", RIGHT)}${button("wrong", WRONG)}</span>`;
}
