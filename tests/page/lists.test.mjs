// What an open list costs while other things arrive, and what it says of texts that are cut.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { carrier, id, span } from "./otlp.mjs";
import { close, Desk, open, quit, rows, settled, until } from "./rig.mjs";

const ROWS = 50;
const start = Date.now() - 3_600_000;
const trace = (number) => id(0xabc000 + number, 32);
/** Answers with long inputs and outputs, and feedback. */
const long = (number) => span({
  name: `long ${number}`, trace: trace(number), span: id(number, 16), start: start + number,
  said: { inputs: { question: `${number} ${"q".repeat(60_000)}` }, outputs: Object.fromEntries(Array.from({ length: 14 }, (_, at) => [`part${at}`, "a".repeat(5_000)])), feedback: { rating: true, comment: `comment ${number} ${"c".repeat(2_000)}` } },
});
let others = 0;
const unrelated = () => span({ name: "unrelated", trace: id(0xdef000 + (others += 1), 32), span: id(0x5000 + others, 16), start: start + 60_000 + others });

let desk;
before(async () => {
  desk = await Desk.start();
  for (let number = 1; number <= ROWS; number += 1) await desk.send(long(number));
});
after(quit);

/** The bytes that requests whose path begins so have brought: asked of the browser itself. */
async function measured(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  const paths = new Map();
  const requests = [];
  session.on("Network.requestWillBeSent", ({ requestId, request }) => paths.set(requestId, new URL(request.url).pathname));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => requests.push([paths.get(requestId), encodedDataLength]));
  const of = (path) => requests.filter(([asked]) => asked.startsWith(path));
  return {
    count: (path) => of(path).length,
    bytes: (path) => of(path).reduce((sum, [, bytes]) => sum + bytes, 0),
  };
}

for (const view of ["dataset", "comments"]) {
  test(`${view}: what concerns no row of a list is not a reason to send it again`, async () => {
    const page = await open(desk, `/${view}`);
    await settled(page);
    await until(() => page.locator(".cut-note").count(), ROWS);
    const path = `/api/v1/${view}`;
    const network = await measured(page);
    for (let sent = 1; sent <= 8; sent += 1) {
      await desk.send(unrelated());
      await until(() => network.count(path) >= sent, true);
    }
    const bytes = network.bytes(path);
    console.log(`${view}: ${bytes} bytes for 8 unrelated spans, ${network.count(path)} requests`);
    assert.ok(bytes < 10_000, `${bytes} bytes`);

    // What concerns a row is there at once.
    const about = { trace: trace(ROWS), span: id(ROWS, 16) };
    await desk.send(carrier({ about, span: id(0x6000 + view.length, 16), time: Date.now(), said: { feedback: { note: `of ${view}` } } }));
    await page.getByText(`of ${view}`).first().waitFor();
    await close(page);
  });
}

test("a long list that does change is sent again at a moderate rate", async () => {
  const page = await open(desk, "/dataset");
  await settled(page);
  await until(() => page.locator(".cut-note").count(), ROWS);
  const network = await measured(page);
  const path = "/api/v1/dataset";
  const began = performance.now();
  for (let number = 1; number <= 3; number += 1) {
    const about = { trace: trace(number), span: id(number, 16) };
    await desk.send(carrier({ about, span: id(0x7000 + number, 16), time: Date.now(), said: { feedback: { mark: `mark ${number}` } } }));
    await page.getByText(`mark ${number}`).waitFor();
  }
  const rate = network.bytes(path) / (performance.now() - began);
  console.log(`dataset: ${network.bytes(path)} bytes for 3 changes, ${rate.toFixed(0)} bytes a ms`);
  assert.ok(rate < 400, `${rate} bytes a ms`);
  await close(page);
});

test("a row whose texts are cut says so, and leads to all of them", async () => {
  const page = await open(desk, "/comments?search=comment+7+");
  await until(() => page.locator(".comment").count(), 1);
  const comment = page.locator(".comment");
  await comment.getByText("Long texts are cut here").waitFor();
  await comment.locator("blockquote").getByRole("button", { name: "Show more" }).click();
  assert.equal((await comment.locator("blockquote .text").textContent()).length, 1_001);
  await comment.getByRole("link", { name: "show all of it" }).click();
  await page.locator("h1", { hasText: "long 7" }).waitFor();
  await page.getByRole("button", { name: "Show all 2,010 characters" }).click();
  await close(page);

  const list = await open(desk, "/traces");
  await until(async () => (await rows(list)).includes(trace(ROWS)), true);
  const row = list.locator(`tr[data-key="${trace(ROWS)}"]`);
  await row.getByText("Long texts are cut here.").waitFor();
  await desk.send(unrelated());
  await list.getByRole("link", { name: "unrelated" }).first().waitFor();
  assert.equal(await list.locator("tr", { hasText: "unrelated" }).locator(".cut-note").count(), 0);
  await close(list);
});

test("a value that is cut is not offered for a filter, which nothing would meet", async () => {
  await desk.send(span({ name: "short", trace: trace(900), span: id(900, 16), start, said: { feedback: { comment: "short" } } }));
  const page = await open(desk, "/traces");
  const offered = (search) => page.evaluate(async (search) => {
    const { valueOptions } = await import("/page/state/fields.js");
    return (await valueOptions("feedback.comment", search, new URLSearchParams())).map(({ value }) => value);
  }, search);
  assert.deepEqual(await offered("comment"), []);
  assert.deepEqual(await offered("short"), ["short"]);
  await close(page);
});
