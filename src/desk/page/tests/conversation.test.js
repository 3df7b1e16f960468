// A conversation: results in their calls, and few words of it for lists.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answering, brief, folded, outputOf, pretty } from "../pure/conversation.js";

const text = (role, words) => ({ role, parts: [{ type: "text", text: words }] });
const call = (id, name = "look") => ({ type: "tool_call", id, name, arguments: { at: 1 } });
const result = (id, found) => ({ type: "tool_result", id, name: null, result: found });

test("a result stands in its call, and a result without one where it is", () => {
  const messages = [
    text("user", "Why?"),
    { role: "assistant", parts: [call("a"), call("b")] },
    { role: "tool", parts: [result("b", 2)] },
    { role: "tool", parts: [result("a", 1)] },
    { role: "tool", parts: [result("a", "again"), result("c", 3)] },
  ];
  const all = folded(messages);
  assert.deepEqual(all.map(({ role }) => role), ["user", "assistant", "tool"]);
  assert.deepEqual(all[1].parts.map((part) => [part.id, part.hasResult, part.result]), [["a", true, 1], ["b", true, 2]]);
  assert.deepEqual(all[2].parts.map((part) => part.result), ["again", 3]);
  assert.equal(messages[1].parts[0].result, undefined, "the answer itself stays as it is");
});

test("few words of an input are those of the user, of an output the last", () => {
  assert.equal(brief([text("user", "first"), text("assistant", "…"), text("user", "last"), { role: "tool", parts: [result("a", 1)] }]), "last");
  assert.equal(brief([text("assistant", "one"), text("assistant", "two")]), "two");
  assert.equal(brief([{ role: "assistant", parts: [call("a")] }]), `look(${pretty({ at: 1 })})`);
  assert.equal(brief("a text"), "a text");
  assert.equal(brief(7), "7");
  assert.equal(brief({ answer: "x" }), '{"answer":"x"}');
  // What is left of a row that was cut.
  assert.equal(brief([{ role: "user" }]), '[{"role":"user"}]');
  assert.equal(brief([]), "[]");
});

test("the answer is that of the nearest span below, and of the trace where there is none", () => {
  const answer = (words, model = "m") => ({ system: [], input: [], output: [text("assistant", words)], model });
  const span = (span_id, parent_id, found) => ({ span_id, parent_id, start: Number(span_id), carrier: false, answer: found });
  const trace = { spans: [
    span("1", null), span("2", "1"), span("3", "2", answer("first")), span("4", "2", answer("last")),
    span("5", "2", answer("of a tool", null)), span("6", "1"), span("7", "4", answer("deeper")),
  ] };
  assert.equal(outputOf(answering(trace, trace.spans[0]).answer), "last");
  assert.equal(outputOf(answering(trace, trace.spans[6]).answer), "deeper");
  assert.equal(outputOf(answering(trace, trace.spans[5]).answer), "last");
  assert.equal(outputOf(answering(trace, undefined).answer), "last");
  const circle = { spans: [span("1", "2"), span("2", "1")] };
  assert.equal(answering(circle, circle.spans[0]), undefined);
});
