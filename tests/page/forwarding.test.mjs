// Forwarding on the view of the status: what a backend was told, why it is paused, and trying again. Model and tokens as
// fields of every convention.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { id, span } from "./otlp.mjs";
import { accessibility, close, Desk, open, quit, settled, until } from "./rig.mjs";

/** Those that run: they would keep a test that has failed from ending. */
const servers = new Set();

after(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  await quit();
});

/** Answers as Phoenix does: nothing without a key, while it asks for one; and a span that has not come is missing. */
async function phoenix() {
  const state = { asksForKey: true, missing: new Set(), annotations: new Map() };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const answer = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (state.asksForKey) return answer(401, { detail: "Invalid token" });
    const { data } = JSON.parse(Buffer.concat(chunks));
    const missing = data.map((one) => one.span_id).filter((one) => state.missing.has(one));
    if (missing.length) return response.writeHead(404).end(`Spans with IDs ${missing.join(", ")} do not exist.`);
    for (const one of data) state.annotations.set(`${one.name} ${one.span_id}`, one.result);
    return answer(200, { data: data.map((_, at) => ({ id: String(at) })) });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  servers.add(server);
  return { state, url: `http://127.0.0.1:${server.address().port}` };
}

test("a backend that refuses access is named with the remedy, and told when it is tried again", async () => {
  const backend = await phoenix();
  const desk = await Desk.start([], ["--forward", `phoenix=${backend.url}`]);
  const start = Date.now() - 60_000;
  const rated = (number) => span({
    name: "answer", trace: id(number, 32), span: id(number, 16), start, said: { feedback: { rating: number === 1 } },
  });
  await desk.send(rated(1));
  const page = await open(desk, "/status");
  await settled(page);
  const card = page.locator("section.card", { hasText: `Forwarding to phoenix=${backend.url}` });
  await card.getByRole("alert").getByText("check PHOENIX_API_KEY").waitFor();
  const fact = (name) => card.locator(`dl.leaves > div:has(dt:text-is("${name}")) > dd`).textContent();
  await until(() => fact("Waiting for the backend"), "1 target");
  assert.deepEqual(await accessibility(page), []);

  backend.state.asksForKey = false;
  await card.getByRole("button", { name: "Try again now" }).click();
  await until(() => fact("Told"), "1 record");
  await until(() => card.getByRole("alert").count(), 0);
  assert.deepEqual(backend.state.annotations.get(`rating ${id(1, 16)}`), { score: 1, label: "true" });

  backend.state.missing.add(id(2, 16));
  await desk.send(rated(2));
  await until(() => fact("Waiting for their span"), "1 target");
  await card.getByRole("link", { name: id(2, 32) }).waitFor();
  assert.deepEqual(await accessibility(page), []);
  backend.state.missing.clear();
  await card.getByRole("button", { name: "Try again now" }).click();
  await until(() => fact("Told"), "2 records");
  page.trouble.splice(0, Infinity, ...page.trouble.filter((text) => !text.includes("401")));
  await close(page);
  await desk.stop();
});

test("a desk that forwards nothing says nothing about it", async () => {
  const desk = await Desk.start();
  const page = await open(desk, "/status");
  await settled(page);
  assert.equal(await page.getByText("Forwarding to").count(), 0);
  await close(page);
  await desk.stop();
});

test("the model filters, and tokens are charted, whatever their convention", async () => {
  const desk = await Desk.start();
  for (const file of ["semantic_conventions", "openinference", "ai_sdk"]) {
    const request = JSON.parse(readFileSync(new URL(`../it/desk/answers/${file}.json`, import.meta.url)));
    const version = { key: "service.version", value: { stringValue: "1.1" } };
    for (const group of request.resourceSpans) group.resource.attributes.push(version);
    const body = JSON.stringify(request);
    const answer = await fetch(`${desk.http}/v1/traces`, { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.equal(answer.status, 200);
  }
  const filter = 'answer.model is "gpt-4o-2024-08-06"';
  const found = await desk.ids({ filter });
  assert.equal(found.length, 3);
  const page = await open(desk, `/traces?${new URLSearchParams({ filter })}`);
  await settled(page);
  await until(() => page.locator("table tbody a.row-link").count(), 3);
  await page.goto(`${desk.page}/charts?${new URLSearchParams({ field: "answer.tokens.total", measure: "sum", table: "1", bucket: "day" })}`);
  await settled(page);
  const { total } = await desk.get("chart", { field: "answer.tokens.total", measure: "sum", bucket: "day" });
  assert.deepEqual([total.values, total.overall.sum], [3, 408]); // the calls of a trace have 136
  await page.getByRole("cell", { name: "408" }).first().waitFor();
  assert.deepEqual(await accessibility(page), []);
  await close(page);
  await desk.stop();
});
