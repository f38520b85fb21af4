// Query strings, of the server's addresses and of the page's own (#/listen?song=...). Names on disk need not be UTF-8:
// Python carries such a byte 0xXX as the lone surrogate \udcXX, which stands in an address as %XX, the byte itself.

const encoded = (text) =>
  Array.from(text, (letter) => {
    const code = letter.charCodeAt(0);
    if (letter.length === 1 && code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16)}`;
    return encodeURIComponent(letter.isWellFormed?.() === false ? "\ufffd" : letter);
  }).join("");

function decoded(text) {
  const spaced = text.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return fromBytes(Uint8Array.from(unescapedBytes(spaced)));
  }
}

function* unescapedBytes(text) {
  for (const [part] of text.matchAll(/%[0-9a-f]{2}|[^]/giu)) {
    if (/^%../.test(part)) yield parseInt(part.slice(1), 16);
    else yield* new TextEncoder().encode(part);
  }
}

function fromBytes(data) {
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  for (let at = 0; at < data.length; ) {
    let length = 1;
    let letter = null;
    for (; length <= 4 && letter === null; length++) {
      try {
        letter = utf8.decode(data.subarray(at, at + length));
      } catch {
        // not the whole of a letter, or none
      }
    }
    text += letter ?? String.fromCharCode(0xdc00 + data[at]);
    at += letter === null ? 1 : length - 1;
  }
  return text;
}

/** {song: "file:a b.mp3", page: null} -> "song=file%3Aa%20b.mp3": what is null, undefined or "" is left out. */
export const query = (parameters) =>
  Object.entries(parameters)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${encoded(String(value))}`)
    .join("&");

/** "/api/files", {page: 2} -> "/api/files?page=2". */
export function address(path, parameters = {}) {
  const text = query(parameters);
  return text ? `${path}?${text}` : path;
}

/** "#/find?q=piano" -> {view: "find", parameters: {q: "piano"}}. */
export function readHash(hash) {
  const [path, text = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const pairs = text.split("&").filter(Boolean).map((pair) => pair.split(/=(.*)/s));
  return { view: path, parameters: Object.fromEntries(pairs.map(([name, value = ""]) => [decoded(name), decoded(value)])) };
}

/** The page's own address of a view. */
export const toView = (view, parameters = {}) => `#/${address(view, parameters)}`;
