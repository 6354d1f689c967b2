// The cluster as a picture: a box for each node, a line for each pair of nodes that see each other. And as tables below it.

import { call } from "/shared/session.js";
import { $, bytes, el, ms, number, svg, toast } from "./dom.js";

const WIDTH = 184;
const HEIGHT = 58;
const WORDS = { up: "up", silent: "does not answer", left: "has left", lost: "lost" };

const short = (name) => name.split("@")[0];
const level = (node) => (node.state === "up" ? (node.description.ready ? "good" : "warn") : node.state === "left" ? "left" : "bad");

export class Cluster {
  constructor(pick) {
    this.pick = pick;
    this.found = null;
    this.sure = null;
    new ResizeObserver(() => this.found && this.draw()).observe($("cluster"));
  }

  /** Shows what `GET /admin/nodes` has found. `chosen` is the node that the console is about. */
  show(found, chosen) {
    this.found = found;
    this.chosen = chosen;
    const there = found.nodes.filter((node) => node.state === "up").length;
    const words = found.cluster === null ? "This is a single server: CLUSTER_URL is not set" : `Cluster ${found.cluster}: ${there} of ${found.nodes.filter((node) => node.state !== "left").length} nodes answer`;
    $("cluster-note").textContent = words;
    this.draw();
    this.table();
  }

  draw() {
    const nodes = this.found.nodes;
    const narrow = $("cluster").clientWidth > 0 && $("cluster").clientWidth < 640;
    const plan = narrow ? stacked(nodes, $("cluster").clientWidth) : around(nodes);
    const focused = document.activeElement?.closest?.("#cluster [data-node]")?.dataset.node;
    const lines = svg("g", { "aria-hidden": "true" });
    for (const pair of pairs(nodes)) lines.append(...this.line(pair, plan));
    const boxes = nodes.map((node) => this.box(node, plan.spots.get(node.node), plan.box));
    const view = `0 0 ${plan.width} ${plan.height}`;
    $("cluster").replaceChildren(svg("svg", { width: plan.width, height: plan.height, viewBox: view, role: "group", "aria-label": "The nodes of the cluster" }, lines, boxes));
    if (focused) $("cluster").querySelector(`[data-node="${CSS.escape(focused)}"]`)?.focus();
  }

  line({ from, to, there, back }, plan) {
    const path = plan.path(plan.spots.get(from), plan.spots.get(to));
    const state = there && back ? (there.round_trip_ms === null || back.round_trip_ms === null ? "slow" : "both") : there || back ? "one" : "none";
    const seen = there ?? back;
    const words = { both: ms(Math.min(there?.round_trip_ms ?? Infinity, back?.round_trip_ms ?? Infinity)), slow: "no answer", one: `only ${short(there ? from : to)} sees ${short(there ? to : from)}`, none: "not connected" }[state];
    const drawn = [svg("path", { class: `link ${state}`, d: path.d }, svg("title", {}, `${from} – ${to}: ${words}${seen ? `, ${number(seen.frames_in + seen.frames_out)} frames` : ""}`))];
    if (plan.labels || state !== "both") drawn.push(svg("text", { class: "trip", x: path.x, y: path.y, "text-anchor": "middle" }, words));
    return drawn;
  }

