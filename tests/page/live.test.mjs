// What arrives is on the open page, without reload, and nobody loses their place.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { demo } from "./data.mjs";
import { carrier, id, span } from "./otlp.mjs";
import { close, Desk, open, quit, rows, settled, sleep, until } from "./rig.mjs";

const start = Date.now() - 60_000;
const trace = (number) => id(0xfeed00 + number, 32);
const answer = (number, said, more) => span({ name: `answer ${number}`, trace: trace(number), span: id(number, 16), start: start + number, said, ...more });
const about = (number) => ({ trace: trace(number), span: id(number, 16) });

let desk;
before(async () => {
  desk = await Desk.start();
});
after(quit);

test("an empty desk says what to do next", async () => {
  const page = await open(desk, "/");
  await page.getByRole("heading", { name: "No traces yet" }).waitFor();
  await page.getByText("OTEL_EXPORTER_OTLP_ENDPOINT").waitFor();
  await close(page);
});

test("a thumb is on the open page within two seconds", async () => {
  await desk.send(answer(1));
  const page = await open(desk, "/traces");
  await page.getByRole("link", { name: "answer 1" }).waitFor();
  await page.evaluate(() => (globalThis.sameDocument = true));
  assert.equal(await page.getByText("thumbs up").count(), 0);

  const sent = performance.now();
  await desk.send(carrier({ about: about(1), span: id(101, 16), time: Date.now(), said: { feedback: { rating: true } } }));
  await page.getByText("thumbs up").waitFor({ timeout: 2000 });
  assert.ok(performance.now() - sent < 2000);

  await desk.send(answer(2, { feedback: { rating: false } }));
  await page.getByRole("link", { name: "answer 2" }).waitFor({ timeout: 2000 });
  assert.equal(await page.evaluate(() => globalThis.sameDocument), true);
  await close(page);
});

test("a late flip moves list, chart and trace, and the old value counts nowhere", async () => {
  await desk.send(answer(3, { feedback: { flip: true } }));
  const list = await open(desk, "/traces?filter=feedback.flip+is+true");
  const chart = await open(desk, "/charts?field=feedback.flip&measure=percent-true,count&table=1");
  const one = await open(desk, `/traces/${trace(3)}`);
  const share = () => chart.locator(".chart-figures dd .value").allTextContents();
  await until(() => rows(list), [trace(3)]);
  await until(share, ["100.0 %", "1"]);
  const shown = one.locator(".of-feedback dd .leaf-value");
  await until(() => shown.allTextContents(), ["true"]);

  await desk.send(carrier({ about: about(3), span: id(103, 16), time: Date.now(), said: { feedback: { flip: false } }, by: "ada" }));
  await until(() => list.getByRole("heading", { name: "No matching traces" }).count(), 1, 3000);
  await until(share, ["0.0 %", "1"], 3000);
  await until(() => shown.allTextContents(), ["false"], 3000);
  const cells = await chart.locator(".figures-table tbody td").allTextContents();
  assert.deepEqual(cells, ["0.0 %", "1"]);

  await one.getByText("History").click();
  await one.getByText("ada").waitFor();
  const history = await one.locator(".history > li").allTextContents();
  assert.equal(history.length, 2);
  assert.match(history[0], /ada.*late.*feedback\.flip.*false/s);

  // Taken back: it counts nowhere.
  await desk.send(carrier({ about: about(3), span: id(104, 16), time: Date.now() + 5, said: {}, cleared: ["feedback.flip"], by: "ada" }));
  await until(() => one.locator(".retracted").count(), 1, 3000);
  await until(() => chart.getByRole("heading", { name: "No matching values" }).count(), 1, 3000);
  for (const page of [list, chart, one]) await close(page);
});

test("a carrier is shown below its target, and its own trace leads there", async () => {
  await desk.send(answer(4));
  const vote = carrier({ about: about(4), span: id(105, 16), time: Date.now(), said: { feedback: { rating: true } } });
  await desk.send(vote);
  const of = await open(desk, `/traces/${trace(4)}`);
  await of.getByLabel("Show 1 carrier").check();
  await until(() => of.getByRole("treeitem").count(), 2);
  assert.equal(await of.getByRole("treeitem").nth(1).getAttribute("aria-level"), "2");
  await of.locator("h1", { hasText: "answer 4" }).waitFor();

  const own = await open(desk, `/traces/${vote.json.traceId}`);
  await own.getByRole("heading", { name: "Late feedback" }).waitFor();
  await own.locator("#main .parts, main .parts").first().getByRole("link", { name: trace(4) }).click();
  await own.locator("h1", { hasText: "answer 4" }).waitFor();
  for (const page of [of, own]) await close(page);
});

test("a refresh keeps the scroll, the focus and what is typed", async () => {
  const spans = demo();
  const own = await Desk.start(spans);
  const page = await open(own, "/traces", { viewport: { width: 1280, height: 500 } });
  await settled(page);
  const fourth = page.locator("tbody tr").nth(20).locator("a");
  await fourth.focus();
  const name = await fourth.getAttribute("href");
  const top = () => page.evaluate(() => document.activeElement.getBoundingClientRect().top);
  const before = await top();
  await own.send(answer(900));
  await until(async () => (await rows(page))[0], trace(900), 3000);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), name);
  assert.ok(Math.abs((await top()) - before) < 2, `${before} and ${await top()}`);

  await page.getByRole("button", { name: "Filter", exact: true }).click();
  await page.getByRole("combobox", { name: "Field" }).pressSequentially("feedback.co");
  await own.send(answer(901));
  await until(async () => (await rows(page))[0], trace(901), 3000);
  assert.equal(await page.getByRole("combobox", { name: "Field" }).inputValue(), "feedback.co");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "combobox");
  await close(page);
  await own.stop();
});

test("a desk that is gone is said, and found again by asking", async () => {
  const own = await Desk.start([answer(1)]);
  const page = await open(own, "/traces");
  await until(() => page.locator(".connection").getAttribute("data-state"), "live");
  await until(() => rows(page), [trace(1)]);
  await own.stop();
  await until(() => page.locator(".connection").getAttribute("data-state"), "lost");
  await sleep(50);
  assert.deepEqual(await rows(page), [trace(1)]);
  await page.context().close();
});

test("a link to a span of a long trace shows it, and its feedback", async () => {
  const long = trace(900);
  const start = Date.now() - 3_600_000;
  for (let first = 1; first <= 10_400; first += 1_300) {
    const spans = Array.from({ length: 1_300 }, (_, at) => first + at);
    await desk.send(...spans.map((number) => span({ name: `step ${number}`, trace: long, span: id(0x900000 + number, 16), start: start + number })));
  }
  const page = await open(desk, `/traces/${long}?span=${id(0x900000 + 10_390, 16)}`);
  await page.getByRole("heading", { name: "step 10390" }).waitFor();
  await close(page);
});
