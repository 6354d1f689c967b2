// The console of two nodes: the picture, the choice of a node, and a process restarted on each of them, told live.
import { open, run, say, violations } from "./launch.mjs";

const [url, email, password, shots] = process.argv.slice(2);
const restarts = (page, name) => page.locator(`#tree [data-name="${name}"]`).getAttribute("data-restarts").then(Number);
const live = (page) => page.waitForSelector('#connection[data-state="live"]');
const shot = async (page, name) => shots && page.screenshot({ path: `${shots}/console-${name}.png` });

await run(async (browser) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: "light" });
  const page = await open(context, `${url}/admin#cluster`);
  await page.locator("#email").fill(email);
  await page.locator("#password").fill(password);
  await page.keyboard.press("Enter");
  await live(page);
  await page.waitForFunction(() => document.querySelectorAll("#cluster .machine.good").length === 2 && document.querySelector("#cluster .link.both"));
  say("picture", {
    nodes: await page.locator("#cluster .machine").evaluateAll((all) => all.map((one) => one.dataset.node)),
    note: await page.locator("#cluster-note").textContent(),
    links: await page.locator("#links tbody tr").count(),
  });
  await shot(page, "cluster");
  say("violations", { where: "cluster", found: await violations(page) });

  for (const [index, name] of (await page.locator("#node option").allTextContents()).entries()) {
    await page.locator("#tab-cluster").click();
    if (index === 0) await page.locator(`#cluster [data-node="${name}"]`).click();
    else {
      await page.locator(`#cluster [data-node="${name}"]`).focus();
      await page.keyboard.press("Enter");
    }
    await page.waitForFunction((name) => document.querySelector(`#cluster [data-node="${name}"]`)?.classList.contains("selected"), name);
    await live(page);
    await page.locator("#tab-tree").click();
    await page.locator('#tree [data-name="db_activity"]').click();
    await page.waitForSelector('#pane [data-key="restart"]');
    const before = await restarts(page, "db_activity");
    await page.locator('#pane [data-key="restart"]').click();
    await page.waitForSelector('#tree [data-name="db_activity"].pulse'); // by the channel: nothing else draws the tree
    say("restarted", { node: name, chosen: await page.locator("#node").inputValue(), more: (await restarts(page, "db_activity")) - before });
    await page.keyboard.press("Escape");
  }
  say("problems", { problems: page.problems });
  const state = await context.storageState();
  await context.close();

  const phone = await browser.newContext({ viewport: { width: 360, height: 800 }, colorScheme: "dark", storageState: state, hasTouch: true });
  const small = await open(phone, `${url}/admin#cluster`);
  await live(small);
  await small.waitForFunction(() => document.querySelectorAll("#cluster .machine.good").length === 2);
  await shot(small, "phone-cluster");
  say("phone", { overflow: await small.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth) });
  say("violations", { where: "phone, dark", found: await violations(small) });
  await phone.close();
});
