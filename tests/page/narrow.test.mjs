// A filter applies to everything; the address holds what is shown.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { demo } from "./data.mjs";
import { id, span } from "./otlp.mjs";
import { allRows, close, Desk, open, quit, rows, settled, until } from "./rig.mjs";

let desk;
before(async () => {
  desk = await Desk.start(demo());
});
after(quit);

const FILTER = "feedback.rating is false";
const query = new URLSearchParams({ filter: FILTER }).toString();
const total = (page) => page.locator(".heading .note").first().textContent();

async function download(page, name) {
  await page.locator("summary", { hasText: "Export" }).click();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).click()]);
  const text = await readFile(await file.path(), "utf8");
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

test("rating is false narrows lists, counts, charts and export alike", async () => {
  const expected = await desk.ids({ filter: FILTER });
  const all = await desk.ids({});
  assert.ok(expected.length > 50 && expected.length < all.length);

  const page = await open(desk, `/traces?${query}`);
  await settled(page);
  assert.equal(await total(page), `${expected.length} traces`);
  const exported = await download(page, "Traces JSON lines");
  assert.deepEqual(exported.map((row) => row.trace_id).sort(), [...expected].sort());
  assert.deepEqual(await allRows(page), expected);

  // From view to view it is kept.
  await page.getByRole("link", { name: "Comments" }).click();
  await page.waitForURL(/comments\?filter/);
  await settled(page);
  const comments = await desk.get("comments", { filter: FILTER, limit: 500 });
  await until(() => total(page), `${comments.total} comments`);

  await page.getByRole("link", { name: "Sessions" }).click();
  const sessions = await desk.get("sessions", { filter: FILTER });
  await until(() => total(page), `${sessions.total} sessions`);

  await page.getByRole("link", { name: "Data set" }).click();
  const dataset = await desk.get("dataset", { filter: FILTER });
  await until(() => total(page), `${dataset.total} examples with feedback`);
  const examples = await download(page, "Data set JSON lines");
  assert.equal(examples.length, dataset.total);

  await page.goto(`${desk.page}/charts?field=feedback.stars&measure=count&${query}`);
  const chart = await desk.get("chart", { field: "feedback.stars", filter: FILTER });
  await until(() => page.locator(".chart-figures .value").textContent(), String(chart.values));
  await page.locator(".holds", { hasText: `${chart.values} values` }).waitFor();
  const buckets = await download(page, "Chart JSON lines");
  assert.equal(buckets.reduce((sum, row) => sum + (row.count ?? 0), 0), chart.values);
  await close(page);
});

test("a filter is built by choosing, and is the same as its text", async () => {
  const page = await open(desk, "/traces");
  await settled(page);
  await page.getByRole("button", { name: "Filter", exact: true }).click();
  await page.getByRole("combobox", { name: "Field" }).pressSequentially("metadata.pl");
  await page.getByRole("option", { name: /metadata\.plan/ }).click();
  await page.getByRole("combobox", { name: "Value" }).click();
  await page.getByRole("option", { name: /^team/ }).click();
  await page.getByRole("button", { name: "Apply" }).click();
  await page.waitForURL(/filter=metadata\.plan\+is\+team/);
  await until(() => total(page), `${(await desk.get("traces", { filter: "metadata.plan is team" })).total} traces`);

  await page.getByRole("button", { name: "Edit as text" }).click();
  const text = page.getByLabel("Filter as text");
  assert.equal(await text.inputValue(), "metadata.plan is team");
  await text.fill('metadata.plan is team and feedback.comment contains "New York"');
  await page.getByRole("button", { name: "Apply" }).click();
  const both = await desk.get("traces", { filter: 'metadata.plan is team and feedback.comment contains "New York"' });
  await until(() => total(page), `${both.total} traces`);
  assert.equal(await page.locator(".condition").count(), 2);

  await text.fill("metadata.plan is");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText('Incomplete: add a value after "is"').waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Remove metadata.plan is team" }).click();
  await page.waitForURL((url) => url.searchParams.get("filter") === 'feedback.comment contains "New York"');
  await close(page);
});

test("a text among other types is chosen as a text", async () => {
  const answer = (number, mixed) => span({ name: `answer ${number}`, trace: id(number, 32), span: id(number, 16), start: Date.now() - 60_000, said: { feedback: { mixed } } });
  const own = await Desk.start([answer(1, true), answer(2, true), answer(3, "true")]);
  const page = await open(own, "/traces");
  await settled(page);
  await page.getByRole("button", { name: "Filter", exact: true }).click();
  await page.getByRole("combobox", { name: "Field" }).pressSequentially("feedback.mi");
  await page.getByRole("option", { name: /feedback\.mixed/ }).click();
  await page.getByRole("combobox", { name: "Value" }).click();
  await page.getByRole("option", { name: "true yes / no · 2" }).waitFor();
  await page.getByRole("option", { name: "true text · 1" }).click();
  await page.getByRole("button", { name: "Apply" }).click();
  await page.waitForURL((url) => url.searchParams.get("filter") === 'feedback.mixed is "true"');
  await until(() => rows(page), [id(3, 32)]);
  await close(page);
  await own.stop();
});

