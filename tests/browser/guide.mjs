// The guide's services, bundled by esbuild with the environment the guide names, on a page of another origin.
import http from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { PATIENCE, launch, say } from "./launch.mjs";

const require = createRequire(new URL("../node/package.json", import.meta.url));
const esbuild = require("esbuild");
const [url, token, userId, port] = process.argv.slice(2);

const environment = {
  PHOENIX_API_URL: `${url}/api/v1`,
  PHOENIX_SOCKET_URL: `${url.replace(/^http/, "ws")}/socket`,
  USE_PHOENIX_API: "true",
  USE_PHOENIX_TASKS: "true",
};
const built = await esbuild.build({
  entryPoints: [fileURLToPath(new URL("guide/main.ts", import.meta.url))],
  bundle: true,
  write: false,
  format: "iife",
  nodePaths: [fileURLToPath(new URL("../node/node_modules", import.meta.url))],
  define: Object.fromEntries(Object.entries(environment).map(([name, value]) => [`process.env.${name}`, JSON.stringify(value)])),
});
const bundle = built.outputFiles[0].text;
const frontend = http.createServer((request, response) => {
  const script = request.url === "/main.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html; charset=utf-8");
  response.end(script ? bundle : '<!doctype html><title>Frontend</title><script src="/main.js"></script>');
});
await new Promise((ready) => frontend.listen(Number(port), "127.0.0.1", ready));

const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.evaluate((given) => localStorage.setItem("token", given), token);

  say("tasks", { tasks: await page.evaluate(() => guide.loadTasks("ada")) });
  say("users", { answer: await page.evaluate(() => guide.apiClient.get("/users")) });

  const joined = page.waitForEvent("console", { predicate: (message) => message.text().includes("Joined transaction channel") });
  await page.evaluate((id) => {
    globalThis.called = [];
    guide.joinTransactionChannel(id, (payload) => globalThis.called.push(payload));
  }, userId);
  await joined;
  const body = { amount: "12.50", currency: "EUR", description: "from the guide" };
  const answer = await page.evaluate((data) => guide.apiClient.post("/transactions", data), body);
  const deadline = Date.now() + PATIENCE;
  while ((await page.evaluate(() => globalThis.called.length)) === 0 && Date.now() < deadline) await page.waitForTimeout(20);
  say("transaction", { answer, called: await page.evaluate(() => globalThis.called) });
  say("done", { problems });
} finally {
  await browser.close();
  frontend.close();
}
