// A text of any length, shortened at first. It is never interpreted as markup.

import { html, useState } from "../vendor/htm-preact.js";
import { count } from "../pure/format.js";

const SHORT = 400;

/** Below a row of a list of which the desk has sent the beginnings of texts only. `to` is where the whole ones are. */
export function CutNote({ to }) {
  return html`<span class="cut-note">Long texts are cut here${to ? html`: <a href=${to}>show all of it</a>` : "."}</span>`;
}

/** With `isCut` a text that ends with `…` is the beginning of a longer one. */
export function Text({ text, isCut = false }) {
  const [isWhole, setWhole] = useState(false);
  const letters = String(text);
  if (letters.length <= SHORT * 1.3) return html`<span class="text" dir="auto">${letters}</span>`;
  const all = isCut && letters.endsWith("…") ? "Show more" : `Show all ${count(letters.length, "character")}`;
  return html`<span class="text" dir="auto">${isWhole ? letters : `${letters.slice(0, SHORT).replace(/[\uD800-\uDBFF]$/, "")}…`}</span>
    <button class="link" onClick=${() => setWhole(!isWhole)}>${isWhole ? "Show less" : all}</button>`;
}
