// A desk with a file of its own, and a real browser that keeps a record of what it asks for.
//
// `run` says by the environment where the desk, the browser and the tools are.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { send } from "./otlp.mjs";

const { DESK, CHROMIUM, TOOLS } = process.env;
const require = createRequire(join(TOOLS, "package.json"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const PATIENCE = 10_000; // ms; a test that waits so long has failed

export const sleep = (time) => new Promise((done) => setTimeout(done, time));

/** Waits until something is so; says what it was instead. */
export async function until(look, expected, time = PATIENCE) {
  const end = performance.now() + time;
  let found;
  for (;;) {
    found = await look();
    try {
      assert.deepEqual(found, expected);
      return;
    } catch (problem) {
      if (performance.now() > end) throw problem;
    }
    await sleep(25);
  }
}

/** Those that run. */
const desks = new Set();

export class Desk {
  static async start(spans = [], flags = []) {
    const desk = new Desk();
    desks.add(desk);
    desk.directory = mkdtempSync(join(tmpdir(), "feedback-desk-"));
    const ports = ["--port", "0", "--grpc-port", "0", "--http-port", "0"];
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FEEDBACK_DESK_")));
    desk.child = spawn(DESK, ["--store", join(desk.directory, "desk.sqlite"), ...ports, ...flags], {
      env: environment, stdio: ["ignore", "pipe", "inherit"],
    });
    for await (const line of createInterface({ input: desk.child.stdout })) {
      const address = line.split(" ").pop();
      if (line.includes("page and API")) desk.page = address;
      if (line.includes("OTLP over HTTP")) desk.http = address;
      if (line.includes("Ctrl-C")) break;
    }
    assert.ok(desk.page && desk.http, "the desk did not start");
    desk.child.stdout.resume();
    const token = flags[flags.indexOf("--token") + 1];
    if (spans.length) await send(desk.http, spans, flags.includes("--token") ? token : undefined);
    return desk;
  }

  /** What the API says. */
  async get(path, parameters = {}) {
    const response = await fetch(`${this.page}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const body = await response.json();
    assert.equal(response.status, 200, JSON.stringify(body));
    return body;
  }

  /** All trace ids of a list. */
  async ids(parameters) {
    const found = [];
    let cursor;
    do {
      const list = await this.get("traces", { ...parameters, limit: 500, ...(cursor ? { cursor } : {}) });
      found.push(...list.rows.map((row) => row.trace_id));
      cursor = list.next;
    } while (cursor);
    return found;
  }

  send(...spans) {
    return send(this.http, spans);
  }

  async stop() {
    if (!desks.delete(this)) return;
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill();
    await ended;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

let browser;

/** A page with no memory. What it asks for and what goes wrong is kept. */
export async function open(desk, path = "/", options = {}) {
  browser ??= await chromium.launch({
    executablePath: CHROMIUM,
    // The browser itself must be silent, or it could not be told what the page asks for.
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-default-browser-check"],
  });
  const context = await browser.newContext({
    timezoneId: "UTC", viewport: { width: 1280, height: 860 }, permissions: ["clipboard-read", "clipboard-write"], ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.asked = [];
  page.trouble = [];
  page.on("request", (request) => page.asked.push(request.url()));
  page.on("websocket", (socket) => page.asked.push(socket.url()));
  page.on("pageerror", (error) => page.trouble.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.trouble.push(message.text()));
  await page.goto(desk.page + path);
  return page;
}

/** Closes it, and says what went wrong in it. */
export async function close(page) {
  const { asked, trouble } = page;
  const origin = new URL(page.url()).origin;
  await page.context().close();
  assert.deepEqual(trouble, []);
  const foreign = asked.filter((url) => !url.startsWith(`${origin}/`) && !url.startsWith("data:"));
  assert.deepEqual(foreign, [], "a request left the desk");
}

/** Ends everything, also what a failed test has left. */
export async function quit() {
  await browser?.close();
  browser = undefined;
  for (const desk of [...desks]) await desk.stop();
}

/** The rows of a list: the ids they are about. */
export const rows = (page, label = "Traces") =>
  page.locator(`table[aria-label="${label}"] tbody tr`).evaluateAll((all) => all.map((row) => row.dataset.key));

/** All rows of a list, page by page, by its own links. */
export async function allRows(page) {
  const found = [];
  for (;;) {
    const shown = await rows(page);
    found.push(...shown);
    const next = page.locator('nav[aria-label="Pages"] a[rel="next"]');
    if (!(await next.count())) return found;
    await next.click();
    await until(async () => (await rows(page))[0] !== shown[0], true);
    await settled(page);
  }
}

/** Until what is shown is what was asked for last. */
export async function settled(page) {
  await page.waitForFunction(() => !document.querySelector('[aria-busy="true"], .loading'));
}

/** What axe finds. */
export async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]);
}
