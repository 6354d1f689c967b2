// Starts the browser for a script: `const { browser, page, say } = await open()`. Prints one JSON object a line.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("../node/package.json", import.meta.url));
const { chromium } = require("playwright-core");
export const axe = require.resolve("axe-core/axe.min.js");

/** Milliseconds for what is bound to come: the machine may be slow and busy, and only a failure takes all of it. */
export const PATIENCE = 60000;

export const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
    ],
  });
}

/** A page whose errors end up in `problems`. Below the path `absent` a 404 is an answer like others, though Chromium calls it an error. */
export async function open(context, url, { absent } = {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  const expected = (message) => absent && message.text().includes("status of 404") && new URL(message.location().url).pathname.startsWith(absent);
  page.on("console", (message) => message.type() === "error" && !expected(message) && page.problems.push(message.text()));
  await page.goto(url);
  return page;
}

/** Violations of WCAG 2.2 A and AA that axe-core finds; without motion, since what fades out has no contrast half way. */
export async function violations(page) {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.evaluate(await readFile(axe, "utf8")); // not as a script of the page: its policy forbids foreign ones
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] }));
  await page.emulateMedia({ reducedMotion: null });
  return found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target.join(" ")).join(", ")}`);
}

export async function run(main) {
  const browser = await launch();
  try {
    await main(browser);
  } finally {
    await browser.close();
  }
}
