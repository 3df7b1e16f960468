// A time in short form, with the exact time as its tooltip.

import { html } from "../vendor/htm-preact.js";
import { ago, exactly, moment } from "../pure/format.js";

export function Time({ at, isRelative = false }) {
  if (at === null || at === undefined) return html`<span class="none">–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${exactly(at)}>${isRelative ? ago(at) : moment(at)}</time>`;
}
