// What is shown has room, is in sight, and can be selected, at the width of half a screen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { demo } from "./data.mjs";
import { id, span } from "./otlp.mjs";
import { close, Desk, open, quit, settled, sleep, until } from "./rig.mjs";

const NARROW = { viewport: { width: 900, height: 800 } };
const TREE = id(0xfeed, 32);
const BIG = id(0xb16, 32);
const NOW = Date.now();

/** A chain of 40 levels, and 600 spans below the root. */
function tree() {
  const one = (at, parent, more) => span({ trace: TREE, span: id(at, 16), parent: parent ? id(parent, 16) : undefined, name: `step ${at}`, start: NOW - 1000 + at, duration: 5, ...more });
  const chain = Array.from({ length: 40 }, (_, at) => one(at + 1, at));
  const wide = Array.from({ length: 600 }, (_, at) => one(1000 + at, 1, { name: `wide ${at}` }));
  return [...chain, ...wide];
}

/** A group for each version, whose ratings are apart from each other. */
const groups = () => Array.from({ length: 14 }, (_, at) => span({
  trace: id(0x6000 + at, 32), span: id(1, 16), name: "grouped", start: NOW - 3_600_000, version: `v${String(at).padStart(2, "0")}`,
  service: "grouped", said: { feedback: { height: at * 10 } },
}));

let desk;
before(async () => {
  const figures = span({
    trace: BIG, span: id(1, 16), name: "מה שלומך?", start: NOW - 60_000, service: "figures",
    said: { feedback: { comment: "שלום, world", exact: 0.876543, huge: 1e300, tiny: 1.25e-9 } },
  });
  desk = await Desk.start([...demo(), ...tree(), ...groups(), figures]);
});
after(quit);

