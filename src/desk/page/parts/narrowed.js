// The filter of a list, in words, where it can't be changed.

import { html } from "../vendor/htm-preact.js";
import { narrowing } from "../pure/narrowing.js";

/** Nothing, if the parameters narrow to nothing. */
export function Narrowed({ params, before = "" }) {
  const found = narrowing(params);
  if (!found.length) return null;
  return html`<span class="narrowed note">${before}${found.map((text, at) => html`${at > 0 && ", "}<bdi class="condition-text">${text}</bdi>`)}</span>`;
}
