// Leaves of a document: names, order, and texts.

import { answering, inputOf, outputOf } from "./conversation.js";

/** A field without its namespace. */
export function shortName(field) {
  return field.slice(field.indexOf(".") + 1);
}

export function namespaceOf(field) {
  return field.slice(0, Math.max(0, field.indexOf(".")));
}

/** The order of display: rating, stars, other booleans and numbers, comment, ground truth, the rest. */
function weight({ field, type }) {
  const name = shortName(field);
  if (name === "rating") return 0;
  if (name === "stars") return 1;
  if (name === "comment") return 3;
  if (name === "ground_truth") return 4;
  if (/(^|\.)\d+(\.|$)/.test(name)) return 6;
  return type === "bool" || type === "number" ? 2 : 5;
}

export function byWeight(leaves) {
  return [...leaves].sort((a, b) => weight(a) - weight(b) || (a.field < b.field ? -1 : 1));
}

export const isGroundTruth = ({ field }) => shortName(field) === "ground_truth";

/** The ground truth of a document, as text. */
export function groundTruth(document) {
  const leaf = document?.namespaces.feedback?.find(isGroundTruth);
  return leaf && String(leaf.value);
}

function textOf(leaves) {
  if (!leaves?.length) return undefined;
  if (leaves.length === 1) return String(leaves[0].value);
  return leaves.map(({ field, value }) => `${shortName(field)}: ${value}`).join("\n");
}

const own = (span, namespace) => textOf(span?.document?.namespaces[namespace]);
const FROM_ANSWER = { inputs: inputOf, outputs: outputOf };

/**
 * The input or output of a span, else of the first span of the trace that has one in its document, else that of its
 * answer: the rule of the API for data sets.
 */
export function flow(trace, span, namespace) {
  const first = () => {
    for (const each of trace.spans.filter(({ carrier }) => !carrier)) {
      const found = own(each, namespace);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return own(span, namespace) ?? first() ?? FROM_ANSWER[namespace](answering(trace, span)?.answer);
}
