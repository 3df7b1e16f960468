// A difference leaves nothing out and invents nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, words } from "../pure/difference.js";

const side = (runs, other) => runs.filter(({ kind }) => kind !== other).map(({ text }) => text).join("");
const of = (before, after) => difference(before, after).map(({ kind, text }) => `${{ same: " ", removed: "-", added: "+" }[kind]}${text}`);

test("words are told apart, not letters", () => {
  assert.deepEqual(of("The capital is New York City.", "The capital is Albany."), [" The capital is ", "-New York City", "+Albany", " ."]);
  assert.deepEqual(of("a b c", "a x c"), [" a ", "-b", "+x", "  c"]);
  assert.deepEqual(of("same", "same"), [" same"]);
  assert.deepEqual(of("", "new"), ["+new"]);
  assert.deepEqual(of("old", ""), ["-old"]);
  assert.deepEqual(of("", ""), []);
});

test("words of a script without spaces are words too", () => {
  assert.ok(words("返品の送料は当社が負担します。").length > 3);
  assert.deepEqual(of("三年です", "二年です").at(-1).slice(-2), "です");
});

test("both texts can be read from it, whatever they are", () => {
  let seed = 1;
  const random = () => ((seed = (seed * 48271) % 2147483647) / 2147483647);
  const vocabulary = ["a", "bb", "c", " ", " ", "\n", ".", "é", "日本", "\u{1F600}", "<b>"];
  const text = () => Array.from({ length: Math.floor(random() * 30) }, () => vocabulary[Math.floor(random() * vocabulary.length)]).join("");
  for (let turn = 0; turn < 500; turn += 1) {
    const [before, after] = [text(), text()];
    const runs = difference(before, after);
    assert.equal(side(runs, "added"), before);
    assert.equal(side(runs, "removed"), after);
  }
});

test("texts of any length end", () => {
  const long = Array.from({ length: 6000 }, (_, at) => `w${at}`).join(" ");
  const other = Array.from({ length: 6000 }, (_, at) => `v${at}`).join(" ");
  const runs = difference(long, other);
  assert.equal(side(runs, "added"), long);
  assert.equal(side(runs, "removed"), other);
});
