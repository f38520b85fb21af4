// Find: songs of the index by their tags, those that sound like a song or a second of it, and duplicates.

import { get, playlist } from "../api.js";
import { toView } from "../addresses.js";
import { playButton, player } from "../player.js";
import { song } from "../song.js";
import { announce, bytes, clock, count, counted, percent } from "../words.js";
import { html, render } from "../vendor/lit-html/lit-html.js";

export const title = "Find";

const [SIMILAR, ON_A_PAGE] = [20, 25];

export function mount(root, parameters) {
  const leaving = new AbortController();
  const at = { state: null, asked: {}, answer: null, busy: false, error: "", saved: "" };
  let asking = null;
  const draw = () => leaving.signal.aborted || render(page(at, act), root);

  async function ask(request, shown) {
    asking?.abort();
    asking = new AbortController();
    const mine = asking;
    Object.assign(at, { busy: true, error: "", saved: "" });
    draw();
    try {
      const answer = await request(mine.signal);
      if (mine !== asking) return;
      at.answer = { ...shown, ...answer };
      announce(at.answer.groups ? counted(answer.groups.length, "group") : counted(answer.total ?? answer.songs.length, "song"));
    } catch (error) {
      if (error.name === "AbortError") return;
      [at.error, at.answer] = [error.message, null];
    }
    at.busy = false;
    draw();
  }

  async function update(asked) {
    at.asked = asked;
    draw();
    try {
      at.state = await get("/api/state", {}, leaving.signal); // anew: the folder may have been indexed meanwhile
    } catch (error) {
      if (error.name === "AbortError") return;
      at.error = error.message;
    }
    if (asked === at.asked && at.state?.index) look(asked);
    draw();
  }

  function look(asked) {
    const page = Number(asked.page ?? 1);
    if (asked.like) {
      const name = asked.name ?? asked.like.split("/").pop().replace(/^file:/, "");
      ask((signal) => get("/api/similar", { song: asked.like, second: asked.second, count: SIMILAR, tags: asked.q }, signal), { kind: "similar", name, second: asked.second, q: asked.q });
    } else if (asked.show === "duplicates") {
      ask((signal) => get("/api/duplicates", {}, signal), { kind: "duplicates" });
    } else if (asked.q) {
      ask((signal) => get("/api/search", { q: asked.q, count: ON_A_PAGE, page }, signal), { kind: "search", q: asked.q });
    } else {
      at.answer = null;
    }
  }

  const act = {
    search(event) {
      event.preventDefault();
      const q = event.target.elements.q.value.trim();
      const { like, name, second } = at.asked;
      const next = toView("find", { q, like, name, second });
      if (next === location.hash) update(at.asked);
      location.hash = next;
    },
    async save() {
      const name = at.answer.kind === "search" ? at.answer.q : `like ${at.answer.name}`;
      try {
        download(await playlist(at.answer.songs.map((one) => one.song), name), `${name.replace(/[/\\:*?"<>|]/g, "-")}.m3u`);
        at.saved = "Saved.";
      } catch (error) {
        at.saved = error.message;
      }
      draw();
    },
  };

  player.addEventListener("change", draw, { signal: leaving.signal });
  update(parameters);
  return {
    update,
    leave() {
      leaving.abort();
      asking?.abort();
    },
  };
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function page(at, act) {
  const indexed = at.state?.index;
  return html`
    <h1 tabindex="-1">Find</h1>
    <p>Search the library by what a model hears: <a href=${toView("find", { q: "piano, not vocal" })}>piano, not vocal</a>, say.</p>
    ${at.state && !indexed ? noIndex() : html`
    <search><form class="find-form" @submit=${act.search}>
      <label class="unseen" for="q">Tags to search for</label>
      <input id="q" name="q" type="search" placeholder="Tags, separated by commas; ‘not’ excludes" autocomplete="off" spellcheck="false" .value=${at.asked.q ?? ""}>
      <button class="button primary">Search</button></form></search>
    <div class="row">
      ${song.song === null ? "" : html`<a class="plain" href=${toView("find", { like: song.song, name: song.name })}>Sounds like ${song.name}</a>
        <a class="plain" href=${toView("find", { like: song.song, name: song.name, second: Math.floor(player.time) })}>Like its moment at ${clock(player.time)}</a>`}
      <a class="plain" href=${toView("find", { show: "duplicates" })}>Duplicates</a></div>`}
    <div class="stack" aria-busy=${String(at.busy)}>
      ${at.error ? html`<p class="notice error" role="alert">${at.error}</p>` : ""}
      ${at.busy ? html`<p class="faint">Searching …</p>` : ""}
      ${at.answer && !at.busy ? answer(at, act) : ""}
      ${indexed?.error ? html`<p class="notice error" role="alert">${indexed.error}</p>` : indexed ? html`<p class="faint">${counted(indexed.files, "song")} indexed by ${indexed.model}${indexed.stale ? html`; ${counted(indexed.stale, "file")} changed since, <code>autotag index</code> hears them again` : ""}.</p>` : ""}
    </div>`;
}

const noIndex = () => html`<div class="card gap"><h2>There is no index yet</h2>
  <p><code>autotag index FOLDER</code> listens to every song of a folder once and keeps what it hears. Then this page searches by tags, finds what sounds alike, and draws the map.</p></div>`;

function answer(at, act) {
  const found = at.answer;
  if (found.kind === "duplicates") return duplicates(found);
  const heading = found.kind === "search" ? html`${counted(found.total ?? found.songs.length, "song")} for ‘${found.q}’` : html`Sounds like ${found.name}${found.second ? ` at ${clock(Number(found.second))}` : ""}${found.q ? html`: ${found.q} <a class="plain" href=${toView("find", { q: found.q })}>Search all songs</a>` : ""}`;
  if (!found.songs.length) return html`<div class="card"><h2>${heading}</h2><p>Nothing was found. Leave a tag out, or take ‘not’ away.</p></div>`;
  const pages = found.pages ?? 1;
  const page = found.page ?? 1;
  return html`<section class="card" aria-labelledby="found-title">
    <div class="head-row"><h2 id="found-title">${heading}</h2><div class="row"><button type="button" class="button" id="save" @click=${act.save}>Save as .m3u</button><span class="faint" role="status">${at.saved}</span></div></div>
    <ol class="results">${found.songs.map((one) => html`<li>${playButton(one.song, one.name)}
      <div><a class="name" href=${toView("listen", { song: one.song, name: one.name })}>${one.name}</a>
        <p class="faint">${(one.tags ?? []).map(([tag, p]) => `${tag} ${percent(p)}`).join(", ")}</p></div>
      <div class="aside faint">${typeof one.similarity === "number" ? html`<span>${found.kind === "similar" ? "alike" : "fits"} ${percent(one.similarity)}</span><br>` : ""}${one.seconds ? clock(one.seconds) : ""}
        <a class="plain" href=${toView("find", { like: one.song, name: one.name })}>More like it<span class="unseen">: ${one.name}</span></a></div></li>`)}</ol>
    ${pages > 1 ? html`<nav class="pages" aria-label="Pages of results">
      ${page > 1 ? html`<a class="plain" href=${toView("find", { ...at.asked, page: page - 1 })}>← Previous</a>` : html`<span></span>`}<span>${count(page)} of ${count(pages)}</span>
      ${page < pages ? html`<a class="plain" href=${toView("find", { ...at.asked, page: page + 1 })}>Next →</a>` : html`<span></span>`}</nav>` : ""}
  </section>`;
}

function duplicates({ groups }) {
  if (!groups.length) return html`<div class="card"><h2>No duplicates</h2><p>No two files of the index hold the same recording.</p></div>`;
  return html`<section class="card" aria-labelledby="found-title"><h2 id="found-title">${counted(groups.length, "recording")} more than once</h2>
    <div class="stack">${groups.map((files) => html`<ul class="results" aria-label=${files[0].name}>${files.map((one) => html`<li>${playButton(one.song, one.name)}
      <a class="name" href=${toView("listen", { song: one.song, name: one.name })}>${one.name}</a><span class="aside faint">${bytes(one.bytes)}${one.seconds ? `, ${clock(one.seconds)}` : ""}</span></li>`)}</ul>`)}</div></section>`;
}
