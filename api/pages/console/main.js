// The console: signs the operator in, follows `admin:observer:NODE` of the chosen node, and hands what comes to the views.

import { Socket } from "/vendor/phoenix.mjs";
import * as session from "/shared/session.js";
import { Charts } from "./charts.js";
import { Cluster } from "./cluster.js";
import * as database from "./database.js";
import { $, bytes, clock, el, ms, number, toast } from "./dom.js";
import { call, chosen } from "./node.js";
import { Pane } from "./pane.js";
import { Processes } from "./processes.js";
import { Tree } from "./tree.js";

const TOPIC = "admin:observer";
const KEPT = 200;
const NODES_MS = 3000; // between two looks at the cluster
let live = null;
let view = "tree";
let unseen = 0;

const pane = new Pane((handle, node) => {
  tree.select(handle);
  processes.selected = node?.pid ?? handle;
});
const tree = new Tree($("tree"), (node) => pane.open(node));
const processes = new Processes((row) => pane.open(row));
const charts = new Charts($("charts"));
const cluster = new Cluster((name) => live?.choose(name));

function shown(state, text) {
  $("connection").dataset.state = state;
  $("connection-text").textContent = text;
}

// ---- signed in, signed out

function signedOut(why) {
  live?.stop();
  live = null;
  pane.handle && pane.close();
  $("work").hidden = $("account").hidden = true;
  $("login").hidden = false;
  shown("offline", "Signed out");
  const notice = $("login-form").querySelector("[data-error]");
  notice.hidden = !why;
  notice.textContent = why ?? "";
}

function signedIn(found) {
  if (found.user.role !== "admin") {
    signedOut(`${found.user.email} is signed in, but this page is for operators (role admin).`);
    return;
  }
  $("login").hidden = true;
  $("work").hidden = $("account").hidden = false;
  $("who").textContent = found.user.email;
  live ??= follow();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const notice = form.querySelector("[data-error]");
  const button = form.querySelector("button");
  button.setAttribute("aria-busy", "true");
  try {
    const found = await session.signIn(form.email.value.trim(), form.password.value);
    form.password.value = "";
    signedIn(found);
  } catch (error) {
    notice.textContent = error.message;
    notice.hidden = false;
    form.password.focus();
  } finally {
    button.removeAttribute("aria-busy");
  }
});

$("logout").addEventListener("click", async () => {
  signedOut();
  await session.signOut();
});

session.watch((found) => (found ? signedIn(found) : signedOut()));

// ---- the live side

function follow() {
  let stopped = false;
  let channel = null;
  const socket = new Socket("/socket", {
    authToken: () => session.current()?.token ?? "",
    longPollFallbackMs: 3000,
    reconnectAfterMs: (tries) => [200, 500, 1000, 2000][tries - 1] ?? 5000 + Math.random() * 3000,
    rejoinAfterMs: (tries) => [200, 500, 1000][tries - 1] ?? 3000,
  });
  const renew = () => session.fresh().then((known) => !stopped && !known && signedOut("Your session has ended."), () => {});
  socket.onClose(() => {
    if (stopped) return;
    shown(navigator.onLine ? "waiting" : "broken", navigator.onLine ? "Reconnecting…" : "You are offline");
    renew();
  });
  socket.onError(renew);

  /** The console is about this node from now on. */
  function choose(name) {
    if (stopped || name === chosen.name) return;
    channel?.leave();
    chosen.name = name;
    $("node").value = name;
    pane.handle && pane.close();
    tree.clear();
    const mine = (channel = socket.channel(`${TOPIC}:${name}`, {}));
    const still = (run) => (data) => mine === channel && run(data);
    mine.on("tree", still(showTree));
    mine.on("stats", still((sample) => {
      tiles(sample);
      charts.add(sample);
    }));
    mine.on("report", still((report) => report1(report, true)));
    mine.on("missed", still(({ reports }) => toast(`${reports} more reports came at once; the log has the last of them`)));
    mine.onError(() => !stopped && mine === channel && shown("waiting", "Reconnecting…"));
    shown("waiting", "Connecting…");
    mine
      .join()
      .receive("ok", still(() => {
        shown("live", "Live");
        everything();
      }))
      .receive("error", still((reply) => {
        shown("broken", `Refused: ${reply?.reason ?? "no reason given"}`);
        renew();
      }));
  }

  /** Who is there; with that, whom the console is about. One that has gone is left for the one that answers. */
  async function look() {
    if (stopped || document.hidden) return;
    try {
      const found = await session.call("/admin/nodes");
      if (stopped) return;
      const there = found.nodes.filter((node) => node.state === "up" || node.state === "silent").map((node) => node.node);
      choices(there);
      if (!there.includes(chosen.name)) {
        if (chosen.name !== null) toast(`${chosen.name} has gone; this is ${found.node}`);
        choose(found.node);
      }
      cluster.show(found, chosen.name);
    } catch {
      // the connection's state stands in the header, and the next look is near
    }
  }

  const timers = [setInterval(renew, 30000), setInterval(look, NODES_MS), setInterval(() => view === "processes" && !document.hidden && processes.read(), 2000), setInterval(() => view === "database" && !document.hidden && database.read(), 2000)];
  shown("waiting", "Connecting…");
  socket.connect();
  look();
  return {
    choose,
    stop() {
      stopped = true;
      chosen.name = null;
      timers.forEach(clearInterval);
      socket.disconnect();
    },
  };
}

