// The demo: sign in, record transactions, see them arrive in every tab.

import { form } from "./form.js";
import { follow } from "./live.js";
import * as session from "/shared/session.js";
import * as transactions from "./transactions.js";

const at = (id) => document.getElementById(id);
let live = null;
let shownUser; // undefined until the first look, null when signed out

function connection(state, text) {
  at("connection").dataset.state = state;
  if (at("connection-text").textContent !== text) at("connection-text").textContent = text;
}

function problem(error) {
  at("list-error").hidden = !error;
  at("list-error").textContent = error?.message ?? "";
}

async function ledger() {
  try {
    const head = await session.call("/api/v1/ledger/head");
    at("ledger-size").textContent = head.tree_size.toLocaleString();
    at("ledger-root").textContent = `${head.root_hash.slice(0, 16)}…`;
    at("ledger-root").title = head.root_hash;
  } catch {
    // The list says what is wrong; the head is only a figure beside it.
  }
}

let ledgerTimer = null;
function ledgerSoon() {
  ledgerTimer ??= setTimeout(() => {
    ledgerTimer = null;
    ledger();
  }, 300);
}

async function refresh() {
  try {
    await transactions.load();
    problem(null);
  } catch (error) {
    problem(error);
  }
  ledgerSoon();
}

function show(known) {
  const user = known?.user ?? null;
  if (shownUser !== undefined && user?.id === shownUser?.id) return;
  live?.stop();
  live = null;
  shownUser = user;
  transactions.clear();
  problem(null);
  at("login").hidden = user !== null;
  at("work").hidden = user === null;
  at("account").hidden = user === null;
  if (user === null) {
    connection("offline", "Signed out");
    at("password").value = "";
    return;
  }
  at("who").textContent = user.name || user.email;
  at("who").title = user.email;
  at("console-link").hidden = user.role !== "admin";
  live = follow(user, {
    shown: connection,
    joined: refresh,
    received(transaction) {
      if (transactions.put(transaction, true)) {
        at("announce").textContent = `New transaction: ${transactions.money(transaction)} ${transaction.description}`;
      }
      ledgerSoon();
    },
    ended: () => show(null),
  });
}

form(at("login-form"), async ({ email, password }) => {
  show(await session.signIn(email, password));
  at("amount").focus();
});

// The same key until the server has answered: a submission repeated after a lost answer is recorded once.
let key = null;
let keyOf = null;
form(at("transaction-form"), async (values) => {
  const body = { ...values, amount: values.amount.trim().replace(",", "."), currency: values.currency.trim().toUpperCase() };
  const content = JSON.stringify(body);
  if (keyOf !== content) {
    keyOf = content;
    key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  const answer = await session.call("/api/v1/transactions", { method: "POST", body, headers: { "idempotency-key": key } });
  key = keyOf = null;
  transactions.put({ ...answer.transaction, ledger_seq: answer.ledger.seq }, true);
  at("announce").textContent = `Recorded: ${transactions.money(answer.transaction)}, ledger number ${answer.ledger.seq}`;
  for (const name of ["amount", "description"]) if (at(name).value === values[name]) at(name).value = "";
  at("amount").focus();
  ledgerSoon();
});

at("older").addEventListener("click", () => transactions.loadOlder().catch(problem));
at("logout").addEventListener("click", async () => {
  const leaving = session.signOut();
  show(null);
  at("email").focus();
  await leaving;
});

session.watch(show);
session.fresh().then(show, () => show(session.current()));
