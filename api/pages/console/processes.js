// The process table: sorted and filtered by the server, read again every two seconds while it is on the screen.

import { $, bytes, el, number } from "./dom.js";
import { call } from "./node.js";

const COLUMNS = [
  ["name", "Process", ""],
  [null, "Status", ""],
  ["reductions", "Reductions", "number"],
  ["message_queue_len", "Mailbox", "number"],
  ["memory", "Memory", "number"],
  ["restarts", "Restarts", "number"],
  ["links", "Links", "number"],
  ["module", "Module", ""],
];
const ASCENDING = new Set(["name", "module"]);
const PAGE = 50;

export class Processes {
  constructor(open) {
    this.open = open;
    this.sort = "reductions";
    this.size = PAGE;
    this.selected = null;
    this.reading = false;
    $("filters").addEventListener("input", () => {
      this.size = PAGE;
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.read(), 150);
    });
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("more").addEventListener("click", () => {
      this.size += PAGE;
      this.read();
    });
    this.body = el("tbody");
    this.headers = new Map();
    $("processes").append(el("thead", {}, el("tr", {}, COLUMNS.map((column) => this.header(column)))), this.body);
    this.mark();
  }

  header([key, label, kind]) {
    const cell = el("th", { scope: "col", class: kind });
    if (key === null) cell.append(label);
    else {
      cell.append(el("button", { type: "button", onclick: () => this.order(key) }, label));
      this.headers.set(key, cell);
    }
    return cell;
  }

  order(key) {
    this.sort = key;
    this.size = PAGE;
    this.mark();
    this.read();
  }

  mark() {
    for (const [key, cell] of this.headers) {
      if (key === this.sort) cell.setAttribute("aria-sort", ASCENDING.has(key) ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
  }

  async read() {
    if (this.reading) return;
    this.reading = true;
    try {
      const form = new FormData($("filters"));
      const query = new URLSearchParams({ sort: this.sort, limit: Math.min(this.size, 500) });
      for (const [name, value] of form) if (value) query.set(name, value);
      const page = await call(`/admin/processes?${query}`);
      this.show(page.processes);
      $("more").hidden = page.next_cursor === null || this.size >= 500;
    } catch {
      // the next reading is two seconds away, and the connection's state stands in the header
    } finally {
      this.reading = false;
    }
  }

  show(rows) {
    const focused = document.activeElement?.closest?.("tr[data-handle]")?.dataset.handle;
    this.body.replaceChildren(...rows.map((row) => this.row(row)));
    if (focused) this.body.querySelector(`tr[data-handle="${CSS.escape(focused)}"] .link`)?.focus();
  }

  row(row) {
    const chosen = this.selected !== null && (row.pid === this.selected || row.name === this.selected);
    return el(
      "tr",
      { "data-handle": row.pid, class: chosen ? "selected" : null, onclick: () => this.open(row) },
      el("td", {}, el("button", { type: "button", class: "link" }, row.name ?? `<${row.pid}>`), row.name ? el("span", { class: "hint" }, ` ${row.pid}`) : null),
      el("td", {}, el("span", { class: `chip ${row.status}` }, row.status)),
      el("td", { class: "number" }, number(row.reductions)),
      el("td", { class: "number" }, number(row.message_queue_len)),
      el("td", { class: "number" }, bytes(row.memory)),
      el("td", { class: "number" }, number(row.restarts)),
      el("td", { class: "number" }, number(row.links)),
      el("td", { class: "mono" }, row.module),
    );
  }
}