function choices(names) {
  const listed = [...$("node").options].map((option) => option.value);
  if (listed.join() !== names.join()) {
    $("node").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    $("node").value = chosen.name ?? names[0];
  }
  $("node-choice").hidden = names.length < 2;
}

$("node").addEventListener("change", (event) => live?.choose(event.target.value));

/** What the channel does not repeat: read at the start and after every reconnect. */
async function everything() {
  const about = chosen.name;
  try {
    const [top, stats, reports] = await Promise.all([call("/admin/tree?limit=0"), call("/admin/stats"), call("/admin/reports?limit=100")]);
    if (about !== chosen.name) return;
    showTree(top);
    charts.start(stats.samples);
    tiles(stats.samples.at(-1) ?? stats.now);
    $("log").replaceChildren();
    $("log-empty").hidden = reports.reports.length > 0;
    reports.reports.reverse().forEach((one) => report1(one, false));
    totals(reports.totals);
    if (view === "processes") processes.read();
    if (view === "database") database.read();
  } catch (error) {
    toast(error.message);
  }
}

function showTree(data) {
  tree.show(data);
  let count = 0;
  let restarts = 0;
  const visit = (node) => {
    count += 1 + (node.dynamic ? node.children_count : 0);
    restarts += node.restarts;
    node.children.forEach(visit);
  };
  visit(data);
  $("tree-note").textContent = `${number(count)} processes, ${number(restarts)} restarts`;
}

const TILES = [
  ["requests", "Requests/s", number],
  ["transactions", "Tx/s", number],
  ["p95", "Latency p95", ms, (value) => (value > 1000 ? "bad" : value > 250 ? "warn" : "")],
  ["errors", "Errors/s", number, (value) => (value > 0 ? "bad" : "")],
  ["sockets", "Sockets", number],
  ["processes", "Processes", number],
  ["mailbox", "Queued", number, (value) => (value > 1000 ? "bad" : value > 100 ? "warn" : "")],
  ["lag_ms", "Loop lag", ms, (value) => (value > 250 ? "bad" : value > 50 ? "warn" : "")],
  ["cpu", "CPU", (value) => (value === undefined ? "–" : `${number(value)} %`)],
  ["memory", "Memory", bytes],
  ["ledger_seq", "Ledger head", (value) => (value === null || value === undefined ? "–" : `#${number(value)}`)],
  ["database", "Database", (value) => value ?? "–", (value) => (value === "up" ? "" : "bad")],
];

const made = new Map();

