// Numbers, times and bytes for people, and texts of strangers without what cannot be seen.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });

/** A whole number with separators: 12,345. Takes the strings that 64-bit numbers are in JSON. */
export const whole = (number) => grouped.format(Number(number ?? 0));

/** So many of something: 1 key, 2 keys. */
export const many = (number, noun) => `${whole(number)} ${Number(number ?? 0) === 1 ? noun : noun.endsWith("y") && !noun.endsWith("ey") ? `${noun.slice(0, -1)}ies` : `${noun}s`}`;

/** A number in few characters: 12.3K. */
export const compact = (number) => {
  const value = Number(number ?? 0);
  return Math.abs(value) < 10 && value !== Math.round(value) ? value.toFixed(1) : short.format(value);
};

/** Bytes in binary units. */
export function bytes(number) {
  let value = Number(number ?? 0);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A time of microseconds, for latencies. */
export function micros(number) {
  const value = Number(number ?? 0);
  if (value < 1000) return `${Math.round(value)} µs`;
  if (value < 10_000) return `${(value / 1000).toFixed(2)} ms`;
  if (value < 1_000_000) return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)} ms`;
  return `${(value / 1_000_000).toFixed(2)} s`;
}

/** A span of milliseconds in its two largest units: 3 d 4 h. */
export function span(ms) {
  const value = Math.max(0, Number(ms));
  if (value < 1000) return `${Math.round(value)} ms`;
  let rest = Math.round(value / 1000);
  const parts = [];
  for (const [seconds, name] of [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]) {
    const count = Math.floor(rest / seconds);
    rest -= count * seconds;
    if (count > 0) parts.push(`${count} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.length > 0 ? parts.join(" ") : "0 s";
}

/** How long ago a moment was, or how far it is ahead. */
export function relative(ms, now = Date.now()) {
  const moment = Number(ms ?? 0);
  if (moment === 0) return "never";
  const difference = moment - now;
  if (Math.abs(difference) < 1000) return "now";
  return difference < 0 ? `${span(-difference)} ago` : `in ${span(difference)}`;
}

const two = (number) => String(number).padStart(2, "0");

/** A moment by the clock of the browser: 2026-01-31 23:59:59. */
export function moment(ms) {
  const value = Number(ms ?? 0);
  if (value === 0) return "never";
  const date = new Date(value);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(value)}`;
}

/** The time of day of a moment. */
export function clock(ms) {
  const date = new Date(Number(ms));
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** What a reader of a text cannot see, or is led astray by: control characters, marks of direction, spaces of no width. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** A name or key of somebody else's choosing, with unseen characters spelt out. */
export function visible(text) {
  return String(text ?? "").replace(UNSEEN, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

/** Bytes of their base64 form. */
export function fromBase64(text) {
  const binary = atob((text ?? "").replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

/** The base64 form of bytes. */
export function toBase64(data) {
  let binary = "";
  for (let at = 0; at < data.length; at += 0x8000) binary += String.fromCharCode(...data.subarray(at, at + 0x8000));
  return btoa(binary);
}

/** The text that bytes are in UTF-8; null when they are none. */
export function asText(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch (_malformed) {
    return null;
  }
}

/**
 * A document of JSON, indented; null when the text is none. The tokens stay as they are: numbers that no double holds keep
 * their digits, and repeated names are all there.
 */
export function prettyJson(text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object") return null;
  } catch (_malformed) {
    return null;
  }
  const out = [];
  let depth = 0;
  const line = () => out.push("\n", "  ".repeat(depth));
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  tokens.forEach((token, at) => {
    const empty = (token === "}" && tokens[at - 1] === "{") || (token === "]" && tokens[at - 1] === "[");
    if (token === "{" || token === "[") {
      out.push(token);
      depth += 1;
      if (tokens[at + 1] !== "}" && tokens[at + 1] !== "]") line();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      if (!empty) line();
      out.push(token);
    } else if (token === ",") {
      out.push(token);
      line();
    } else {
      out.push(token === ":" ? ": " : token);
    }
  });
  return out.join("");
}

/** Bytes as lines of offset, sixteen hexadecimal pairs, and what is printable of them. */
export function hexDump(data, limit = data.length) {
  const lines = [];
  for (let at = 0; at < Math.min(limit, data.length); at += 16) {
    const row = data.subarray(at, Math.min(at + 16, data.length));
    const pairs = Array.from(row, (byte) => byte.toString(16).padStart(2, "0"));
    const left = pairs.slice(0, 8).join(" ").padEnd(23);
    const right = pairs.slice(8).join(" ").padEnd(23);
    const letters = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·"));
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${letters.join("")}`);
  }
  return lines.join("\n");
}

/** Pairs of hexadecimal digits, as they are edited. */
export const toHex = (data) =>
  Array.from(data, (byte, at) => byte.toString(16).padStart(2, "0") + ((at + 1) % 16 === 0 ? "\n" : " "))
    .join("")
    .trim();

/** The bytes of pairs of hexadecimal digits; null when the text is something else. */
export function fromHex(text) {
  const digits = text.replace(/\s+/g, "");
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) return null;
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(at * 2, at * 2 + 2), 16));
}

const UNITS = { ms: 1, s: 1000, min: 60_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a span that was typed, like `90 s`, `15 min`, `2h`, `1d 12h`; null when it is none. A bare number is seconds. */
export function parseSpan(text) {
  const trimmed = text.trim().toLowerCase();
  if (/^\d+$/.test(trimmed)) return Number(trimmed) * 1000;
  const parts = [...trimmed.matchAll(/(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== trimmed) return null;
  return Math.round(parts.reduce((sum, part) => sum + Number(part[1]) * UNITS[part[2]], 0));
}

/** A value of an enumeration without its prefix, for people: ROLE_LEADER is leader. */
export const enumName = (value, prefix) => (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
