// One span in detail.

import { html } from "../vendor/htm-preact.js";
import { address } from "../state/route.js";
import { count, duration } from "../pure/format.js";
import { answering } from "../pure/conversation.js";
import { flow, groundTruth } from "../pure/leaves.js";
import { Attributes } from "./attributes.js";
import { Conversation } from "./conversation.js";
import { Document } from "./document.js";
import { Text } from "./text.js";
import { icons } from "./icons.js";

const FLOWS = [["inputs", "Input"], ["outputs", "Output"]];

function Part({ title, many, isOpen, children }) {
  return html`<details class="part" open=${isOpen}><summary>${title}${many !== undefined && html` <span class="note">${many}</span>`}</summary>${children}</details>`;
}

export function Span({ trace, span }) {
  const { document: own } = span;
  const size = (object) => Object.keys(object).length;
  const output = flow(trace, span, "outputs");
  const after = span.start - (trace.start ?? span.start);
  const started = after > 0.0005 ? `${duration(after)} after start` : "at start";
  const hasTruth = groundTruth(own) !== undefined;
  // Feedback about a request is about what the model below it has answered.
  const from = span.answer ? span : own?.namespaces.feedback?.length ? answering(trace, span) : undefined;
  const answer = from?.answer;
  const isSaid = (namespace) => (own?.namespaces[namespace]?.length ?? 0) > 0;
  const flows = FLOWS.filter(([namespace]) => isSaid(namespace));
  return html`<section class="card span-card" aria-labelledby="span-name">
    <header>
      <h2 id="span-name" dir="auto">${span.name || "unnamed"}</h2>
      <p class="note">${span.kind} · <span title=${`${span.duration_ms} ms`}>${duration(span.duration_ms)}</span> · ${started} · <span class="mono">${span.span_id}</span></p>
      ${span.status === "error" && html`<p class="failed">${icons.error()}<span><${Text} text=${span.status_message || "Failed without a message"} /></span></p>`}
    </header>
    ${own && html`<${Document} document=${own} output=${output} namespaces=${["feedback", "metrics"]} />`}
    ${flows.map(([namespace, title]) => !(hasTruth && namespace === "outputs") && html`<section class="flow" key=${namespace}>
      <h3>${title}</h3><p><${Text} text=${flow(trace, span, namespace)} /></p></section>`)}
    ${from && from !== span && html`<p class="note">Answered in <a href=${address("traces", from.trace_id, { span: from.span_id })} dir="auto">${from.name || "unnamed"}</a></p>`}
    ${answer && html`<${Conversation} answer=${answer} hasInput=${!isSaid("inputs")} hasOutput=${!isSaid("outputs") && !hasTruth} />`}
    ${own && ["metadata", "user_properties", "config"].some((name) => own.namespaces[name]?.length) && html`<${Part} title="Context" isOpen>
      <${Document} document=${{ namespaces: own.namespaces, history: [] }} namespaces=${["metadata", "user_properties", "config"]} /><//>`}
    <${Part} title="Attributes" many=${size(span.attributes)} isOpen=${!own && !span.answer && size(span.attributes) > 0}>
      ${size(span.attributes) ? html`<${Attributes} attributes=${span.attributes} />` : html`<p class="hint">None</p>`}<//>
    ${span.events.length > 0 && html`<${Part} title="Events" many=${span.events.length} isOpen>
      <ol class="events">${span.events.map((event, at) => html`<li key=${at}>
        <p><strong dir="auto">${event.name}</strong> <span class="note">${duration(event.time - span.start)} after start</span></p>
        <${Attributes} attributes=${event.attributes} />
      </li>`)}</ol><//>`}
    ${span.links.length > 0 && html`<${Part} title="Links" many=${count(span.links.length, "link")}>
      <ul class="links">${span.links.map((link, at) => html`<li key=${at}>
        <a class="mono" href=${address("traces", link.trace_id, { span: link.span_id })}>${link.trace_id} / ${link.span_id}</a>
        <${Attributes} attributes=${link.attributes} />
      </li>`)}</ul><//>`}
    <${Part} title="Resource" many=${size(span.resource)}><${Attributes} attributes=${span.resource} />
      ${span.scope && html`<p class="hint">Recorded by <bdi>${span.scope}</bdi></p>`}<//>
  </section>`;
}
