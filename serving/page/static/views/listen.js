// Listen: pick a song, hear it, see what a model hears in it, and correct that.

import { once } from "../api.js";
import { toView } from "../addresses.js";
import { incoming, incomingForm } from "../incoming.js";
import { showLibrary } from "../library.js";
import { followPlayback, taggramTable } from "../pictures.js";
import { player } from "../player.js";
import { song, Tagging } from "../song.js";
import { grouped, tagRow } from "../tags.js";
import { announce, clock, counted, modelLabel, remember, remembered } from "../words.js";
import { html, render } from "../vendor/lit-html/lit-html.js";

export const title = "Listen";

const REST_SHOWN = 60;
const STEPS = [10, 5, 2];

export function mount(root, parameters) {
  const leaving = new AbortController();
  const at = { state: null, models: [], model: null, step: Number(remembered("step")) || null, tagging: null, all: false, table: false, rest: false, error: "", added: "" };

  render(html`<h1 class="unseen" tabindex="-1">Listen</h1><div class="listen"><aside class="card library" aria-label="Choose a song"></aside><section class="stage" aria-label="Song"></section></div>`, root);
  const [side, stage] = [root.querySelector(".library"), root.querySelector(".stage")];
  const ways = side.appendChild(document.createElement("div"));
  const folder = side.appendChild(document.createElement("div"));
  let library = null;

  function draw() {
    if (leaving.signal.aborted) return;
    render(incomingForm(Boolean(at.state?.folder)), ways);
    render(song.song === null ? welcome(at) : stageOf(at, act), stage);
    library?.draw();
  }

  const act = {
    draw,
    model(name) {
      at.model = name;
      remember("model", name);
      listen();
    },
    step(seconds) {
      at.step = seconds;
      remember("step", seconds === null ? null : String(seconds));
      listen();
    },
    again: () => listen(),
    async mark(tag, mark) {
      try {
        await song.mark(tag, mark, at.model);
        at.added = "";
        announce(mark ? `${tag} marked ${mark}` : `Mark of ${tag} taken away`);
      } catch (error) {
        at.added = error.message;
      }
      draw();
    },
  };

  function listen() {
    at.tagging?.cancel();
    at.tagging = song.song && at.model ? new Tagging(song.song, [at.model], at.step) : null;
    const mine = at.tagging;
    mine?.addEventListener("change", () => {
      if (mine !== at.tagging) return;
      if (mine.state === "done" && !mine.answers[0].error) announce(spoken(mine.answers[0]));
      draw();
    });
    draw();
  }

  function update({ song: chosen, name, at: second }) {
    if (chosen) {
      const other = chosen !== song.song;
      song.choose(chosen, name);
      if (second) player.seek(Number(second));
      if (other || !at.tagging || at.tagging.song !== chosen) listen();
    } else if (song.song !== null) {
      location.replace(toView("listen", { song: song.song, name: song.name }));
      return;
    }
    root.classList.toggle("has-song", song.song !== null);
    document.title = song.song ? `${song.name} – autotag` : "Listen – autotag";
    draw();
  }

  async function prepare() {
    try {
      [at.state, at.models] = await Promise.all([once("/api/state"), once("/api/models")]);
      const names = at.models.filter((model) => model.here).map((model) => model.name);
      const before = remembered("model");
      at.model = names.includes(before) ? before : (at.models.find((model) => model.default)?.name ?? names[0] ?? at.models[0]?.name);
      if (at.state.folder) library = showLibrary(folder, () => song.song, leaving.signal);
      else render(html`<p class="faint">Started without a folder. <code>autotag page FOLDER</code> lists a folder’s songs here.</p>`, folder);
    } catch (error) {
      at.error = error.message;
    }
    if (song.song && !at.tagging) listen();
    draw();
  }

  song.addEventListener("change", draw, { signal: leaving.signal });
  incoming.addEventListener("change", draw, { signal: leaving.signal });
  followPlayback(stage, () => at.tagging?.answers ?? [], draw, leaving.signal);

  update(parameters);
  prepare();
  return {
    update,
    leave() {
      leaving.abort();
      at.tagging?.cancel();
    },
  };
}

