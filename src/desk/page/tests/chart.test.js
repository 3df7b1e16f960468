// What a chart shows of an answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { aligned, bucketParams, comparison, valueCount, lines, measureName, panels, tabbed } from "../pure/chart.js";

const series = (group, points, more = {}) => ({ group, is_other: false, values: 3, overall: { avg: 2 }, points: { avg: points }, ...more });
const data = {
  field: "feedback.stars", measures: ["avg"], buckets: [0, 10, 20, 30], from: 5, to: 28, values: 3, left_out: {},
  total: series(null, [1, null, 3]), groups: [],
};

test("a comparison is read from its measure", () => {
  assert.deepEqual(comparison("percentage>=4"), { operator: ">=", value: "4" });
  assert.equal(comparison("avg"), undefined);
  assert.equal(measureName("percentage!=4"), "Share ≠ 4");
});

test("measures of one unit share an axis", () => {
  assert.deepEqual(panels(["avg", "count", "p95"], false), [["avg", "p95"], ["count"]]);
  assert.deepEqual(panels(["avg", "p95"], true), [["avg"], ["p95"]]);
});

test("a gap stays a gap", () => {
  assert.deepEqual(lines(data, ["avg"])[0].points, [1, null, 3]);
});

test("what is compared with stands beside it", () => {
  const previous = { ...data, compare: { with: "previous", buckets: [-30, -20, -10, 0], total: series(null, [7, 8]) } };
  assert.deepEqual(aligned(previous, [7, 8]), [7, 8, null]);
  const version = { ...data, compare: { with: "1.0", buckets: [10, 20, 30, 40], total: series(null, [7, 8, 9]) } };
  assert.deepEqual(lines(version, ["avg"])[1].points, [null, 7, 8]);
});

test("a bucket is narrowed to itself, inside what is asked for", () => {
  const asked = (at, one, params = "filter=a+is+1&group=v") => Object.fromEntries(bucketParams(new URLSearchParams(params), { ...data, groups: [series("x", []), series(null, []), series(null, [], { is_other: true })] }, at, one));
  assert.deepEqual(asked(0), { filter: "a is 1", field: "feedback.stars", from: "5", to: "10" });
  assert.deepEqual(asked(2).to, "28");
  assert.equal(asked(1, series("x y")).filter, 'a is 1 and v is "x y"');
  assert.equal(asked(1, series("5")).filter, "a is 1 and v is 5");
  assert.equal(asked(1, series(null)).filter, "a is 1 and has no v");
  assert.equal(asked(1, series(null, [], { is_other: true })).filter, 'a is 1 and v is not x and has v');
});

test("the number of values names what is left out", () => {
  assert.equal(valueCount(data), "3 values");
  assert.equal(valueCount({ ...data, values: 1234, left_out: { string: 2, number: 0 } }), "1,234 values; left out because of their type: 2 text");
  assert.equal(valueCount({ ...data, out_of_time: 2 }), "3 values; left out because no clock shows their time: 2");
});

test("a copied table has a cell for each cell", () => {
  assert.equal(tabbed(["a", "b"], [["x\ty", 1], [null, ""]]), "a\tb\nx y\t1\n\t");
  assert.equal(tabbed(["=a", " +b"], [["\n@x", -1.5], ["＝1", "-x"]]), "'=a\t' +b\n' @x\t-1.5\n'＝1\t'-x");
});

test("a grouped chart is compared group by group, each pair of one colour", () => {
  const groups = [series("a", [1, 2, 3]), series("b", [4, 5, 6]), series(null, [7, 8, 9], { is_other: true })];
  const compare = { with: "1.0", buckets: [0, 10, 20, 30], total: series(null, []), groups: [series("b", [0, 0, 1])] };
  const found = lines({ ...data, groups, compare }, ["avg"]).map(({ name, role, place }) => [name, role, place]);
  assert.deepEqual(found, [["a", "own", 0], ["b", "own", 1], ["b, version 1.0", "compared", 1], ["other", "other", 2]]);
});
