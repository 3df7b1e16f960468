// Time ranges, as the URL of a view has them: `range=7d`, or `from` and `to` in milliseconds.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const RANGES = [
  ["1h", "Last hour", HOUR],
  ["24h", "Last 24 hours", DAY],
  ["7d", "Last 7 days", 7 * DAY],
  ["30d", "Last 30 days", 30 * DAY],
  ["90d", "Last 90 days", 90 * DAY],
  ["1y", "Last 365 days", 365 * DAY],
];

/**
 * The parameters of the API for a time range. A relative range ends with the current minute, so that the URL
 * stays the same for a minute. `to` is set only if `isClosed`: without it new spans are included.
 */
export function stretch(params, now = Date.now(), isClosed = false) {
  const length = RANGES.find(([name]) => name === params.get("range"))?.[2];
  if (length) {
    const to = (Math.floor(now / MINUTE) + 1) * MINUTE;
    return { from: to - length, ...(isClosed ? { to } : {}) };
  }
  const found = {};
  for (const name of ["from", "to"]) if (params.get(name)) found[name] = params.get(name);
  return found;
}

/** An offset from UTC such as `+02:00`, which decides where days start. */
export function offset(minutesWest) {
  const minutes = Math.abs(minutesWest);
  const two = (part) => String(Math.floor(part)).padStart(2, "0");
  return `${minutesWest > 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

/** The milliseconds of an offset. */
export function offsetLength(text) {
  const [, sign, hours, minutes] = /^([+-])(\d\d):(\d\d)$/.exec(text) ?? [null, "+", 0, 0];
  return (sign === "-" ? -1 : 1) * (Number(hours) * HOUR + Number(minutes) * MINUTE);
}

const say = (ms, zone, options) =>
  new Date(ms + offsetLength(zone)).toLocaleString("en-GB", { ...options, timeZone: "UTC" });

/** A bucket in words. */
export function bucketName(start, bucket, zone) {
  switch (bucket) {
    case "month":
      return say(start, zone, { month: "long", year: "numeric" });
    case "week":
      return `Week of ${say(start, zone, { day: "numeric", month: "short", year: "numeric" })}`;
    case "day":
      return say(start, zone, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
    default:
      return say(start, zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  }
}

/** The same, short enough for an axis. */
export function tickName(start, bucket, zone) {
  switch (bucket) {
    case "month":
      return say(start, zone, { month: "short", year: "2-digit" });
    case "week":
    case "day":
      return say(start, zone, { day: "numeric", month: "short" });
    default: {
      const isMidnight = (start + offsetLength(zone)) % DAY === 0;
      return isMidnight
        ? say(start, zone, { day: "numeric", month: "short" })
        : say(start, zone, { hour: "2-digit", minute: "2-digit" });
    }
  }
}

/** Milliseconds as a `datetime-local` field wants them, and back. */
export function fieldText(ms) {
  if (!ms) return "";
  const date = new Date(Number.isNaN(Number(ms)) ? ms : Number(ms));
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

export function fieldTime(text) {
  const ms = text ? new Date(text).getTime() : NaN;
  return Number.isNaN(ms) ? undefined : String(ms);
}
