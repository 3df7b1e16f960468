// The page's parser agrees with the desk's: both tests read filter_vectors.json.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { and, FilterError, format, isTyped, parse } from "../pure/filter.js";

const VECTORS = JSON.parse(readFileSync(new URL("../../query/filter_vectors.json", import.meta.url), "utf8"));

/** A condition as the vectors write it. */
function inVector(condition) {
  if ("has" in condition) return condition;
  const { field, operator, value, quoted } = condition;
  return { field, operator, value, text_only: quoted || !isTyped(value) };
}

test("each vector has its conditions or its error", () => {
  assert.ok(VECTORS.length >= 40);
  for (const { text, conditions, canonical = text, error } of VECTORS) {
    if (error !== undefined) {
      assert.throws(() => parse(text), (thrown) => thrown instanceof FilterError && thrown.message === error, `${text}: ${error}`);
      continue;
    }
    assert.deepEqual(parse(text).map(inVector), conditions, text);
    assert.equal(format(parse(text)), canonical, text);
    assert.deepEqual(parse(canonical).map(inVector), conditions, canonical);
  }
});

test("the form gets the parts of each condition", () => {
  assert.deepEqual(parse('feedback.stars > 3 and has no feedback and x is "5"'), [
    { field: "feedback.stars", operator: ">", value: "3", quoted: false },
    { has: "feedback", negated: true },
    { field: "x", operator: "is", value: "5", quoted: true },
  ]);
});

test("any field and any value survive writing and parsing", () => {
  const texts = ["x", "has", "no", "ground", "feedback", "a b", 'q"q', "<script>", "\\", "and", "is", "NOT", "", "5", "true", "é", "\u2028", "a=b", "line\nbreak", "\u{1F600}"];
  for (const field of texts) {
    for (const value of texts) {
      const conditions = [{ field, operator: "is", value, quoted: true }, { has: "field", field, negated: true }];
      const [comparison, presence] = parse(format(conditions));
      assert.deepEqual(inVector(comparison), inVector(conditions[0]));
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
