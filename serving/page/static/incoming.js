// Songs that come from outside the folder: a file that is dropped or chosen, a path, the microphone.

import { send, upload } from "./api.js";
import { toView } from "./addresses.js";
import { record } from "./recorder.js";
import { announce, bytes, clock, percent } from "./words.js";
import { html } from "./vendor/lit-html/lit-html.js";

/** What is coming in: {kind, name, share, seconds, peak}, or null; and what went wrong last. */
class Incoming extends EventTarget {
  now = null;
  error = "";
  #abort = null;
  #microphone = null;
  #recording = null;

  async file(file, name = file.name) {
    this.#abort?.abort();
    const mine = new AbortController();
    this.#abort = mine;
    this.#set({ kind: "upload", name, share: 0, bytes: file.size }, "");
    try {
      const answer = await upload(file, name, (share) => mine === this.#abort && this.#set({ ...this.now, share }), mine.signal);
      this.#set(null);
      location.hash = toView("listen", { song: answer.song, name: answer.name });
    } catch (error) {
      if (mine === this.#abort) this.#set(null, error.name === "AbortError" ? "" : error.message);
    }
  }

  async path(path) {
    try {
      const answer = await send("POST", "/api/paths", { path });
      this.#set(null, "");
      location.hash = toView("listen", { song: answer.song, name: answer.name });
      return true;
    } catch (error) {
      this.#set(null, error.message);
      return false;
    }
  }

  async record() {
    const mine = new AbortController();
    this.#set({ kind: "record", seconds: 0, peak: 0 }, "");
    this.#microphone = mine;
    try {
      const level = (seconds, peak) => mine === this.#microphone && this.#set({ kind: "record", seconds, peak });
      this.#recording = await record(level, () => this.stop(), mine.signal);
      announce("Recording");
    } catch (error) {
      if (mine === this.#microphone) this.#set(null, error.message);
    }
  }

  async stop() {
    const recording = this.#recording;
    this.#recording = null;
    if (!recording) return;
    const file = await recording.stop();
    await this.file(file, `recording ${new Date().toLocaleString("sv").replaceAll(":", ".")}.wav`);
  }

  cancel() {
    this.#abort?.abort();
    this.#set(null, "");
  }

  /** The microphone is open while that is shown, and no longer. */
  #letGo() {
    this.#microphone?.abort();
    this.#microphone = this.#recording = null;
  }

  #set(now, error = this.error) {
    if (now?.kind !== "record") this.#letGo();
    Object.assign(this, { now, error });
    this.dispatchEvent(new Event("change"));
  }
}

export const incoming = new Incoming();

/** Files that are dropped anywhere on the page are taken; `shade` is shown while one hovers. */
export function takeDrops(shade) {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const show = (change) => {
    depth = Math.max(0, depth + change);
    shade.hidden = !depth;
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && show(1));
  addEventListener("dragleave", (event) => holdsFiles(event) && show(-1));
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    show(-depth);
    const [file] = event.dataTransfer.files;
    if (file) incoming.file(file);
  });
}

/** The ways in, as buttons and a field. */
export function incomingForm(canPaste) {
  const { now, error } = incoming;
  const pasted = async (event) => {
    event.preventDefault();
    const field = event.target.elements.path;
    if (field.value.trim() && (await incoming.path(field.value.trim()))) field.value = "";
  };
  return html`<div class="incoming">
    <div class="row">
      <label class="button primary" for="file">Choose a file</label>
      <input class="unseen" id="file" type="file" accept="audio/*,video/*,.mp3,.flac,.ogg,.opus,.m4a,.wav,.aiff,.wma" @change=${(event) => {
        const [file] = event.target.files;
        event.target.value = "";
        if (file) incoming.file(file);
      }}>
      <button type="button" class="button" ?disabled=${now !== null} @click=${() => incoming.record()}>Record</button>
      <span class="faint wide-only">or drop one anywhere</span>
    </div>
    ${canPaste ? html`<form class="row" @submit=${pasted}>
      <label class="unseen" for="path">Path of a file in the folder</label>
      <input id="path" name="path" type="text" placeholder="… or paste a path" autocomplete="off" spellcheck="false">
      <button class="button">Open</button></form>` : ""}
    ${now ? progress(now) : ""}
    ${error ? html`<p class="notice error" role="alert">${error}</p>` : ""}
  </div>`;
}

function progress(now) {
  if (now.kind === "record") {
    return html`<div class="row recording" role="group" aria-label="Recording">
      <span class="dot" aria-hidden="true"></span><span>${clock(now.seconds)}</span>
      <meter min="0" max="1" .value=${now.peak} aria-label="Level"></meter>
      <button type="button" class="button primary" @click=${() => incoming.stop()}>Stop and listen</button>
      <button type="button" class="button" @click=${() => incoming.cancel()}>Discard</button></div>`;
  }
  return html`<div class="row"><progress max="1" .value=${now.share} aria-label=${`Sending ${now.name}`}></progress>
    <span class="faint">${now.name}, ${percent(now.share)} of ${bytes(now.bytes)}</span>
    <button type="button" class="button" @click=${() => incoming.cancel()}>Cancel</button></div>`;
}
