// The contents of a chart, from an answer of the API: measures, lines and names.

import { conditionText, format, parse } from "./filter.js";
import { isShare } from "./format.js";

export const MEASURES = {
  bool: ["percent-true", "percent-false", "count"],
  number: ["avg", "median", "min", "max", "p95", "p98", "p99", "sum", "count", "percentage"],
  string: ["count"],
};
export const NAMES = {
  "percent-true": "Share true", "percent-false": "Share false", count: "Count", sum: "Sum", avg: "Average",
  median: "Median", min: "Minimum", max: "Maximum", p95: "95th percentile", p98: "98th percentile",
  p99: "99th percentile", percentage: "Share where…",
};
const USUAL = { bool: "percent-true", number: "avg", string: "count" };
export const COMPARISONS = [">=", ">", "<=", "<", "=", "!="];

const PERCENTAGE = /^percentage\s*(>=|<=|!=|=|>|<)\s*(.+)$/;

/** The comparison of a percentage. */
export function comparison(measure) {
  const [, operator, value] = PERCENTAGE.exec(measure) ?? [];
  return operator && { operator, value };
}

/** The name of a measure; the two values of a rating have names of their own. */
export function measureName(measure, field) {
  if (/(^|\.)rating$/.test(field ?? "")) {
    if (measure === "percent-true") return "Positive";
    if (measure === "percent-false") return "Negative";
  }
  const found = comparison(measure);
  if (!found) return NAMES[measure] ?? measure;
  const sign = { ">=": "≥", "<=": "≤", "!=": "≠" }[found.operator] ?? found.operator;
  return `Share ${sign} ${found.value}`;
}

/** The measures that are drawn: those asked for, else the usual one of the type. */
export function shownMeasures(data, params) {
  const asked = params.get("measure");
  if (asked) return data.measures;
  const usual = USUAL[data.type];
  return data.measures.includes(usual) ? [usual] : data.measures.slice(0, 1);
}

/** Measures that share an axis: figures of the same unit, unless each has its groups. */
export function panels(measures, hasGroups) {
  if (hasGroups) return measures.map((measure) => [measure]);
  const unit = (measure) => (isShare(measure) ? "share" : measure === "count" || measure === "sum" ? measure : "value");
  const found = new Map();
  for (const measure of measures) found.set(unit(measure), [...(found.get(unit(measure)) ?? []), measure]);
  return [...found.values()];
}

export function groupName(series) {
  if (series.is_other) return "other";
  return series.group === null ? "(none)" : String(series.group);
}

/** The points of the comparison, one for each bucket of the chart. */
export function aligned(data, points) {
  const { compare } = data;
  if (!points) return [];
  // The previous period: bucket by bucket. The same period of another version: by time.
  if (compare.with === "previous") return data.buckets.slice(0, -1).map((_, at) => points[at] ?? null);
  const places = new Map(compare.buckets.map((start, at) => [start, at]));
  return data.buckets.slice(0, -1).map((start) => points[places.get(start)] ?? null);
}

/** The same group of the comparison. */
function comparedGroup(data, series) {
  return data.compare?.groups?.find((each) => each.is_other === series.is_other && each.group === series.group);
}

/**
 * The lines of a panel: `{name, measure, points, overall, values, series, role, place}`. Lines of one `place` have
 * one colour.
 */
