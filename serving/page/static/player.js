// The one player of the page: an audio element, its bar at the foot, and the keys. What the browser cannot play is
// played as the server decoded it.

import { address, toView } from "./addresses.js";
import { get } from "./api.js";
import { announce, clock } from "./words.js";
import { html, render } from "./vendor/lit-html/lit-html.js";

const STEP_SECONDS = 5;

class Player extends EventTarget {
  #audio = new Audio();
  #wanted = false;
  #decoded = false;
  #at = 0;
  song = null;
  name = "";
  error = "";

  constructor() {
    super();
    this.#audio.preload = "metadata";
    for (const event of ["play", "pause", "ended", "durationchange", "seeking", "seeked", "waiting", "playing"]) {
      this.#audio.addEventListener(event, () => this.#changed());
    }
    this.#audio.addEventListener("loadedmetadata", () => this.#loaded());
    this.#audio.addEventListener("error", () => this.#failed());
  }

  get playing() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  get time() {
    return this.#audio.readyState ? this.#audio.currentTime : this.#at;
  }

  /** Seconds, NaN until they are known. */
  get duration() {
    return this.#audio.duration;
  }

  load(song, name) {
    if (song === this.song) return;
    Object.assign(this, { song, name, error: "" });
    [this.#decoded, this.#wanted, this.#at] = [false, false, 0];
    this.#audio.src = address("/api/audio", { song });
    this.#changed();
  }

  async play() {
    this.#wanted = true;
    try {
      await this.#audio.play();
    } catch (error) {
      if (error.name === "NotAllowedError") this.#say("The browser wants a click before it plays.");
    }
  }

  pause() {
    this.#wanted = false;
    this.#audio.pause();
  }

  toggle() {
    if (this.song === null) return;
    if (this.playing) this.pause();
    else this.play();
  }

  seek(seconds) {
    if (this.song === null) return;
    const end = Number.isFinite(this.duration) ? this.duration : Infinity;
    this.#at = Math.min(end, Math.max(0, seconds));
    if (this.#audio.readyState) this.#audio.currentTime = this.#at;
    this.#changed();
  }

  seekBy(seconds) {
    this.seek(this.time + seconds);
  }

  #loaded() {
    if (this.#at) this.#audio.currentTime = this.#at;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
    if (this.playing) this.#tick();
  }

  #ticking = false;

  #tick() {
    if (this.#ticking) return;
    this.#ticking = true;
    const step = () => {
      this.dispatchEvent(new Event("time"));
      this.#ticking = this.playing;
      if (this.#ticking) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  async #failed() {
    const song = this.song;
    if (!this.#decoded) {
      this.#decoded = true;
      this.#audio.src = address("/api/audio", { song, decoded: 1 });
      if (this.#wanted) await this.play();
      return;
    }
    try {
      await get("/api/audio", { song, decoded: 1 });
    } catch (error) {
      if (song === this.song) this.#say(error.message);
    }
  }

  #say(message) {
    this.error = message;
    this.#changed();
  }
}

export const player = new Player();

/** Plays a song from its beginning, or goes on with it if it is loaded. */
export function playSong(song, name) {
  player.load(song, name);
  player.toggle();
}

const PLAY = html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4.5v15l12.5-7.5z" /></svg>`;
const PAUSE = html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 4.5h4.2v15H6zM13.8 4.5H18v15h-4.2z" /></svg>`;

/** A round button that plays a song of a list. */
export function playButton(song, name) {
  const playing = player.song === song && player.playing;
  const label = playing ? `Pause ${name}` : `Play ${name}`;
  return html`<button type="button" class="play small" aria-label=${label} @click=${() => playSong(song, name)}>${playing ? PAUSE : PLAY}</button>`;
}

/** Draws the bar at the foot whenever something changes. */
export function showBar(element) {
  const draw = () => {
    element.hidden = player.song === null;
    document.body.classList.toggle("has-bar", player.song !== null);
    if (player.song === null) return;
    render(bar(), element);
    const range = element.querySelector("input");
    if (range) range.value = player.time;
  };
  player.addEventListener("change", draw);
  player.addEventListener("time", draw);
  draw();
}

function bar() {
  const length = Number.isFinite(player.duration) ? player.duration : 0;
  return html`
    <button type="button" class="play" aria-label=${player.playing ? "Pause" : "Play"} aria-keyshortcuts="Space" @click=${() => player.toggle()}>${player.playing ? PAUSE : PLAY}</button>
    <a class="bar-name" href=${toView("listen", { song: player.song, name: player.name })}>${player.name}</a>
    ${player.error ? html`<p class="notice error" role="alert">${player.error}</p>` : position(length)}`;
}

function position(length) {
  return html`<span class="bar-time">${clock(player.time)}</span>
    <input type="range" data-keys="player" min="0" max=${length || 1} step="0.1" aria-label="Position in the song"
      aria-valuetext=${`${clock(player.time)} of ${clock(length)}`} ?disabled=${!length}
      @input=${(event) => player.seek(Number(event.target.value))}>
    <span class="bar-time">${clock(length)}</span>`;
}

const TYPED = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";

/** Space, arrows and digits for the player, wherever the focus is, unless what has the focus needs the key itself. */
export function playerKey(event) {
  if (player.song === null || event.ctrlKey || event.metaKey || event.altKey) return false;
  const focused = event.target;
  const own = focused.dataset?.keys === "player";
  if (!own && focused.closest?.(`${TYPED}, dialog`)) return false;
  const arrows = !own && focused.closest?.("input, [role=slider]:not([data-keys])");
  if (event.key === " " && !focused.closest?.("button, summary, input:not([data-keys])")) player.toggle();
  else if (event.key === "ArrowLeft" && !arrows) player.seekBy(-STEP_SECONDS);
  else if (event.key === "ArrowRight" && !arrows) player.seekBy(STEP_SECONDS);
  else if (event.key === "Home" && !arrows) player.seek(0);
  else if (/^[0-9]$/.test(event.key) && Number.isFinite(player.duration)) player.seek((Number(event.key) / 10) * player.duration);
  else return false;
  if (event.key !== " ") announce(clock(player.time));
  return true;
}
