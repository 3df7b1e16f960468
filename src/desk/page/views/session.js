// One session: feedback about the whole conversation, and its traces.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address, only, SHARED } from "../state/route.js";
import { count, moment } from "../pure/format.js";
import { Document } from "../parts/document.js";
import { Empty, Loading, ErrorMessage } from "../parts/errors.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { Narrowed } from "../parts/narrowed.js";
import { Rows } from "../parts/rows.js";
import { conditionText } from "../pure/filter.js";
import { traceColumns } from "./traces.js";

export function Session({ route: { id, params } }) {
  const { data, error } = useAnswer(endpoint(`sessions/${encodeURIComponent(id)}`), id);
  const filter = conditionText({ field: "session.id", operator: "is", value: id, quoted: true });
  if (error) {
    return error.status === 404
      ? html`<${Heading} title=${id} /><${Empty} title="Session not found">
          <p>It may have been deleted by the retention limit.</p><p><a class="button" href=${address("sessions")}>All sessions</a></p><//>`
      : html`<${Heading} title=${id} /><${ErrorMessage} error=${error} />`;
  }
  return html`
    <nav class="crumbs" aria-label="Breadcrumb"><a href=${address("sessions", undefined, only(params, SHARED))}>Sessions</a><${Narrowed} params=${params} before="list of: " /></nav>
    <${Heading} title=${html`<span class="mono" dir="auto">${id}</span>`}
      note=${data ? `${data.service ?? "unknown service"} · ${count(data.traces, "trace")} · ${moment(data.start)} to ${moment(data.last)}` : " "}>
      <${Export} query=${{ filter }} views=${[["traces", "Traces"], ["dataset", "Data set"]]} />
    <//>
    ${!data && html`<${Loading} />`}
    ${data && html`
      <section class="card">
        <h2>About the whole conversation</h2>
        ${data.document ? html`<${Document} document=${data.document} />` : html`<p class="hint">No feedback about the whole conversation.</p>`}
      </section>
      <h2 class="above-table">All traces of the session, oldest first</h2>
      ${data.list.length < data.traces && html`<p class="hint">The first ${data.list.length} of ${data.traces}.</p>`}
      <${Rows} label="Traces of the session" columns=${traceColumns({ filter })} rows=${data.list} keyOf=${(row) => row.trace_id} />`}
  `;
}
