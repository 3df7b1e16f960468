// Traces, the latest first, each with what was said about it.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint, narrowed } from "../state/api.js";
import { address, only } from "../state/route.js";
import { LIST } from "../state/neighbours.js";
import { count, duration, number } from "../pure/format.js";
import { Chips } from "../parts/chips.js";
import { Empty, Loading, Problem } from "../parts/trouble.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { Narrow } from "../parts/narrow.js";
import { NothingYet } from "../parts/nothing.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";
import { Time } from "../parts/time.js";
import { icons } from "../parts/icons.js";

/** Columns of traces; `kept` is what a trace takes along of the list. */
export function traceColumns(kept) {
  return [
    {
      name: "name", title: "Trace",
      of: (row) => html`<a class="row-link" href=${address("traces", row.trace_id, kept)}>${row.name || "unnamed"}</a>
        <span class="under">${row.service ?? "unknown service"}${row.version && html` <span class="version">${row.version}</span>`}
        ${row.errors > 0 && html`<span class="failed">${icons.error()}${count(row.errors, "error")}</span>`}</span>`,
    },
    { name: "feedback", title: "Feedback", of: (row) => html`<${Chips} leaves=${row.feedback} />` },
    { name: "duration", title: "Duration", className: "number", of: (row) => duration(row.duration_ms) },
    { name: "spans", title: "Spans", className: "number", of: (row) => number(row.spans) },
    { name: "when", title: "Began", className: "number", of: (row) => html`<${Time} at=${row.start} />` },
  ];
}

export function Traces({ route }) {
  const { params } = route;
  const more = { limit: ROWS, cursor: params.get("cursor") };
  for (const name of ["field", "time"]) more[name] = params.get(name);
  const query = narrowed(params, more);
  const { data, error, isStale } = useAnswer(endpoint("traces", query));
  const kept = only(params, LIST);
  return html`
    <${Heading} title="Traces" note=${data && !error ? count(data.total, "trace") : " "} />
    <${Narrow} route=${route} end=${html`<${Export} query=${query} views=${[["traces", "Traces"], ...(params.has("field") ? [] : [["dataset", "Data set"]])]} />`} />
    ${error && html`<${Problem} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !data.rows.length && html`<${NothingYet} what="traces" route=${route} />`}
    ${data && data.rows.length > 0 && html`
      <${Rows} label="Traces" columns=${traceColumns(kept)} rows=${data.rows} keyOf=${(row) => row.trace_id} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
