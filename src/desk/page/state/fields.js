// Suggestions for fields and their values.

import { ask, endpoint, narrowed } from "./api.js";
import { only } from "./route.js";

const TYPES = { bool: "yes / no", number: "number", string: "text", other: "other" };

/** Whether a chart draws a field: one of feedback and metrics, or tokens. */
const isCharted = ({ source, type }) => source === "said" || (source === "answer" && type === "number");

/** Fields whose name contains a text. With `isFeedback`, only fields that a chart draws. */
export async function fieldOptions(search, { isFeedback = false, limit = 60 } = {}) {
  const { rows } = await ask(endpoint("fields", { search, limit }));
  return rows
    .filter((row) => !isFeedback || isCharted(row))
    .map((row) => ({ value: row.field, type: row.type, note: TYPES[row.type] ?? row.type, row }));
}

/** The most frequent type of a field, and whether it has values of other types. */
export async function typeOf(field) {
  const { rows } = await ask(endpoint("fields", { search: field, limit: 200 }));
  const found = rows.find((row) => row.field === field);
  return { type: found?.type, isMixed: Object.keys(found?.types ?? {}).length > 1 };
}

/**
 * Values of a field in the time range, the most frequent first. In a field of mixed types a text is `quoted`:
 * without quotes a filter would also match other types.
 */
export async function valueOptions(field, search, params) {
  const where = narrowed(only(params, ["service", "range", "from", "to"]), { field, search, limit: 30 });
  const { rows } = await ask(endpoint("values", where));
  // A value that is cut equals no value.
  return rows.filter(({ cut }) => !cut).map(({ value, type, count }) => ({
    value, quoted: type === "string", note: type ? `${TYPES[type] ?? type} · ${count}` : String(count),
  }));
}
