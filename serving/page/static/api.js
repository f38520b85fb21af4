// Calls to the server. Whatever goes wrong comes back as an Error whose message is a sentence for the person.

import { address } from "./addresses.js";

const UNREACHABLE = "The server does not answer. Is autotag page still running?";

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(UNREACHABLE);
  }
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

async function reason(response) {
  try {
    return (await response.json()).error ?? `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

const asJson = (method, body, signal) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

export const get = async (path, parameters, signal) => (await answered(address(path, parameters), { signal })).json();
export const send = async (method, path, body) => (await answered(path, asJson(method, body))).json();

/** A playlist of the songs, as a Blob. */
export const playlist = async (songs, name) =>
  (await answered("/api/playlist", asJson("POST", { songs, name }))).blob();

/** Sends a file's bytes; `onProgress` gets the share sent, 0 to 1. Resolves to {song, name}. */
export function upload(blob, name, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells no progress of what is sent
    request.open("POST", address("/api/uploads", { name }));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "text";
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    request.addEventListener("load", () => {
      try {
        const answer = JSON.parse(request.responseText);
        if (request.status < 300) resolve(answer);
        else reject(new Error(answer.error));
      } catch {
        reject(new Error(`The server answered ${request.status}.`));
      }
    });
    request.addEventListener("error", () => reject(new Error("The upload broke off. Is autotag page still running, and does it take files of this size?")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(blob);
  });
}

/** Yields what the server says of a song as it hears it, one object a line (NDJSON). */
export async function* tagStream(song, models, hop, signal) {
  const response = await answered("/api/tag", asJson("POST", { song, models, hop }, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The server broke off while it was listening.");
    });
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

const asked = {};

/** What hardly changes while the page is open (/api/state, /api/models), asked for once; a failure is asked again. */
export function once(path) {
  asked[path] ??= get(path).catch((error) => {
    delete asked[path];
    throw error;
  });
  return asked[path];
}
