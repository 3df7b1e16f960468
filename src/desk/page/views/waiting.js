// Feedback that counts in no trace, because what it is about has not come.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address } from "../state/route.js";
import { number } from "../pure/format.js";
import { Chips } from "../parts/chips.js";
import { Empty, Loading, Problem } from "../parts/trouble.js";
import { Heading } from "../parts/heading.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";
import { Time } from "../parts/time.js";

const COLUMNS = [
  { name: "reason", title: "Why it waits", of: (row) => row.reason },
  { name: "feedback", title: "What was said", of: (row) => html`<${Chips} leaves=${row.said} most=${6} />` },
  {
    name: "target", title: "About",
    of: (row) => (row.trace_id ? html`<a class="mono" href=${address("traces", row.trace_id)}>${row.trace_id}</a>${row.span_id && html`<span class="under mono">${row.span_id}</span>`}` : html`<span class="none">unknown</span>`),
  },
  { name: "when", title: "Given", className: "number", of: (row) => html`<${Time} at=${row.given} />` },
];

export function Waiting({ route }) {
  const { data, error, isStale } = useAnswer(endpoint("waiting", { limit: ROWS, cursor: route.params.get("cursor") }));
  return html`
    <${Heading} title="Waiting" note=${data ? `${number(data.total)} waiting for what ${data.total === 1 ? "it is" : "they are"} about` : " "} />
    ${error && html`<${Problem} error=${error} />`}
    ${!data && !error && html`<${Loading} rows=${3} />`}
    ${data && !data.rows.length && html`<${Empty} title="Nothing waits"><p>All feedback has found what it is about. Feedback that comes before its span, or whose span never comes, is listed here.</p><//>`}
    ${data && data.rows.length > 0 && html`
      <p class="intro">Feedback whose span has not come: it was lost, was never sampled, or is still on its way. It moves to its trace by itself when that arrives.</p>
      <${Rows} label="Waiting feedback" columns=${COLUMNS} rows=${data.rows} keyOf=${(row) => `${row.trace_id} ${row.span_id} ${row.given}`} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
