// What a model was asked and answered: messages by role, each part by part, with calls of tools folded in.

import { html, useState } from "../vendor/htm-preact.js";
import { count, number } from "../pure/format.js";
import { folded, pretty } from "../pure/conversation.js";
import { Text } from "./text.js";

/** Messages of a long conversation that are shown at first: the last ones. */
const FEW = 8;

/** JSON on several lines; a text that is JSON, too. */
function Value({ value }) {
  let shown = value;
  if (typeof value === "string" && /^\s*[[{]/.test(value)) {
    try {
      shown = JSON.parse(value);
    } catch {
      // It is a text that begins like JSON.
    }
  }
  return typeof shown === "string"
    ? html`<p><${Text} text=${shown} /></p>`
    : html`<pre class="json"><${Text} text=${pretty(shown)} /></pre>`;
}

function Folded({ title, name, children }) {
  return html`<details class="folded"><summary>${title}${name && html` <strong class="mono" dir="auto">${name}</strong>`}</summary>${children}</details>`;
}

function Part({ part }) {
  const { type, name } = part;
  if (type === "text") return html`<${Value} value=${part.text} />`;
  if (type === "reasoning") return html`<${Folded} title="Reasoning"><${Value} value=${part.text} /><//>`;
  if (type === "tool_call") {
    return html`<${Folded} title="Tool call" name=${name}>
      ${part.arguments !== null && html`<h4>Arguments</h4><${Value} value=${part.arguments} />`}
      ${part.hasResult && html`<h4>Result</h4><${Value} value=${part.result} />`}<//>`;
  }
  if (type === "tool_result") return html`<${Folded} title="Tool result" name=${name}><${Value} value=${part.result} /><//>`;
  return html`${part.kind && html`<span class="note">${part.kind}</span>`}<${Value} value=${part.value} />`;
}

function Messages({ title, messages }) {
  const [isWhole, setWhole] = useState(false);
  const all = folded(messages);
  const shown = isWhole ? all : all.slice(-FEW);
  return html`<section class="flow">
    <h3>${title}</h3>
    ${shown.length < all.length && html`<button class="link" onClick=${() => setWhole(true)}>Show ${count(all.length - shown.length, "earlier message")}</button>`}
    <ol class="messages">${shown.map(({ role, parts, finish_reason }, at) => html`<li key=${all.length - shown.length + at}>
      ${role && html`<span class="role">${role}</span>`}
      ${parts.map((part, index) => html`<${Part} key=${index} part=${part} />`)}
      ${finish_reason && finish_reason !== "stop" && html`<span class="note">finished: ${finish_reason}</span>`}
    </li>`)}</ol></section>`;
}

function tokens({ input_tokens: input, output_tokens: output, total_tokens: total }) {
  const some = [[input, "in"], [output, "out"]].filter(([many]) => many !== null).map(([many, way]) => `${number(many)} ${way}`);
  if (!some.length) return total === null ? undefined : count(total, "token");
  return `${some.join(", ")} tokens`;
}

/** An answer. What a document says instead of its input or output is not shown. */
export function Conversation({ answer, hasInput = true, hasOutput = true }) {
  const facts = [answer.model, answer.agent && `agent ${answer.agent}`, tokens(answer)].filter(Boolean);
  return html`<div class="conversation">
    ${facts.length > 0 && html`<p class="note parts">${facts.map((fact) => html`<span key=${fact} dir="auto">${fact}</span>`)}</p>`}
    ${answer.system.length > 0 && html`<${Folded} title="System prompt">${answer.system.map((part, at) => html`<${Part} key=${at} part=${part} />`)}<//>`}
    ${answer.tools.length > 0 && html`<${Folded} title=${count(answer.tools.length, "tool")}>
      <dl class="tools">${answer.tools.map(({ name, description, parameters }) => html`<div key=${name}>
        <dt class="mono" dir="auto">${name}</dt>
        <dd>${description && html`<${Text} text=${description} />`}${parameters !== null && html`<${Value} value=${parameters} />`}</dd>
      </div>`)}</dl><//>`}
    ${hasInput && answer.input.length > 0 && html`<${Messages} title="Input" messages=${answer.input} />`}
    ${hasOutput && answer.output.length > 0 && html`<${Messages} title="Output" messages=${answer.output} />`}
    ${answer.cut && html`<p class="hint">This is not all of it: the attributes have the whole.</p>`}
  </div>`;
}
