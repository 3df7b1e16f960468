// A text of any length, shortened at first. It is never interpreted as markup.

import { html, useState } from "../vendor/htm-preact.js";
import { count } from "../pure/format.js";

const SHORT = 400;

export function Text({ text }) {
  const [isWhole, setWhole] = useState(false);
  const letters = String(text);
  if (letters.length <= SHORT * 1.3) return html`<span class="text" dir="auto">${letters}</span>`;
  return html`<span class="text" dir="auto">${isWhole ? letters : `${letters.slice(0, SHORT).replace(/[\uD800-\uDBFF]$/, "")}…`}</span>
    <button class="link" onClick=${() => setWhole(!isWhole)}>${isWhole ? "Show less" : `Show all ${count(letters.length, "character")}`}</button>`;
}
