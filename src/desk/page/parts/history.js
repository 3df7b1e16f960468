// The history of a document, the latest change first: author, time, values set and values retracted.

import { html } from "../vendor/htm-preact.js";
import { beginning, unshortened, value as shown } from "../pure/format.js";
import { Time } from "./time.js";

export function History({ history }) {
  return html`<ol class="history" reversed>
    ${[...history].reverse().map((change) => html`<li key=${change.trace_id + change.span_id}>
      <p class="who"><strong dir="auto">${change.by ?? "Unknown author"}</strong> <${Time} at=${change.time} />${change.late && html` <span class="tag">late</span>`}${change.form && html` <span class="tag">${change.form}</span>`}</p>
      <ul>
        ${change.set.map((leaf) => html`<li key=${leaf.field}><code dir="auto">${leaf.field}</code> <span class="arrow" aria-hidden="true">→</span> <bdi title=${unshortened(leaf.value)}>${beginning(shown(leaf.value), 160)}</bdi></li>`)}
        ${change.retracted.map((key) => html`<li key=${key} class="retracted"><code dir="auto">${key}</code> retracted</li>`)}
        ${!change.set.length && !change.retracted.length && html`<li class="note">no change</li>`}
      </ul>
    </li>`)}
  </ol>`;
}
