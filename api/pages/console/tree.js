// The supervision tree as a picture: drawn anew when its shape changes, otherwise only what changed is touched.

import { el, number, svg } from "./dom.js";

const WIDTH = 208;
const HEIGHT = 46;
const GAP_X = 46;
const GAP_Y = 10;
const INDENT = 22;

export class Tree {
  constructor(place, open) {
    this.place = place;
    this.open = open;
    this.data = null;
    this.nodes = new Map(); // key -> {data, group}
    this.shape = "";
    this.focus = null;
    this.selected = null;
    new ResizeObserver(() => this.data && this.draw(true)).observe(place);
  }

  /** Shows this tree; what was restarted since the last one pulses. */
  show(data) {
    const before = this.nodes;
    this.data = data;
    const changed = new Set();
    walk(data, "", (key, node) => {
      const old = before.get(key)?.data;
      if (old && node.pid && (node.restarts > old.restarts || (old.pid !== node.pid && old.pid !== undefined))) changed.add(key);
    });
    this.draw(false);
    for (const key of changed) this.pulse(key);
    return changed;
  }

  /** Forgets what it shows: what comes next is another tree. */
  clear() {
    this.data = null;
    this.nodes = new Map();
    this.shape = "";
    this.place.replaceChildren();
  }

  select(handle) {
    this.selected = handle;
    for (const { data, group } of this.nodes.values()) group.classList.toggle("selected", handle !== null && (data.name === handle || data.pid === handle));
  }

  pulse(key) {
    const group = this.nodes.get(key)?.group;
    if (!group) return;
    group.classList.remove("pulse");
    group.getBoundingClientRect(); // the animation begins anew
    group.classList.add("pulse");
    clearTimeout(group.fading);
    group.fading = setTimeout(() => group.classList.remove("pulse"), 3000);
  }

  draw(force) {
    const narrow = this.place.clientWidth > 0 && this.place.clientWidth < 640;
    const parts = [narrow, this.place.clientWidth >> 5];
    walk(this.data, "", (key) => parts.push(key));
    const shape = parts.join("|");
    if (!force && shape === this.shape) {
      walk(this.data, "", (key, node) => this.update(key, node));
      return;
    }
    if (force && shape === this.shape) return;
    this.shape = shape;
    const hadFocus = this.place.contains(document.activeElement);
    const spots = narrow ? indented(this.data, this.place.clientWidth) : layered(this.data);
    const edges = svg("g", { "aria-hidden": "true" });
    const boxes = svg("g", { role: "none" });
    const old = this.nodes;
    this.nodes = new Map();
    for (const spot of spots.list) {
      if (spot.edge) edges.append(svg("path", { class: "edge", d: spot.edge }));
      const group = this.group(spot);
      if (old.get(spot.key)?.group.classList.contains("pulse")) group.classList.add("pulse");
      boxes.append(group);
      this.nodes.set(spot.key, { data: spot.node, group, spot });
      this.update(spot.key, spot.node);
    }
    const picture = svg(
      "svg",
      { width: spots.width, height: spots.height, viewBox: `0 0 ${spots.width} ${spots.height}`, preserveAspectRatio: "xMinYMin meet", role: "tree", "aria-label": "Supervision tree" },
      edges,
      boxes,
    );
    this.place.replaceChildren(picture);
    this.select(this.selected);
    if (!this.nodes.has(this.focus)) this.focus = spots.list[0].key;
    this.nodes.get(this.focus).group.setAttribute("tabindex", "0");
    if (hadFocus) this.nodes.get(this.focus).group.focus();
  }

  group(spot) {
    const { node, key, x, y, width } = spot;
    const group = svg(
      "g",
      {
        role: "treeitem",
        tabindex: "-1",
        "aria-level": spot.depth + 1,
        transform: `translate(${x} ${y})`,
        "data-name": node.name,
        onclick: () => this.go(key, true),
        onkeydown: (event) => this.key(event, key),
        onfocus: () => this.rove(key),
      },
      svg("rect", { class: "ring", width, height: HEIGHT, rx: 9 }),
      svg("rect", { class: "box", width, height: HEIGHT, rx: 9 }),
      svg("circle", { class: "state", cx: 14, cy: 16, r: 4.5 }),
      svg("text", { class: "label", x: 26, y: 20 }),
      svg("text", { class: "sub", x: 14, y: 37 }),
      svg("g", { class: "badges" }),
    );
    group.boxWidth = width;
    return group;
  }

