// The module in what bundlers make of it: it is built without a file beside it, and sends to `/feedback` of the
// page's host, wherever its chunk is. Run by `browser/test`, with the bundlers in TOOLS.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(join(process.env.TOOLS, "package.json"));
const webpack = require("webpack");
const esbuild = require("esbuild");
const vite = await import(pathToFileURL(join(dirname(require.resolve("vite/package.json")), "dist/node/index.js")));

const directory = mkdtempSync(join(tmpdir(), "feedback-bundle-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** An app of a folder of its own, with the module among its sources. */
function app(name, module) {
  const root = join(directory, name);
  mkdirSync(join(root, "src"), { recursive: true });
  copyFileSync(fileURLToPath(new URL(module, import.meta.url)), join(root, "src", module));
  writeFileSync(join(root, "package.json"), '{"type": "module"}');
  writeFileSync(join(root, "src/main.js"), `import { feedback } from "./${module}";\nglobalThis.sent = feedback("the-ticket").thumbs(true);\n`);
  writeFileSync(join(root, "index.html"), '<!doctype html><script type="module" src="/src/main.js"></script>');
  return root;
}

/** Runs a bundle as a page does; returns where it has sent to. */
async function run(file) {
  const { fetch } = globalThis;
  const urls = [];
  globalThis.location = new URL("https://shop.example/cart");
  globalThis.fetch = async (url) => {
    urls.push(new URL(url, globalThis.location).href);
    return new Response(null, { status: 204 });
  };
  try {
    await import(pathToFileURL(file));
    await globalThis.sent;
  } finally {
    globalThis.fetch = fetch;
    delete globalThis.location;
    delete globalThis.sent;
  }
  return urls;
}

for (const module of ["feedback.js", "feedback.min.js"]) {
  test(`webpack builds ${module}`, async () => {
    const root = app(`webpack-${module}`, module);
    const compiler = webpack({
      mode: "production", target: "web", context: root, entry: "./src/main.js",
      output: { path: join(root, "dist"), filename: "assets/[name].[contenthash].mjs" },
    });
    const stats = await new Promise((done, fail) => compiler.run((error, found) => (error ? fail(error) : done(found))));
    const { errors, warnings, assets } = stats.toJson();
    assert.deepEqual([errors, warnings], [[], []]);
    assert.equal(assets.length, 1, "a file was copied beside the bundle");
    assert.deepEqual(await run(join(root, "dist", assets[0].name)), ["https://shop.example/feedback"]);
  });

  test(`esbuild builds ${module}, as a module and as a classic script`, async () => {
    const root = app(`esbuild-${module}`, module);
    for (const format of ["esm", "iife"]) {
      const outfile = join(root, `${format}.mjs`);
      const { errors, warnings } = await esbuild.build({
        entryPoints: [join(root, "src/main.js")], bundle: true, format, outfile, logLevel: "silent",
      });
      assert.deepEqual(errors, []);
      assert.ok(warnings.every(({ id }) => format === "iife" && id === "empty-import-meta"), JSON.stringify(warnings));
      assert.deepEqual(await run(outfile), ["https://shop.example/feedback"], format);
    }
  });

  test(`vite builds ${module}, and serves it in development`, async () => {
    const root = app(`vite-${module}`, module);
    await vite.build({ root, logLevel: "error", configFile: false, build: { modulePreload: { polyfill: false } } });
    const assets = readdirSync(join(root, "dist/assets"));
    assert.equal(assets.length, 1);
    assert.deepEqual(await run(join(root, "dist/assets", assets[0])), ["https://shop.example/feedback"]);

    const server = await vite.createServer({ root, logLevel: "error", configFile: false, server: { middlewareMode: true, ws: false }, appType: "custom" });
    const { code } = await server.transformRequest(`/src/${module}`);
    assert.ok(code.includes("import.meta.hot = "), "the module finds out that it is served by vite");
    await server.close();
  });
}
