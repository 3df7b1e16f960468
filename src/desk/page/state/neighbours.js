// Which traces stand before and after one in the list it was opened from.

import { endpoint, narrowed } from "./api.js";
import { useAnswer } from "./query.js";

/** The parameters of a list that a trace keeps. */
export const LIST = ["filter", "service", "range", "from", "to", "field", "time"];

/** `newer`, `older`, and the `position` in `total`. Of the trace before, only how many there are. */
export function useNeighbours(id, params) {
  const more = Object.fromEntries(["field", "time"].map((name) => [name, params.get(name)]));
  const path = `traces/${encodeURIComponent(id)}/neighbours`;
  const { data, isStale } = useAnswer(endpoint(path, narrowed(params, more)), "neighbours");
  return isStale ? { total: data.total } : data ?? {};
}
