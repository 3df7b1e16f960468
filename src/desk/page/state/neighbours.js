// The previous and the next trace of the list that a trace was opened from.

import { endpoint, narrowed } from "./api.js";
import { useAnswer } from "./query.js";

/** The parameters of a list that the address of its traces repeats. */
export const LIST = ["filter", "service", "range", "from", "to", "field", "time"];

/** `newer`, `older`, and the `position` in `total`. While loading, only `total` of the trace before. */
export function useNeighbours(id, params) {
  const more = Object.fromEntries(["field", "time"].map((name) => [name, params.get(name)]));
  const path = `traces/${encodeURIComponent(id)}/neighbours`;
  const { data, isStale } = useAnswer(endpoint(path, narrowed(params, more)), "neighbours");
  return isStale ? { total: data.total } : data ?? {};
}
