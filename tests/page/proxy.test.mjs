// The page behind a reverse proxy, under a path of a host of other things.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, test } from "node:test";
import { demo } from "./data.mjs";
import { close, Desk, open, quit, rows, settled, until } from "./rig.mjs";

const BASE = "/tools/desk";

/** A proxy that keeps the `Host` of the request, and passes the path on or strips it. */
async function proxy(desk, strips) {
  const target = new URL(desk.page);
  const server = createServer((incoming, outgoing) => {
    if (!incoming.url.startsWith(`${BASE}/`)) return outgoing.writeHead(404).end();
    const path = strips ? incoming.url.slice(BASE.length) : incoming.url;
    const headers = { ...incoming.headers, host: "desk.example.com" };
    const passed = request({ host: target.hostname, port: target.port, method: incoming.method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
      outgoing.on("close", () => answer.destroy());
    });
    passed.on("error", () => outgoing.destroy());
    incoming.pipe(passed);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { page: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), server.close()) };
}

after(quit);

for (const strips of [true, false]) {
  test(`behind a proxy that ${strips ? "strips" : "passes on"} the path`, async () => {
    const desk = await Desk.start(demo(), ["--base-path", BASE, "--allow-host", "desk.example.com", "--token", "s3cret"]);
    const behind = await proxy(desk, strips);
    const page = await open(behind, `${BASE}/?token=s3cret`);
    await settled(page);
    await until(() => page.locator(".connection").getAttribute("data-state"), "live");
    assert.equal((await rows(page)).length > 0, true);
    for (const name of ["Sessions", "Charts", "Comments", "Data set", "Status", "Traces"]) {
      await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name, exact: true }).click();
      await settled(page);
    }
    await page.locator("table tbody a.row-link").first().click();
    await page.locator(".span-card").waitFor();
    assert.match(new URL(page.url()).pathname, /^\/tools\/desk\/traces\/[0-9a-f]{32}$/);
    await page.reload();
    await page.locator(".span-card").waitFor();
    await page.goBack();
    await settled(page);
    const outside = page.asked.filter((url) => !url.startsWith("data:") && !new URL(url).pathname.startsWith(`${BASE}/`));
    assert.deepEqual(outside, []);
    const links = await page.locator("a[href]").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
    assert.deepEqual(links.filter((link) => !link.startsWith(`${BASE}/`) && !link.startsWith("#")), []);
    await close(page);
    behind.stop();
    await desk.stop();
  });
}
