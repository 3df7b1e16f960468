// Sessions, by last activity.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint, narrowed } from "../state/api.js";
import { address, only, SHARED } from "../state/route.js";
import { count, number } from "../pure/format.js";
import { Chips } from "../parts/chips.js";
import { Loading, ErrorMessage } from "../parts/errors.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { FilterBar } from "../parts/filter_bar.js";
import { EmptyList } from "../parts/empty_list.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";
import { Time } from "../parts/time.js";
import { icons } from "../parts/icons.js";

function columns(kept) {
  return [
    {
      name: "name", title: "Session",
      of: (row) => html`<a class="row-link mono" dir="auto" href=${address("sessions", row.session_id, kept)}>${row.session_id}</a>
        <span class="under"><bdi>${row.service ?? "unknown service"}</bdi>
        ${row.errors > 0 && html`<span class="failed">${icons.error()}${count(row.errors, "error")}</span>`}</span>`,
    },
    { name: "feedback", title: "About the session", of: (row) => html`<${Chips} leaves=${row.feedback} />` },
    {
      name: "traces", title: "Traces with feedback", className: "number",
      of: (row) => html`${number(row.traces_with_feedback)} <span class="note">of ${number(row.traces)}</span>
        ${row.feedback_leaves > 0 && html`<span class="under">${count(row.feedback_leaves, "value")} of feedback</span>`}`,
    },
    { name: "spans", title: "Spans", className: "number", of: (row) => number(row.spans) },
    { name: "when", title: "Last activity", className: "number", of: (row) => html`<${Time} at=${row.last ?? row.start} />` },
  ];
}

export function Sessions({ route }) {
  const { params } = route;
  const query = narrowed(params, { limit: ROWS, cursor: params.get("cursor") });
  const { data, error, isStale } = useAnswer(endpoint("sessions", query));
  return html`
    <${Heading} title="Sessions" note=${data && !error ? count(data.total, "session") : " "} />
    <${FilterBar} route=${route} end=${html`<${Export} query=${query} views=${[["sessions", "Sessions"], ["dataset", "Data set"]]} />`} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !data.rows.length && html`<${EmptyList} what="sessions" route=${route}>
      <p>A session starts with a span that has the field <code>session.id</code>. Its child spans inherit it.</p><//>`}
    ${data && data.rows.length > 0 && html`
      <${Rows} label="Sessions" columns=${columns(only(params, SHARED))} rows=${data.rows} keyOf=${(row) => row.session_id} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
