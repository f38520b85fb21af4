// Choose and compare: every model with its card; two to four of them side by side on the song.

import { once } from "../api.js";
import { toView } from "../addresses.js";
import { followPlayback, taggramTable } from "../pictures.js";
import { song, Tagging } from "../song.js";
import { tagRow } from "../tags.js";
import { amount, announce, clock, counted, figure, modelLabel, short } from "../words.js";
import { html, render } from "../vendor/lit-html/lit-html.js";

export const title = "Compare";

const [FEWEST, BARS, FEWEST_SHARED, NAMED] = [2, 10, 3, 8];

export function mount(root, parameters) {
  const leaving = new AbortController();
  const at = { models: null, most: 4, chosen: [], tagging: null, tables: new Set(), error: "" };

  function draw() {
    if (!leaving.signal.aborted) render(page(at, act), root);
  }

  const act = {
    draw,
    choose(name, wanted) {
      at.chosen = wanted ? [...at.chosen, name] : at.chosen.filter((one) => one !== name);
      draw();
    },
    compare() {
      location.hash = toView("compare", { song: song.song, name: song.name, models: at.chosen.join(",") });
      if (at.tagging?.state !== "running") listen();
      root.querySelector("#beside-title")?.focus();
    },
  };

  function listen() {
    at.tagging?.cancel();
    at.tagging = song.song && at.chosen.length >= FEWEST ? new Tagging(song.song, at.chosen) : null;
    const mine = at.tagging;
    mine?.addEventListener("change", () => {
      if (mine === at.tagging && mine.state === "done") announce("All models have answered");
      if (mine === at.tagging) draw();
    });
    draw();
  }

  function update({ song: chosen, name, models }) {
    if (chosen) song.choose(chosen, name);
    const named = models?.split(",").filter(Boolean).slice(0, at.most);
    if (named) at.chosen = named;
    const same = at.tagging && at.tagging.song === song.song && at.tagging.answers.map((one) => one.model).join() === at.chosen.join();
    if (named && !same) listen();
    draw();
  }

  async function prepare() {
    try {
      const [state, models] = await Promise.all([once("/api/state"), once("/api/models")]);
      [at.models, at.most] = [models, state.limits.models_at_once];
    } catch (error) {
      at.error = error.message;
    }
    draw();
  }

  song.addEventListener("change", draw, { signal: leaving.signal });
  followPlayback(root, () => at.tagging?.answers ?? [], draw, leaving.signal);

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

function page(at, act) {
  const n = at.chosen.length;
  const ready = song.song !== null && n >= FEWEST;
  const why = song.song === null ? "" : n < FEWEST ? `Choose ${n ? "one more" : "two"} to compare.` : `${counted(n, "model")} chosen${n >= at.most ? ", which is as many as fit" : ""}.`;
  return html`
    <h1 tabindex="-1">Choose and compare</h1>
    <p>Every model that this page knows. Two to ${at.most} of them, side by side on the same song.</p>
    <div class="stack">
      ${at.error ? html`<p class="notice error" role="alert">${at.error}</p>` : ""}
      ${at.tagging ? result(at, act) : ""}
      <section class="card" aria-labelledby="models-title">
        <div class="head-row choose"><h2 id="models-title">Models</h2>
          <div class="row">
            <span class="faint" role="status">${why}</span>
            ${song.song === null ? html`<a class="button primary" href="#/listen">Choose a song first</a>` : html`<button type="button" class="button primary" id="compare" ?disabled=${!ready} @click=${act.compare}>Compare on this song</button>`}
          </div></div>
        ${song.song === null ? "" : html`<p class="faint">Song: <a href=${toView("listen", { song: song.song, name: song.name })}>${song.name}</a></p>`}
        ${at.models ? html`<ul class="models">${at.models.map((model) => card(model, at, act))}</ul>` : at.error ? "" : html`<p class="faint">Asking for the models …</p>`}
      </section>
    </div>`;
}

function card(model, at, act) {
  const chosen = at.chosen.includes(model.name);
  const fact = (name, value) => (value ? html`<dt>${name}</dt><dd>${value}</dd>` : "");
  const scores = model.scores ? [`ROC-AUC ${figure(model.scores.roc_auc)}`, `PR-AUC ${figure(model.scores.pr_auc)}`].filter((text) => !text.endsWith("–")).join(", ") : "";
  return html`<li class="model">
    <label><input type="checkbox" .checked=${chosen} ?disabled=${!chosen && at.chosen.length >= at.most} @change=${(event) => act.choose(model.name, event.target.checked)}> <span title=${model.name}>${modelLabel(model.name)}</span></label>
    <div class="row">
      <span class="badge ${model.kind === "pretrained" ? "" : "good"}">${model.kind}</span>
      <span class="badge">${model.here ? "here" : "to be fetched"}</span>
      ${model.default ? html`<span class="badge good">default</span>` : ""}</div>
    <p class="faint">${model.title}</p>
    <dl>
      ${fact("Data", model.data)}
      ${fact("Scores", scores ? html`${scores}<br><span class="faint">${model.scores.split}</span>` : "not published")}
      ${fact("Size", [model.parameters && `${short(model.parameters)} parameters`, model.megabytes && `${amount(model.megabytes)} MB`].filter(Boolean).join(", "))}
      ${fact("Hears", [model.tags && counted(model.tags, "tag"), model.window_seconds && `windows of ${Number(model.window_seconds.toFixed(1))} s`].filter(Boolean).join(", "))}
    </dl>
    ${model.licence || model.notes ? html`<details><summary>Licence${model.notes ? " and notes" : ""}</summary><p>${model.licence}</p>${model.notes ? html`<p>${model.notes}</p>` : ""}</details>` : ""}
  </li>`;
}

function result(at, act) {
  const { tagging } = at;
  const answered = tagging.answers.filter((answer) => answer.whole);
  const done = tagging.state !== "running";
  const same = commonTags(tagging.answers.filter((answer) => answer.tags.length));
  return html`
    <section aria-labelledby="beside-title">
      <div class="head-row"><h2 id="beside-title" tabindex="-1">Side by side: ${song.name}</h2>
        ${done ? "" : html`<div class="row"><progress aria-label="Listening"></progress><span class="faint">${modelLabel(tagging.current?.model ?? "")} listens …</span><button type="button" class="button" @click=${() => tagging.cancel()}>Cancel</button></div>`}</div>
      ${tagging.error ? html`<p class="notice error" role="alert">${tagging.error}</p>` : ""}
      ${tagging.state === "cancelled" ? html`<p class="notice">Cancelled.</p>` : ""}
      <div class="beside" data-models=${tagging.answers.length}>${tagging.answers.map((answer) => panel(answer, same && same.map((tag) => placeOf(answer).get(tag)), at, act))}</div>
    </section>
    ${answered.length >= FEWEST ? agreement(answered) : ""}`;
}

const placeOf = (answer) => new Map(answer.tags.map((tag, i) => [tag.toLowerCase(), i]));

/** The tags that all of these models know, in small letters, those first that any of them finds most probable. */
function commonTags(answers) {
  if (answers.length < FEWEST) return null;
  const [first, ...others] = answers.map(placeOf);
  const shared = [...first.keys()].filter((tag) => others.every((places) => places.has(tag)));
  if (shared.length < FEWEST_SHARED) return null;
  const known = answers.map((answer) => [placeOf(answer), answer.probabilities]);
  const highest = new Map(shared.map((tag) => [tag, Math.max(...known.map(([places, p]) => p[places.get(tag)]))]));
  return shared.sort((a, b) => highest.get(b) - highest.get(a)).slice(0, BARS);
}

/** `same`: indices of the tags that all panels show; null where each shows its own. */
function panel(answer, same, at, act) {
  const top = same?.includes(undefined) === false ? same : answer.order.slice(0, BARS);
  const whole = answer.whole;
  return html`<section class="card" aria-label=${modelLabel(answer.model)}>
    <h3 title=${answer.model}>${modelLabel(answer.model)}</h3>
    ${answer.error ? html`<p class="notice error" role="alert">${answer.error}</p>` : ""}
    ${whole ? html`<p class="faint"><strong>${whole.took_seconds.toFixed(2)} s</strong> for ${clock(whole.seconds)} of music${whole.cpu_seconds ? `, ${whole.cpu_seconds.toFixed(2)} s of CPU` : ""}</p>` : html`<p class="faint">${answer.error ? "" : answer.rows.length ? `Heard ${clock(answer.heard)}` : answer.note || "Waits for its turn"}</p>`}
    ${answer.rows.length ? html`
      <ul class="tags">${top.map((tag) => tagRow(answer, tag))}</ul>
      <div class="song-time"><tag-gram .answer=${answer} .tags=${top} .length=${song.seconds}></tag-gram>
        <time-ruler .seconds=${song.seconds ?? answer.seconds}></time-ruler>
        <div class="playhead" aria-hidden="true"></div></div>
      ${taggramTable(answer, at.tables.has(answer.model), (open) => { at.tables[open ? "add" : "delete"](answer.model); act.draw(); })}` : ""}
  </section>`;
}

/** How two answers agree on the tags that both models know; names are compared without case. */
function agreementOf(a, b) {
  const places = placeOf(b);
  const shared = a.tags.map((tag, i) => [tag, i, places.get(tag.toLowerCase())]).filter(([, , j]) => j !== undefined);
  const kinds = { both: [], first: [], second: [], neither: 0 };
  for (const [tag, i, j] of shared) {
    const [one, other] = [a.above[i], b.above[j]];
    if (one && other) kinds.both.push(tag);
    else if (one) kinds.first.push(tag);
    else if (other) kinds.second.push(tag);
    else kinds.neither += 1;
  }
  const agreeing = kinds.both.length + kinds.neither;
  return { shared: shared.length, agreeing, ...kinds };
}

function agreement(answers) {
  const pairs = answers.flatMap((a, i) => answers.slice(i + 1).map((b) => [a, b, agreementOf(a, b)]));
  const names = (tags) => (tags.length ? `${tags.slice(0, NAMED).join(", ")}${tags.length > NAMED ? ` and ${tags.length - NAMED} more` : ""}` : "none");
  return html`<section class="card" aria-labelledby="agreement-title"><div class="head-row"><h2 id="agreement-title">Agreement</h2></div>
    <p class="faint" id="agreement-about">On the tags that both models know: over the threshold or not</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Agreement of the models"><table aria-labelledby="agreement-title" aria-describedby="agreement-about">
      <thead><tr><th scope="col">Models</th><th scope="col" class="number">Shared tags</th><th scope="col" class="number">Agree</th><th scope="col">Both hear</th><th scope="col">The first alone</th><th scope="col">The second alone</th></tr></thead>
      <tbody>${pairs.map(([a, b, kinds]) => html`<tr><th scope="row">${modelLabel(a.model)}<br>${modelLabel(b.model)}</th><td class="number">${kinds.shared}</td>
        <td class="number">${kinds.shared ? `${kinds.agreeing} (${Math.round((100 * kinds.agreeing) / kinds.shared)} %)` : "–"}</td>
        <td>${names(kinds.both)}</td><td>${names(kinds.first)}</td><td>${names(kinds.second)}</td></tr>`)}</tbody>
    </table></div></section>`;
}
