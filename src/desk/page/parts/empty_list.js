// An empty list: either nothing was received yet, or nothing matches the filter.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address, SHARED } from "../state/route.js";
import { Empty } from "./errors.js";

const FILTERS = [...SHARED, "field", "search"];

/** The ports that OpenTelemetry's exporters send to by default. */
const USUAL = { grpc: 4317, http: 4318 };

/** Where services send their spans, by the ports of this desk. */
function HowToSend() {
  const { data } = useAnswer(endpoint("status"));
  if (!data) return null;
  const { grpc_port: grpc, http_port: http } = data;
  if (!grpc) return html`<p>This desk reads what the OpenTelemetry Collector writes to ClickHouse.</p>`;
  const host = location.hostname === "127.0.0.1" ? "localhost" : location.hostname;
  const isUsual = grpc === USUAL.grpc && http === USUAL.http;
  return html`<p>Send spans to this desk.${isUsual ? " Services with the OpenTelemetry defaults on this machine already do. Otherwise set:" : " Set for your service:"}</p>
    <pre><code>OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:${grpc}</code></pre>
    <p class="hint">This is OTLP over gRPC. Over HTTP it is <code>http://${host}:${http}</code>, with <code>OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf</code>.</p>`;
}

export function EmptyList({ what, route: { view, params }, children }) {
  if (FILTERS.some((name) => params.get(name))) {
    return html`<${Empty} title=${`No matching ${what}`}>
      <p>Nothing matches the filter, the service and the time range.</p>
      <p><a class="button" href=${address(view)}>Show all</a></p>
    <//>`;
  }
  return html`<${Empty} title=${`No ${what} yet`}>
    ${children ?? html`<${HowToSend} />`}
    <p class="hint">New spans appear here by themselves.</p>
  <//>`;
}
