// One trace: feedback about its session and about the whole trace, its spans, and one span in detail.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address, changed, go, only } from "../state/route.js";
import { LIST, useNeighbours } from "../state/neighbours.js";
import { count, duration, number } from "../pure/format.js";
import { both, conditionText } from "../pure/filter.js";
import { flow } from "../pure/leaves.js";
import { Document } from "../parts/document.js";
import { Empty, Loading, ErrorMessage } from "../parts/errors.js";
import { Heading } from "../parts/heading.js";
import { Narrowed } from "../parts/narrowed.js";
import { Span } from "../parts/span.js";
import { Time } from "../parts/time.js";
import { Tree } from "../parts/tree.js";
import { icons } from "../parts/icons.js";

/** The first span with feedback, else with metrics, else the root. */
function firstOf(spans) {
  return spans.find(({ document }) => document?.namespaces.feedback?.length)
    ?? spans.find(({ document }) => document?.namespaces.metrics?.length) ?? spans[0];
}

/** The keys J and K, except in text fields. */
function useKeys(newer, older) {
  const latest = useRef();
  latest.current = { k: newer, j: older };
  useEffect(() => {
    const listener = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, [contenteditable]")) return;
      const url = latest.current[event.key];
      if (url) go(url);
    };
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, []);
}

function Neighbours({ id, params }) {
  const kept = only(params, LIST);
  const { newer, older, position, total } = useNeighbours(id, params);
  const to = (other) => other && address("traces", other, kept);
  useKeys(to(newer), to(older));
  const link = (other, rel, content, title) => other
    ? html`<a class="button" rel=${rel} href=${to(other)} title=${title}>${content}</a>`
    : html`<span class="button off" role="link" aria-disabled="true">${content}</span>`;
  return html`<nav class="neighbours" aria-label="Traces of the list">
    <span class="note">${position ? `${number(position)} of ${number(total)}` : position === null ? "not in this list" : " "}</span>
    ${link(newer, "prev", html`${icons.left()}Prev (K)`, "Previous trace in the list, which is newer")}
    ${link(older, "next", html`Next (J)${icons.right()}`, "Next trace in the list, which is older")}
  </nav>`;
}

/** The filter of the list, with the field of a chart's bucket. */
function listed(kept) {
  if (!kept.has("field")) return kept;
  return changed(kept, { filter: both(kept.get("filter"), conditionText({ has: "field", field: kept.get("field"), negated: false })) });
}

/** Feedback about a span that was not received. */
function UnmatchedSpan({ span_id, document }) {
  return html`<section class="card about-waiting">
    <header><h2>About span <span class="mono">${span_id}</span></h2>
      <p class="hint">This span was not received: it was lost, not sampled, or is still on its way.</p></header>
    <${Document} document=${document} /></section>`;
}

/** What the carriers in a trace are about, if the trace has nothing else. */
function CarrierTarget({ span }) {
  const [link] = span.links;
  const session = span.attributes["session.id"];
  if (span.attributes["tracing_feedback.scope"] === "session" && session !== undefined) {
    return html`<span>It carries feedback about the session <a class="mono" dir="auto" href=${address("sessions", session)}>${session}</a>.</span>`;
  }
  return span.links.length === 1
    ? html`<span>It carries feedback about the trace <a class="mono" href=${address("traces", link.trace_id, { span: link.span_id })}>${link.trace_id}</a>.</span>`
    : html`<span>It carries feedback that does not say what it is about.</span>`;
}

/** A trace. Of a long one with the span that the address names, which is asked for where it isn't among the first. */
function useTrace(id, span) {
  const path = `traces/${encodeURIComponent(id)}`;
  const first = useAnswer(endpoint(path), id);
  const isMissing = span && first.data?.truncated && !first.data.spans.some(({ span_id }) => span_id === span);
  const more = useAnswer(isMissing ? endpoint(path, { span }) : undefined, id);
  return isMissing && (more.data || more.error) ? more : first;
}

