// The pane of one process: what it is and does, and what an operator can do with it. Read again every second.

import { ApiError } from "/shared/session.js";
import { $, bytes, clock, el, ms, number, toast } from "./dom.js";
import { call } from "./node.js";

const PAGE = 50;

export class Pane {
  constructor(chosen) {
    this.chosen = chosen; // told the handle that is open, or null
    this.handle = null;
    this.shown = "";
    this.children = null;
    this.traced = null;
    this.element = $("pane");
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.handle && this.close());
    setInterval(() => !document.hidden && this.handle && this.read(), 1000);
  }

  /** Opens a process of the tree or the table: by its registered name if it has one, so that the pane follows it. */
  async open(node) {
    this.handle = node.name && !/[^\w-]/.test(node.name) ? node.name : node.pid ?? node.name;
    this.node = node;
    this.shown = "";
    this.children = null;
    this.traced = null;
    if (!this.element.contains(document.activeElement)) this.opener = document.activeElement;
    this.chosen(this.handle, node);
    this.element.hidden = false;
    $("pane").parentElement.classList.add("open");
    await this.read(true);
    if (node.dynamic) await this.more();
    this.element.focus({ preventScroll: true });
  }

  close() {
    this.handle = null;
    this.element.hidden = true;
    this.element.parentElement.classList.remove("open");
    this.chosen(null, null);
    this.giveBack();
  }

  /** The focus goes to what has opened the pane, or to what stands for that since the view was drawn anew. */
  giveBack() {
    const { name, pid } = this.node;
    const [inTree, inTable] = [`#tree [data-name="${CSS.escape(name)}"]`, `#processes [data-handle="${CSS.escape(pid)}"] button`];
    const candidates = [this.opener, document.querySelector(inTree), document.querySelector(inTable), $("main")];
    const there = (one) => one && one !== document.body && one.isConnected && one.getClientRects().length > 0;
    candidates.find(there)?.focus({ preventScroll: true });
  }

  async read() {
    const handle = this.handle;
    try {
      const { process } = await call(`/admin/processes/${encodeURIComponent(handle)}`).catch(async (error) => {
        // A name that is not registered (a label, a child id) is looked for by pid.
        if (error instanceof ApiError && error.status === 404 && this.node.pid && handle !== this.node.pid) return call(`/admin/processes/${this.node.pid}`);
        throw error;
      });
      if (handle === this.handle) this.show(process);
    } catch (error) {
      if (handle === this.handle && error instanceof ApiError && error.status === 404) this.gone();
    }
  }

  gone() {
    if (this.shown === "gone") return;
    this.shown = "gone";
    this.element.replaceChildren(this.title(this.node.name ?? this.node.pid), el("p", { class: "notice" }, "This process is not running."));
  }

  title(text) {
    return el("div", { class: "title" }, el("h2", { id: "pane-title" }, text), el("button", { type: "button", class: "quiet small close", onclick: () => this.close() }, "Close"));
  }

  show(process) {
    const text = JSON.stringify([process, this.children, this.traced]);
    if (text === this.shown) return;
    this.shown = text;
    this.process = process;
    const open = new Set([...this.element.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const typed = [...this.element.querySelectorAll(".set input")].map((one) => one.value);
    if (focused?.startsWith("set-") && this.element.contains(document.activeElement)) return; // somebody types
    const top = this.element.scrollTop;
    this.element.replaceChildren(...this.parts(process, open).filter(Boolean));
    this.element.scrollTop = top;
    this.element.querySelectorAll(".set input").forEach((one, index) => (one.value = typed[index] ?? ""));
    if (focused) this.element.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  parts(process, open) {
    const name = process.name ?? `<${process.pid}>`;
    const fact = (term, value) => (value === null || value === undefined || value === "" ? [] : [el("dt", {}, term), el("dd", {}, value)]);
    const fold = (key, title, body) => el("details", { "data-key": key, open: open.has(key) }, el("summary", { "data-key": `s-${key}` }, title), body);
    const people = (list) => el("div", { class: "people" }, list.map((one) => el("button", { type: "button", class: "quiet small", disabled: one.pid === null, onclick: () => this.open(one) }, one.name ?? `<${one.pid}>`)));
    return [
      this.title(name),
      el("p", { class: "meta mono" }, `<${process.pid}> ${process.module}`),
      el("p", { class: "meta" }, el("span", { class: `chip ${process.status}` }, process.status), ` · ${process.behaviour}${process.restart ? ` · ${process.restart}` : ""}`),
      this.actions(process),
      el("h3", {}, "Now"),
      el("dl", { class: "facts" },
        fact("Restarts", number(process.restarts)),
        fact("Mailbox", `${number(process.message_queue_len)}${process.max_mailbox ? ` of ${number(process.max_mailbox)}` : ""}`),
        fact("Reductions", number(process.reductions)),
        fact("Memory", bytes(process.memory)),
        fact("Strategy", process.strategy),
        fact("Children", process.children_count === null ? null : number(process.children_count)),
        fact("Current message", process.current_message && el("code", {}, process.current_message)),
        fact("Since", process.current_since_ms === null ? null : ms(process.current_since_ms)),
        fact("Traps exits", process.trap_exit ? "yes" : "no"),
        fact("Shutdown", typeof process.shutdown === "number" ? ms(process.shutdown) : process.shutdown),
        fact("Ancestors", process.ancestors.join(" › ")),
      ),
      process.supervisor && [el("h3", {}, "Supervisor"), people([process.supervisor])],
      process.links.length > 0 && fold("links", `Links (${number(process.links_count)})`, people(process.links)),
      process.monitors.length > 0 && fold("monitors", `Monitors (${process.monitors.length})`, people(process.monitors)),
      process.monitored_by.length > 0 && fold("monitored", `Monitored by (${process.monitored_by.length})`, people(process.monitored_by)),
      process.current_stack.length > 0 && fold("stack", "Where it waits", el("pre", { tabindex: 0 }, process.current_stack.join("\n"))),
      process.mailbox.length > 0 && fold("mailbox", `Mailbox (first ${process.mailbox.length})`, el("pre", { tabindex: 0 }, process.mailbox.join("\n"))),
      process.state !== null && fold("state", "State (secrets masked)", el("div", {}, el("pre", { tabindex: 0 }, JSON.stringify(process.state, null, 2)), this.setter())),
      this.traced && [el("h3", {}, "Trace"), el("pre", { tabindex: 0 }, this.traced.length ? this.traced.map((one) => `${one.kind === "in" ? "→" : "←"} ${one.message}`).join("\n") : "There were no messages in that time.")],
      process.reports.length > 0 && [el("h3", {}, "Recent reports"), el("ol", { class: "log" }, process.reports.map((one) => el("li", { class: one.kind }, el("div", { class: "line" }, el("time", {}, clock(one.at)), el("b", {}, one.kind), one.context.error ? el("span", { class: "hint" }, one.context.error) : null), el("div", { class: "why" }, (one.reason ?? "").split("\n")[0]), one.reason?.includes("\n") ? fold(`report-${one.id}`, "Stack", el("pre", { tabindex: 0 }, one.reason)) : null)))],
      this.children && [el("h3", {}, `Children (${number(process.children_count)})`), people(this.children.list), this.children.next && el("button", { type: "button", class: "quiet small", style: "margin-top:.5rem", onclick: () => this.more() }, "Show more")],
    ].flat(3);
  }

  setter() {
    return el(
      "form",
      { class: "set", onsubmit: (event) => { event.preventDefault(); this.set(event.target); } },
      el("input", { name: "attribute", placeholder: "attribute", "aria-label": "Attribute", "data-key": "set-attribute", autocomplete: "off" }),
      el("input", { name: "value", placeholder: "JSON value", "aria-label": "New value, as JSON", "data-key": "set-value", autocomplete: "off" }),
      el("button", { type: "submit", class: "quiet small" }, "Set"),
    );
  }

  async set(form) {
    let value;
    try {
      value = JSON.parse(form.value.value);
    } catch {
      toast("The value is not JSON");
      return;
    }
    const body = { set: { [form.attribute.value]: value } };
    await this.act(form.querySelector("button"), () => call(`/admin/processes/${this.process.pid}/state`, { method: "PUT", body }), () => {
      form.reset();
      document.activeElement.blur();
      return "State replaced";
    });
  }

  actions(process) {
    const post = (action, body) => call(`/admin/processes/${process.pid}/${action}`, { method: "POST", body });
    const button = (key, label, kind, run, told) => el("button", { type: "button", class: `${kind} small`, "data-key": key, onclick: (event) => this.act(event.target, run, told) }, label);
    const replaced = (done) => (done.new_pid ? `, now <${done.new_pid}>` : "");
    return el(
      "div",
      { class: "actions", role: "group", "aria-label": "Actions" },
      process.supervisor && button("restart", "Restart", "", () => post("restart"), (done) => `${process.name ?? process.pid} ${done.result}${replaced(done)}`),
      process.suspended
        ? button("resume", "Resume", "quiet", () => post("resume"), () => "Resumed")
        : button("suspend", "Suspend", "quiet", () => post("suspend"), () => "Suspended: its messages wait"),
      button("trace", "Trace 10", "quiet", () => post("trace", { messages: 10, timeout_ms: 5000 }), (done) => {
        this.traced = done.events;
        return `${done.events.length} messages traced`;
      }),
      button("kill", this.sure === process.pid ? "Really kill" : "Kill", "danger", async (element) => {
        if (this.sure === process.pid) return post("kill");
        this.sure = process.pid;
        element.textContent = "Really kill";
        setTimeout(() => {
          this.sure = null;
          this.shown = "";
        }, 5000);
        return null;
      }, (done) => `${process.name ?? process.pid} killed${replaced(done)}`),
    );
  }

  async act(element, run, told) {
    element.setAttribute("aria-busy", "true");
    try {
      const done = await run(element);
      if (done !== null) {
        toast(told(done));
        if (done.new_pid && this.handle === done.pid) this.handle = done.new_pid;
        this.shown = "";
        await this.read();
      }
    } catch (error) {
      toast(error.fields ? Object.entries(error.fields).map((pair) => pair.join(": ")).join("; ") || error.message : error.message);
    } finally {
      element.removeAttribute("aria-busy");
    }
  }

  async more() {
    const handle = this.handle;
    const query = new URLSearchParams({ root: this.node.pid ?? this.node.name, limit: PAGE });
    if (this.children?.next) query.set("cursor", this.children.next);
    try {
      const page = await call(`/admin/tree?${query}`);
      if (handle !== this.handle) return;
      this.children = { list: [...(this.children?.list ?? []), ...page.children], next: page.next_cursor ?? null };
      await this.read();
    } catch (error) {
      toast(error.message);
    }
  }
}
