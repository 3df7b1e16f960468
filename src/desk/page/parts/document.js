// The document of a target: feedback, metrics (apart from it), other namespaces, and the history.

import { html } from "../vendor/htm-preact.js";
import { byWeight, isGroundTruth, shortName } from "../pure/leaves.js";
import { count, unshortened, value as shown } from "../pure/format.js";
import { Chip } from "./chips.js";
import { Difference } from "./difference.js";
import { History } from "./history.js";
import { Text } from "./text.js";
import { Time } from "./time.js";
import { icons } from "./icons.js";

const TITLES = {
  feedback: "Feedback", metrics: "Metrics", inputs: "Inputs", outputs: "Outputs", metadata: "Metadata",
  user_properties: "User", config: "Configuration",
};
/** The source of the namespaces that judge an answer. */
const NOTES = { feedback: "by users", metrics: "by evaluators" };

function Value({ leaf }) {
  const { type, value } = leaf;
  if (shortName(leaf.field) === "rating" && type === "bool") return html`<span class="verdict"><${Chip} leaf=${leaf} /> ${String(value)}</span>`;
  if (shortName(leaf.field) === "stars" && type === "number" && value >= 0 && value <= 5 && Number.isInteger(value)) {
    return html`<span class="stars" aria-hidden="true">${Array.from({ length: 5 }, (_, at) => html`<span key=${at} class=${at < value ? "lit" : ""}>${icons.star()}</span>`)}</span> ${value}<span class="hidden"> of 5 stars</span>`;
  }
  return type === "string" ? html`<${Text} text=${value} />` : html`<span class="figure" title=${unshortened(value)}>${shown(value)}</span>`;
}

export function Leaves({ leaves, hasTimes = true }) {
  return html`<dl class="leaves">
    ${byWeight(leaves).map((leaf) => html`<div key=${leaf.field}>
      <dt title=${leaf.field} dir="auto">${shortName(leaf.field)}</dt>
      <dd><div class="leaf-value"><${Value} leaf=${leaf} /></div>${hasTimes && html`<span class="note"><${Time} at=${leaf.given} /></span>`}</dd>
    </div>`)}
  </dl>`;
}

/** `output` is compared with the ground truth. `namespaces` are shown, by default all. */
export function Document({ document, output, namespaces = Object.keys(TITLES) }) {
  const truth = namespaces.includes("feedback") ? document.namespaces.feedback?.find(isGroundTruth) : undefined;
  return html`<div class="document">
    ${namespaces.filter((name) => document.namespaces[name]?.length).map((name) => {
      const leaves = document.namespaces[name].filter((leaf) => leaf !== truth);
      return leaves.length > 0 && html`<section class=${`namespace of-${name}`} key=${name}>
        <h3>${TITLES[name]}${NOTES[name] && html` <span class="note">${NOTES[name]}</span>`}</h3>
        <${Leaves} leaves=${leaves} hasTimes=${name in NOTES} />
      </section>`;
    })}
    ${truth && html`<section class="namespace"><h3>Ground truth <span class="note">the expected answer</span></h3>
      <${Difference} before=${output} after=${String(truth.value)} /></section>`}
    ${document.history.length > 0 && html`<details class="history-of">
      <summary>History <span class="note">${count(document.history.length, "change")}</span></summary>
      <${History} history=${document.history} />
    </details>`}
  </div>`;
}
