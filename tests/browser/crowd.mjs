// The console over a server with very many channels: how busy the page is on each of its views while it looks on.
import { open, run, say } from "./launch.mjs";

const [url, email, password] = process.argv.slice(2);
const SECONDS = 6;

await run(async (browser) => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await open(context, `${url}/admin`);
  await page.locator("#email").fill(email);
  await page.locator("#password").fill(password);
  await page.keyboard.press("Enter");
  await page.waitForSelector('#connection[data-state="live"]');
  await page.waitForSelector('#tree [data-name="db_writer"]');
  const cdp = await context.newCDPSession(page);
  await cdp.send("Performance.enable");
  const spent = async () => Object.fromEntries((await cdp.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value])).TaskDuration;
  await page.evaluate(() => {
    globalThis.slow = 0;
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (globalThis.slow = Math.max(globalThis.slow, duration)))).observe({ type: "longtask" });
  });
  for (const view of ["tree", "processes", "charts"]) {
    await page.locator(`#tab-${view}`).click();
    await page.waitForTimeout(1000); // drawn
    await page.evaluate(() => (globalThis.slow = 0));
    const before = await spent();
    await page.waitForTimeout(SECONDS * 1000);
    say("view", {
      view,
      busy: ((await spent()) - before) / SECONDS,
      slowest: await page.evaluate(() => globalThis.slow),
      elements: await page.evaluate(() => document.querySelectorAll("*").length),
    });
  }
  say("end", { tree: await page.locator('#tree [data-name="channels"]').textContent(), problems: page.problems });
});
