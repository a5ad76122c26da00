// A real browser, driven from the stories: one JSON order a line on standard input, one JSON answer a line on output.
//
// Usage: node driver.mjs CHROMIUM MODULES, where MODULES is the folder that holds playwright-core and axe-core.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [chromiumPath, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Tests run as root in containers, where Chromium's sandbox cannot.
const browser = await chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const contexts = new Map();
const pages = new Map();
const trouble = [];
const asked = new Set();

const ORDERS = {
  /** A context has its own storage and connections; `look` is what Playwright can emulate. */
  async context({ context, look }) {
    contexts.set(context, await browser.newContext(look));
  },
  async open({ context, page, url }) {
    const opened = await contexts.get(context).newPage();
    pages.set(page, opened);
    opened.on("pageerror", (error) => trouble.push(`${page}: ${error.message}`));
    opened.on("console", (message) => message.type() === "error" && trouble.push(`${page}: ${message.text()}`));
    opened.on("request", (request) => asked.add(new URL(request.url()).origin));
    await opened.goto(url, { waitUntil: "domcontentloaded" });
  },
  evaluate: ({ page, script }) => pages.get(page).evaluate(script),
  async click({ page, selector }) {
    await pages.get(page).locator(selector).first().click({ timeout: 10_000 });
  },
  async press({ page, key }) {
    await pages.get(page).keyboard.press(key);
  },
  async front({ page }) {
    await pages.get(page).bringToFront();
  },
  async axe({ page }) {
    await pages.get(page).evaluate(axe);
    const { violations } = await pages.get(page).evaluate(() => globalThis.axe.run());
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(" | ")}`);
  },
  async picture({ page, path, selector }) {
    const target = selector ? pages.get(page).locator(selector) : pages.get(page);
    await target.screenshot({ path, animations: "allow" });
  },
  async close({ page }) {
    await pages.get(page).close();
    pages.delete(page);
  },
  trouble: () => trouble.splice(0),
  origins: () => [...asked],
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    process.stdout.write(`${JSON.stringify({ ok: (await ORDERS[order.order](order)) ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ failed: String(error) })}\n`);
  }
}
await browser.close();
