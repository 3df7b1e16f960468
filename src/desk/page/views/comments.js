// Comments, the latest first, each with the answer it is about.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint, narrowed } from "../state/api.js";
import { address, changed, go } from "../state/route.js";
import { fieldOptions } from "../state/fields.js";
import { brief } from "../pure/conversation.js";
import { count } from "../pure/format.js";
import { Chips, leavesOf } from "../parts/chips.js";
import { Combobox } from "../parts/combobox.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { Loading, ErrorMessage } from "../parts/errors.js";
import { FilterBar } from "../parts/filter_bar.js";
import { EmptyList } from "../parts/empty_list.js";
import { Paging, ROWS } from "../parts/paging.js";
import { CutNote, Text } from "../parts/text.js";
import { Time } from "../parts/time.js";

const COMMENT = "feedback.comment";
const PAUSE = 250; // ms without typing before the search starts

function Search({ route: { view, params } }) {
  const [text, setText] = useState(params.get("search") ?? "");
  const timer = useRef();
  useEffect(() => setText(params.get("search") ?? ""), [params.get("search")]);
  useEffect(() => () => clearTimeout(timer.current), []);
  // While typing the address is replaced: Back leaves the search, not a letter.
  const search = (value) => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go(address(view, undefined, changed(params, { search: value, cursor: undefined, at: undefined })), { replace: true }), PAUSE);
  };
  return html`<label class="field search"><span>Search</span>
    <input type="search" dir="auto" value=${text} placeholder="Words in comments" onInput=${(event) => search(event.target.value)} /></label>`;
}

/** The address of what a comment is about, if it is known. */
const targetOf = (row) => (row.trace_id ? address("traces", row.trace_id, { span: row.span_id }) : row.session_id && address("sessions", row.session_id));

function About({ row }) {
  const to = targetOf(row);
  const name = (row.name ?? (row.trace_id ? "a trace that was not received" : `session ${row.session_id}`)) || "unnamed";
  return html`<footer><span>${row.by !== null && html`<strong dir="auto">${row.by}</strong> `}on ${to ? html`<a dir="auto" href=${to}>${name}</a>` : html`<bdi>${name}</bdi>`}${row.service && html` in <bdi>${row.service}</bdi>`}</span>
    <${Time} at=${row.given} isRelative /></footer>`;
}

export function Comments({ route }) {
  const { params, view } = route;
  const field = params.get("field") || COMMENT;
  const query = narrowed(params, { field: params.get("field"), search: params.get("search"), limit: ROWS, cursor: params.get("cursor") });
  const { data, error, isStale } = useAnswer(endpoint("comments", query));
  const texts = async (search) => (await fieldOptions(search, { isFeedback: true })).filter(({ type }) => type === "string");
  const choose = ({ value }) => go(address(view, undefined, changed(params, { field: value === COMMENT ? undefined : value, cursor: undefined, at: undefined })));
  return html`
    <${Heading} title="Comments" note=${data && !error ? count(data.total, field === COMMENT ? "comment" : "text") : " "} />
    <div class="bar before-narrow"><${Search} route=${route} />
      <${Combobox} label="Field" value=${field} load=${texts} onPick=${choose} /></div>
    <${FilterBar} route=${route} end=${html`<${Export} query=${query} views=${[["comments", "Comments"]]} />`} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !data.rows.length && html`<${EmptyList} what="comments" route=${route}>
      <p>Comments are the texts of <code>feedback.comment</code>; choose another text field above.</p><//>`}
    ${data && data.rows.length > 0 && html`<ol class="comments" aria-busy=${String(isStale)}>
      ${data.rows.map((row) => {
        const rest = leavesOf(row.feedback, "feedback").filter((leaf) => leaf.field !== row.field && leaf.field !== "feedback.ground_truth");
        return html`<li class="card comment" key=${`${row.trace_id} ${row.span_id} ${row.session_id} ${row.given}`}>
          <blockquote><${Text} text=${row.text} isCut=${row.cut} /></blockquote>
          ${rest.length > 0 && html`<${Chips} leaves=${rest} />`}
          ${(row.input !== null || row.output !== null) && html`<dl class="exchange">
            ${row.input !== null && html`<div><dt>Input</dt><dd><${Text} text=${brief(row.input)} isCut=${row.cut} /></dd></div>`}
            ${row.output !== null && html`<div><dt>Output</dt><dd><${Text} text=${brief(row.output)} isCut=${row.cut} /></dd></div>`}
            ${row.ground_truth !== null && html`<div><dt>Expected</dt><dd><${Text} text=${row.ground_truth} isCut=${row.cut} /></dd></div>`}
          </dl>`}
          ${row.cut && html`<${CutNote} to=${targetOf(row)} />`}
          <${About} row=${row} />
        </li>`;
      })}
    </ol><${Paging} route=${route} list=${data} />`}
  `;
}