  box(node, spot, width) {
    const about = node.description;
    const sub = about ? `${number(about.sockets)} sockets · ${number(about.requests)} req/s · ${number(about.cpu)} %` : WORDS[node.state];
    const ready = about ? (about.ready ? "ready" : `not ready: ${about.not_ready.join(", ")}`) : node.reason ?? "";
    const open = () => node.state === "up" && this.pick(node.node);
    return svg(
      "g",
      {
        class: `machine ${level(node)}${node.node === this.chosen ? " selected" : ""}`,
        role: "button",
        tabindex: 0,
        transform: `translate(${spot.x - width / 2} ${spot.y - HEIGHT / 2})`,
        "data-node": node.node,
        "aria-pressed": String(node.node === this.chosen),
        "aria-label": `${node.node}, ${WORDS[node.state]}, ${ready}`,
        onclick: open,
        onkeydown: (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), open()),
      },
      svg("rect", { class: "box", width, height: HEIGHT, rx: 10 }),
      svg("circle", { class: "state", cx: 16, cy: 20, r: 5 }),
      svg("text", { class: "label", x: 29, y: 24 }, clip(short(node.node), (width - 40) / 7.6)),
      svg("text", { class: "sub", x: 16, y: 44 }, clip(sub, (width - 24) / 5.6)),
      svg("title", {}, `${node.node}: ${ready}`),
    );
  }

  table() {
    const cell = (text, kind = "") => el("td", { class: kind }, text);
    const head = (labels) => el("thead", {}, el("tr", {}, labels.map(([label, kind]) => el("th", { scope: "col", class: kind ?? "" }, label))));
    const rows = this.found.nodes.map((node) => {
      const about = node.description;
      const state = about ? (about.ready ? "ready" : `not ready: ${about.not_ready.join(", ")}`) : `${WORDS[node.state]} ${node.seconds === null ? "" : `for ${ms(node.seconds * 1000)}`}`;
      const figures = about ? [ms(about.uptime * 1000), number(about.sockets), number(about.processes), number(about.requests), `${number(about.cpu)} %`, bytes(about.memory)] : Array(6).fill("–");
      return el(
        "tr",
        { class: node.node === this.chosen ? "selected" : null, "data-node-row": node.node },
        el("td", {}, about ? el("button", { type: "button", class: "link", onclick: () => this.pick(node.node) }, node.node) : node.node),
        el("td", {}, el("span", { class: `chip ${level(node)}` }, state)),
        figures.map((text) => cell(text, "number")),
        el("td", {}, about && about.sockets > 0 ? el("button", { type: "button", class: "quiet small", "data-drain": node.node, onclick: (event) => this.drain(event.target, node.node) }, this.sure === node.node ? "Really drain" : "Drain") : null),
      );
    });
    $("nodes").replaceChildren(head([["Node"], ["State"], ["Up", "number"], ["Sockets", "number"], ["Processes", "number"], ["Requests/s", "number"], ["CPU", "number"], ["Memory", "number"], [el("span", { class: "visually-hidden" }, "Drain")]]), el("tbody", {}, rows));
    const links = this.found.nodes.flatMap((node) => (node.description?.links ?? []).map((link) => [node.node, link]));
    $("links").replaceChildren(
      head([["From"], ["Sees"], ["Round trip", "number"], ["Up", "number"], ["Frames in", "number"], ["out", "number"], ["Bytes in", "number"], ["out", "number"]]),
      el("tbody", {}, links.map(([from, link]) => el("tr", {}, cell(from), cell(link.node), cell(link.round_trip_ms === null ? "no answer" : ms(link.round_trip_ms), "number"), cell(ms(link.seconds * 1000), "number"), cell(number(link.frames_in), "number"), cell(number(link.frames_out), "number"), cell(bytes(link.bytes_in), "number"), cell(bytes(link.bytes_out), "number")))),
    );
    $("links-part").hidden = links.length === 0;
  }

  async drain(button, name) {
    if (this.sure !== name) {
      this.sure = name;
      button.textContent = "Really drain";
      setTimeout(() => (this.sure = null), 5000);
      return;
    }
    this.sure = null;
    try {
      const done = await call(`/admin/drain?node=${encodeURIComponent(name)}`, { method: "POST", body: {} });
      toast(`${number(done.sockets)} sockets of ${short(name)} are sent away`);
    } catch (error) {
      toast(error.message);
    }
  }
}

const clip = (text, room) => (text.length <= room ? text : `${text.slice(0, Math.max(1, Math.floor(room) - 1))}…`);

/** Each pair of nodes that should see each other, with what each says of the other. */
function pairs(nodes) {
  const there = nodes.filter((node) => node.state !== "left");
  const sees = (from, to) => from.description?.links.find((link) => link.node === to.node);
  const list = [];
  for (const [index, from] of there.entries()) for (const to of there.slice(index + 1)) list.push({ from: from.node, to: to.node, there: sees(from, to), back: sees(to, from) });
  return list;
}

// Wide: on an ellipse, the first at the left.
function around(nodes) {
  const count = nodes.length;
  const rx = count === 1 ? 0 : Math.max(190, count * 36);
  const ry = count < 3 ? 0 : Math.max(95, count * 22);
  const width = 2 * rx + WIDTH + 12;
  const height = 2 * ry + HEIGHT + 12;
  const spots = new Map(nodes.map((node, index) => {
    const angle = Math.PI + (2 * Math.PI * index) / count;
    return [node.node, { x: width / 2 + rx * Math.cos(angle), y: height / 2 + ry * Math.sin(angle) }];
  }));
  const path = (a, b) => ({ d: `M${a.x} ${a.y} L${b.x} ${b.y}`, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 - 7 });
  return { spots, width, height, box: WIDTH, path, labels: count <= 6 };
}

// Narrow: one below the other, lines as bows at the right.
function stacked(nodes, room) {
  const box = Math.max(150, room - 96);
  const step = HEIGHT + 22;
  const spots = new Map(nodes.map((node, index) => [node.node, { x: 4 + box / 2, y: 6 + HEIGHT / 2 + index * step, index }]));
  const path = (a, b) => {
    const x = 4 + box;
    const bow = Math.min(64, 26 + 12 * Math.abs(a.index - b.index));
    return { d: `M${x} ${a.y} C${x + bow} ${a.y} ${x + bow} ${b.y} ${x} ${b.y}`, x: x + 44, y: (a.y + b.y) / 2 + 4 };
  };
  return { spots, width: room - 2, height: 12 + nodes.length * step - 22, box, path, labels: nodes.length <= 3 };
}
