// The form for one condition of a filter.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { OPERATORS } from "../pure/filter.js";
import { fieldOptions, typeOf, valueOptions } from "../state/fields.js";
import { Combobox } from "./combobox.js";

/** Subjects of `has` that are not fields. */
const WHOLES = [
  { value: "feedback", label: "any feedback", has: "feedback" },
  { value: "ground truth", label: "ground truth", has: "ground truth" },
];
const HAS = ["has", "has no"];
const NAMES = {
  is: "is", "is not": "is not", contains: "contains", "<": "less than", "<=": "at most", ">": "more than",
  ">=": "at least", has: "has a value", "has no": "has no value",
};
const FOR_TYPE = {
  bool: ["is", "is not", ...HAS],
  number: ["is", "is not", "<", "<=", ">", ">=", ...HAS],
  string: ["is", "is not", "contains", ...HAS],
};

function beginning(condition) {
  if (!condition) return { field: "", operator: "is", value: "" };
  if (!("has" in condition)) return condition;
  return { field: condition.has === "field" ? condition.field : condition.has, operator: condition.negated ? "has no" : "has", value: "", isWhole: condition.has !== "field" };
}

export function ConditionForm({ params, condition, onApply, onClose }) {
  const [draft, setDraft] = useState(() => beginning(condition));
  const [{ type, isMixed }, setType] = useState({});
  const change = (changes) => setDraft((before) => ({ ...before, ...changes }));
  const { field, value, isWhole } = draft;

  useEffect(() => {
    if (field && !isWhole) typeOf(field).then(setType, () => {});
  }, [field, isWhole]);

  const all = [...OPERATORS, ...HAS];
  const operators = isWhole ? HAS : isMixed ? all : [...(FOR_TYPE[type] ?? all)];
  if (draft.operator && !isWhole && !operators.includes(draft.operator) && condition) operators.push(draft.operator);
  const operator = operators.includes(draft.operator) ? draft.operator : operators[0];
  const needsValue = !HAS.includes(operator);
  const isReady = Boolean(field) && (!needsValue || value !== "");

  const loadFields = async (search) => {
    const wholes = WHOLES.filter(({ label }) => label.includes(search.toLowerCase())).map((each) => ({ ...each, note: "has / has no" }));
    return [...wholes, ...(await fieldOptions(search))];
  };
  const pickField = (option) => change({ field: option.value, isWhole: Boolean(option.has), ...(option.has ? { operator: "has" } : {}) });
  const loadValues = async (search) =>
    type === "bool" && !isMixed ? ["true", "false"].filter((each) => each.startsWith(search)).map((each) => ({ value: each })) : valueOptions(field, search, params);
  const apply = (event) => {
    event?.preventDefault();
    if (!isReady) return;
    const negated = operator === "has no";
    if (isWhole) onApply({ has: field, negated });
    else if (!needsValue) onApply({ has: "field", field, negated });
    else onApply({ field, operator, value, quoted: Boolean(draft.quoted) });
  };

  return html`<form class="panel condition-form" onSubmit=${apply} onKeyDown=${(event) => event.key === "Escape" && onClose()}>
    <${Combobox} label="Field" value=${field} placeholder="Search for a field" load=${loadFields} isFree autofocus=${!condition}
      onInput=${(typed) => change({ field: typed.trim(), isWhole: WHOLES.some((each) => each.value === typed.trim()) })} onPick=${pickField} />
    <label class="field"><span>Condition</span>
      <select value=${operator} onChange=${(event) => change({ operator: event.target.value })}>
        ${operators.map((each) => html`<option key=${each} value=${each} selected=${each === operator}>${isWhole ? each : NAMES[each]}</option>`)}
      </select>
    </label>
    ${needsValue && html`<${Combobox} label="Value" value=${value} placeholder="Any text" load=${loadValues} isFree autofocus=${Boolean(condition)}
      onInput=${(typed) => change({ value: typed, quoted: Boolean(condition?.quoted && condition.value === typed) })}
      onPick=${(option) => change({ value: option.value, quoted: option.quoted })} />`}
    <div class="actions">
      <button class="primary" type="submit" disabled=${!isReady}>Apply</button>
      <button type="button" onClick=${onClose}>Cancel</button>
    </div>
  </form>`;
}
