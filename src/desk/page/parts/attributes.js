// Keys and values of a span, an event, a resource.

import { html } from "../vendor/htm-preact.js";
import { Text } from "./text.js";

const text = (value) =>
  typeof value === "string" ? value : value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value);

export function Attributes({ attributes }) {
  return html`<dl class="attributes">
    ${Object.entries(attributes).map(([key, value]) => html`<div key=${key}>
      <dt dir="auto">${key}</dt>
      <dd class=${`is-${typeof value}`}><${Text} text=${text(value)} /></dd>
    </div>`)}
  </dl>`;
}
