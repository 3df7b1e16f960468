// Charts show what the API says, and lead to exactly what they are made of.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { demo } from "./data.mjs";
import { id } from "./otlp.mjs";
import { allRows, close, Desk, open, quit, settled, until } from "./rig.mjs";

let desk;
before(async () => {
  desk = await Desk.start(demo());
});
after(quit);

const bucketTable = (page) =>
  page.locator(".figures-table tbody tr").evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.innerText.trim())));

test("a click on a bucket shows exactly its traces", async () => {
  const asked = { field: "feedback.rating", bucket: "day", tz: "+00:00" };
  const data = await desk.get("chart", asked);
  const counts = data.total.points.count;
  const at = counts.findIndex((count, place) => count > 2 && place > 3);
  const expected = await desk.ids({ field: "feedback.rating", from: data.buckets[at], to: data.buckets[at + 1] });
  assert.equal(expected.length, counts[at]);

  const page = await open(desk, "/charts?field=feedback.rating&bucket=day&measure=count");
  await settled(page);
  const over = page.locator(".u-over");
  const { width, height } = await over.boundingBox();
  await over.click({ position: { x: (width * (at + 0.5)) / counts.length, y: height / 2 } });
  await page.waitForURL(/\/traces\?/);
  await settled(page);
  await until(() => page.locator(".heading .note").first().textContent(), `${expected.length} traces`);
  assert.deepEqual(await allRows(page), expected);
  await page.getByText("Only traces with a value of").waitFor();

  // The same by the table, which needs no pointer; then by group.
  await page.goto(`${desk.page}/charts?field=feedback.rating&bucket=day&measure=count&table=1`);
  await page.locator(".figures-table tbody tr").nth(at).locator("a").first().click();
  await until(() => page.locator(".heading .note").first().textContent(), `${expected.length} traces`);
  assert.deepEqual(await allRows(page), expected);
  await close(page);
});

test("every bucket has its traces, also those that have not come, and they can be opened", async () => {
  const data = await desk.get("chart", { field: "feedback.rating", bucket: "day", tz: "+00:00", measure: "count" });
  const counts = data.total.points.count;
  for (const [at, count] of counts.entries()) {
    const found = await desk.ids({ field: "feedback.rating", from: data.buckets[at], to: data.buckets[at + 1] });
    assert.equal(found.length, count ?? 0, data.labels[at]);
  }
  const missing = id(0xabc1, 32);
  const [{ given }] = (await desk.get("waiting")).rows.filter((row) => row.trace_id === missing);
  const at = data.buckets.findLastIndex((start) => start <= given);

  const page = await open(desk, "/charts?field=feedback.rating&bucket=day&measure=count&table=1");
  await page.locator(".figures-table tbody tr").nth(at).locator("a").first().click();
  await page.waitForURL(/\/traces\?/);
  await settled(page);
  assert.equal((await allRows(page)).length, counts[at]);
  const row = page.locator(`tr[data-key="${missing}"]`);
  await row.getByText("feedback only").waitFor();
  await row.getByText("Where is my answer?").waitFor();
  await row.getByRole("link", { name: "Trace not received yet" }).click();
  await page.getByRole("heading", { level: 1, name: "Trace not received yet" }).waitFor();
  await page.locator(".about-waiting .of-feedback").getByText("Where is my answer?").waitFor();
  await page.locator(".about-waiting").getByText("History").click();
  await page.locator(".about-waiting .history").getByText("ada").waitFor();
  await close(page);
});

test("a group's cell shows the traces of the group", async () => {
  const data = await desk.get("chart", { field: "feedback.rating", bucket: "week", tz: "+00:00", group: "service.version", measure: "count" });
  const page = await open(desk, "/charts?field=feedback.rating&bucket=week&group=service.version&measure=count&table=1");
  for (const [column, group] of data.groups.entries()) {
    if (group.group === null) continue;
    const at = group.points.count.findLastIndex((count) => count > 0);
    const filter = `service.version is ${JSON.stringify(group.group)}`;
    const expected = await desk.ids({ field: "feedback.rating", from: data.buckets[at], to: data.buckets[at + 1], filter });
    await page.locator(".figures-table tbody tr").nth(at).locator("td").nth(column).locator("a").click();
    await until(() => page.locator(".heading .note").first().textContent(), `${expected.length} traces`);
    assert.deepEqual(await allRows(page), expected);
    await page.goto(`${desk.page}/charts?field=feedback.rating&bucket=week&group=service.version&measure=count&table=1`);
  }
  await close(page);
});