  update(key, node) {
    const entry = this.nodes.get(key);
    if (!entry) return;
    entry.data = node;
    const { group } = entry;
    const pulse = group.classList.contains("pulse");
    const selected = group.classList.contains("selected");
    group.setAttribute("class", `node ${node.type} ${node.status}${pulse ? " pulse" : ""}${selected ? " selected" : ""}`);
    const [, , , label, sub, badges] = group.children;
    const list = [];
    if (node.state) list.push([node.state, node.state === "open" ? "alarm" : "state-name"]);
    if (node.dynamic) list.push([number(node.children_count), "children"]);
    if (node.message_queue_len > 0) list.push([`✉ ${number(node.message_queue_len)}`, "queued"]);
    if (node.restarts > 0) list.push([`↻ ${node.restarts}`, "restarts"]);
    group.dataset.restarts = node.restarts;
    const summary = list.map((one) => one.join()).join("|");
    if (badges.dataset.summary !== summary) {
      badges.dataset.summary = summary;
      let right = group.boxWidth - 8;
      badges.replaceChildren(
        ...list.reverse().map(([text, kind]) => {
          const width = text.length * 6.6 + 12;
          right -= width + 4;
          return svg("g", { class: `badge ${kind}`, transform: `translate(${right + 4} 7)` }, svg("rect", { width, height: 18, rx: 9 }), svg("text", { x: width / 2, y: 13, "text-anchor": "middle" }, text));
        }),
      );
      badges.used = group.boxWidth - right;
    }
    const room = Math.floor((group.boxWidth - 30 - (badges.used ?? 0)) / 7.4);
    setText(label, clip(node.name, Math.max(room, 6)));
    const module = node.module.split(":").pop();
    const kind = node.type === "supervisor" ? (node.dynamic ? "dynamic supervisor" : node.strategy) : module;
    setText(sub, clip(`${kind} · ${node.restart}`, Math.floor((group.boxWidth - 20) / 6)));
    group.setAttribute(
      "aria-label",
      `${node.name}, ${kind}, ${node.status}, ${node.restarts} restarts${node.message_queue_len ? `, ${node.message_queue_len} messages waiting` : ""}${node.dynamic ? `, ${node.children_count} children` : ""}${node.state ? `, ${node.state}` : ""}`,
    );
  }

  rove(key) {
    this.nodes.get(this.focus)?.group.setAttribute("tabindex", "-1");
    this.focus = key;
    this.nodes.get(key).group.setAttribute("tabindex", "0");
  }

  go(key, open) {
    this.rove(key);
    this.nodes.get(key).group.focus();
    if (open) this.open(this.nodes.get(key).data);
  }

  key(event, key) {
    const keys = [...this.nodes.keys()];
    const at = keys.indexOf(key);
    let to = null;
    switch (event.key) {
      case "ArrowDown": to = keys[at + 1]; break;
      case "ArrowUp": to = keys[at - 1]; break;
      case "ArrowRight": to = keys[at + 1]?.startsWith(`${key}/`) ? keys[at + 1] : null; break;
      case "ArrowLeft": to = key.slice(0, key.lastIndexOf("/")) || null; break;
      case "Home": to = keys[0]; break;
      case "End": to = keys.at(-1); break;
      case "Enter":
      case " ": this.go(key, true); break;
      default: return;
    }
    event.preventDefault();
    if (to && this.nodes.has(to)) this.go(to, false);
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const clip = (text, room) => (text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`);

export function walk(node, above, visit, depth = 0) {
  const key = `${above}/${node.name}`;
  visit(key, node, depth);
  for (const child of node.children) walk(child, key, visit, depth + 1);
}

// Wide: one column a level, a parent in the middle of its children.
function layered(root) {
  const list = [];
  let bottom = 4;
  let deepest = 0;
  const place = (node, above, depth) => {
    const spot = { key: `${above}/${node.name}`, node, depth, x: 4 + depth * (WIDTH + GAP_X), width: WIDTH };
    deepest = Math.max(deepest, depth);
    list.push(spot);
    const below = node.children.map((child) => place(child, spot.key, depth + 1));
    if (below.length) spot.y = (below[0].y + below.at(-1).y) / 2;
    else {
      spot.y = bottom;
      bottom += HEIGHT + GAP_Y;
    }
    for (const child of below) {
      const [x1, y1, x2, y2] = [spot.x + WIDTH, spot.y + HEIGHT / 2, child.x, child.y + HEIGHT / 2];
      const middle = (x1 + x2) / 2;
      child.edge = `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
    }
    return spot;
  };
  place(root, "", 0);
  return { list, width: 8 + (deepest + 1) * (WIDTH + GAP_X) - GAP_X, height: bottom };
}

// Narrow: one row a process, indented as in a list of files.
function indented(root, room) {
  const list = [];
  let top = 4;
  const place = (node, above, depth) => {
    const x = 4 + depth * INDENT;
    const spot = { key: `${above}/${node.name}`, node, depth, x, y: top, width: Math.max(150, room - x - 6) };
    top += HEIGHT + GAP_Y;
    list.push(spot);
    for (const child of node.children) {
      const below = place(child, spot.key, depth + 1);
      below.edge = `M${x + 11} ${spot.y + HEIGHT} V${below.y + HEIGHT / 2 - 8} q0 8 8 8 H${below.x}`;
    }
    return spot;
  };
  place(root, "", 0);
  return { list, width: Math.max(room - 2, 160), height: top };
}
