// What is stored, and how much storage it takes.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address } from "../state/route.js";
import { bytes, count, number } from "../pure/format.js";
import { Forwarding } from "../parts/forwarding.js";
import { Heading } from "../parts/heading.js";
import { Loading, ErrorMessage } from "../parts/errors.js";
import { Time } from "../parts/time.js";

function Figure({ name, value, note }) {
  return html`<div class="card big"><dt>${name}</dt><dd><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}</dd></div>`;
}

/** A size in short form, with all its digits as its tooltip. */
function Bytes({ of, isStrong = false }) {
  const Tag = isStrong ? "strong" : "span";
  return html`<${Tag} class="figure" title=${count(of, "byte")}>${bytes(of)}</${Tag}>`;
}

function FileStorage({ data }) {
  const share = data.keep_bytes ? Math.min(1, data.used_bytes / data.keep_bytes) : undefined;
  return html`
    <p><${Bytes} of=${data.used_bytes} isStrong /> used${data.keep_bytes ? html` of <${Bytes} of=${data.keep_bytes} />` : ""}, in a file of <${Bytes} of=${data.file_bytes} />.</p>
    ${share !== undefined && html`<progress max="1" value=${share} aria-label="Used">${Math.round(share * 100)} %</progress>`}
    <p class="hint">${data.keep_days ? html`Traces without activity for ${count(data.keep_days, "day")} are deleted.` : html`Kept forever (<code>--keep-days</code> limits it).`}
    ${" "}${data.keep_bytes ? "Above the size limit the oldest traces are deleted, those with feedback last." : html`No size limit (<code>--keep-bytes</code> sets one).`}</p>`;
}

export function Status() {
  const { data, error } = useAnswer(endpoint("status"));
  if (error) return html`<${Heading} title="Status" /><${ErrorMessage} error=${error} />`;
  if (!data) return html`<${Heading} title="Status" note=" " /><${Loading} rows=${4} />`;
  const unmatched = data.waiting + data.adrift;
  const isFile = data.store === "sqlite";
  return html`
    <${Heading} title="Status" note=${`feedback-desk ${data.version}, ${isFile ? `schema ${data.schema}` : "on ClickHouse"}`} />
    <dl class="figures">
      <${Figure} name="Traces" value=${number(data.traces)} />
      <${Figure} name="Spans" value=${number(data.spans)} />
      <${Figure} name="Spans with feedback or scores" value=${number(data.documents)} />
      <${Figure} name="Unmatched feedback" value=${number(unmatched)} note=${unmatched ? html`<a href=${address("waiting")}>show unmatched feedback</a>` : "all feedback has a target"} />
    </dl>
    <section class="card">
      <h2>Storage</h2>
      ${isFile ? html`<${FileStorage} data=${data} />` : html`<p><${Bytes} of=${data.used_bytes} isStrong /> used in ClickHouse by the spans and the desk's own tables. ClickHouse decides how long they are kept (TTL).</p>`}
    </section>
    <section class="card">
      <h2>Received</h2>
      <dl class="leaves">
        ${data.demo && html`<div><dt>Demo</dt><dd><p>Includes generated data (<code>feedback-desk --demo</code>), whose resources have <code>demo = true</code>.</p></dd></div>`}
        <div><dt>First trace</dt><dd><${Time} at=${data.first} /></dd></div>
        <div><dt>Latest trace</dt><dd><${Time} at=${data.last} /></dd></div>
        <div><dt>Services</dt><dd class="chips">${data.services.length ? data.services.map((name) => html`<a class="chip" dir="auto" key=${name} href=${address("traces", undefined, { service: name })}>${name}</a>`) : html`<span class="none">none</span>`}</dd></div>
      </dl>
    </section>
    <${Forwarding} />`;
}
