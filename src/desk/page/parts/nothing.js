// An empty list: because nothing has come yet, or because of what it is narrowed to.

import { html } from "../vendor/htm-preact.js";
import { address, SHARED } from "../state/route.js";
import { Empty } from "./trouble.js";

const NARROWS = [...SHARED, "field", "search"];

export function NothingYet({ what, route: { view, params }, children }) {
  if (NARROWS.some((name) => params.get(name))) {
    return html`<${Empty} title=${`No ${what} here`}>
      <p>Nothing fits the filter, the service and the time that are chosen.</p>
      <p><a class="button" href=${address(view)}>Show everything</a></p>
    <//>`;
  }
  return html`<${Empty} title=${`No ${what} yet`}>
    ${children ?? html`<p>Send spans to this desk. A service that uses the OpenTelemetry defaults does it without being told; otherwise:</p>
      <pre><code>OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317</code></pre>`}
    <p class="hint">This page shows what arrives as it arrives.</p>
  <//>`;
}
