// Numbers, times and sizes as text.

const LANGUAGE = "en-GB";
const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat(LANGUAGE, { maximumSignificantDigits: 3 });
const twoDigits = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 2 });
const oneDigit = new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** The text of a missing value, which is not zero. */
export const NOTHING = "–";

/** From here on a number is shown by its power of ten. */
const COMPACT = 1e15;
const compact = (value) => value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");

/** The figure itself, for a tooltip; `undefined` for a missing one. */
export function exact(measure, value) {
  if (value === null || value === undefined) return undefined;
  return isShare(measure) ? `${value} %` : String(value);
}

/** A number in short form. */
export function number(value) {
  if (value === null || value === undefined) return NOTHING;
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size >= COMPACT || (size > 0 && size < 1e-6)) return compact(value);
  if (Number.isInteger(value) || size >= 10_000) return whole.format(value);
  return (size >= 1 ? twoDigits : precise).format(value);
}

export function percent(value) {
  return value === null || value === undefined ? NOTHING : `${oneDigit.format(value)} %`;
}

export const isShare = (measure) => measure.startsWith("percent");

export const measured = (measure, value) => (isShare(measure) ? percent(value) : number(value));

/** The change between two figures, with its sign. */
export function change(measure, now, before) {
  if (typeof now !== "number" || typeof before !== "number") return undefined;
  const delta = now - before;
  const sign = delta > 0 ? "+" : delta < 0 ? "−" : "±";
  const size = Math.abs(delta);
  return isShare(measure) ? `${sign}${oneDigit.format(size)} points` : `${sign}${number(size)}`;
}

export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  if (ms < 0.001) return "0";
  if (ms < 1) return `${precise.format(Math.round(ms * 1000))} µs`;
  if (ms < 1000) return `${ms < 10 ? oneDigit.format(ms) : whole.format(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds >= 36e6) return `${number(Math.floor(seconds / 3600))} h`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? oneDigit.format(value) : whole.format(value)} ${units[unit]}`;
}

const MINUTE = { hour: "2-digit", minute: "2-digit" };
const DAY = { day: "numeric", month: "short" };

/** A time, with its year unless it is the current year. */
export function moment(ms, now = Date.now(), timeZone) {
  if (ms === null || ms === undefined) return NOTHING;
  const date = new Date(ms);
  const sameYear = date.getFullYear() === new Date(now).getFullYear();
  const day = { ...DAY, ...(sameYear ? {} : { year: "numeric" }), timeZone };
  return `${date.toLocaleDateString(LANGUAGE, day)}, ${date.toLocaleTimeString(LANGUAGE, { ...MINUTE, timeZone })}`;
}

/** The exact time, for a tooltip. */
export function exactly(ms) {
  const date = new Date(ms);
  const options = { dateStyle: "full", timeStyle: "long" };
  return `${date.toLocaleString(LANGUAGE, options)} (${date.toISOString()})`;
}

/** How long ago, for times of the last day. */
export function ago(ms, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - ms) / 1000));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return moment(ms, now);
}

/** The beginning of a text, cut between characters. */
export function beginning(text, length) {
  const flat = text.replace(/\s+/gu, " ").trim();
  const letters = Array.from(flat.slice(0, length * 2 + 2));
  return letters.length > length ? `${letters.slice(0, length - 1).join("").trimEnd()}…` : flat;
}

/** Any value as a text. */
export function value(any) {
  if (any === null || any === undefined) return NOTHING;
  if (typeof any === "string") return any;
  if (typeof any === "number") return number(any);
  if (typeof any === "boolean") return any ? "true" : "false";
  return JSON.stringify(any);
}

/** Any value as it is: a number with all its digits. */
export const unshortened = (any) => (typeof any === "number" ? String(any) : value(any));
