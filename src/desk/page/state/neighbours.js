// Which traces stand before and after one in the list it was opened from.

import { useEffect, useState } from "../vendor/htm-preact.js";
import { ask, endpoint, narrowed } from "./api.js";

const PAGE = 500;
/** So many pages are looked through before the place is given up. */
const MOST_PAGES = 20;

/** The parameters of a list that a trace keeps. */
export const LIST = ["filter", "service", "range", "from", "to", "field", "time"];

function listAddress(params, cursor) {
  const more = { limit: PAGE, cursor };
  for (const name of ["field", "time"]) more[name] = params.get(name) ?? undefined;
  return endpoint("traces", narrowed(params, more));
}

async function find(id, params, cursor, signal) {
  let before;
  let place = 0;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const { rows, total, next } = await ask(listAddress(params, cursor), signal);
    const at = rows.findIndex((row) => row.trace_id === id);
    if (at >= 0) {
      let after = rows[at + 1]?.trace_id;
      if (!after && next) after = (await ask(listAddress(params, next), signal)).rows[0]?.trace_id;
      return { newer: rows[at - 1]?.trace_id ?? before, older: after, place: place + at + 1, total };
    }
    if (!next) break;
    before = rows[rows.length - 1]?.trace_id;
    place += rows.length;
    cursor = next;
  }
  return {};
}

/** `newer`, `older`, and the `place` of `total`. */
export function useNeighbours(id, params) {
  const [found, setFound] = useState({});
  const key = LIST.map((name) => params.get(name) ?? "").join("\n");
  useEffect(() => {
    const controller = new AbortController();
    find(id, params, undefined, controller.signal).then(
      (neighbours) => setFound({ id, ...neighbours }),
      (error) => error.name !== "AbortError" && setFound({ id }),
    );
    return () => controller.abort();
  }, [id, key]);
  return found.id === id ? found : { total: found.total };
}