function tiles(sample) {
  const list = TILES.map(([key, label, unit, level]) => [key, label, unit(sample[key]), level?.(sample[key] ?? 0) ?? ""]);
  for (const [name, state] of Object.entries(sample.breakers ?? {})) list.push([`breaker ${name}`, name, state, state === "closed" ? "" : state === "open" ? "bad" : "warn"]);
  for (const [key, label, text, level] of list) {
    if (!made.has(key)) {
      const value = el("dd");
      const tile = el("div", { class: "tile", "data-key": key }, el("dt", {}, label), value);
      made.set(key, { value, tile });
      $("tiles").append(tile);
    }
    const { value, tile } = made.get(key);
    if (value.textContent !== text) value.textContent = text;
    tile.dataset.level = level;
  }
}

// ---- the crash log

function report1(one, fresh) {
  const about = one.kind === "supervisor" ? `${one.context.child ?? "a child"} under ${one.name ?? one.pid}` : one.name ?? `<${one.pid}>`;
  const details = () => {
    const lines = [one.reason, one.message && `last message: ${one.message}`, one.ancestors?.length && `ancestors: ${one.ancestors.join(" › ")}`, Object.keys(one.context ?? {}).length && `context: ${JSON.stringify(one.context)}`];
    return lines.filter(Boolean).join("\n\n");
  };
  const item = el(
    "li",
    { class: `${one.kind}${fresh ? " fresh" : ""}` },
    el("div", { class: "line" }, el("time", {}, clock(one.at)), el("b", {}, about), el("span", { class: "hint" }, one.kind === "supervisor" ? one.context.error : one.kind.replace("_", " ")), el("span", { class: "hint mono" }, one.module)),
    el("div", { class: "why" }, one.kind === "long_schedule" ? `held the event loop for ${ms(one.context.seconds * 1000)}` : (one.reason ?? "").split("\n")[0]),
    el("details", {}, el("summary", {}, "Details"), el("pre", { tabindex: 0 }, details())),
  );
  $("log").prepend(item);
  while ($("log").children.length > KEPT) $("log").lastChild.remove();
  $("log-empty").hidden = true;
  if (fresh && view !== "log") {
    unseen += 1;
    $("log-count").textContent = unseen;
    $("log-count").hidden = false;
  }
}

function totals(found) {
  const words = [["crash", "crashes", "crash"], ["supervisor", "supervisor reports", "supervisor report"], ["long_schedule", "long schedules", "long schedule"], ["progress", "starts", "start"]];
  $("log-totals").textContent = words.filter(([kind]) => found[kind]).map(([kind, many, one]) => `${number(found[kind])} ${found[kind] === 1 ? one : many}`).join(", ");
}

// ---- the audit log

async function audit() {
  try {
    const page = await session.call("/admin/audit?limit=100");
    $("audit").replaceChildren(
      el("thead", {}, el("tr", {}, ["When", "Who", "What", "On", "From", "Details"].map((label) => el("th", { scope: "col" }, label)))),
      el("tbody", {}, page.audit.map((one) => el("tr", {}, el("td", {}, new Date(one.inserted_at).toLocaleString("en-GB")), el("td", {}, one.actor_email ?? "–"), el("td", {}, one.action), el("td", {}, [one.subject, one.details.name].filter(Boolean).join(" ")), el("td", {}, one.remote_address), el("td", { class: "mono wide" }, JSON.stringify(one.details))))),
    );
  } catch (error) {
    toast(error.message);
  }
}

// ---- tabs

const tabs = [...document.querySelectorAll('[role="tab"]')];

function show(name) {
  view = name;
  for (const tab of tabs) {
    const on = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !on;
  }
  if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
  if (name === "processes") processes.read();
  if (name === "charts") charts.draw();
  if (name === "audit") audit();
  if (name === "database") database.read();
  if (name === "log") {
    unseen = 0;
    $("log-count").hidden = true;
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => show(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    show(next.id.slice(4));
    next.focus();
  });
}

const first = location.hash.slice(1);
if (tabs.some((tab) => tab.id === `tab-${first}`)) show(first);

session.fresh().then((found) => (found ? signedIn(found) : signedOut()), (error) => signedOut(error.message));
