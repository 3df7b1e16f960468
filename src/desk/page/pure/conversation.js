// What a model was asked and answered: which messages are shown where, and as one text.

/** The texts of a message, one below the other; of a message without any, its calls and results. */
function textOf(message) {
  const parts = message?.parts ?? [];
  const texts = parts.filter(({ type }) => type === "text").map(({ text }) => text);
  if (texts.length) return texts.join("\n");
  return parts.map(({ type, name, text, arguments: args, result, value }) =>
    type === "tool_call" ? `${name ?? "tool"}(${pretty(args)})` : text ?? pretty(result ?? value)).join("\n");
}

/** A value as text: JSON on several lines, and a text as it is. */
export function pretty(value) {
  if (typeof value === "string") return value;
  return value === null || value === undefined ? "" : JSON.stringify(value, null, 2);
}

const isConversation = (value) => Array.isArray(value) && value.length > 0 && value.every((message) => Array.isArray(message?.parts));

/** The input or output of a row in few words: of a conversation what was said last, in an input by the user. */
export function brief(value) {
  if (!isConversation(value)) return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  const asked = value.filter(({ role }) => role === "user").at(-1);
  return textOf(asked ?? value.at(-1));
}

/** The output of an answer as one text. */
export function outputOf(answer) {
  return answer?.output.length ? answer.output.map(textOf).join("\n") : undefined;
}

/** The input of an answer as one text. */
export function inputOf(answer) {
  return answer?.input.length ? brief(answer.input) : undefined;
}

/**
 * The messages with the result of each call in the call, as `result`, and without messages of nothing but such
 * results. A result without its call stays where it is.
 */
export function folded(messages) {
  const calls = new Map();
  return messages.map((message) => {
    const parts = message.parts.flatMap((part) => {
      if (part.type === "tool_call") {
        const call = { ...part, hasResult: false };
        if (part.id) calls.set(part.id, call);
        return [call];
      }
      const call = part.type === "tool_result" && part.id ? calls.get(part.id) : undefined;
      if (!call || call.hasResult) return [part];
      Object.assign(call, { hasResult: true, result: part.result });
      return [];
    });
    return { ...message, parts };
  }).filter(({ parts }) => parts.length > 0);
}

/**
 * The span that has the answer which a span is about: itself, else the nearest one below it, else one of the trace:
 * the rule of the API for data sets.
 */
export function answering(trace, span) {
  const spans = trace.spans.filter(({ carrier }) => !carrier).sort((a, b) => a.start - b.start);
  const ids = new Set(spans.map(({ span_id }) => span_id));
  const below = new Map();
  for (const each of spans) {
    if (!below.has(each.parent_id)) below.set(each.parent_id, []);
    below.get(each.parent_id).push(each);
  }
  const nearest = (level) => {
    // Parents may form a circle.
    for (const seen = new Set(); level.length;) {
      const found = level.filter(({ answer }) => answer && (answer.input.length || answer.output.length || answer.system.length));
      if (found.length) return found.filter(({ answer }) => answer.model).at(-1) ?? found.at(-1);
      for (const { span_id } of level) seen.add(span_id);
      level = level.flatMap(({ span_id }) => below.get(span_id) ?? []).filter(({ span_id }) => !seen.has(span_id));
    }
    return undefined;
  };
  return (span && nearest([span])) ?? nearest(spans.filter(({ parent_id }) => !ids.has(parent_id)));
}
