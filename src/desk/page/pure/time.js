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

/** The time zone of the browser by its name, which decides where days start. */
export const browserZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The milliseconds of an offset from UTC such as `+02:00`; `undefined` for the name of a time zone. */
export function offsetLength(text) {
  const [, sign, hours, minutes] = /^([+-])(\d\d):(\d\d)$/.exec(text) ?? [];
  return sign && (sign === "-" ? -1 : 1) * (Number(hours) * HOUR + Number(minutes) * MINUTE);
}

/** A time in words, in a zone that is a name or an offset. Browsers know offsets only as of 2024. */
function say(ms, zone, options) {
  const length = offsetLength(zone);
  const [shift, timeZone] = length === undefined ? [0, zone] : [length, "UTC"];
  return new Date(ms + shift).toLocaleString("en-GB", { ...options, timeZone });
}

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
      const isMidnight = say(start, zone, { hour: "2-digit", minute: "2-digit" }) === "00:00";
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