test("no column of a list collapses at any width", async () => {
  const page = await open(desk, "/traces", NARROW);
  for (const width of [821, 900, 1000, 1100, 1200, 1201, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    for (const view of ["traces", "sessions", "dataset", "waiting"]) {
      await page.goto(`${desk.page}/${view}`);
      await settled(page);
      const widths = await page.locator("table.rows tbody tr").first().locator("td").evaluateAll((all) =>
        all.filter((cell) => cell.offsetParent && cell.innerText.trim()).map((cell) => [cell.className, cell.offsetWidth, cell.scrollWidth]));
      for (const [name, has, wants] of widths) {
        const least = /feedback|input|output|truth|metrics|name|reason/.test(name) ? 90 : 40;
        assert.ok(has >= Math.min(least, wants) && wants <= has + 1, `${view} at ${width}: ${name} is ${has} wide, with ${wants}`);
      }
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${view} at ${width} scrolls sideways`);
    }
  }
  await close(page);
});

test("the details of a chosen span are in sight", async () => {
  for (const viewport of [{ width: 900, height: 800 }, { width: 1280, height: 860 }]) {
    const page = await open(desk, `/traces/${TREE}`, { viewport });
    await settled(page);
    const more = page.getByRole("button", { name: /Show more of/ });
    while (await more.count()) await more.click();
    const row = page.getByRole("treeitem", { name: /wide 590/ });
    await row.scrollIntoViewIfNeeded();
    await row.click();
    await until(() => page.locator("#span-name").innerText(), "wide 590");
    const inSight = (locator) => locator.evaluate((element) => {
      const { top, height } = element.getBoundingClientRect();
      return top >= 0 && top + height <= innerHeight;
    });
    await until(() => inSight(page.locator("#span-name")), true);
    await until(() => inSight(row), true);
    // By its address: the row is in sight within the tree.
    await page.reload();
    await until(() => page.locator("#span-name").innerText(), "wide 590");
    await until(() => inSight(page.locator('[role="treeitem"][aria-selected="true"]')), true);
    await close(page);
  }
});

test("deep levels of a tree can be read, and told apart", async () => {
  const page = await open(desk, `/traces/${TREE}`, NARROW);
  await settled(page);
  const places = await page.locator(".span").evaluateAll((all) => all.slice(0, 40).map((row) => {
    const title = row.querySelector(".title");
    return { level: row.querySelector(".level")?.innerText, x: title.getBoundingClientRect().x, width: title.clientWidth, wants: title.scrollWidth };
  }));
  for (const [at, { width, wants, level, x }] of places.entries()) {
    assert.ok(width >= Math.min(wants, 88), `level ${at + 1}: ${width} of ${wants}`);
    if (at >= 8) assert.equal(level, String(at + 1));
    if (at && at < 24) assert.ok(x > places[at - 1].x, `level ${at + 1} is not indented`);
  }
  await close(page);
});

test("the text of a row can be selected and hovered, and a click still follows it", async () => {
  for (const viewport of [{ width: 900, height: 800 }, { width: 1280, height: 860 }]) {
    const page = await open(desk, "/traces?filter=has+feedback.comment+and+service.name+is+chat", { viewport });
    await settled(page);
    const row = page.locator("table.rows tbody tr").first();
    const words = row.locator(".chip.words").first();
    // What is under the pointer is the text itself, with its tooltip.
    const { x, y, width } = await words.boundingBox();
    const line = y + 10; // the first line of the text
    const title = await page.evaluate(([left, top]) => document.elementFromPoint(left, top).closest("[title]")?.title, [x + width / 2, line]);
    assert.match(title, /^feedback\.comment: /);
    await page.mouse.move(x + 3, line);
    await page.mouse.down();
    await page.mouse.move(x + Math.min(width, 90) - 4, line, { steps: 6 });
    await page.mouse.up();
    assert.ok((await page.evaluate(() => getSelection().toString())).length > 2);
    assert.match(page.url(), /\/traces\?/);
    await page.mouse.click(5, 5);
    await row.locator("td.when").click();
    await page.waitForURL(/\/traces\/[0-9a-f]{32}/);
    await close(page);
  }
});

/** The colours of the lines in the legend, with how they are drawn. */
const drawn = (page) => page.locator(".legend .swatch").evaluateAll((all) => all.map((each) => {
  const { borderTopColor, borderTopStyle } = getComputedStyle(each);
  return `${borderTopColor} ${borderTopStyle}`;
}));

test("lines of a grouped chart are told apart, compared, and opened one by one", async () => {
  const from = NOW - 2 * 3_600_000, to = NOW + 3_600_000;
  const asked = new URLSearchParams({ field: "feedback.height", measure: "avg", group: "service.version", top: "20", bucket: "day", filter: "service.name is grouped" });
  const page = await open(desk, `/charts?${asked}`, NARROW);
  await settled(page);
  const lines = await drawn(page);
  assert.equal(lines.length, 14);
  assert.equal(new Set(lines).size, 14);

  // The pointer on the point of a group: its tooltip says so, and a click opens that group.
  const over = page.locator(".u-over");
  await over.scrollIntoViewIfNeeded();
  const at = await over.evaluate((element) => {
    const box = element.getBoundingClientRect();
    return { x: box.x + box.width / 2, y: box.y, height: box.height };
  });
  let found;
  for (let place = 0; place < at.height; place += 3) {
    await page.mouse.move(at.x, at.y + place);
    found = await page.locator(".tip-line.near span").allInnerTexts();
    if (found[0] === "v07") break;
  }
  assert.deepEqual(found, ["v07"]);
  // The marker of the hovered point has the colour of its line.
  const colours = await page.locator(".u-cursor-pt").evaluateAll((all) => all.map((each) => getComputedStyle(each).backgroundColor));
  const own = await page.locator(".legend .swatch").evaluateAll((all) => all.map((each) => getComputedStyle(each).borderTopColor));
  assert.deepEqual(new Set(colours), new Set(own));
  await page.mouse.down();
  await page.mouse.up();
  await page.waitForURL(/\/traces\?/);
  await settled(page);
  assert.match(new URL(page.url()).searchParams.get("filter"), /service\.version is v07/);
  await until(() => page.locator(".heading .note").first().textContent(), "1 trace");

  // A comparison stays when the chart is grouped.
  await page.goto(`${desk.page}/charts?field=feedback.rating&group=service.name&compare=version:1.0&from=${from - 30 * 86_400_000}&to=${to}`);
  await settled(page);
  const names = await page.locator(".legend .name").allInnerTexts();
  assert.ok(names.includes("chat") && names.includes("chat, version 1.0"), names.join());
  await close(page);
});

test("figures are exact in their tooltips, and short where they are long", async () => {
  const page = await open(desk, "/charts?field=feedback.exact&filter=service.name+is+figures&table=1", NARROW);
  await settled(page);
  const value = page.locator(".chart-figures .value");
  await until(() => value.innerText(), "0.877");
  assert.equal(await value.getAttribute("title"), "0.876543");
  assert.equal(await page.locator(".figures-table tbody td").last().getAttribute("title"), "0.876543");
  await page.goto(`${desk.page}/charts?field=feedback.huge&filter=service.name+is+figures`);
  await until(() => value.innerText(), "1e300");
  assert.equal(await value.getAttribute("title"), "1e+300");
  await page.goto(`${desk.page}/traces/${BIG}`);
  await settled(page);
  const figures = await page.locator(".leaves .figure").evaluateAll((all) => all.map((each) => [each.innerText, each.title]));
  assert.deepEqual(figures, [["0.877", "0.876543"], ["1e300", "1e+300"], ["1.25e-9", "1.25e-9"]]);
  // Text of another direction is shown in its own.
  const direction = (selector) => page.locator(selector).first().evaluate((element) => getComputedStyle(element).direction);
  assert.equal(await direction("h1"), "rtl");
  assert.equal(await direction("#span-name"), "rtl");
  assert.equal(await direction(".tree .title"), "rtl");
  assert.equal(await direction(".leaves .text"), "rtl");
  await close(page);
});

test("the first page names the ports of this desk", async () => {
  const own = await Desk.start();
  const page = await open(own, "/traces", NARROW);
  await settled(page);
  const { grpc_port: grpc, http_port: http } = await own.get("status");
  assert.equal(String(http), new URL(own.http).port);
  await until(() => page.locator(".empty pre").innerText(), `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:${grpc}`);
  assert.match(await page.locator(".empty").innerText(), new RegExp(`http://localhost:${http}`));
  await close(page);
  await own.stop();
});

test("eight visible windows are live, by one stream, also when the one that has it goes", async () => {
  const own = await Desk.start([span({ trace: id(1, 32), span: id(1, 16), name: "one", start: NOW })]);
  const first = await open(own, "/traces");
  const windows = [first];
  const streams = [];
  const watch = (page) => page.on("request", (request) => request.url().endsWith("/events") && streams.push(page));
  const context = first.context();
  for (let at = 1; at < 8; at += 1) {
    const page = await context.newPage();
    watch(page);
    await page.goto(`${own.page}/traces`);
    windows.push(page);
  }
  const state = (page) => page.locator(".connection").getAttribute("data-state");
  for (const page of windows) await until(() => state(page), "live");
  assert.deepEqual(streams, []);
  await own.send(span({ trace: id(2, 32), span: id(1, 16), name: "two", start: NOW + 1 }));
  for (const page of windows) await until(() => page.locator("table.rows tbody tr").count(), 2);

  await first.close();
  await until(() => streams.length, 1);
  await own.send(span({ trace: id(3, 32), span: id(1, 16), name: "three", start: NOW + 2 }));
  for (const page of windows.slice(1)) await until(() => page.locator("table.rows tbody tr").count(), 3);
  await context.close();
  await own.stop();
});
