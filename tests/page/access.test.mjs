// For everyone: in light and dark, on a phone, by keyboard alone; and safe.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { demo, MARKUP } from "./data.mjs";
import { id, span } from "./otlp.mjs";
import { accessibility, close, Desk, open, quit, rows, settled, until } from "./rig.mjs";

let desk;
let views;
before(async () => {
  desk = await Desk.start(demo());
  const marked = (await desk.get("traces", { filter: "session.id is s-markup" })).rows[0];
  const truth = (await desk.get("traces", { filter: "has ground truth and feedback.stars < 5" })).rows[0];
  const session = (await desk.get("sessions", { filter: "has feedback.csat" })).rows.find((row) => row.feedback.length);
  const inSession = (await desk.get(`sessions/${session.session_id}`)).list[0];
  const escalated = (await desk.get("traces", { filter: "has feedback.escalated" })).rows[0];
  const late = (await desk.get(`traces/${escalated.trace_id}`)).spans.find(({ carrier }) => carrier);
  views = {
    traces: "/traces?filter=feedback.rating+is+false&range=30d",
    trace: `/traces/${truth.trace_id}?carriers=1`,
    "trace with markup": `/traces/${marked.trace_id}`,
    "trace of a session": `/traces/${inSession.trace_id}`,
    sessions: "/sessions",
    session: `/sessions/${session.session_id}`,
    "session with markup": "/sessions/s-markup",
    dashboard: "/charts",
    chart: "/charts?field=feedback.rating&group=service.version&table=1",
    "chart of markup": "/charts?field=feedback.comment&group=metadata.plan&table=1",
    comments: "/comments",
    "data set": "/dataset",
    waiting: "/waiting",
    status: "/status",
    "nothing found": "/traces?filter=feedback.rating+is+7",
    "traces that have not come": "/traces?field=feedback.rating&range=24h",
    "trace that has not come": `/traces/${id(0xabc1, 32)}`,
    "trace of a carrier": `/traces/${late.trace_id}`,
    "no such trace": `/traces/${"0".repeat(31)}1`,
  };
});
after(quit);


const MODES = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { colorScheme: "light", viewport: { width: 360, height: 740 }, hasTouch: true },
};

for (const [mode, options] of Object.entries(MODES)) {
  test(`axe finds nothing, nothing sticks out, and markup is text: ${mode}`, async () => {
    for (const [name, path] of Object.entries(views)) {
      const page = await open(desk, path, options);
      const trouble = page.trouble;
      await settled(page);
      await page.waitForTimeout(150);
      assert.deepEqual(await accessibility(page), [], `${name}, ${mode}`);
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(excess <= 0, `${name}, ${mode}: ${excess} px too wide`);
      assert.equal(await page.evaluate(() => globalThis.hacked), undefined, name);
      assert.equal(await page.locator("#app script, #app img[src='x']").count(), 0, name);
      if (name === "no such trace") trouble.splice(0, Infinity, ...trouble.filter((text) => !text.includes("404")));
      await close(page);
    }
  });
}

test("what is made up is marked as such, as soon as it comes", async () => {
  const own = await Desk.start();
  const pages = [];
  for (const [mode, options] of Object.entries(MODES)) {
    const page = await open(own, "/traces", options);
    await page.getByRole("heading", { name: "No traces yet" }).waitFor();
    assert.equal(await page.locator(".demo-badge").count(), 0);
    pages.push([mode, page]);
  }
  await own.send(span({ name: "answer", trace: id(1, 32), span: id(1, 16), start: Date.now() - 60_000, resource: { demo: true } }));
  for (const [mode, page] of pages) {
    const badge = page.getByRole("link", { name: /^Demo/ });
    await badge.waitFor();
    assert.match(await badge.getAttribute("title"), /generated/);
    const { x, y, width, height } = await badge.boundingBox();
    const frame = page.viewportSize();
    assert.ok(x >= 0 && y >= 0 && x + width <= frame.width && y + height <= 120, `${mode}: it is not in the header`);
    assert.deepEqual(await accessibility(page), [], mode);
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(excess <= 0, `${mode}: ${excess} px too wide`);
    await badge.click();
    await page.getByText("Includes generated data").waitFor();
    assert.deepEqual(await accessibility(page), [], mode);
    await close(page);
  }
  await own.stop();
});

