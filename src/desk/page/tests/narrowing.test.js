import assert from "node:assert/strict";
import test from "node:test";
import { narrowedBy, narrowing } from "../pure/narrowing.js";

const params = (object) => new URLSearchParams(object);

test("the filters of an address are named in words", () => {
  assert.deepEqual(narrowing(params({})), []);
  assert.deepEqual(
    narrowing(params({ filter: "feedback.rating = false and has ground truth", service: "chat", range: "7d" })),
    ["feedback.rating is false", "has ground truth", "service chat", "last 7 days"],
  );
  assert.deepEqual(narrowing(params({ filter: "((", range: "x" })), ["(("]);
  assert.equal(narrowing(params({ from: "2020-01-01", to: "1577923200000" })).length, 2);
});

test("a saved chart is narrowed by the dashboard", () => {
  const by = (chart, shared) => Object.fromEntries(narrowedBy(params(chart), params(shared)));
  const chart = { field: "feedback.stars", filter: "has ground truth", service: "chat", range: "7d" };
  assert.deepEqual(by(chart, {}), chart);
  assert.deepEqual(by(chart, { filter: "feedback.rating is false and has ground truth", range: "30d" }),
    { ...chart, filter: "has ground truth and feedback.rating is false", range: "30d" });
  assert.deepEqual(by(chart, { from: "1" }), { field: "feedback.stars", filter: "has ground truth", service: "chat", from: "1" });
  // Of two services there is nothing, which is what both together ask for.
  assert.deepEqual(by(chart, { service: "search" }), { ...chart, filter: "has ground truth and service.name is search" });
  assert.deepEqual(by({ field: "a" }, { service: "search" }), { field: "a", service: "search" });
  assert.equal(by({ field: "a", filter: "((" }, { filter: "b is 1" }).filter, "(( and b is 1");
});
