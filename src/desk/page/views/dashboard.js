// The dashboard: saved charts. A link shares them with another browser: `/charts?board=[…]`.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address, changed, go, only, SHARED } from "../state/route.js";
import { read, store, useSaved } from "../state/saved.js";
import { fieldOptions } from "../state/fields.js";
import { count } from "../pure/format.js";
import { narrowedBy } from "../pure/narrowing.js";
import { Chart, chartQuery } from "../parts/chart.js";
import { Combobox } from "../parts/combobox.js";
import { Empty, Loading, ErrorMessage } from "../parts/errors.js";
import { FilterBar } from "../parts/filter_bar.js";
import { Heading } from "../parts/heading.js";
import { Narrowed } from "../parts/narrowed.js";
import { icons } from "../parts/icons.js";

/** The number of charts that are proposed while none is saved. */
const PROPOSED = 6;
const feedbackFields = (search) => fieldOptions(search, { isFeedback: true, limit: 200 });
/** Proposed are boolean and numeric fields of feedback and metrics that are not items of a list. */
const isProposed = ({ field, type, source }) =>
  source === "said" && (type === "bool" || type === "number") && /^(feedback|metrics)\./.test(field) && !/\.\d+(\.|$)/.test(field);

function Tile({ chart, shared, onRemove, onMove, place, many }) {
  const own = new URLSearchParams(chart.query);
  const params = narrowedBy(own, shared);
  const { data, error } = useAnswer(endpoint("chart", chartQuery(params)), chart.query);
  return html`<article class="card tile">
    <header><h2><a dir="auto" href=${address("charts", undefined, params)}>${chart.title}</a></h2>
      ${onRemove && html`<span class="tile-end">
        ${place > 0 && html`<button class="bare" aria-label=${`Move ${chart.title} forward`} onClick=${() => onMove(-1)}>${icons.left()}</button>`}
        ${place < many - 1 && html`<button class="bare" aria-label=${`Move ${chart.title} back`} onClick=${() => onMove(1)}>${icons.right()}</button>`}
        <button class="bare" aria-label=${`Remove ${chart.title}`} onClick=${onRemove}>${icons.close()}</button></span>`}
    </header>
    <${Narrowed} params=${params} />
    ${error ? html`<${ErrorMessage} error=${error} />` : !data ? html`<${Loading} rows=${4} />` : html`<${Chart} params=${params} data=${data} height=${170} isSmall />
      <p class="note">${data.values ? count(data.values, "value") : "No values in this time range."}</p>`}
  </article>`;
}

function Share({ charts }) {
  const [text, setText] = useState("");
  const [notice, setNotice] = useState("");
  const link = new URL(address("charts", undefined, { board: JSON.stringify(charts) }), location.href).href;
  const copy = async (what, name) => {
    try {
      await navigator.clipboard.writeText(what);
      setNotice(`${name} copied`);
    } catch {
      setNotice("The browser blocked the clipboard");
    }
  };
  const add = () => {
    const found = read(text);
    if (!found) return setNotice("Not a dashboard: expected a JSON list of charts, each with a title and a query");
    store([...charts, ...found]);
    setText("");
    setNotice(`${count(found.length, "chart")} added`);
  };
  return html`<details class="card part share"><summary>Share or import this dashboard</summary>
    <p class="hint">Saved charts are stored in this browser. Share them by link or as JSON.</p>
    <div class="actions"><button disabled=${!charts.length} onClick=${() => copy(link, "Link")}>Copy link</button>
      <button disabled=${!charts.length} onClick=${() => copy(JSON.stringify(charts, null, 2), "JSON")}>Copy JSON</button></div>
    <label class="field grow"><span>Add charts from JSON</span><textarea rows="4" value=${text} spellcheck=${false} onInput=${(event) => setText(event.target.value)}></textarea></label>
    <div class="actions"><button disabled=${!text.trim()} onClick=${add}>Add</button><span role="status" class="note">${notice}</span></div>
  </details>`;
}

export function Dashboard({ route }) {
  const { params } = route;
  const saved = useSaved();
  const board = params.get("board");
  const shared = board ? read(board) : undefined;
  const { data, error } = useAnswer(endpoint("fields", { limit: 200 }));
  const kept = only(params, SHARED);
  const open = (field) => go(address("charts", undefined, changed(kept, { field })));

  const proposed = (data?.rows ?? []).filter(isProposed).slice(0, PROPOSED)
    .map(({ field }) => ({ title: field, query: new URLSearchParams({ field }).toString() }));
  const charts = shared ?? (saved.length ? saved : proposed);
  const isSaved = !shared && saved.length > 0;
  const move = (from, by) => {
    const next = [...saved];
    next.splice(from + by, 0, ...next.splice(from, 1));
    store(next);
  };
  const note = shared ? "a shared dashboard" : isSaved ? count(saved.length, "saved chart") : "The most used fields. Save charts to build your own dashboard.";
  return html`
    <${Heading} title="Charts" note=${note}>
      ${shared && html`<button class="primary" onClick=${() => { store([...saved, ...shared]); go(address("charts", undefined, kept)); }}>Save to this browser</button>`}
    <//>
    <div class="bar chart-bar"><${Combobox} label="Chart a field" placeholder="Search fields, e.g. rating" load=${feedbackFields} onPick=${({ value }) => open(value)} /></div>
    <${FilterBar} route=${route} />
    ${board && !shared && html`<${ErrorMessage} error=${{ status: 400, message: "This link contains no dashboard." }} />`}
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !charts.length && html`<${Empty} title="Nothing to chart yet"><p>Every field of feedback can be charted as soon as there is a value:</p>
      <pre><code>enrich_span!(feedback = { "rating": true });</code></pre><//>`}
    <div class="tiles">${charts.map((chart, at) => html`<${Tile} key=${`${at} ${chart.query}`} chart=${chart} shared=${kept} place=${at} many=${charts.length}
      onRemove=${isSaved ? () => store(saved.filter((_, each) => each !== at)) : undefined} onMove=${(by) => move(at, by)} />`)}</div>
    ${data && html`<${Share} charts=${shared ?? saved} />`}
  `;
}
