// Saved charts together. A link carries them to another browser: `/charts?board=[…]`.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { address, changed, go, only, SHARED } from "../state/route.js";
import { read, store, useSaved } from "../state/saved.js";
import { fieldOptions } from "../state/fields.js";
import { count } from "../pure/format.js";
import { Chart, chartQuery } from "../parts/chart.js";
import { Combobox } from "../parts/combobox.js";
import { Empty, Loading, Problem } from "../parts/trouble.js";
import { Heading } from "../parts/heading.js";
import { icons } from "../parts/icons.js";

/** So many charts are proposed where none is saved. */
const PROPOSED = 6;
const saidFields = (search) => fieldOptions(search, { isSaid: true, limit: 200 });
/** Everybody has these, and nobody wants to count them. */
const isTelling = ({ field, type, source }) =>
  source === "said" && (type === "bool" || type === "number") && /^(feedback|metrics)\./.test(field) && !/\.\d+(\.|$)/.test(field);

function Tile({ chart, onRemove, onMove, place, many }) {
  const params = new URLSearchParams(chart.query);
  const { data, error } = useAnswer(endpoint("chart", chartQuery(params)), chart.query);
  return html`<article class="card tile">
    <header><h2><a href=${`/charts?${chart.query}`}>${chart.title}</a></h2>
      ${onRemove && html`<span class="tile-end">
        ${place > 0 && html`<button class="bare" aria-label=${`Move ${chart.title} forward`} onClick=${() => onMove(-1)}>${icons.left()}</button>`}
        ${place < many - 1 && html`<button class="bare" aria-label=${`Move ${chart.title} back`} onClick=${() => onMove(1)}>${icons.right()}</button>`}
        <button class="bare" aria-label=${`Remove ${chart.title}`} onClick=${onRemove}>${icons.close()}</button></span>`}
    </header>
    ${error ? html`<${Problem} error=${error} />` : !data ? html`<${Loading} rows=${4} />` : html`<${Chart} params=${params} data=${data} height=${170} isSmall />
      <p class="note">${data.values ? count(data.values, "value") : "No values in this time."}</p>`}
  </article>`;
}

function Carry({ charts }) {
  const [text, setText] = useState("");
  const [said, setSaid] = useState("");
  const link = new URL(address("charts", undefined, { board: JSON.stringify(charts) }), location.href).href;
  const copy = async (what, name) => {
    try {
      await navigator.clipboard.writeText(what);
      setSaid(`${name} copied`);
    } catch {
      setSaid("The browser did not let it be copied");
    }
  };
  const take = () => {
    const found = read(text);
    if (!found) return setSaid("That is no dashboard: it should be a JSON list of charts with a title and a query");
    store([...charts, ...found]);
    setText("");
    setSaid(`${count(found.length, "chart")} added`);
  };
  return html`<details class="card part carry"><summary>Take the dashboard elsewhere</summary>
    <p class="hint">Saved charts are kept by this browser. A link or a text takes them to another one.</p>
    <div class="actions"><button disabled=${!charts.length} onClick=${() => copy(link, "Link")}>Copy as a link</button>
      <button disabled=${!charts.length} onClick=${() => copy(JSON.stringify(charts, null, 2), "JSON")}>Copy as JSON</button></div>
    <label class="field grow"><span>Add charts from JSON</span><textarea rows="4" value=${text} spellcheck=${false} onInput=${(event) => setText(event.target.value)}></textarea></label>
    <div class="actions"><button disabled=${!text.trim()} onClick=${take}>Add</button><span role="status" class="note">${said}</span></div>
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

  const proposed = (data?.rows ?? []).filter(isTelling).slice(0, PROPOSED)
    .map(({ field }) => ({ title: field, query: changed(kept, { field }).toString() }));
  const charts = shared ?? (saved.length ? saved : proposed);
  const isSaved = !shared && saved.length > 0;
  const move = (from, by) => {
    const next = [...saved];
    next.splice(from + by, 0, ...next.splice(from, 1));
    store(next);
  };
  const note = shared ? "a dashboard that came with a link" : isSaved ? count(saved.length, "saved chart") : "what people say most; save a chart to make a dashboard of your own";
  return html`
    <${Heading} title="Charts" note=${note}>
      ${shared && html`<button class="primary" onClick=${() => { store([...saved, ...shared]); go("/charts"); }}>Save to this browser</button>`}
    <//>
    <div class="bar chart-bar"><${Combobox} label="Chart a field" placeholder="Search, as in rating or edits.0.value" load=${saidFields} onPick=${({ value }) => open(value)} /></div>
    ${board && !shared && html`<${Problem} error=${{ status: 400, message: "The link holds no dashboard." }} />`}
    ${error && html`<${Problem} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !charts.length && html`<${Empty} title="Nothing to chart yet"><p>Every field of feedback becomes a chart, once somebody has said something:</p>
      <pre><code>enrich_span!(feedback = { "rating": true });</code></pre><//>`}
    <div class="tiles">${charts.map((chart, at) => html`<${Tile} key=${`${at} ${chart.query}`} chart=${chart} place=${at} many=${charts.length}
      onRemove=${isSaved ? () => store(saved.filter((_, each) => each !== at)) : undefined} onMove=${(by) => move(at, by)} />`)}</div>
    ${data && html`<${Carry} charts=${shared ?? saved} />`}
  `;
}
