// The folder that the page was started with, as a list to pick from: searched, by folder, a page at a time.

import { get } from "./api.js";
import { toView } from "./addresses.js";
import { bytes, count, counted } from "./words.js";
import { html, render } from "./vendor/lit-html/lit-html.js";

const PAUSE_MS = 200;

/** Shows the folder in `element`; `chosen()` is the song that is marked as the one at hand. */
export function showLibrary(element, chosen, signal) {
  const at = { query: "", folder: "", page: 1 };
  let [answer, error, busy, timer, asked] = [null, "", false, 0, null];

  async function ask(change) {
    Object.assign(at, change);
    asked?.abort();
    asked = new AbortController();
    busy = true;
    draw();
    try {
      [answer, error] = [await get("/api/files", at, asked.signal), ""];
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem.message;
    }
    busy = false;
    draw();
  }

  const typed = (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => ask({ query: event.target.value, page: 1 }), PAUSE_MS);
  };

  function draw() {
    if (signal.aborted) return;
    render(
      html`<search><label class="unseen" for="library-search">Search the folder</label>
          <input id="library-search" type="search" placeholder="Search ${answer ? counted(answer.total, "song") : "the folder"}" autocomplete="off" @input=${typed}></search>
        ${error ? html`<p class="notice error" role="alert">${error}</p>` : ""}
        ${answer ? list() : html`<p class="faint">Reading the folder …</p>`}`,
      element,
    );
  }

  const up = () => at.folder.split("/").slice(0, -1).join("/");
  const folderButton = (path, label) => html`<li><button type="button" class="folder" @click=${() => ask({ folder: path, page: 1 })}>${label}</button></li>`;

  function list() {
    const { files, folders, total, page, pages } = answer;
    const empty = !files.length && (at.query || !folders.length);
    return html`
      ${at.folder ? html`<p class="where"><button type="button" class="plain" @click=${() => ask({ folder: up(), page: 1 })}>← Back</button> <span>${at.folder}</span></p>` : ""}
      ${empty ? html`<p class="faint">${at.query ? `No file has ‘${at.query}’ in its name.` : "There is no audio here."}</p>` : ""}
      <div class="library-list" aria-busy=${String(busy)}>
        ${folders.length && !at.query && page === 1 ? html`<ul class="folders" aria-label="Folders">${folders.map((path) => folderButton(path, path.split("/").pop()))}</ul>` : ""}
        <ul class="files" aria-label="Songs">${files.map((file) => html`<li><a href=${toView("listen", { song: file.song })} aria-current=${file.song === chosen() ? "true" : "false"}><span class="file-name">${file.name}</span><span class="faint">${file.folder ? `${file.folder} · ` : ""}${bytes(file.bytes)}</span></a></li>`)}</ul>
      </div>
      ${pages > 1 ? html`<nav class="pages" aria-label="Pages of the folder">
        <button type="button" class="plain" ?disabled=${page <= 1} @click=${() => ask({ page: page - 1 })}>← Previous</button>
        <span>${count(page)} of ${count(pages)}</span>
        <button type="button" class="plain" ?disabled=${page >= pages} @click=${() => ask({ page: page + 1 })}>Next →</button></nav>` : ""}
      <p class="unseen" role="status">${counted(total, "song")}${at.query ? ` with ‘${at.query}’` : ""}</p>`;
  }

  ask({});
  return { draw };
}
