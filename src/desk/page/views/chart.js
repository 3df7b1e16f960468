// One chart with all its settings.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { ask, endpoint, narrowed } from "../state/api.js";
import { address, changed, go, only, SHARED } from "../state/route.js";
import { load, store } from "../state/saved.js";
import { fieldOptions } from "../state/fields.js";
import { COMPARISONS, comparison, measureName, MEASURES, NAMES, shownMeasures, title } from "../pure/chart.js";
import { isShare } from "../pure/format.js";
import { browserZone } from "../pure/time.js";
import { Chart, chartQuery } from "../parts/chart.js";
import { Combobox } from "../parts/combobox.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { Loading, ErrorMessage, Empty } from "../parts/errors.js";
import { FilterBar } from "../parts/filter_bar.js";
import { ChartTable } from "../parts/chart_table.js";
import { icons } from "../parts/icons.js";

const BUCKETS = [["", "Auto"], ["minute", "Minute"], ["hour", "Hour"], ["day", "Day"], ["week", "Week"], ["month", "Month"]];
const TOPS = [3, 5, 10, 20];

const feedbackFields = (search) => fieldOptions(search, { isFeedback: true, limit: 200 });

function Measures({ data, params, set }) {
  const chosen = shownMeasures(data, params);
  const percentage = chosen.map(comparison).find(Boolean);
  const [draft, setDraft] = useState(percentage ?? { operator: ">=", value: "4" });
  const hasGroups = Boolean(params.get("group"));
  const put = (measures) => set({ measure: measures.join(",") });
  const toggle = (measure) => {
    const own = measure === "percentage" ? `percentage${draft.operator}${draft.value}` : measure;
    const isOn = measure === "percentage" ? Boolean(percentage) : chosen.includes(measure);
    if (hasGroups) put([own]);
    else if (!isOn) put([...chosen, own]);
    else if (chosen.length > 1) put(chosen.filter((each) => (measure === "percentage" ? !comparison(each) : each !== measure)));
  };
  const change = (changes) => {
    const next = { ...draft, ...changes };
    setDraft(next);
    if (next.value.trim() && !Number.isNaN(Number(next.value))) put(chosen.map((each) => (comparison(each) ? `percentage${next.operator}${next.value.trim()}` : each)));
  };
  return html`<fieldset class="pills"><legend>Measure</legend>
    ${(MEASURES[data.type] ?? ["count"]).map((measure) => {
      const isOn = measure === "percentage" ? Boolean(percentage) : chosen.includes(measure);
      return html`<button key=${measure} type="button" aria-pressed=${String(isOn)} onClick=${() => toggle(measure)}>${measure === "percentage" ? NAMES.percentage : measureName(measure, data.field)}</button>`;
    })}
    ${percentage && html`<span class="comparison">
      <label><span class="hidden">Comparison</span><select value=${percentage.operator} onChange=${(event) => change({ operator: event.target.value })}>
        ${COMPARISONS.map((each) => html`<option key=${each} value=${each} selected=${each === percentage.operator}>${each}</option>`)}</select></label>
      <label><span class="hidden">Compared with</span><input inputmode="decimal" size="6" value=${draft.value} onInput=${(event) => change({ value: event.target.value })} /></label>
    </span>`}
  </fieldset>`;
}

function Compare({ params, set }) {
  const { data } = useAnswer(endpoint("values", { ...narrowed(only(params, ["service", "range", "from", "to"])), field: "service.version", limit: 50 }));
  const chosen = params.get("compare") ?? "";
  const canBefore = params.has("range") || (params.has("from") && params.has("to"));
  const versions = (data?.rows ?? []).map(({ value }) => `version:${value}`);
  if (chosen.startsWith("version:") && !versions.includes(chosen)) versions.push(chosen);
  return html`<label class="field"><span>Compare with</span>
    <select value=${chosen} onChange=${(event) => set({ compare: event.target.value })}>
      <option value="" selected=${!chosen}>None</option>
      <option value="previous" selected=${chosen === "previous"} disabled=${!canBefore}>Previous period${canBefore ? "" : " (choose a time range)"}</option>
      ${versions.map((each) => html`<option key=${each} dir="auto" value=${each} selected=${chosen === each}>Version ${each.slice(8)}</option>`)}
    </select></label>`;
}

