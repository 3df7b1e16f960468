// A list as a table. Narrow screens show each row as a card. The roles are explicit because browsers drop
// the roles of a table with another layout.

import { html } from "../vendor/htm-preact.js";
import { CutNote } from "./text.js";

/** A click on a row follows its link, unless it is on something else or ends the selection of a text. */
function follow(event) {
  if (event.defaultPrevented || event.target.closest("a, button, input, select, summary, label")) return;
  const selection = getSelection();
  if (!selection.isCollapsed && selection.containsNode(event.currentTarget, true)) return;
  const { ctrlKey, metaKey, shiftKey } = event;
  event.currentTarget.querySelector(".row-link")?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey, metaKey, shiftKey }));
}

/** `columns` are `{name, title, of(row), className}`. The first one says where texts of a row are cut. */
export function Rows({ label, columns, rows, keyOf, isStale }) {
  return html`<table class="rows" role="table" aria-label=${label} aria-busy=${String(Boolean(isStale))}>
    <thead role="rowgroup"><tr role="row">
      ${columns.map(({ name, title, className = "" }) => html`<th key=${name} role="columnheader" scope="col" class=${`${name} ${className}`}>${title}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">
      ${rows.map((row) => html`<tr role="row" key=${keyOf(row)} data-key=${keyOf(row)} onClick=${follow}>
        ${columns.map(({ name, of, className = "" }, at) => html`<td key=${name} role="cell" class=${`${name} ${className}`}>${of(row)}${at === 0 && row.cut && html`<${CutNote} />`}</td>`)}
      </tr>`)}
    </tbody>
  </table>`;
}
