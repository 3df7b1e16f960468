// What other backends were told, on the status view. Looks again every few seconds: it changes without new data.

import { html, useCallback, useEffect, useState } from "../vendor/htm-preact.js";
import { ask, endpoint } from "../state/api.js";
import { address } from "../state/route.js";
import { count } from "../pure/format.js";
import { Rows } from "./rows.js";
import { Time } from "./time.js";

const PAUSE = 3_000; // ms

const COLUMNS = [
  { name: "state", title: "State", of: (row) => (row.is_refused ? "Refused" : "Waiting") },
  {
    name: "target", title: "About",
    of: (row) => (row.trace_id
      ? html`<a class="mono" href=${address("traces", row.trace_id)}>${row.trace_id}</a>${row.span_id && html`<span class="under mono">${row.span_id}</span>`}`
      : html`<a dir="auto" href=${address("sessions", row.session_id)}>${row.session_id}</a>`),
  },
  { name: "reason", title: "Reason", of: (row) => row.reason },
  { name: "when", title: "Next attempt", className: "number", of: (row) => (row.next ? html`<${Time} at=${row.next} />` : html`<span class="none">${row.is_refused ? "when it changes" : "now"}</span>`) },
];

function Backend({ backend, onRetry }) {
  const waits = backend.waiting_for_target + backend.waiting_for_backend;
  return html`<section class="card">
    <h2 dir="auto">Forwarding to ${backend.name}</h2>
    ${!backend.is_active && html`<p class="hint">This desk was started without <code>--forward</code> for this backend.</p>`}
    ${backend.reason && html`<div class="problem" role="alert"><strong>Paused since <${Time} at=${backend.failed} /></strong><p>${backend.reason}</p></div>`}
    <dl class="leaves">
      <div><dt>Told</dt><dd>${count(backend.told, "record")}</dd></div>
      <div><dt>Waiting for their span</dt><dd>${count(backend.waiting_for_target, "target")}</dd></div>
      <div><dt>Waiting for the backend</dt><dd>${count(backend.waiting_for_backend, "target")}</dd></div>
      <div><dt>Refused</dt><dd>${count(backend.refused, "record")}</dd></div>
      ${backend.reached && html`<div><dt>Last told</dt><dd><${Time} at=${backend.reached} /></dd></div>`}
    </dl>
    ${backend.is_active && (waits > 0 || backend.refused > 0) && html`<p><button type="button" onClick=${() => onRetry(backend.name)}>Try again now</button></p>`}
    ${backend.listed.length > 0 && html`<${Rows} label=${`Not forwarded to ${backend.name}`} columns=${COLUMNS} rows=${backend.listed} keyOf=${(row) => `${row.is_refused} ${row.target} ${row.reason}`} />`}
  </section>`;
}

export function Forwarding() {
  const [backends, setBackends] = useState([]);
  const look = useCallback((signal) => ask(endpoint("forwarding"), signal).then(
    (data) => setBackends(data.backends),
    () => {}, // the view says that the desk does not answer
  ), []);
  useEffect(() => {
    const controller = new AbortController();
    look(controller.signal);
    const timer = setInterval(() => document.hidden || look(controller.signal), PAUSE);
    return () => {
      clearInterval(timer);
      controller.abort();
    };
  }, [look]);
  const retry = async (backend) => {
    await fetch(endpoint("forwarding/retry", { backend }), { method: "POST" }).catch(() => {});
    look();
  };
  return backends.map((backend) => html`<${Backend} key=${backend.name} backend=${backend} onRetry=${retry} />`);
}
