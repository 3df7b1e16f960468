// The builder and the text say the same. The cases are those of the desk's own reader.

import assert from "node:assert/strict";
import { test } from "node:test";
import { and, FilterError, format, parse } from "../pure/filter.js";

const again = (text) => format(parse(text));

test("conditions are written as they are read", () => {
  for (const text of [
    "feedback.rating is false",
    "feedback.rating is not 5 and service.name is chat",
    'feedback.comment contains "New York"',
    "feedback.stars >= 4 and feedback.stars < 4.5",
    "has no feedback",
    "has ground truth and has no feedback.edits.0.value",
    '"feedback" is x',
    'name is "not"',
    'name is "NOT"',
    'a is "5"',
    'a is "say \\"x\\" \\\\ and y"',
    'metadata.plan is "日本 語"',
    "",
  ]) assert.equal(again(text), text);
});

test("short forms become the long ones", () => {
  assert.equal(again('a.b=1 AND a.c!="2"'), 'a.b is 1 and a.c is not "2"');
  assert.equal(again("has is 1"), '"has" is 1');
  assert.equal(again("has ground_truth"), "has ground truth");
  assert.equal(again("  a<=1  "), "a <= 1");
});

test("the builder gets what the text says", () => {
  assert.deepEqual(parse('feedback.stars > 3 and has no feedback and x is "5"'), [
    { field: "feedback.stars", operator: ">", value: "3", quoted: false },
    { has: "feedback", negated: true },
    { field: "x", operator: "is", value: "5", quoted: true },
  ]);
});

test("what is no filter says what is wrong", () => {
  for (const [text, message] of [
    ["a", "an operator"], ["a is 1 b is 2", "`and` before `b`"], ["< 1", "expected a field"], ['a is "x', "not one"],
    ["a like b", "expected is"], ["a is", "a value"], ["a is 1 and", "a condition"], ["has ground", "`truth`"], ["a !", "lone"], ["has", "what it has"],
  ]) assert.throws(() => parse(text), (error) => error instanceof FilterError && error.message.includes(message), text);
});

test("any field and any value come back as they went in", () => {
  const texts = ["x", "has", "no", "ground", "feedback", "a b", 'q"q', "<script>", "\\", "and", "is", "NOT", "", "5", "true", "é", "\u2028", "a=b", "line\nbreak", "\u{1F600}"];
  for (const field of texts) {
    for (const value of texts) {
      const conditions = [{ field, operator: "is", value, quoted: true }, { has: "field", field, negated: true }];
      const [comparison, presence] = parse(format(conditions));
      assert.deepEqual(comparison, conditions[0]);
      assert.deepEqual(presence, conditions[1]);
      const [bare] = parse(format([{ field, operator: "contains", value, quoted: false }]));
      assert.equal(bare.value, value);
    }
  }
});

test("a condition is added once", () => {
  const condition = { has: "feedback", negated: false };
  assert.equal(and("a is 1", condition), "a is 1 and has feedback");
  assert.equal(and("a is 1 and has feedback", condition), "a is 1 and has feedback");
});
