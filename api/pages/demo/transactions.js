// The list: what is known of each transaction, newest first, and how it looks.

import { call } from "/shared/session.js";

const PAGE = 25;
const byId = new Map();
const template = document.getElementById("row");
const list = document.getElementById("transactions");
const empty = document.getElementById("empty");
const older = document.getElementById("older");

let nextCursor = null;
let paged = false;

export function clear() {
  byId.clear();
  list.replaceChildren();
  nextCursor = null;
  paged = false;
  older.hidden = true;
}

/** Loads the newest page and merges it into what is shown. */
export async function load() {
  const page = await call(`/api/v1/transactions?limit=${PAGE}`);
  for (const transaction of page.transactions) put(transaction, false);
  if (!paged) follow(page.next_cursor);
  empty.hidden = byId.size > 0;
}

export async function loadOlder() {
  const page = await call(`/api/v1/transactions?limit=${PAGE}&cursor=${encodeURIComponent(nextCursor)}`);
  for (const transaction of page.transactions) put(transaction, false);
  paged = true;
  follow(page.next_cursor);
}

function follow(cursor) {
  nextCursor = cursor;
  older.hidden = cursor === null;
}

/** Shows a transaction, or what is new about a known one. True when it was not known. */
export function put(transaction, fresh) {
  const known = byId.get(transaction.id);
  const merged = { ...known?.transaction, ...transaction };
  if (known) {
    known.transaction = merged;
    fill(known.element, merged);
    return false;
  }
  const element = template.content.firstElementChild.cloneNode(true);
  fill(element, merged);
  element.dataset.id = merged.id;
  element.classList.toggle("fresh", fresh);
  element.querySelector(".verify").addEventListener("click", (event) => verify(event.currentTarget, element, merged.id));
  byId.set(merged.id, { transaction: merged, element });
  const before = [...list.children].find((other) => isOlder(byId.get(other.dataset.id).transaction, merged));
  list.insertBefore(element, before ?? null);
  empty.hidden = true;
  return true;
}

function isOlder(one, other) {
  const [left, right] = [Date.parse(one.inserted_at), Date.parse(other.inserted_at)];
  return left === right ? one.id < other.id : left < right;
}

const decimals = (amount) => (amount.split(".")[1] ?? "").length;

export function money(transaction) {
  const value = transaction.amount;
  try {
    const format = new Intl.NumberFormat(undefined, {
      style: "currency",
      currency: transaction.currency,
      currencyDisplay: "code",
      minimumFractionDigits: decimals(value), // as the server says: ISO 4217's, which browsers do not all know
      maximumFractionDigits: decimals(value),
    });
    return format.format(value); // a string: no amount is rounded to a float
  } catch {
    return `${value} ${transaction.currency}`;
  }
}

function fill(element, transaction) {
  const description = element.querySelector(".description");
  description.textContent = transaction.description || "No description";
  description.classList.toggle("none", !transaction.description);
  const amount = element.querySelector(".amount");
  amount.textContent = money(transaction);
  amount.classList.toggle("in", !transaction.amount.startsWith("-"));
  const time = element.querySelector("time");
  const at = new Date(transaction.inserted_at);
  time.dateTime = transaction.inserted_at;
  time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const seq = transaction.ledger_seq;
  element.querySelector(".seq").textContent = seq == null ? "" : `Ledger no. ${seq}`;
  const what = `Verify ${transaction.description || "transaction"}, ${money(transaction)}`;
  element.querySelector(".verify").setAttribute("aria-label", what);
}

async function verify(button, element, id) {
  const result = element.querySelector(".result");
  button.setAttribute("aria-busy", "true");
  try {
    const proof = await call(`/api/v1/transactions/${id}/verify`);
    result.dataset.good = String(proof.verified);
    result.textContent = proof.verified
      ? `In the ledger: leaf ${proof.leaf_hash.slice(0, 8)}…, ${proof.inclusion_proof.length} hashes to root ${proof.root_hash.slice(0, 8)}…`
      : `Not sound: ${proof.reason ?? "the row and its ledger entry differ"}`;
    if (proof.seq !== null) put({ id, ledger_seq: proof.seq }, false);
  } catch (error) {
    result.dataset.good = "false";
    result.textContent = error.message;
  } finally {
    button.removeAttribute("aria-busy");
  }
}
