// The song that the page is about, its waveform, and what models hear in it.

import { get, once, send, tagStream } from "./api.js";
import { player } from "./player.js";

const PEAKS = 1200;

class Song extends EventTarget {
  song = null;
  name = "";
  seconds = null;
  peaks = null;
  error = "";
  marks = {};

  /** Makes `song` the page's; its name is that of its file unless given. */
  choose(song, name) {
    if (song === this.song) return;
    name ||= song.replace(/^\w+:/, "").split("/").pop();
    Object.assign(this, { song, name, seconds: null, peaks: null, error: "", marks: {} });
    player.load(song, name);
    this.#changed();
    this.#ask("/api/peaks", { song, count: PEAKS }, ({ seconds, peaks }) => ({ seconds, peaks }));
    once("/api/state").then(({ corrections }) => corrections && this.#ask("/api/corrections", { song }, ({ marks }) => ({ marks })), () => {});
  }

  /** Marks a tag of what a model says "right", "wrong" or "added"; null takes the mark away. */
  async mark(tag, mark, model) {
    const song = this.song;
    const { marks } = await send("PUT", "/api/corrections", { song, tag, mark, model });
    if (song !== this.song) return;
    this.marks = marks;
    this.#changed();
  }

  async #ask(path, parameters, taken) {
    try {
      const answer = await get(path, parameters);
      if (parameters.song === this.song) Object.assign(this, taken(answer));
    } catch (error) {
      if (parameters.song === this.song) this.error ||= error.message;
    }
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

export const song = new Song();

/** What one model says of one song, filled as the server answers. */
class Answer {
  tags = [];
  groups = [];
  thresholds = [];
  windowSeconds = 0;
  starts = [];
  rows = [];
  silent = [];
  heard = 0;
  of = null;
  whole = null;
  error = "";
  note = "";
  thresholded = null;
  #sums = [];
  #sounding = 0;

  constructor(model) {
    this.model = model;
  }

  take(line) {
    if (line.type === "model") {
      this.#begin(line);
    } else if (line.type === "note") {
      this.note = line.text;
    } else if (line.type === "windows") {
      line.probabilities.forEach((row, i) => this.#add(line.starts[i], row, line.silent[i]));
      Object.assign(this, { heard: line.heard, of: line.of });
    } else if (line.type === "song") {
      this.whole = line;
    } else if (line.type === "error") {
      this.error = line.error;
    }
  }

  // A second time where a server changed its model in between: the song begins anew.
  #begin({ tags, groups, thresholds, thresholded = null, window_seconds: windowSeconds }) {
    Object.assign(this, { tags, groups, thresholds, thresholded, windowSeconds, starts: [], rows: [], silent: [], heard: 0, of: null, note: "" });
    [this.#sums, this.#sounding] = [tags.map(() => 0), 0];
  }

  #add(start, row, silent) {
    this.starts.push(start);
    this.rows.push(row);
    this.silent.push(silent);
    if (silent) return;
    this.#sounding += 1;
    row.forEach((p, tag) => (this.#sums[tag] += p));
  }

  /** The song's probabilities; until it ends, those of what was heard. */
  get probabilities() {
    return this.whole?.probabilities ?? this.#sums.map((sum) => (this.#sounding ? sum / this.#sounding : 0));
  }

  get above() {
    return this.whole?.above ?? this.probabilities.map((p, tag) => this.#sounding > 0 && this.hasThreshold(tag) && p >= this.thresholds[tag]);
  }

  /** False for a tag of which exactly one of its head is chosen: the most probable. */
  hasThreshold(tag) {
    return this.thresholded?.[tag] ?? true;
  }

  get seconds() {
    return this.whole?.seconds ?? this.of ?? this.heard;
  }

  /** Second at which window i gives way to the next: halfway between their middles, which is where they meet. */
  end(i) {
    if (i + 1 < this.starts.length) return (this.starts[i] + this.starts[i + 1] + this.windowSeconds) / 2;
    return this.starts[i] + this.windowSeconds;
  }

  /** Index of the window that stands for a second; -1 before it was listened to, or where it is silent. */
  windowAt(second) {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.end(middle) <= second) low = middle + 1;
      else high = middle;
    }
    return low < this.starts.length && !this.silent[low] ? low : -1;
  }

  /** Indices of the tags, the most probable first. */
  get order() {
    const p = this.probabilities;
    return p.map((_, tag) => tag).sort((a, b) => p[b] - p[a]);
  }
}

const MOST_KEPT = 50;
const finished = new Map();

function keep(key, answer) {
  finished.set(key, answer);
  if (finished.size > MOST_KEPT) finished.delete(finished.keys().next().value);
}

/** Models listening to a song, one after the other. Tells "change" as they answer; the last answers are kept. */
export class Tagging extends EventTarget {
  #abort = new AbortController();
  state = "running";
  error = "";

  /** `step`: seconds from one window's start to the next one's; null for the windows' own length. */
  constructor(song, models, step = null) {
    super();
    Object.assign(this, { song, step });
    this.answers = models.map((model) => finished.get(this.#key(model)) ?? new Answer(model));
    this.#run();
  }

  cancel() {
    if (this.state !== "running") return;
    this.state = "cancelled";
    this.#abort.abort();
    this.#changed();
  }

  get current() {
    return this.answers.find((answer) => !answer.whole && !answer.error) ?? null;
  }

  #key(model) {
    return [this.song, model, this.step].join("\n");
  }

  async #run() {
    const open = this.answers.filter((answer) => !answer.whole);
    try {
      if (open.length) await this.#listen(open);
      if (this.state === "running") this.state = "done";
    } catch (error) {
      if (error.name !== "AbortError") [this.state, this.error] = ["failed", error.message];
    }
    this.#changed();
  }

  async #listen(open) {
    const models = open.map((answer) => answer.model);
    for await (const line of tagStream(this.song, models, this.step, this.#abort.signal)) {
      const answer = open.find((one) => one.model === line.model);
      answer?.take(line);
      if (line.type === "song") keep(this.#key(line.model), answer);
      this.#changed();
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