function Save({ params }) {
  const [isOpen, setOpen] = useState(false);
  const [name, setName] = useState("");
  const [notice, setNotice] = useState("");
  const begin = () => {
    setName(title(params));
    setNotice("");
    setOpen(!isOpen);
  };
  const save = (event) => {
    event.preventDefault();
    store([...load(), { title: name.trim() || title(params), query: params.toString() }]);
    setOpen(false);
    setNotice("Saved");
  };
  return html`<div class="save">
    <span role="status" class="note">${notice && html`${notice}: <a href=${address("charts")}>dashboard</a>`}</span>
    <button aria-expanded=${String(isOpen)} onClick=${begin}>${icons.save()}Save</button>
    ${isOpen && html`<form class="menu save-form" onSubmit=${save} onKeyDown=${(event) => event.key === "Escape" && setOpen(false)}>
      <label class="field"><span>Title</span><input value=${name} onInput=${(event) => setName(event.target.value)} ref=${(input) => input && !input.dataset.seen && ((input.dataset.seen = "1"), input.focus())} /></label>
      <button class="primary">Save to the dashboard</button>
    </form>`}
  </div>`;
}

export function ChartView({ route }) {
  const { params, view } = route;
  const query = chartQuery(params);
  const { data, error, isStale } = useAnswer(endpoint("chart", query), params.get("field"));
  const set = (changes) => go(address(view, undefined, changed(params, changes)));
  const pickField = ({ value }) => set({ field: value, measure: undefined });
  const pickGroup = ({ value }) => {
    const first = data && params.get("measure") ? shownMeasures(data, params)[0] : undefined;
    set({ group: value.trim(), measure: first, ...(value.trim() ? {} : { top: undefined }) });
  };
  const group = params.get("group") ?? "";
  const isTable = params.get("table") === "1";
  return html`
    <nav class="crumbs" aria-label="Breadcrumb"><a href=${address("charts", undefined, only(params, SHARED))}>Charts</a></nav>
    <${Heading} title=${params.get("field")} note=${data ? `per ${data.bucket}, by time of ${params.get("time") === "given" ? "feedback" : "answer"}${data.tz === browserZone() ? "" : `, in ${data.tz}`}` : " "}>
      <${Save} params=${params} />
    <//>
    <div class="bar chart-bar">
      <${Combobox} label="Field" value=${params.get("field")} load=${feedbackFields} onPick=${pickField} />
      <${Combobox} label="Group by" value=${group} placeholder="None" load=${fieldOptions} isFree onPick=${pickGroup} />
      ${group && html`<label class="field"><span>Show</span><select value=${params.get("top") ?? "5"} onChange=${(event) => set({ top: event.target.value === "5" ? undefined : event.target.value })}>
        ${TOPS.map((top) => html`<option key=${top} value=${top} selected=${String(top) === (params.get("top") ?? "5")}>top ${top}, and other</option>`)}</select></label>`}
      <label class="field"><span>Interval</span><select value=${params.get("bucket") ?? ""} onChange=${(event) => set({ bucket: event.target.value })}>
        ${BUCKETS.map(([value, name]) => html`<option key=${value} value=${value} selected=${value === (params.get("bucket") ?? "")}>${name}</option>`)}</select></label>
      <label class="field"><span>Date by</span><select value=${params.get("time") ?? ""} onChange=${(event) => set({ time: event.target.value })}>
        <option value="" selected=${!params.get("time")}>time of answer</option>
        <option value="given" selected=${params.get("time") === "given"}>time of feedback</option></select></label>
      <${Compare} params=${params} set=${set} />
    </div>
    <${FilterBar} route=${route} end=${html`<${Export} query=${query} views=${[["chart", "Chart"]]} />`} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} rows=${6} />`}
    ${data && html`<section class="card chart-card" aria-label="Chart" aria-busy=${String(isStale)}>
      <${Measures} data=${data} params=${params} set=${set} />
      <${Chart} params=${params} data=${data} height=${300} />
      ${data.values === 0 && html`<${Empty} title="No matching values"><p>No values of <code>${data.field}</code> match the filter and the time range.</p>
        <p><a class="button" href=${address("charts", undefined, { field: data.field })}>Show all values</a></p><//>`}
      ${data.values > 0 && html`<details class="part" open=${isTable} onToggle=${(event) => event.target.open !== isTable && go(address(view, undefined, changed(params, { table: event.target.open ? "1" : undefined })), { replace: true })}>
        <summary>Table</summary>${isTable && html`<${ChartTable} params=${params} data=${data} />`}</details>`}
    </section>`}
  `;
}
