// The demo page as a person uses it: two tabs, one records, both see it; the network goes away and comes back.
import { open, run, say, violations } from "./launch.mjs";

const [url, email, password, shots] = process.argv.slice(2);
const rows = (page) => page.locator("#transactions .description").allTextContents();
const live = (page) => page.waitForSelector('#connection[data-state="live"]');

await run(async (browser) => {
  const context = await browser.newContext({ viewport: { width: 1180, height: 800 }, reducedMotion: "reduce" });
  const one = await open(context, url);
  say("violations", { where: "sign in", found: await violations(one) });

  // By the keyboard alone: a wrong password first, then the right one.
  await one.locator("#email").focus();
  await one.keyboard.type(email);
  await one.keyboard.press("Tab");
  await one.keyboard.type("not the password");
  await one.keyboard.press("Enter");
  await one.waitForSelector("#login-form [data-error]:not([hidden])");
  say("refused", { text: await one.locator("#login-form [data-error]").textContent() });
  one.problems.length = 0; // Chromium writes a 401 to the console
  await one.locator("#password").fill(password);
  await one.keyboard.press("Enter");
  await live(one);

  const two = await open(context, url);
  await live(two);
  say("signed in", { second: await two.locator("#login").isHidden() });

  const record = async (page, amount, description) => {
    await page.locator("#amount").fill(amount);
    await page.locator("#description").fill(description);
    await page.keyboard.press("Enter");
  };
  await record(one, "1.234", "too fine");
  await one.waitForSelector("#amount-error:not([hidden])");
  say("invalid", {
    text: await one.locator("#amount-error").textContent(),
    focus: await one.evaluate(() => document.activeElement.id),
  });
  one.problems.length = 0; // and a 422
  for (let number = 1; number <= 3; number++) {
    await record(one, `${number}.50`, `coffee ${number}`);
    await two.waitForFunction((text) => document.querySelector("#transactions")?.textContent.includes(text), `coffee ${number}`);
  }
  await record(two, "-7", "from the other tab");
  await one.waitForFunction(() => document.querySelector("#transactions").textContent.includes("from the other tab"));
  say("lists", { one: await rows(one), two: await rows(two) });

  // The network goes away for the second tab; what it misses is there when it is back.
  const cdp = await context.newCDPSession(two);
  await cdp.send("Network.enable");
  await cdp.send("Network.emulateNetworkConditions", { offline: true, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await two.evaluate(() => dispatchEvent(new Event("offline")));
  say("offline", { state: await two.locator("#connection").getAttribute("data-state") });
  console.log(JSON.stringify({ event: "gone" }));
  for (let number = 1; number <= 3; number++) {
    await record(one, `10${number}`, `while away ${number}`);
    await one.waitForFunction((text) => document.querySelector("#transactions").textContent.includes(text), `while away ${number}`);
  }
  await cdp.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await two.evaluate(() => dispatchEvent(new Event("online")));
  await two.waitForFunction(() => document.querySelector("#transactions").textContent.includes("while away 3"), null, { timeout: 20000 });
  await live(two);
  say("back", { one: await rows(one), two: await rows(two) });

  await one.locator(".verify").first().click();
  await one.waitForSelector('.result[data-good="true"]');
  say("verified", { text: await one.locator(".result").first().textContent() });

  // The server ends every socket of the tab; the client comes back by itself.
  say("violations", { where: "work", found: await violations(one) });
  if (shots) await one.screenshot({ path: `${shots}/desktop-light.png` });
  await one.emulateMedia({ colorScheme: "dark" });
  say("violations", { where: "dark", found: await violations(one) });
  if (shots) await one.screenshot({ path: `${shots}/desktop-dark.png` });
  await one.setViewportSize({ width: 360, height: 740 });
  say("phone", { overflow: await one.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth) });
  if (shots) await one.screenshot({ path: `${shots}/phone-dark.png` });
  await one.emulateMedia({ colorScheme: "light" });
  if (shots) await one.screenshot({ path: `${shots}/phone-light.png`, fullPage: true });

  await one.locator("#logout").click();
  await two.waitForSelector("#login:not([hidden])");
  if (shots) await two.screenshot({ path: `${shots}/login.png` });
  say("signed out", { problems: one.problems });
});