function spoken(answer) {
  const heard = answer.order.filter((tag) => answer.above[tag]).map((tag) => answer.tags[tag]);
  return heard.length ? `Heard: ${heard.join(", ")}` : "No tag is over its threshold";
}

function welcome(at) {
  return html`<div class="card welcome">
    <h2>What is in this song?</h2>
    <p>Drop a song anywhere on this page, choose one, or record what is playing. A model listens to it and writes down, moment by moment, which instruments, voices, genres and moods it hears.</p>
    <p class="faint">Everything stays on this machine. <kbd>?</kbd> shows the keys.</p>
    ${at.error ? html`<p class="notice error" role="alert">${at.error}</p>` : ""}
  </div>`;
}

function stageOf(at, act) {
  const answer = at.tagging?.answers[0] ?? null;
  const seconds = song.seconds ?? answer?.seconds ?? null;
  const broken = song.error || (answer?.rows.length ? "" : (at.tagging?.error || answer?.error || ""));
  const length = answer?.windowSeconds || at.models.find((model) => model.name === at.model)?.window_seconds;
  return html`
    <div class="card song">
      <header class="song-head">
        <h2 title=${song.name}>${song.name}</h2>
        <label class="field"><span>Heard by</span>
          <select id="model" @change=${(event) => act.model(event.target.value)}>
            ${at.models.map((model) => html`<option value=${model.name} ?selected=${model.name === at.model}>${modelLabel(model.name)}${model.here ? "" : " (to be fetched)"}</option>`)}
          </select></label>
        <label class="field"><span>every</span>
          <select id="step" @change=${(event) => act.step(Number(event.target.value) || null)}>
            <option value="" ?selected=${at.step === null}>${length ? `${Number(length.toFixed(1))} s` : "window"}</option>
            ${STEPS.filter((seconds) => !length || seconds < length).map((seconds) => html`<option value=${seconds} ?selected=${at.step === seconds}>${seconds} s</option>`)}
          </select></label>
      </header>
      ${broken ? html`<p class="notice error" role="alert">${broken}</p>` : html`<div class="song-time">
        <song-waveform .peaks=${song.peaks} .seconds=${seconds}></song-waveform>
        <tag-gram .answer=${answer} .all=${at.all} .length=${song.seconds}></tag-gram>
        <time-ruler .seconds=${seconds ?? 0}></time-ruler>
        <div class="playhead" aria-hidden="true"></div>
      </div>`}
      <div class="row between">
        ${progress(at, answer, act, broken)}
        <div class="row">
          ${answer?.tags.length > 12 ? html`<button type="button" class="plain" aria-pressed=${String(at.all)} @click=${() => { at.all = !at.all; act.draw(); }}>${at.all ? "Fewer tags" : `All ${answer.tags.length} tags`}</button>` : ""}
          <a class="plain" href=${toView("compare", { song: song.song, name: song.name })}>Compare models</a>
          ${at.state?.index ? html`<a class="plain" href=${toView("find", { like: song.song, name: song.name })}>Sounds like this</a>
            <button type="button" class="plain" @click=${() => (location.hash = toView("find", { like: song.song, name: song.name, second: Math.floor(player.time) }))}>Like this moment</button>` : ""}
        </div>
      </div>
      ${answer?.rows.length ? taggramTable(answer, at.table, (open) => { at.table = open; act.draw(); }) : ""}
    </div>
    ${answer && !answer.error && at.tagging.state !== "failed" ? heardTags(at, answer, act) : ""}`;
}

