// Answers of models, by each convention: as a conversation, and in few words in lists.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { id } from "./otlp.mjs";
import { accessibility, close, Desk, open, quit, settled, until } from "./rig.mjs";

const FILES = [
  ["semantic_conventions", 0x11, "chat gpt-4o"], ["semantic_conventions_structured", 0x12, "chat gpt-4o"],
  ["openinference", 0x13, "ChatCompletion"], ["openllmetry", 0x14, "openai.chat"],
  ["ai_sdk", 0x15, "ai.generateText.doGenerate"], ["langfuse", 0x16, "answer"],
];

let desk;
before(async () => {
  desk = await Desk.start();
  for (const [file] of FILES) {
    const body = readFileSync(new URL(`../it/desk/answers/${file}.json`, import.meta.url));
    const answer = await fetch(`${desk.http}/v1/traces`, { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.equal(answer.status, 200);
  }
});
after(quit);

for (const [file, trace, name] of FILES) {
  test(`${file}: messages by role, a call with its result folded in, model and tokens`, async () => {
    const page = await open(desk, `/traces/${id(trace, 32)}?span=${id(file === "ai_sdk" ? 3 : 2, 16)}`);
    await settled(page);
    const card = page.locator(".span-card");
    await card.locator("h2", { hasText: name }).waitFor();
    const messages = card.locator(".messages > li");
    const roles = () => messages.locator(".role").allTextContents();
    await until(roles, ["user", "assistant", "assistant"]);
    assert.equal(await messages.nth(0).locator("p").textContent(), "Weather in Paris?");
    assert.equal(await messages.nth(2).locator("p").textContent(), "It rains in Paris, at 14 °C.");
    const facts = await card.locator(".conversation > .note").textContent();
    assert.ok(facts.includes("gpt-4o-2024-08-06") && facts.includes("97 in, 12 out tokens"), facts);

    const call = messages.nth(1).locator("details", { hasText: "Tool call get_weather" });
    assert.equal(await call.locator("pre").isVisible(), false);
    await call.locator("summary").click();
    assert.equal(await call.locator("pre").textContent(), '{\n  "location": "Paris"\n}');
    assert.equal(await call.locator("p").textContent(), "rainy, 14 °C");
    const system = card.locator("details.folded", { hasText: "System prompt" });
    await system.locator("summary").click();
    await system.getByText("Be brief.").waitFor();
    assert.deepEqual(await accessibility(page), []);
    await close(page);
  });
}

test("feedback about a request shows the answer of the model below it, and leads to its span", async () => {
  const page = await open(desk, `/traces/${id(0x14, 32)}`);
  await settled(page);
  const card = page.locator(".span-card");
  await card.locator("h2", { hasText: "POST /ask" }).waitFor();
  await card.locator(".messages > li", { hasText: "It rains in Paris" }).waitFor();
  assert.deepEqual(await accessibility(page), []);
  await card.getByRole("link", { name: "openai.chat" }).click();
  await card.locator("h2", { hasText: "openai.chat" }).waitFor();
  assert.equal(await card.getByText("Answered in").count(), 0);
  await close(page);
});

test("the data set has the answer of the model below a request in few words, and the model", async () => {
  const page = await open(desk, "/dataset");
  await settled(page);
  const rows = page.locator('table[aria-label="Data set"] tbody tr');
  await until(() => rows.count(), FILES.length);
  for (const text of await rows.allTextContents()) {
    assert.ok(text.includes("Weather in Paris?") && text.includes("It rains in Paris, at 14 °C.") && text.includes("gpt-4o"), text);
  }
  await close(page);
});
