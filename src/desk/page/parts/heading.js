// The heading of a view: its title, and a note such as the number of rows.

import { html } from "../vendor/htm-preact.js";

export function Heading({ title, note, children }) {
  return html`<header class="heading">
    <div><h1 dir="auto">${title}</h1>${note !== undefined && html`<p class="note" aria-live="polite">${note}</p>`}</div>
    ${children && html`<div class="heading-end">${children}</div>`}
  </header>`;
}
