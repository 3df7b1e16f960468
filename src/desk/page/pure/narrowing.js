// What a list or chart is narrowed to: the filter, the service and the time range of an address.

import { both, conditionText, parse } from "./filter.js";
import { moment } from "./format.js";
import { RANGES } from "./time.js";

/** The filters of every list and chart, kept from one view to the next. */
export const SHARED = ["filter", "service", "range", "from", "to"];

/** What the parameters narrow to, one text for each. */
export function narrowing(params) {
  const found = [];
  const filter = params.get("filter");
  if (filter) {
    try {
      found.push(...parse(filter).map(conditionText));
    } catch {
      found.push(filter);
    }
  }
  if (params.get("service")) found.push(`service ${params.get("service")}`);
  const range = RANGES.find(([name]) => name === params.get("range"));
  const time = (text) => moment(Number.isNaN(Number(text)) ? Date.parse(text) : Number(text));
  if (range) found.push(range[1].toLowerCase());
  else {
    if (params.get("from")) found.push(`from ${time(params.get("from"))}`);
    if (params.get("to")) found.push(`to ${time(params.get("to"))}`);
  }
  return found;
}

/**
 * The parameters of a saved chart, narrowed further by those of the dashboard: the filters of both apply, and
 * the time range of the dashboard, if it has one.
 */
export function narrowedBy(chart, shared) {
  const next = new URLSearchParams(chart);
  let filter = both(chart.get("filter"), shared.get("filter"));
  const service = shared.get("service");
  if (service && chart.get("service") && chart.get("service") !== service) {
    filter = both(filter, conditionText({ field: "service.name", operator: "is", value: service, quoted: true }));
  } else if (service) next.set("service", service);
  if (filter) next.set("filter", filter);
  const times = ["range", "from", "to"];
  if (times.some((name) => shared.get(name))) {
    for (const name of times) {
      next.delete(name);
      if (shared.get(name)) next.set(name, shared.get(name));
    }
  }
  return next;
}
