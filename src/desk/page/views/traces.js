// Traces, the latest first, each with its feedback.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint, narrowed } from "../state/api.js";
import { address, only } from "../state/route.js";
import { LIST } from "../state/neighbours.js";
import { count, duration, number } from "../pure/format.js";
import { Chips } from "../parts/chips.js";
import { Empty, Loading, ErrorMessage } from "../parts/errors.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { FilterBar } from "../parts/filter_bar.js";
import { EmptyList } from "../parts/empty_list.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";
import { Time } from "../parts/time.js";
import { icons } from "../parts/icons.js";

const Unknown = () => html`<span class="none">–</span>`;

/** The name of a trace. Without spans, only feedback about it was received. */
function nameOf(row) {
  return row.spans ? row.name || "unnamed" : "Trace not received yet";
}

function Under({ row }) {
  if (!row.spans) return html`<span class="under">feedback only: <span class="mono">${row.trace_id.slice(0, 8)}…</span></span>`;
  return html`<span class="under"><bdi>${row.service ?? "unknown service"}</bdi>${row.version && html` <span class="version" dir="auto">${row.version}</span>`}
    ${row.errors > 0 && html`<span class="failed">${icons.error()}${count(row.errors, "error")}</span>`}</span>`;
}

/** Columns of traces; `kept` are the parameters of the list that the link to a trace repeats. */
export function traceColumns(kept) {
  return [
    {
      name: "name", title: "Trace",
      of: (row) => html`<a class=${`row-link ${row.spans ? "" : "not-received"}`} dir="auto" href=${address("traces", row.trace_id, kept)}>${nameOf(row)}</a><${Under} row=${row} />`,
    },
    { name: "feedback", title: "Feedback", of: (row) => html`<${Chips} leaves=${row.feedback} />` },
    { name: "duration", title: "Duration", className: "number", of: (row) => (row.spans ? html`<span title=${`${row.duration_ms} ms`}>${duration(row.duration_ms)}</span>` : html`<${Unknown} />`) },
    { name: "spans", title: "Spans", className: "number", of: (row) => (row.spans ? number(row.spans) : html`<${Unknown} />`) },
    { name: "when", title: "Started", className: "number", of: (row) => html`<${Time} at=${row.start} />` },
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
    <${FilterBar} route=${route} end=${html`<${Export} query=${query} views=${[["traces", "Traces"], ...(params.has("field") ? [] : [["dataset", "Data set"]])]} />`} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !data.rows.length && html`<${EmptyList} what="traces" route=${route} />`}
    ${data && data.rows.length > 0 && html`
      <${Rows} label="Traces" columns=${traceColumns(kept)} rows=${data.rows} keyOf=${(row) => row.trace_id} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
