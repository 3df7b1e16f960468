// An empty list: either nothing was received yet, or nothing matches the filter.

import { html } from "../vendor/htm-preact.js";
import { address, SHARED } from "../state/route.js";
import { Empty } from "./errors.js";

const FILTERS = [...SHARED, "field", "search"];

export function EmptyList({ what, route: { view, params }, children }) {
  if (FILTERS.some((name) => params.get(name))) {
    return html`<${Empty} title=${`No matching ${what}`}>
      <p>Nothing matches the filter, the service and the time range.</p>
      <p><a class="button" href=${address(view)}>Show all</a></p>
    <//>`;
  }
  return html`<${Empty} title=${`No ${what} yet`}>
    ${children ?? html`<p>Send spans to this desk. Services with the OpenTelemetry defaults on this machine already do. Otherwise set:</p>
      <pre><code>OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317</code></pre>`}
    <p class="hint">New spans appear here by themselves.</p>
  <//>`;
}
