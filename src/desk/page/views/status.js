// What the desk keeps, and how much room it takes.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address } from "../state/route.js";
import { bytes, count, number } from "../pure/format.js";
import { Heading } from "../parts/heading.js";
import { Loading, Problem } from "../parts/trouble.js";
import { Time } from "../parts/time.js";

function Figure({ name, value, note }) {
  return html`<div class="card big"><dt>${name}</dt><dd><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}</dd></div>`;
}

function RoomInFile({ data }) {
  const share = data.keep_bytes ? Math.min(1, data.used_bytes / data.keep_bytes) : undefined;
  return html`
    <p><strong class="figure">${bytes(data.used_bytes)}</strong> used${data.keep_bytes ? html` of ${bytes(data.keep_bytes)}` : ""}, in a file of ${bytes(data.file_bytes)}.</p>
    ${share !== undefined && html`<progress max="1" value=${share} aria-label="Used">${Math.round(share * 100)} %</progress>`}
    <p class="hint">${data.keep_days ? `Traces of which nothing was heard for ${count(data.keep_days, "day")} are forgotten.` : "Nothing is forgotten by age: --keep-days sets a limit."}
    ${" "}${data.keep_bytes ? "When the file grows beyond its limit, the oldest traces are forgotten, those with feedback last." : "Nothing is forgotten by size: --keep-bytes sets a limit."}</p>`;
}

export function Status() {
  const { data, error } = useAnswer(endpoint("status"));
  if (error) return html`<${Heading} title="Status" /><${Problem} error=${error} />`;
  if (!data) return html`<${Heading} title="Status" note=" " /><${Loading} rows=${4} />`;
  const waiting = data.waiting + data.adrift;
  const isFile = data.store === "sqlite";
  return html`
    <${Heading} title="Status" note=${`feedback-desk ${data.version}, ${isFile ? `schema ${data.schema}` : "on ClickHouse"}`} />
    <dl class="figures">
      <${Figure} name="Traces" value=${number(data.traces)} />
      <${Figure} name="Spans" value=${number(data.spans)} />
      <${Figure} name="Said something" value=${number(data.documents)} note="spans that say something" />
      <${Figure} name="Waiting" value=${number(waiting)} note=${waiting ? html`<a href="/waiting">what never found its target</a>` : "all feedback has found its target"} />
    </dl>
    <section class="card">
      <h2>Room</h2>
      ${isFile ? html`<${RoomInFile} data=${data} />` : html`<p><strong class="figure">${bytes(data.used_bytes)}</strong> used in ClickHouse, by the spans and the desk's own tables. How long it keeps them is its own affair.</p>`}
    </section>
    <section class="card">
      <h2>What came</h2>
      <dl class="leaves">
        ${data.demo && html`<div><dt>Demo</dt><dd><p>Some of it is made up, as by <code>feedback-desk --demo</code>: its resources say <code>demo = true</code>.</p></dd></div>`}
        <div><dt>First trace</dt><dd><${Time} at=${data.first} /></dd></div>
        <div><dt>Latest trace</dt><dd><${Time} at=${data.last} /></dd></div>
        <div><dt>Services</dt><dd class="chips">${data.services.length ? data.services.map((name) => html`<a class="chip" key=${name} href=${address("traces", undefined, { service: name })}>${name}</a>`) : html`<span class="none">none</span>`}</dd></div>
      </dl>
    </section>`;
}