function progress(at, answer, act, broken) {
  const tagging = at.tagging;
  if (!tagging || !answer) return html`<span></span>`;
  const again = html`<button type="button" class="button" @click=${act.again}>Try again</button>`;
  if (tagging.state === "failed" || answer.error) {
    return html`<div class="row">${broken ? "" : html`<p class="notice error" role="alert">${tagging.error || answer.error}</p>`}${again}</div>`;
  }
  if (tagging.state === "cancelled") return html`<div class="row"><span>Cancelled after ${clock(answer.heard)}.</span>${again}</div>`;
  if (tagging.state === "running") {
    return html`<div class="row"><progress max=${answer.of ?? 1} .value=${answer.of ? answer.heard : 0} aria-label="Listening"></progress>
      <span class="faint">${answer.of ? `Heard ${clock(answer.heard)} of ${clock(answer.of)}` : answer.note || "Listening …"}</span>
      <button type="button" class="button" id="cancel" @click=${() => tagging.cancel()}>Cancel</button></div>`;
  }
  const whole = answer.whole;
  if (!whole) return html`<span></span>`;
  const about = `${clock(whole.seconds)} heard in ${whole.took_seconds.toFixed(1)} s, ${counted(answer.rows.length, "window")} of ${Number(answer.windowSeconds.toFixed(1))} s`;
  return html`<p class="faint done">${about}${whole.shortfall ? html`. <strong>Only ${whole.shortfall} could be decoded.</strong>` : ""}</p>`;
}

function heardTags(at, answer, act) {
  const above = answer.above;
  const marks = song.marks;
  const shown = answer.order.filter((tag) => above[tag]);
  const rest = answer.order.filter((tag) => !above[tag]);
  const onMark = at.state?.corrections && song.song.startsWith("file:") ? act.mark : null;
  const row = (tag) => tagRow(answer, tag, { mark: marks[answer.tags[tag]] ?? null, onMark });
  const heading = at.tagging.state === "running" ? "Heard so far" : "Heard";
  return html`<section class="card" aria-label="Tags">
    <h2>${heading}</h2>
    ${answer.whole?.silent ? html`<p class="notice">There is nothing to hear in this file: it is silent.</p>` : ""}
    ${shown.length || !answer.rows.length ? "" : html`<p class="faint">No tag is over its threshold. The nearest are listed below.</p>`}
    <div class="groups">${grouped(answer, shown).map(([name, tags]) => html`<section aria-label=${name}><h3>${name}</h3><ul class="tags">${tags.map(row)}</ul></section>`)}</div>
    ${onMark ? corrections(at, answer, act) : at.state?.corrections ? html`<p class="faint">Marks, right and wrong, can be kept of the folder’s songs alone.</p>` : ""}
    ${rest.length ? html`<details ?open=${at.rest} @toggle=${(event) => { at.rest = event.target.open; act.draw(); }}>
      <summary>${counted(rest.length, "tag")} under the threshold</summary>
      ${at.rest ? html`<ul class="tags columns">${rest.slice(0, REST_SHOWN).map(row)}</ul>` : ""}</details>` : ""}
  </section>`;
}

function corrections(at, answer, act) {
  const names = new Set(answer.tags);
  const added = Object.entries(song.marks).filter(([name, mark]) => mark === "added" || !names.has(name));
  const add = (event) => {
    event.preventDefault();
    const field = event.target.elements.tag;
    const name = field.value.trim();
    if (!name) return;
    field.value = "";
    act.mark(name, "added");
  };
  const marked = Object.keys(song.marks).length;
  return html`<div class="corrections">
    <form class="row" @submit=${add}>
      <label for="add-tag">Add a tag that is missing</label>
      <input id="add-tag" name="tag" list="model-tags" autocomplete="off">
      <datalist id="model-tags">${answer.tags.map((tag) => html`<option value=${tag}></option>`)}</datalist>
      <button class="button">Add</button></form>
    ${added.length ? html`<ul class="chips" aria-label="Added tags">${added.map(([name]) => html`<li>${name} <button type="button" aria-label=${`Take ${name} away`} @click=${() => act.mark(name, null)}>×</button></li>`)}</ul>` : ""}
    ${at.added ? html`<p class="notice error" role="alert">${at.added}</p>` : ""}
    <p class="faint">${marked ? `${counted(marked, "mark")} on this song, kept` : "Marks are kept"} in <code>${at.state.corrections}</code>, which <code>autotag run</code> trains from as a <code>table</code> data set.</p>
  </div>`;
}
