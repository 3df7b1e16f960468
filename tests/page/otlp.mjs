// Spans as OTLP JSON, built up by what matters, and sent over HTTP.

/** A value as OTLP JSON writes it. */
function any(value) {
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "string") return { stringValue: value };
  if (Number.isSafeInteger(value)) return { intValue: String(value) };
  return { doubleValue: value };
}

/** Flattened as the layer does it: keys and positions joined by dots. */
export function leaves(value, key) {
  if (value === null || value === undefined) return [];
  if (typeof value !== "object") return [[key, value]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, `${key}.${name}`));
}

const attributes = (object) =>
  Object.entries(object).map(([key, value]) => ({ key, value: any(value) }));

const nano = (ms) => String(BigInt(Math.round(ms * 1000)) * 1000n);

export const id = (number, digits) => number.toString(16).padStart(digits, "0");

/**
 * A span. `said` are documents by namespace, as in `{feedback: {rating: true}}`.
 */
export function span({
  name, trace, span: own, parent, start, duration = 1000, service = "chat", version = "1.1",
  session, attributes: more = {}, said = {}, events = [], links = [], error, kind = 1,
  resource = {},
}) {
  const all = { ...more };
  for (const [namespace, value] of Object.entries(said)) {
    Object.assign(all, Object.fromEntries(leaves(value, namespace)));
  }
  if (session) all["session.id"] = session;
  return {
    resource: { "service.name": service, "service.version": version, "deployment.environment.name": "production", ...resource },
    json: {
      traceId: trace, spanId: own, parentSpanId: parent ?? "", name, kind,
      startTimeUnixNano: nano(start),
      endTimeUnixNano: nano(start + duration),
      attributes: attributes(all),
      events: events.map((event) => ({
        name: event.name, timeUnixNano: nano(event.time), attributes: attributes(event.attributes ?? {}),
      })),
      links: links.map((link) => ({ traceId: link.trace, spanId: link.span })),
      status: error === undefined ? {} : { code: 2, message: error },
    },
  };
}

/** Traces of carriers that were made. */
let carriers = 0xc0000000;

/** Feedback that comes after its span has ended: a trace of its own, with a link to its target. */
export function carrier({ about, trace = id(carriers += 1, 32), span: own, time, said, cleared, by, scope, session, ...rest }) {
  const more = {
    "tracing_feedback.late": true,
    "tracing_feedback.time_unix_nano": Number(time) * 1e6,
  };
  if (by) more["user.id"] = by;
  if (scope) more["tracing_feedback.scope"] = scope;
  const built = span({
    name: "feedback", trace, span: own, start: time, session, said, attributes: more,
    links: scope === "session" ? [] : [about], ...rest,
  });
  for (const each of built.json.attributes) {
    if (each.key === "tracing_feedback.time_unix_nano") each.value = { intValue: nano(time) };
  }
  built.json.endTimeUnixNano = String(BigInt(built.json.startTimeUnixNano) + 1n);
  if (cleared) {
    const values = cleared.map((stringValue) => ({ stringValue }));
    built.json.attributes.push({ key: "tracing_feedback.cleared", value: { arrayValue: { values } } });
  }
  return built;
}

function request(spans) {
  const resourceSpans = spans.map(({ resource, json }) => ({
    resource: { attributes: attributes(resource) },
    scopeSpans: [{ scope: { name: "demo" }, spans: [json] }],
  }));
  return JSON.stringify({ resourceSpans });
}

/** Resolves when the desk has them. */
export async function send(endpoint, spans, token) {
  for (let at = 0; at < spans.length; at += 400) {
    const answer = await fetch(`${endpoint}/v1/traces`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
      body: request(spans.slice(at, at + 400)),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }
}
