// The filter bar above every list and chart: service, time range, and the filter, by form or as text.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { address, changed, go } from "../state/route.js";
import { useAnswer } from "../state/query.js";
import { endpoint } from "../state/api.js";
import { conditionText, format, parse } from "../pure/filter.js";
import { fieldText, fieldTime, RANGES, stretch } from "../pure/time.js";
import { moment } from "../pure/format.js";
import { ConditionForm } from "./condition.js";
import { icons } from "./icons.js";

/** The position in a list, which is dropped when the filter changes. */
const PLACE = { cursor: undefined, at: undefined };

function Service({ params, narrow }) {
  const { data } = useAnswer(endpoint("status"));
  const chosen = params.get("service") ?? "";
  const names = [...new Set([...(data?.services ?? []), ...(chosen ? [chosen] : [])])].sort();
  return html`<label class="field"><span>Service</span>
    <select value=${chosen} onChange=${(event) => narrow({ service: event.target.value })}>
      <option value="" selected=${!chosen}>All services</option>
      ${names.map((name) => html`<option key=${name} dir="auto" value=${name} selected=${name === chosen}>${name}</option>`)}
    </select>
  </label>`;
}

function Time({ params, narrow }) {
  const [isOwn, setOwn] = useState(false);
  const hasOwn = params.has("from") || params.has("to");
  const range = params.get("range") ?? "";
  const chosen = hasOwn || isOwn ? "own" : range;
  const choose = ({ target: { value } }) => {
    if (value === "own") {
      const { from } = stretch(params);
      setOwn(true);
      if (from) narrow({ range: undefined, from: String(from) });
    } else {
      setOwn(false);
      narrow({ range: value, from: undefined, to: undefined });
    }
  };
  const set = (name) => ({ target: { value } }) => narrow({ range: undefined, [name]: fieldTime(value) });
  return html`<label class="field"><span>Time</span>
      <select value=${chosen} onChange=${choose}>
        <option value="" selected=${chosen === ""}>All time</option>
        ${RANGES.map(([value, name]) => html`<option key=${value} value=${value} selected=${chosen === value}>${name}</option>`)}
        <option value="own" selected=${chosen === "own"}>From … to …</option>
      </select>
    </label>
    ${chosen === "own" && html`
      <label class="field"><span>From</span>
        <input type="datetime-local" value=${fieldText(params.get("from"))} onChange=${set("from")} /></label>
      <label class="field"><span>To</span>
        <input type="datetime-local" value=${fieldText(params.get("to"))} onChange=${set("to")} /></label>`}`;
}

function FilterText({ text, onApply, onClose }) {
  const [typed, setTyped] = useState(text);
  const [error, setError] = useState();
  const area = useRef();
  useEffect(() => setTyped(text), [text]);
  useEffect(() => area.current.focus(), []);
  const apply = (event) => {
    event?.preventDefault();
    try {
      parse(typed);
      setError(undefined);
      onApply(typed.trim());
    } catch (problem) {
      setError(problem.message[0].toUpperCase() + problem.message.slice(1));
    }
  };
  return html`<form class="panel filter-text" onSubmit=${apply}>
    <label class="field grow"><span>Filter as text</span>
      <textarea rows="2" dir="auto" ref=${area} spellcheck=${false} value=${typed} aria-invalid=${String(Boolean(error))} aria-describedby="filter-help"
        onInput=${(event) => setTyped(event.target.value)}
        onKeyDown=${(event) => { if (event.key === "Enter" && !event.shiftKey) apply(event); if (event.key === "Escape") onClose(); }}></textarea>
    </label>
    <div class="actions">
      <button class="primary" type="submit">Apply</button>
      <button type="button" onClick=${onClose}>Close</button>
    </div>
    <p id="filter-help" class=${error ? "error" : "hint"} role=${error ? "alert" : undefined}>
      ${error ?? html`For example <code>feedback.stars >= 4 and feedback.comment contains "New York"</code>, <code>has no feedback</code>`}
    </p>
  </form>`;
}

/** `end` is shown at the end of the bar. */
export function FilterBar({ route, end }) {
  const { params, view, id } = route;
  const [open, setOpen] = useState(); // "text", "new", or the number of a condition
  const add = useRef();
  const text = params.get("filter") ?? "";
  let conditions;
  try {
    conditions = parse(text);
  } catch {
    conditions = undefined; // an address may contain an invalid filter: it is shown as text
  }
  const narrow = (changes) => go(address(view, id, changed(params, { ...changes, ...PLACE })));
  const set = (next) => narrow({ filter: format(next) });
  const close = () => {
    setOpen(undefined);
    add.current?.focus();
  };
  const apply = (condition) => {
    set(typeof open === "number" ? conditions.map((each, at) => (at === open ? condition : each)) : [...conditions, condition]);
    close();
  };
  const remove = (at) => {
    setOpen(undefined);
    set(conditions.filter((_, each) => each !== at));
    add.current?.focus();
  };

  return html`<section class="narrow" aria-label="Filter bar">
    <div class="bar">
      <${Service} params=${params} narrow=${narrow} />
      <${Time} params=${params} narrow=${narrow} />
      <div class="conditions" role="group" aria-label="Filter">
        ${conditions?.map((condition, at) => html`<span class="condition" key=${`${at} ${conditionText(condition)}`}>
          <button class="condition-text" dir="auto" title="Change this condition" aria-expanded=${String(open === at)}
            onClick=${() => setOpen(open === at ? undefined : at)}>${conditionText(condition)}</button>
          <button class="condition-end" aria-label=${`Remove ${conditionText(condition)}`} onClick=${() => remove(at)}>${icons.close()}</button>
        </span>`)}
        ${!conditions && html`<span class="condition wrong"><span class="condition-text" dir="auto">${text}</span></span>`}
        <button class="add" ref=${add} disabled=${!conditions} aria-expanded=${String(open === "new")}
          onClick=${() => setOpen(open === "new" ? undefined : "new")}>${icons.plus()}Filter</button>
        <button class="add" aria-expanded=${String(open === "text")} title="Edit the filter as text"
          onClick=${() => setOpen(open === "text" ? undefined : "text")}>${icons.text()}<span>Edit as text</span></button>
      </div>
      <div class="bar-end">${end}</div>
    </div>
    ${(open === "new" || typeof open === "number") && conditions && html`<${ConditionForm} key=${open} params=${params}
      condition=${typeof open === "number" ? conditions[open] : undefined} onApply=${apply} onClose=${close} />`}
    ${open === "text" && html`<${FilterText} text=${text} onApply=${(filter) => narrow({ filter })} onClose=${close} />`}
    ${params.has("field") && view === "traces" && html`<${OfBucket} route=${route} narrow=${narrow} />`}
  </section>`;
}

/** A note above the traces of a chart's bucket. */
function OfBucket({ route: { params }, narrow }) {
  const { from, to } = stretch(params);
  const say = (time) => moment(Number(time));
  return html`<p class="of-bucket">
    <span>Only traces with a value of <code dir="auto">${params.get("field")}</code>${params.get("time") === "given" ? ", by time of feedback," : ""}
    ${from && to ? ` from ${say(from)} to ${say(to)}` : ""}</span>
    <button class="link" onClick=${() => narrow({ field: undefined, time: undefined, from: undefined, to: undefined })}>Show all traces</button>
  </p>`;
}