test("markup is shown as it was written", async () => {
  const page = await open(desk, views["trace with markup"]);
  await page.getByRole("heading", { level: 1, name: MARKUP }).waitFor();
  await until(() => page.getByText(MARKUP, { exact: true }).count().then((count) => count > 3), true);
  await close(page);
});

test("the page can be set to light and dark, and stays so", async () => {
  const page = await open(desk, "/traces", { colorScheme: "light" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByLabel("Theme").selectOption("dark");
  const dark = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await ground(), dark);
  await page.getByLabel("Theme").selectOption("");
  assert.equal(await ground(), light);
  await close(page);
});

/** Presses Tab until what has the focus fits. */
async function tabTo(page, fits, most = 80) {
  for (let press = 0; press < most; press += 1) {
    await page.keyboard.press("Tab");
    const { name, visible } = await page.evaluate(() => {
      const { activeElement: element } = document;
      const box = element.getBoundingClientRect();
      return {
        name: element.getAttribute("aria-label") ?? (element.labels?.[0]?.textContent.trim() || element.innerText?.trim() || element.tagName),
        visible: box.width > 0 && box.height > 0,
      };
    });
    assert.ok(visible, `the focus is on what can't be seen: ${name}`);
    if (fits.test(name)) return name;
  }
  return assert.fail(`Tab does not lead to ${fits}`);
}

test("everything works by keyboard", async () => {
  const page = await open(desk, "/traces");
  await settled(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.innerText), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");

  // A filter, built without a mouse.
  await tabTo(page, /^Filter$/);
  await page.keyboard.press("Enter");
  await until(() => page.evaluate(() => document.activeElement.getAttribute("role")), "combobox");
  await page.keyboard.type("feedback.rat");
  await page.getByRole("option", { name: /feedback\.rating/ }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await tabTo(page, /^Value$/);
  await page.keyboard.type("false");
  await page.keyboard.press("Enter");
  await page.waitForURL(/filter=feedback\.rating\+is\+false/);
  await settled(page);
  assert.match(await page.evaluate(() => document.activeElement.innerText), /Filter/);

  // Into a trace; its spans by arrows.
  const [first] = await rows(page);
  await tabTo(page, /POST|answer|<script>/);
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/traces/${first}?**`);
  await page.getByRole("tree").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.getByRole("link", { name: "Next" }).waitFor();
  await page.keyboard.press("j");
  await page.waitForURL((url) => !url.pathname.endsWith(first));
  await page.getByRole("treeitem").nth(3).waitFor();
  await tabTo(page, /answer/);
  await page.keyboard.press("Home");
  await until(() => page.evaluate(() => document.activeElement.getAttribute("aria-level")), "1");
  await page.keyboard.press("ArrowLeft");
  await until(() => page.getByRole("treeitem").count(), 1);
  await page.keyboard.press("ArrowRight");
  await until(async () => (await page.getByRole("treeitem").count()) > 3, true);
  await page.keyboard.press("ArrowDown");
  await page.waitForURL(/span=/);
  await until(() => page.evaluate(() => document.activeElement.getAttribute("aria-level")), "2");

  // A bucket of a chart, by its table.
  await page.goto(`${desk.page}/charts?field=feedback.rating`);
  await settled(page);
  await tabTo(page, /^Table$/);
  await page.keyboard.press("Enter");
  await page.locator(".figures-table").waitFor();
  await tabTo(page, /^Copy table$/);
  await page.keyboard.press("Enter");
  await page.getByText("Copied").waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /^day\tPositive\n/);
  await tabTo(page, /^\w{3}, \d+ \w+ \d+$/);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/traces\?.*field=feedback\.rating/);

  // Export is a menu that Escape closes.
  await settled(page);
  await page.locator("summary", { hasText: "Export" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "Traces CSV" }).waitFor();
  await page.keyboard.press("Escape");
  await until(() => page.locator("details.export[open]").count(), 0);
  await close(page);
});

test("nothing comes from elsewhere, and nothing inline would run", async () => {
  const page = await open(desk, "/traces");
  await settled(page);
  const hacked = await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "globalThis.inline = true";
    document.head.append(script);
    return globalThis.inline;
  });
  assert.equal(hacked, undefined);
  await assert.rejects(() => page.evaluate(() => fetch("http://127.0.0.2:9/")));
  page.trouble.splice(0);
  page.asked.splice(0, Infinity, ...page.asked.filter((url) => !url.includes("127.0.0.2")));
  await close(page);
});