test("back, forward and a copied address restore the view", async () => {
  const page = await open(desk, "/traces");
  await settled(page);
  const first = await rows(page);
  await page.locator('a[rel="next"]').click();
  await until(async () => (await rows(page))[0] !== first[0], true);
  await settled(page);
  const second = await rows(page);
  const copied = page.url();
  await page.locator("tbody tr").nth(3).locator("a").click();
  await page.getByRole("tree").waitFor();
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
  const trace = page.url();
  await page.getByRole("treeitem").nth(1).click();
  await page.waitForURL(/span=/);

  await page.goBack();
  await until(() => rows(page), second);
  await page.goBack();
  await until(() => rows(page), first);
  await page.goForward();
  await until(() => rows(page), second);
  await page.goForward();
  await page.getByRole("tree").waitFor();
  assert.ok(page.url().startsWith(trace));
  await close(page);

  const other = await open(desk, copied.slice(desk.page.length));
  await until(() => rows(other), second);
  await other.getByText("51–100 of").waitFor();
  await close(other);

  const path = `/charts?field=feedback.stars&measure=avg,p95&group=&bucket=week&filter=${encodeURIComponent(FILTER)}&range=30d&table=1`;
  const chart = await open(desk, path);
  await chart.getByRole("button", { name: "95th percentile", pressed: true }).waitFor();
  assert.equal(await chart.getByRole("combobox", { name: "Interval" }).inputValue(), "week");
  assert.equal(await chart.getByRole("combobox", { name: "Time", exact: true }).inputValue(), "30d");
  assert.equal(await chart.locator(".condition-text").textContent(), FILTER);
  await chart.locator(".figures-table").waitFor();
  await close(chart);
});

test("going back returns to the place in the list", async () => {
  const page = await open(desk, "/traces", { viewport: { width: 1280, height: 500 } });
  await settled(page);
  await page.evaluate(() => scrollTo(0, 900));
  await page.locator("tbody tr").nth(18).locator("a").evaluate((link) => link.click());
  await page.getByRole("tree").waitFor();
  assert.equal(await page.evaluate(() => scrollY), 0);
  await page.goBack();
  await until(() => page.evaluate(() => Math.round(scrollY)), 900);
  await close(page);
});

test("newer and older stay inside the filter", async () => {
  const expected = await desk.ids({ filter: FILTER });
  const page = await open(desk, `/traces?${query}`);
  await settled(page);
  await page.locator("tbody tr").nth(1).locator("a").click();
  const walked = [];
  for (let step = 1; step < 5; step += 1) {
    await page.getByText(`${step + 1} of ${expected.length}`).waitFor();
    walked.push(new URL(page.url()).pathname.split("/").pop());
    if (step % 2) await page.locator('a[rel="next"]').click();
    else await page.keyboard.press("j");
  }
  assert.deepEqual(walked, expected.slice(1, 5));
  await page.getByText(`6 of ${expected.length}`).waitFor();
  await page.keyboard.press("k");
  await page.getByText(`5 of ${expected.length}`).waitFor();
  await close(page);
});

test("the last of a list knows its place without a walk through it, and one that has left it too", async () => {
  const expected = await desk.ids({ field: "feedback.rating" });
  const page = await open(desk, `/traces/${expected.at(-1)}?field=feedback.rating`);
  await page.getByText(`${expected.length} of ${expected.length}`).waitFor();
  const asked = page.asked.filter((url) => url.includes("/api/v1/traces")).map((url) => url.split("/api/v1/").pop());
  assert.deepEqual(asked.sort(), [`traces/${expected.at(-1)}`, `traces/${expected.at(-1)}/neighbours?field=feedback.rating`]);
  assert.equal(await page.locator('nav.neighbours a[rel="next"]').count(), 0);
  await page.keyboard.press("k");
  await page.getByText(`${expected.length - 1} of ${expected.length}`).waitFor();
  assert.equal(new URL(page.url()).pathname, `/traces/${expected.at(-2)}`);

  const rated = await desk.ids({ filter: FILTER });
  const other = (await desk.ids({ filter: "feedback.rating is true" }))[40];
  await page.goto(`${desk.page}/traces/${other}?${query}`);
  await page.getByText("not in this list").waitFor();
  await page.keyboard.press("j");
  await page.getByText(new RegExp(`^\\d+ of ${rated.length}$`)).waitFor();
  assert.ok(rated.includes(new URL(page.url()).pathname.split("/").pop()));
  await close(page);
});

