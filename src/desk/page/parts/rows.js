// A list as a table. Narrow screens show each row as a card. The roles are explicit because browsers drop
// the roles of a table with another layout.

import { html } from "../vendor/htm-preact.js";

/** `columns` are `{name, title, of(row), className}`. */
export function Rows({ label, columns, rows, keyOf, isStale }) {
  return html`<table class="rows" role="table" aria-label=${label} aria-busy=${String(Boolean(isStale))}>
    <thead role="rowgroup"><tr role="row">
      ${columns.map(({ name, title, className = "" }) => html`<th key=${name} role="columnheader" scope="col" class=${`${name} ${className}`}>${title}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">
      ${rows.map((row) => html`<tr role="row" key=${keyOf(row)} data-key=${keyOf(row)}>
        ${columns.map(({ name, of, className = "" }) => html`<td key=${name} role="cell" class=${`${name} ${className}`}>${of(row)}</td>`)}
      </tr>`)}
    </tbody>
  </table>`;
}
