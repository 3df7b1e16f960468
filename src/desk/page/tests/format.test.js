// Numbers, times and sizes as people read them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, beginning, bytes, change, count, duration, exact, measured, moment, number, percent, unshortened, value } from "../pure/format.js";
import { bucketName, fieldTime, offsetLength, stretch, tickName } from "../pure/time.js";
import { ticks } from "../pure/axis.js";

test("numbers keep what matters of them", () => {
  assert.deepEqual([0, 7, 1234, 4.2, 3.6591, 0.03333, 12345.678, 1e9].map(number), ["0", "7", "1,234", "4.2", "3.66", "0.0333", "12,346", "1,000,000,000"]);
  assert.equal(number(null), "–");
  assert.equal(number("9007199254740993"), "9007199254740993");
  assert.equal(percent(66.796875), "66.8 %");
  assert.equal(measured("percentage>=4", 50), "50.0 %");
  assert.equal(measured("avg", null), "–");
  assert.equal(count(1, "trace"), "1 trace");
  assert.equal(count(0, "trace"), "0 traces");
  assert.equal(value(false), "false");
});

test("a change has its sign", () => {
  assert.equal(change("percent-true", 70, 60.5), "+9.5 points");
  assert.equal(change("avg", 3, 3.5), "−0.5");
  assert.equal(change("avg", 3, null), undefined);
});

test("durations and sizes have units", () => {
  assert.deepEqual([0, 0.25, 5.43, 812, 1450, 61_000, 3_700_000].map(duration), ["0", "250 µs", "5.4 ms", "812 ms", "1.45 s", "1 min 1 s", "1 h 1 min"]);
  assert.deepEqual([512, 2048, 5_242_880, 3e11].map(bytes), ["512 B", "2.0 KiB", "5.0 MiB", "279 GiB"]);
});

test("moments have a year only where it is another one", () => {
  const now = Date.UTC(2026, 5, 15, 12);
  assert.equal(moment(Date.UTC(2026, 4, 2, 9, 5), now, "UTC"), "2 May, 09:05");
  assert.equal(moment(Date.UTC(2025, 4, 2, 9, 5), now, "UTC"), "2 May 2025, 09:05");
  assert.equal(ago(now - 5_000, now), "just now");
  assert.equal(ago(now - 7_200_000, now), "2 h ago");
});

test("the beginning of a text is cut between characters", () => {
  assert.equal(beginning("one  two\nthree", 9), "one two…");
  assert.equal(beginning("\u{1F600}".repeat(9), 4), `${"\u{1F600}".repeat(3)}…`);
  assert.equal(beginning("short", 9), "short");
});

test("a range is asked for by the minute, and stays open unless it must end", () => {
  const now = Date.UTC(2026, 0, 2, 3, 4, 5);
  const params = new URLSearchParams("range=1h");
  assert.deepEqual(stretch(params, now), { from: Date.UTC(2026, 0, 2, 2, 5) });
  assert.deepEqual(stretch(params, now, true), { from: Date.UTC(2026, 0, 2, 2, 5), to: Date.UTC(2026, 0, 2, 3, 5) });
  assert.deepEqual(stretch(new URLSearchParams("from=5&to=9")), { from: "5", to: "9" });
  assert.deepEqual(stretch(new URLSearchParams("")), {});
});

test("buckets are named where their days begin", () => {
  assert.equal(offsetLength("-08:00"), -8 * 3_600_000);
  assert.equal(offsetLength("Europe/Berlin"), undefined);
  const start = Date.UTC(2026, 0, 30, 18, 30);
  assert.equal(bucketName(start, "day", "+05:30"), "Sat, 31 Jan 2026");
  assert.equal(tickName(start, "hour", "+05:30"), "31 Jan");
  assert.equal(tickName(start + 3_600_000, "hour", "+05:30"), "01:00");
  assert.equal(bucketName(Date.UTC(2026, 1, 1), "month", "+00:00"), "February 2026");
  // The day of a zone begins at another hour in summer.
  assert.equal(bucketName(Date.UTC(2026, 5, 14, 22), "day", "Europe/Berlin"), "Mon, 15 Jun 2026");
  assert.equal(tickName(Date.UTC(2026, 0, 14, 23), "hour", "Europe/Berlin"), "15 Jan");
  assert.equal(fieldTime("nonsense"), undefined);
});

test("labels of an axis have room", () => {
  assert.deepEqual(ticks(5, 600), [0, 1, 2, 3, 4]);
  for (const buckets of [1, 30, 366, 5000]) {
    for (const width of [200, 390, 1200]) assert.ok(ticks(buckets, width).length * 72 <= width + 72, `${buckets} in ${width}`);
  }
});

test("long figures are short, and exact in their tooltips", () => {
  assert.deepEqual([1e300, -1.5e15, 999_999_999_999_999, 1e-7, -1.234e-9, 5e-324].map(number), ["1e300", "-1.5e15", "999,999,999,999,999", "1e-7", "-1.23e-9", "4.94e-324"]);
  assert.equal(exact("avg", 0.876543), "0.876543");
  assert.equal(exact("percent-true", 12.345678), "12.345678 %");
  assert.equal(exact("avg", null), undefined);
  assert.deepEqual([0.876543, "9007199254740993", true, null].map(unshortened), ["0.876543", "9007199254740993", "true", "–"]);
  assert.equal(duration(1e300), "2.78e293 h");
});
