// The demo page as a person uses it: two tabs, one records, both see it; the network goes away and comes back.
import { open, run, say, violations } from "./launch.mjs";
import { Network } from "./network.mjs";

const [url, email, password, shots] = process.argv.slice(2);
const rows = (page) => page.locator("#transactions .description").allTextContents();
const appears = (page, text) => page.locator("#transactions .description", { hasText: text }).waitFor();
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
    await page.locator('#transaction-form button:not([aria-busy="true"])').waitFor();
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
    await appears(two, `coffee ${number}`);
  }
  await record(two, "-7", "from the other tab");
  for (const page of [one, two]) await appears(page, "from the other tab");
  say("lists", { one: await rows(one), two: await rows(two) });

  // A tab on a network that goes away, with every connection cut; what it misses is there when it is back.
  const network = await Network.to(url);
  const far = await open(await browser.newContext({ reducedMotion: "reduce" }), network.url);
  await far.locator("#email").fill(email);
  await far.locator("#password").fill(password);
  await far.keyboard.press("Enter");
  await live(far);
  await appears(far, "from the other tab");
  network.cut();
  await far.waitForSelector('#connection:not([data-state="live"])');
  say("cut", { state: await far.locator("#connection-text").textContent() });
  for (let number = 1; number <= 3; number++) {
    await record(one, `10${number}`, `while away ${number}`);
    await appears(one, `while away ${number}`);
  }
  say("while away", { far: await rows(far) });
  network.mend();
  await appears(far, "while away 3");
  await live(far);
  say("back", { one: await rows(one), two: await rows(far) });

  // The browser itself says that it is offline, and that it is back.
  await two.evaluate(() => dispatchEvent(new Event("offline")));
  say("offline", { state: await two.locator("#connection").getAttribute("data-state") });
  await two.evaluate(() => dispatchEvent(new Event("online")));
  await live(two);

  await one.locator(".verify").first().click();
  await one.waitForSelector('.result[data-good="true"]');
  say("verified", { text: await one.locator(".result").first().textContent() });

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
  await network.close();
  say("signed out", { problems: one.problems });
});
