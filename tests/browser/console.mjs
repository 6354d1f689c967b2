// The console as an operator uses it: sign in, look at the tree, restart and crash processes, all without a reload.
import { open, run, say, violations } from "./launch.mjs";

const [url, email, password, shots] = process.argv.slice(2);
const restarts = (page, name) => page.locator(`#tree [data-name="${name}"]`).getAttribute("data-restarts").then(Number);
const more = (page, name, than) => page.waitForFunction(([name, than]) => Number(document.querySelector(`#tree [data-name="${name}"]`)?.dataset.restarts) > than, [name, than]);
const live = (page) => page.waitForSelector('#connection[data-state="live"]');
const drawn = (page) => page.waitForSelector('#tree [data-name="db_writer"]');
const shot = async (page, name, fullPage = false) => shots && page.screenshot({ path: `${shots}/console-${name}.png`, fullPage });
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

async function signIn(page) {
  await page.locator("#email").focus();
  await page.keyboard.type(email);
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
  await live(page);
  await drawn(page);
}

const RESTARTING = { absent: "/admin/processes/" }; // a process that is being restarted has no name for a moment

await run(async (browser) => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
  const page = await open(context, `${url}/admin`, RESTARTING);
  await page.waitForSelector("#login:not([hidden])");
  say("violations", { where: "sign in", found: await violations(page) });
  await signIn(page);
  let loads = 0;
  page.on("load", () => (loads += 1));
  say("tree", { names: await page.locator("#tree .node").evaluateAll((nodes) => nodes.map((node) => node.dataset.name)) });
  await shot(page, "tree");
  say("violations", { where: "tree", found: await violations(page) });

  // By the keyboard: from the root down to the ledger server, opened with Enter, restarted with its button.
  await page.locator("#tree .node").first().focus();
  for (let step = 0; step < 40; step++) {
    if ((await page.evaluate(() => document.activeElement.dataset.name)) === "ledger_server") break;
    await page.keyboard.press("ArrowDown");
  }
  const before = await restarts(page, "ledger_server");
  await page.keyboard.press("Enter");
  await page.waitForSelector('#pane [data-key="restart"]');
  await page.locator('#pane [data-key="restart"]').focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector('#tree [data-name="ledger_server"].pulse');
  // What a restart lights up is a light colour on a light page, in each moment of it.
  const glow = await page.locator('#tree [data-name="ledger_server"] .box').evaluate((box) => {
    const [animation] = box.getAnimations();
    animation.pause();
    const colours = [0, 0.2, 0.4, 0.6, 0.8, 0.99].map((part) => {
      animation.currentTime = part * animation.effect.getComputedTiming().duration;
      return getComputedStyle(box).fill;
    });
    animation.play();
    return colours;
  });
  say("glow", { colours: glow });
  await more(page, "ledger_server", before);
  say("restarted", { before, after: await restarts(page, "ledger_server") });

  // A crash: db_writer is killed. Its supervisor restarts it, the picture pulses, the log and the pane tell why.
  await page.locator('#tree [data-name="db_writer"]').click();
  await page.waitForFunction(() => document.querySelector("#pane-title")?.textContent === "db_writer");
  const wrote = await restarts(page, "db_writer");
  await page.locator('#pane [data-key="kill"]').click();
  await page.locator('#pane [data-key="kill"]', { hasText: "Really" }).click();
  await more(page, "db_writer", wrote);
  await page.waitForFunction(() => document.querySelector("#pane .log li.crash"));
  await page.waitForFunction(() => Number(document.querySelector("#log-count").textContent) >= 2);
  await page.waitForTimeout(250);
  await shot(page, "crash");
  // No tile cuts what it shows, the longest value of memory either.
  const cut = await page.locator("#tiles .tile").evaluateAll((tiles) => {
    tiles.find((tile) => tile.dataset.key === "memory").querySelector("dd").textContent = "1023 MiB";
    return tiles.filter((tile) => [...tile.children].some((one) => one.scrollWidth > one.clientWidth)).map((tile) => tile.dataset.key);
  });
  say("tiles", { cut });
  say("crashed", {
    before: wrote,
    after: await restarts(page, "db_writer"),
    count: await page.locator("#log-count").textContent(),
    pane: await page.locator("#pane .log").textContent(),
  });
  say("violations", { where: "pane", found: await violations(page) });

  const focused = () => page.evaluate(() => document.activeElement.dataset.name ?? document.activeElement.textContent);
  await page.keyboard.press("Escape");
  const afterEscape = { tree: await focused() };

  await page.locator("#tab-log").click();
  say("log", { text: await page.locator("#log").textContent() });
  await shot(page, "log");

  await page.locator("#tab-processes").click();
  await page.waitForSelector("#processes tbody tr");
  await page.locator("#processes th button", { hasText: "Process" }).click();
  await page.locator('#filters [name="name"]').fill("ledger");
  await page.waitForFunction(() => {
    const rows = [...document.querySelectorAll("#processes tbody tr")];
    return rows.length > 0 && rows.every((row) => row.textContent.includes("ledger"));
  });
  say("filtered", { rows: await page.locator("#processes tbody tr .link").allTextContents() });
  await page.locator('#filters [name="name"]').fill("");
  await page.waitForFunction(() => document.querySelectorAll("#processes tbody tr").length > 5);
  // The table is drawn anew while the pane is open, so that the button which opened it is not there any more.
  const row = page.locator("#processes tbody tr", { hasText: "ledger_server" }).first();
  await row.locator("button").first().click();
  await page.waitForSelector('#pane [data-key="restart"]');
  await page.evaluate(() => document.querySelectorAll("#processes tbody tr").forEach((one) => one.replaceWith(one.cloneNode(true))));
  await page.keyboard.press("Escape");
  afterEscape.table = await focused();
  say("after escape", afterEscape);
  await shot(page, "processes");
  say("violations", { where: "processes", found: await violations(page) });

  await page.locator("#tab-charts").click();
  await page.waitForSelector(".uplot canvas");
  await page.waitForFunction(() => [...document.querySelectorAll(".chart .latest b")].at(-1)?.textContent.includes("MiB"));
  await page.waitForTimeout(2200); // two samples
  say("charts", {
    count: await page.locator(".chart").count(),
    painted: await page.locator(".uplot canvas").first().evaluate((canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value !== 0)),
    memory: await page.locator(".chart .latest b").last().textContent(),
  });
  await shot(page, "charts");

  await page.locator("#tab-cluster").click();
  await page.waitForSelector("#cluster [data-node]");
  say("cluster", { nodes: await page.locator("#cluster [data-node]").evaluateAll((all) => all.map((one) => one.dataset.node)), note: await page.locator("#cluster-note").textContent() });
  await shot(page, "cluster-alone");

  await page.locator("#tab-database").click();
  await page.waitForSelector("#waits tbody tr");
  await page.waitForSelector("#slowest tbody tr");
  const cells = (table) => page.locator(`#${table} tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  say("database", { waits: await cells("waits"), slowest: await cells("slowest"), note: await page.locator("#database-note").textContent() });
  await shot(page, "database");
  say("violations", { where: "database", found: await violations(page) });

  await page.locator("#tab-audit").click();
  await page.waitForSelector("#audit tbody tr");
  say("audit", { text: await page.locator("#audit tbody").textContent() });
  say("no reload", { loads, problems: page.problems });
  const state = await context.storageState();
  await context.close();

  const phone = await browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme: "dark", storageState: state, deviceScaleFactor: 2, hasTouch: true });
  const small = await open(phone, `${url}/admin`, RESTARTING);
  await live(small);
  await drawn(small);
  await shot(small, "phone-tree", true);
  const wide = { tree: await overflow(small) };
  await small.locator("#tab-processes").click();
  await small.waitForSelector("#processes tbody tr");
  wide.processes = await overflow(small);
  await shot(small, "phone-processes");
  await small.locator("#tab-charts").click();
  await small.waitForSelector(".uplot canvas");
  wide.charts = await overflow(small);
  await shot(small, "phone-charts");
  await small.locator("#tab-database").click();
  await small.waitForSelector("#waits tbody tr");
  wide.database = await overflow(small);
  await small.locator("#tab-tree").click();
  await small.locator('#tree [data-name="db_writer"]').click();
  await small.waitForSelector('#pane [data-key="restart"]');
  wide.pane = await overflow(small);
  const counted = await restarts(small, "db_writer");
  await small.locator('#pane [data-key="restart"]').click();
  await more(small, "db_writer", counted);
  await shot(small, "phone-pane");
  say("phone", { overflow: wide, restarted: (await restarts(small, "db_writer")) - counted, problems: small.problems });
  say("violations", { where: "phone, dark", found: await violations(small) });
  await phone.close();
});