export function lines(data, measures) {
  const found = [];
  for (const measure of measures) {
    const series = data.groups.length ? data.groups : [data.total];
    const compared = data.compare && (data.compare.with === "previous" ? "Previous period" : `Version ${data.compare.with}`);
    for (const each of series) {
      const place = found.filter(({ role }) => role === "own").length;
      const name = data.groups.length ? groupName(each) : measureName(measure, data.field);
      found.push({ name, measure, points: each.points[measure], overall: each.overall[measure], values: each.values, series: each, role: each.is_other ? "other" : "own", place });
      const before = data.groups.length ? comparedGroup(data, each) : undefined;
      if (before) {
        found.push({ name: `${name}, ${compared.toLowerCase()}`, measure, points: aligned(data, before.points[measure]), overall: before.overall[measure], values: before.values, series: before, role: "compared", place: each.is_other ? undefined : place });
      }
    }
    if (data.compare && !data.groups.length) {
      const before = data.compare.total;
      const name = compared;
      found.push({ name: measures.length > 1 ? `${measureName(measure, data.field)}, ${name.toLowerCase()}` : name, measure, points: aligned(data, before.points[measure]), overall: before.overall[measure], values: before.values, series: before, role: "compared" });
    }
  }
  return found;
}

/** The number of values in a chart, and of those left out because of their type or their time. */
export function valueCount(data) {
  const noun = /(^|\.)rating$/.test(data.field ?? "") ? "rating" : "value";
  const values = `${data.values.toLocaleString("en-GB")} ${noun}${data.values === 1 ? "" : "s"}`;
  const names = { bool: "yes / no", number: "number", string: "text", other: "other" };
  const left = Object.entries(data.left_out ?? {}).filter(([, count]) => count > 0);
  const types = left.map(([type, count]) => `${count} ${names[type] ?? type}`).join(", ");
  const found = [values];
  if (types) found.push(`left out because of their type: ${types}`);
  if (data.out_of_time) found.push(`left out because no clock shows their time: ${data.out_of_time}`);
  return found.join("; ");
}

/** The parameters of the list of traces that shows one bucket. */
export function bucketParams(params, data, at, series) {
  const next = new URLSearchParams();
  let filter = params.get("filter") ?? "";
  if (series) filter = narrowedToGroup(filter, data, params.get("group"), series);
  const from = Math.max(data.buckets[at], data.from ?? -Infinity);
  const to = Math.min(data.buckets[at + 1], data.to ?? Infinity);
  const all = { filter, service: params.get("service"), field: data.field, time: params.get("time") === "given" ? "given" : "", from, to };
  for (const [name, value] of Object.entries(all)) if (value || value === 0) next.set(name, String(value));
  return next;
}

function narrowedToGroup(filter, data, group, series) {
  const conditions = filter ? parse(filter) : [];
  const is = (value, operator) => ({ field: group, operator, value, quoted: !/^(true|false)$|^-?\d+(\.\d+)?$/.test(value) });
  if (series.is_other) {
    for (const each of data.groups.filter((one) => !one.is_other)) {
      conditions.push(each.group === null ? { has: "field", field: group, negated: false } : is(String(each.group), "is not"));
    }
  } else if (series.group === null) conditions.push({ has: "field", field: group, negated: true });
  else conditions.push(is(String(series.group), "is"));
  return format(conditions);
}

/** A chart in a few words, as its title. */
export function title(params) {
  const parts = [params.get("field")];
  const measure = params.get("measure");
  if (measure) parts.push(measure.split(",").map((each) => measureName(each, params.get("field")).toLowerCase()).join(", "));
  if (params.get("group")) parts.push(`by ${params.get("group")}`);
  try {
    const conditions = parse(params.get("filter") ?? "");
    if (conditions.length) parts.push(`where ${conditions.map(conditionText).join(" and ")}`);
  } catch {
    // The filter bar shows the error.
  }
  return parts.join(" · ");
}

/** How a formula begins for a spreadsheet, after characters that are not seen. The desk's CSV has the same rule. */
const FORMULA = /^[\s\p{Cc}\p{Cf}]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212]/u;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A table of the chart, as text with tabs, for a spreadsheet. What it would run as a formula gets a `'` in front. */
export function tabbed(header, rows) {
  const guarded = (text) => (FORMULA.test(text) && !NUMBER.test(text.trim()) ? `'${text}` : text);
  const cell = (text) => guarded(String(text ?? "").replace(/[\t\r\n]+/g, " "));
  return [header, ...rows].map((row) => row.map(cell).join("\t")).join("\n");
}
