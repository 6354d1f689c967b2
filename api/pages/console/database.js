// What the database is busy with: who waits for whose lock, and the slowest statements that were seen.

import { $, bytes, el, ms, toast } from "./dom.js";
import { call, chosen } from "./node.js";

const who = (one) => `${one.program || "–"} (session ${one.pid})`;
const holder = (one) => `${one.held_by || "–"} (session ${one.waits_for})`;

const WAITS = [["Waits", (one) => ms(one.seconds * 1000)], ["Who", who], ["Statement", (one) => one.query, "mono wide"], ["Held by", holder], ["Its last statement", (one) => one.held_query ?? "–", "mono wide"]];
const SLOWEST = [["Took", (one) => ms(one.seconds * 1000)], ["Who", who], ["Statement", (one) => one.query, "mono wide"]];

/** Reads and shows it. */
export async function read() {
  const about = chosen.name;
  try {
    const found = await call("/admin/database");
    if (about !== chosen.name) return;
    const written = found.write_error ? `The last write failed: ${found.write_error}` : found.write_age === null ? "Nothing has been written yet" : `The last write succeeded ${ms(found.write_age * 1000)} ago`;
    $("database-note").textContent = [written, found.disk_free !== null && `${bytes(found.disk_free)} free on its disk`].filter(Boolean).join(" · ");
    fill("waits", WAITS, found.waits);
    fill("slowest", SLOWEST, found.slowest);
  } catch (error) {
    toast(error.message);
  }
}

function fill(id, columns, rows) {
  $(`${id}-empty`).hidden = rows.length > 0;
  $(id).replaceChildren(
    ...(rows.length === 0
      ? []
      : [
          el("thead", {}, el("tr", {}, columns.map(([label]) => el("th", { scope: "col" }, label)))),
          el("tbody", {}, rows.map((one) => el("tr", {}, columns.map(([, text, kind]) => el("td", { class: kind }, text(one)))))),
        ]),
  );
}
