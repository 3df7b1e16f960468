// Unmatched feedback: its target was not received, or it has no target.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address } from "../state/route.js";
import { count } from "../pure/format.js";
import { Chips } from "../parts/chips.js";
import { Empty, Loading, ErrorMessage } from "../parts/errors.js";
import { Heading } from "../parts/heading.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";
import { Time } from "../parts/time.js";

const COLUMNS = [
  { name: "reason", title: "Reason", of: (row) => (row.trace_id ? "The rated span never arrived" : "No trace or session id") },
  { name: "feedback", title: "Feedback", of: (row) => html`<${Chips} leaves=${row.said} most=${6} />` },
  {
    name: "target", title: "About",
    of: (row) => (row.trace_id ? html`<a class="mono" href=${address("traces", row.trace_id)}>${row.trace_id}</a>${row.span_id && html`<span class="under mono">${row.span_id}</span>`}` : html`<span class="none">unknown</span>`),
  },
  { name: "when", title: "Given", className: "number", of: (row) => html`<${Time} at=${row.given} />` },
];

export function Unmatched({ route }) {
  const { data, error, isStale } = useAnswer(endpoint("waiting", { limit: ROWS, cursor: route.params.get("cursor") }));
  return html`
    <${Heading} title="Unmatched feedback" note=${data ? `${count(data.total, "item")} whose answer has not arrived` : " "} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} rows=${3} />`}
    ${data && !data.rows.length && html`<${Empty} title="No unmatched feedback"><p>All feedback has a target. Feedback that arrives before its span, or whose span never arrives, is listed here.</p><//>`}
    ${data && data.rows.length > 0 && html`
      <p class="intro">Feedback whose span was not received: it was lost, not sampled, or is still on its way. When the span arrives, its feedback moves to the trace.</p>
      <${Rows} label="Unmatched feedback" columns=${COLUMNS} rows=${data.rows} keyOf=${(row) => `${row.trace_id} ${row.span_id} ${row.given}`} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
