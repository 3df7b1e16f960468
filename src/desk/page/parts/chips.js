// A short form of feedback.

import { html } from "../vendor/htm-preact.js";
import { byWeight, isGroundTruth, namespaceOf, shortName } from "../pure/leaves.js";
import { beginning, number, unshortened, value as shown } from "../pure/format.js";
import { icons } from "./icons.js";

const MOST = 4;

export function Chip({ leaf }) {
  const { field, type, value } = leaf;
  const name = shortName(field);
  const isMetric = namespaceOf(field) === "metrics";
  const title = `${field}: ${unshortened(value)}`;
  if (isMetric) return html`<span class="chip metric" title=${title}><bdi class="key">${beginning(name, 24)}</bdi> <bdi>${beginning(shown(value), 24)}</bdi></span>`;
  if (name === "rating" && type === "bool") {
    return html`<span class=${`chip ${value ? "good" : "bad"}`} title=${title}>
      ${value ? icons.up() : icons.down()}<span class="hidden">${value ? "thumbs up" : "thumbs down"}</span></span>`;
  }
  if (name === "stars" && type === "number") {
    return html`<span class="chip" title=${title}>${icons.star()}${number(value)}<span class="hidden"> stars</span></span>`;
  }
  if (name === "comment" && type === "string") return html`<span class="chip words" title=${title}><bdi>“${beginning(value, 90)}”</bdi></span>`;
  if (isGroundTruth(leaf)) return html`<span class="chip" title=${title}>${icons.truth()}ground truth</span>`;
  return html`<span class="chip" title=${title}><bdi class="key">${beginning(name, 28)}</bdi> <bdi>${beginning(shown(value), 40)}</bdi></span>`;
}

/** The most important values, and the number of the others. */
export function Chips({ leaves, most = MOST }) {
  if (!leaves?.length) return html`<span class="none">–<span class="hidden">no feedback</span></span>`;
  const sorted = byWeight(leaves);
  const rest = sorted.slice(most);
  return html`<span class="chips">
    ${sorted.slice(0, most).map((leaf, at) => html`<${Chip} key=${`${leaf.field} ${at}`} leaf=${leaf} />`)}
    ${rest.length > 0 && html`<span class="chip more" title=${rest.map(({ field }) => field).join("\n")}>+${rest.length}</span>`}
  </span>`;
}

/** A row's document, as the data set has it, as leaves. */
export function leavesOf(object, namespace) {
  const walk = (value, field) =>
    value !== null && typeof value === "object"
      ? Object.entries(value).flatMap(([key, inner]) => walk(inner, `${field}.${key}`))
      : [{ field, value, type: { boolean: "bool", number: "number" }[typeof value] ?? "string" }];
  return walk(object ?? {}, namespace);
}
