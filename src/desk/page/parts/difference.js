// An output and its ground truth, with their differences.

import { html, useMemo } from "../vendor/htm-preact.js";
import { difference } from "../pure/difference.js";
import { Text } from "./text.js";

export function Difference({ before, after }) {
  const runs = useMemo(() => (before === undefined ? [] : difference(before, after)), [before, after]);
  if (before === undefined) return html`<div class="difference"><div class="truth"><h4>Expected</h4><p><${Text} text=${after} /></p></div></div>`;
  if (before === after) return html`<div class="difference"><p class="hint">The output equals the ground truth.</p><div class="truth"><h4>Output and expected</h4><p><${Text} text=${after} /></p></div></div>`;
  const side = (other) => runs.filter(({ kind }) => kind !== other).map(({ kind, text }, at) =>
    kind === "same" ? html`<span key=${at}>${text}</span>` : kind === "removed" ? html`<del key=${at}>${text}</del>` : html`<ins key=${at}>${text}</ins>`);
  return html`<div class="difference">
    <div class="output"><h4>Output</h4><p dir="auto">${side("added")}</p></div>
    <div class="truth"><h4>Expected</h4><p dir="auto">${side("removed")}</p></div>
  </div>`;
}
