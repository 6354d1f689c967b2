// The description of the API as its readers use it: search, sign in, make a call, in both schemes and two widths.
import { open, run, say, violations } from "./launch.mjs";

const [url, email, password, shots] = process.argv.slice(2);
const drawn = (page) => page.waitForFunction(() => document.querySelector("rapi-doc")?.shadowRoot.querySelectorAll(".nav-bar-path, .m-endpoint, section").length > 20);

await run(async (browser) => {
  for (const [colorScheme, width] of [["light", 1280], ["dark", 360]]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await open(context, `${url}/docs`);
    await drawn(page);
    await page.waitForTimeout(1500);
    say("violations", { where: `${colorScheme}, ${width}`, found: await violations(page) });
    if (shots) await page.screenshot({ path: `${shots}/docs-${colorScheme}-${width}.png` });
    say("page", { where: `${colorScheme}, ${width}`, problems: page.problems, overflow: await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth) });
    await context.close();
  }
  const page = await open(await browser.newContext({ viewport: { width: 1280, height: 900 } }), `${url}/docs#get-/api/v1/auth/me`);
  await drawn(page);
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#sign-out:not([hidden])");
  say("signed in", { text: await page.textContent("#said") });
  const answer = page.waitForResponse((response) => response.url().endsWith("/api/v1/auth/me"));
  await page.locator("rapi-doc").locator("#get-\\/api\\/v1\\/auth\\/me button.m-btn", { hasText: /try/i }).click();
  say("called", { status: (await answer).status() });
  await page.click("#sign-out");
  await page.waitForSelector("#sign-in:not([hidden])");
  say("signed out", { text: await page.textContent("#said") });
});