export function Trace({ route: { id, params } }) {
  const { data, error } = useTrace(id, params.get("span"));
  const kept = only(params, LIST);
  const details = useRef();
  const crumbs = html`<div class="crumbs-line"><nav class="crumbs" aria-label="Breadcrumb"><a href=${address("traces", undefined, kept)}>Traces</a><${Narrowed} params=${listed(kept)} before="list of: " />
    ${data?.session_id && html`<a href=${address("sessions", data.session_id)}>Session <span class="mono" dir="auto">${data.session_id}</span></a>`}</nav>
    <${Neighbours} id=${id} params=${params} /></div>`;

  if (error) {
    return html`${crumbs}<${Heading} title="Trace" note=${html`<span class="mono">${id}</span>`} />${error.status === 404
      ? html`<${Empty} title="Trace not found"><p>It was not received yet, or was deleted by the retention limit.</p><//>`
      : html`<${ErrorMessage} error=${error} />`}`;
  }
  if (!data) return html`${crumbs}<${Heading} title="Trace" note=" " /><${Loading} />`;

  const hasCarriers = params.get("carriers") === "1";
  const carriers = data.spans.filter(({ carrier }) => carrier).length;
  const spans = hasCarriers ? data.spans : data.spans.filter(({ carrier }) => !carrier);
  const shown = spans.length ? spans : data.spans;
  const selected = shown.find(({ span_id }) => span_id === params.get("span")) ?? firstOf(shown);
  const root = shown.find(({ carrier }) => !carrier) ?? shown[0];
  const select = (span) => {
    go(address("traces", id, changed(params, { span })), { replace: true });
    requestAnimationFrame(() => {
      const place = details.current?.getBoundingClientRect();
      if (place && (place.top < 0 || place.top > innerHeight - 120)) details.current.scrollIntoView({ block: place.top < 0 ? "start" : "center" });
    });
  };
  const version = root?.resource["service.version"];
  const isReceived = data.start !== null;
  const isOfCarriers = !isReceived && !data.document && !data.waiting.length && selected?.trace_id === id;
  return html`
    ${crumbs}
    ${isReceived ? html`<${Heading} title=${root?.name || "unnamed"} note=${html`<span class="parts"><span dir="auto">${root?.service ?? "unknown service"}${version ? ` ${version}` : ""}</span>
      <${Time} at=${data.start} /><span title=${`${data.duration_ms} ms`}>${duration(data.duration_ms)}</span><span>${count(data.spans.length - carriers, "span")}</span>
      <span class="mono">${id}</span></span>`} />`
      : isOfCarriers ? html`<${Heading} title="Late feedback" note=${html`<span class="parts"><${CarrierTarget} span=${selected} /><span class="mono">${id}</span></span>`} />`
      : html`<${Heading} title="Trace not received yet" note=${html`<span class="parts"><span>Only feedback about it was received.</span><span class="mono">${id}</span></span>`} />`}
    ${data.session_document && html`<section class="card about-session">
      <h2>About the session <a class="mono" dir="auto" href=${address("sessions", data.session_id)}>${data.session_id}</a></h2>
      <${Document} document=${data.session_document} /></section>`}
    ${data.document && html`<section class="card about-trace"><h2>About the whole trace</h2>
      <${Document} document=${data.document} output=${flow(data, undefined, "outputs")} /></section>`}
    ${data.waiting.map((each) => html`<${UnmatchedSpan} key=${each.span_id} ...${each} />`)}
    ${data.truncated && html`<p class="hint">Only ${number(data.spans.length)} spans are shown: the first ones, and those with feedback.</p>`}
    ${shown.length > 0 && html`<div class="two">
      <section class="card tree-card" aria-labelledby="spans-title">
        <header><h2 id="spans-title">Spans</h2>
          ${carriers > 0 && spans.length > 0 && html`<label class="check"><input type="checkbox" checked=${hasCarriers}
            onChange=${(event) => go(address("traces", id, changed(params, { carriers: event.target.checked ? "1" : undefined })), { replace: true })} />
            Show ${count(carriers, "carrier")}</label>`}
        </header>
        <${Tree} trace=${data} spans=${shown} selected=${selected.span_id} onSelect=${select} />
      </section>
      <div class="details" ref=${details}><${Span} key=${selected.span_id} trace=${data} span=${selected} /></div>
    </div>`}`;
}