test("an empty bucket is a gap, in the table and in the line", async () => {
  const data = await desk.get("chart", { field: "feedback.rating", bucket: "day", tz: "+00:00" });
  const gaps = data.total.points["percent-true"].flatMap((value, at) => (value === null ? [at] : []));
  assert.ok(gaps.length >= 1);
  const page = await open(desk, "/charts?field=feedback.rating&bucket=day&measure=percent-true&table=1");
  const shown = await page.locator(".figures-table").waitFor().then(() => bucketTable(page));
  for (const [at, [, value]] of shown.entries()) {
    assert.equal(value.startsWith("–"), gaps.includes(at), `${at}: ${value}`);
    if (!gaps.includes(at)) assert.equal(value, `${data.total.points["percent-true"][at].toFixed(1)} %`);
  }

  // In the column of an empty bucket nothing is drawn but the lines of the grid.
  const ink = (place) => page.evaluate(([at, count]) => {
    const canvas = document.querySelector(".plot canvas");
    const over = document.querySelector(".u-over");
    const ratio = canvas.width / canvas.clientWidth;
    const left = (parseFloat(over.style.left) + (over.clientWidth * (at + 0.5)) / count) * ratio;
    const { data } = canvas.getContext("2d").getImageData(Math.round(left), parseFloat(over.style.top) * ratio, 1, over.clientHeight * ratio);
    let coloured = 0;
    // The accent is green: far from the grey of the grid.
    for (let pixel = 0; pixel < data.length; pixel += 4) if (data[pixel + 3] > 200 && data[pixel + 1] - data[pixel] > 40) coloured += 1;
    return coloured;
  }, [place, data.buckets.length - 1]);
  await page.locator(".u-over").waitFor();
  for (const gap of gaps) assert.equal(await ink(gap), 0, `bucket ${gap}`);
  const full = data.total.points["percent-true"].findIndex((value) => value !== null && value < 100 && value > 0);
  assert.ok((await ink(full)) > 0);
  await close(page);
});

test("what is of another type is left out and said", async () => {
  const page = await open(desk, "/charts?field=metrics.faithfulness");
  const data = await desk.get("chart", { field: "metrics.faithfulness" });
  assert.deepEqual(data.left_out, { string: 1 });
  await page.locator(".holds", { hasText: `${data.values} values; left out because of their type: 1 text` }).waitFor();
  await close(page);
});

test("a percentage with its comparison, and a comparison of versions", async () => {
  const page = await open(desk, "/charts?field=feedback.stars");
  await page.getByRole("button", { name: "Share where…" }).click();
  const data = await desk.get("chart", { field: "feedback.stars", measure: "avg,percentage>=4" });
  const share = `${data.total.overall["percentage>=4"].toFixed(1)} %`;
  await page.locator(".chart-figures", { hasText: share }).waitFor();
  await page.getByLabel("Compared with").fill("5");
  await page.locator(".chart-figures", { hasText: "Share ≥ 5" }).waitFor();

  await page.goto(`${desk.page}/charts?field=feedback.stars&filter=service.version+is+1.1&measure=avg&table=1&bucket=day`);
  await page.getByLabel("Compare with").selectOption("version:1.0");
  const both = await desk.get("chart", { field: "feedback.stars", filter: "service.version is 1.1", measure: "avg", compare: "version:1.0", bucket: "day", tz: "+00:00" });
  await page.locator(".legend", { hasText: "Version 1.0" }).waitFor();
  await page.locator(".delta").waitFor();
  const shown = await bucketTable(page);
  const places = new Map(both.compare.buckets.map((start, at) => [start, at]));
  for (const [at, row] of shown.entries()) {
    const place = places.get(both.buckets[at]);
    const before = place === undefined ? null : both.compare.total.points.avg[place] ?? null;
    if (before === null) assert.match(row[2], /^–/);
    else assert.ok(Math.abs(Number(row[2]) - before) < 0.01, `${row[2]} and ${before}`);
  }
  await close(page);
});

test("saved charts are a dashboard, which a link takes along", async () => {
  const page = await open(desk, "/charts?field=feedback.rating&group=service.version");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByLabel("Title").fill("Thumbs by version");
  await page.getByRole("button", { name: "Save to the dashboard" }).click();
  await page.getByRole("link", { name: "dashboard" }).click();
  await page.getByRole("heading", { name: "Thumbs by version" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Thumbs by version" }).waitFor();
  await page.getByText("Share or import this dashboard").click();
  await page.getByRole("button", { name: "Copy link" }).click();
  await page.getByText("Link copied").waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  await close(page);

  const other = await open(desk, link.slice(desk.page.length));
  await other.getByRole("heading", { name: "Thumbs by version" }).waitFor();
  await other.getByRole("button", { name: "Save to this browser" }).click();
  await other.getByText("1 saved chart").waitFor();
  await other.getByRole("button", { name: "Remove Thumbs by version" }).click();
  await other.getByText("The most used fields").waitFor();
  await close(other);
});
