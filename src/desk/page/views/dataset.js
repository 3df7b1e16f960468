// The data set: input, output, ground truth, feedback and metrics of each target.

import { html } from "../vendor/htm-preact.js";
import { useAnswer } from "../state/query.js";
import { endpoint, narrowed } from "../state/api.js";
import { address } from "../state/route.js";
import { brief } from "../pure/conversation.js";
import { beginning, count } from "../pure/format.js";
import { Chips, leavesOf } from "../parts/chips.js";
import { Export } from "../parts/export.js";
import { Heading } from "../parts/heading.js";
import { Loading, ErrorMessage } from "../parts/errors.js";
import { FilterBar } from "../parts/filter_bar.js";
import { EmptyList } from "../parts/empty_list.js";
import { Paging, ROWS } from "../parts/paging.js";
import { Rows } from "../parts/rows.js";

const words = (text) => (text === null || text === undefined ? html`<span class="none">–<span class="hidden">none</span></span>` : html`<span dir="auto" title=${brief(text).slice(0, 2000)}>${beginning(brief(text), 140)}</span>`);
const about = (row) => (row.trace_id ? address("traces", row.trace_id, { span: row.span_id }) : address("sessions", row.session_id));

const COLUMNS = [
  { name: "input", title: "Input", of: (row) => html`<a class="row-link" dir="auto" href=${about(row)}>${row.input === null ? row.name ?? (row.session_id ? `session ${row.session_id}` : "span not received yet") : beginning(brief(row.input), 140)}</a>` },
  { name: "output", title: "Output", of: (row) => words(row.output) },
  { name: "model", title: "Model", of: (row) => words(row.model), isOf: (row) => row.model !== null },
  { name: "truth", title: "Ground truth", of: (row) => words(row.ground_truth) },
  { name: "feedback", title: "Feedback", of: (row) => html`<${Chips} leaves=${leavesOf(row.feedback, "feedback").filter(({ field }) => field !== "feedback.ground_truth")} />` },
  { name: "metrics", title: "Metrics", of: (row) => html`<${Chips} leaves=${leavesOf(row.metrics, "metrics")} most=${2} />` },
];

export function Dataset({ route }) {
  const { params } = route;
  const query = narrowed(params, { limit: ROWS, cursor: params.get("cursor") });
  const { data, error, isStale } = useAnswer(endpoint("dataset", query));
  return html`
    <${Heading} title="Data set" note=${data && !error ? `${count(data.total, "example")} with feedback` : " "} />
    <${FilterBar} route=${route} end=${html`<${Export} query=${query} views=${[["dataset", "Data set"]]} />`} />
    ${error && html`<${ErrorMessage} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data && !data.rows.length && html`<${EmptyList} what="examples" route=${route}>
      <p>An example is a span, trace or session with feedback. Its input and output are <code>inputs.*</code> and <code>outputs.*</code> of the span, or what it has recorded of a call of a model.</p><//>`}
    ${data && data.rows.length > 0 && html`
      <${Rows} label="Data set" columns=${COLUMNS.filter(({ isOf }) => !isOf || data.rows.some(isOf))} rows=${data.rows} keyOf=${(row) => `${row.trace_id} ${row.span_id} ${row.session_id}`} isStale=${isStale} />
      <${Paging} route=${route} list=${data} />`}
  `;
}