test("comments are searched, and lead to what they are about", async () => {
  const page = await open(desk, "/comments");
  await settled(page);
  await page.getByRole("searchbox").fill("hallucinated");
  const found = await desk.get("comments", { search: "hallucinated" });
  await until(() => total(page), `${found.total} comments`);
  await page.waitForURL(/search=hallucinated/);
  for (const text of await page.locator("blockquote").allTextContents()) assert.match(text, /hallucinated/);
  assert.ok(found.rows.some(({ by }) => by));
  const givers = await page.locator(".comment footer").evaluateAll((all) => all.map((footer) => footer.querySelector("strong")?.innerText ?? null));
  assert.deepEqual(givers, found.rows.map(({ by }) => by));
  await page.locator(".comment footer a").first().click();
  await page.waitForURL(`**/traces/${found.rows[0].trace_id}?span=${found.rows[0].span_id}`);
  await page.locator(".of-feedback").getByText("hallucinated").waitFor();
  await close(page);
});

test("ground truth stands once, beside the output, word by word", async () => {
  const wanted = 'feedback.ground_truth contains "Albany" and outputs.answer contains "City"';
  const [found] = await desk.ids({ filter: wanted });
  const page = await open(desk, `/traces/${found}`);
  await page.locator(".difference").waitFor();
  assert.equal(await page.locator(".difference").count(), 1);
  assert.deepEqual(await page.locator(".difference del").allTextContents(), ["New York City"]);
  assert.deepEqual(await page.locator(".difference ins").allTextContents(), ["Albany"]);
  // What evaluators say is never among what users say.
  assert.equal(await page.locator(".of-feedback", { hasText: "faithfulness" }).count(), 0);
  await close(page);
});

test("every view shows the filter that it applies, and applies the one in its address", async () => {
  const page = await open(desk, `/traces?${query}&range=30d`);
  await settled(page);
  const views = page.getByRole("navigation", { name: "Views" });
  for (const name of ["Sessions", "Charts", "Comments", "Data set", "Traces", "Charts"]) {
    await views.getByRole("link", { name, exact: true }).click();
    await settled(page);
    assert.equal(await page.locator(".conditions .condition").innerText(), FILTER, name);
    assert.equal(await page.getByRole("combobox", { name: "Time" }).inputValue(), "30d", name);
  }
  // The tiles of the dashboard apply it, and say so.
  const tile = page.locator(".tile", { hasText: "feedback.rating" }).first();
  await until(() => tile.locator(".narrowed").innerText(), `${FILTER}, last 30 days`);
  await until(() => tile.locator(".chart-figures .value").innerText(), "0.0 %");
  await page.getByRole("button", { name: `Remove ${FILTER}` }).click();
  await settled(page);
  await until(async () => (await tile.locator(".chart-figures .value").innerText()) !== "0.0 %", true);
  // A saved chart is narrowed as well, beside its own filter.
  await page.evaluate(() => localStorage.setItem("feedback-desk.charts",
    JSON.stringify([{ title: "Mine", query: "field=feedback.stars&measure=count&filter=service.name+is+chat" }])));
  await page.goto(`${desk.page}/charts?${query}`);
  const chart = await desk.get("chart", { field: "feedback.stars", filter: `service.name is chat and ${FILTER}` });
  await until(() => page.locator(".tile .chart-figures .value").innerText(), String(chart.values));
  assert.equal(await page.locator(".tile .narrowed").innerText(), `service.name is chat, ${FILTER}`);
  await page.getByRole("link", { name: "Mine" }).click();
  await until(() => page.locator(".conditions .condition").allInnerTexts(), ["service.name is chat", FILTER]);

  // A view that can't apply one has none in its address, and the next one has it again.
  await page.goto(`${desk.page}/status?${query}`);
  await until(() => new URL(page.url()).search, "");
  await page.goto(`${desk.page}/traces?${query}`);
  await views.getByRole("link", { name: "Status" }).click();
  await until(() => new URL(page.url()).search, "");
  await views.getByRole("link", { name: "Traces" }).click();
  await until(() => new URL(page.url()).search, `?${query}`);
  // One trace and one session say of which list they are.
  await settled(page);
  await page.locator("table tbody a.row-link").first().click();
  await until(() => page.locator(".crumbs .narrowed").innerText(), `list of: ${FILTER}`);
  await page.goto(`${desk.page}/sessions?${query}`);
  await page.locator("table tbody a.row-link").first().click();
  await until(() => page.locator(".crumbs .narrowed").innerText(), `list of: ${FILTER}`);
  await close(page);
});

test("each row of the data set meets the filter", async () => {
  const page = await open(desk, "/dataset?filter=has+ground+truth");
  await settled(page);
  const shown = await page.locator("table tbody td.truth").allInnerTexts();
  assert.ok(shown.length > 20 && shown.every((text) => text && !text.startsWith("–")), shown.join(" | "));
  const exported = await download(page, "Data set JSON lines");
  assert.ok(exported.length >= shown.length && exported.every((row) => row.ground_truth !== null));
  await close(page);
});
