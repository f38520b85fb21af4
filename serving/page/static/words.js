// How figures are written for people, and what is said to a screen reader.

const counts = new Intl.NumberFormat("en");

/** 0.783 -> "78 %". */
export const percent = (p) => `${Math.round(100 * p)} %`;

/** Seconds -> "1:02" or "1:02:03". */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const two = (n) => String(n).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** 2153138 -> "2,153,138". */
export const count = (n) => counts.format(n);

/** One song, two songs. */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** 2153138 -> "2.2 M". */
export function short(n) {
  if (n >= 1e6) return `${Number((n / 1e6).toPrecision(n < 1e7 ? 2 : 3))} M`;
  return n >= 1e4 ? `${Math.round(n / 1e3)} k` : count(n);
}

/** Bytes -> "3.4 MB". */
export function bytes(n) {
  if (n < 1e6) return `${Math.max(1, Math.round(n / 1e3))} kB`;
  return n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(1)} GB`;
}

/** Three digits, "–" for what was not measured. */
export const figure = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** 0.0123 -> "0.012", 41.2 -> "41", for costs that range over powers of ten. */
export function amount(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e4) return short(value);
  return value >= 100 ? count(Math.round(value)) : String(Number(value.toPrecision(2)));
}

/** A model's name; of a folder of versions the last two parts, "pushed/1795952744". */
export const modelLabel = (name) => (name.includes("://") ? name : name.split("/").slice(-2).join("/"));

/** Tells a screen reader, politely. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}

/** What a choice was the last time; browsers may have storage switched off. */
export function remembered(key) {
  try {
    return localStorage.getItem(`autotag.${key}`);
  } catch {
    return null;
  }
}

/** Keeps a choice for the next time, where the browser lets it. */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(`autotag.${key}`);
    else localStorage.setItem(`autotag.${key}`, value);
  } catch {
    // the choice holds until the page is closed
  }
}
