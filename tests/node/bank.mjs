// The client against BitNexus itself: `node bank.mjs URL USER_ID`. The test gives tokens and restarts the server.
import assert from "node:assert/strict";
import { Lane, answer, ask, play, scenario, until } from "./scenarios.mjs";

const [url, user] = process.argv.slice(2);
const topic = `transaction:${user}`;

const token = async (seconds) => (await ask("token", { seconds })).token;

async function post(description) {
  const made = await fetch(`${url}/api/v1/transactions`, {
    method: "POST",
    headers: { authorization: `Bearer ${await token(300)}`, "content-type": "application/json" },
    body: JSON.stringify({ amount: "1.00", currency: "EUR", description }),
  });
  assert.equal(made.status, 201);
  return (await made.json()).ledger.seq;
}

/** A client that has joined its transactions, and resumes from the last it saw each time it joins. */
async function follower(lane, options) {
  const told = { seqs: [], last: undefined };
  const socket = lane.socket(options, "/socket");
  const channel = socket.channel(topic, () => (told.last === undefined ? {} : { last_seq: told.last }));
  channel.on("new_transaction", ({ ledger_seq }) => {
    told.seqs.push(ledger_seq);
    told.last = ledger_seq;
  });
  socket.connect();
  assert.deepEqual(await answer(channel.join()), ["ok", {}]);
  return { socket, channel, told };
}

scenario("a token as param and as authToken opens the user's channels and no others", async (lane) => {
  const valid = await token(300);
  for (const options of [{ params: { token: valid } }, { authToken: valid }]) {
    const { socket, channel, told } = await follower(lane, options);
    assert.deepEqual(await answer(channel.push("ping", { n: 1 })), ["ok", { n: 1 }]);
    const stranger = socket.channel("transaction:11111111-1111-4111-8111-111111111111");
    assert.deepEqual(await answer(stranger.join()), ["error", { reason: "unauthorized" }]);
    stranger.leave();
    const admin = socket.channel("admin:tree");
    assert.deepEqual(await answer(admin.join()), ["error", { reason: "unauthorized" }]);
    admin.leave();
    const seq = await post("once");
    await until(() => told.seqs.includes(seq));
    socket.disconnect();
  }
});

scenario("a socket ends with its token; the client comes back with a fresh one and misses nothing", async (lane) => {
  const tokens = [await token(8), await token(300)];
  let calls = 0;
  const opened = [];
  const { socket, channel, told } = await follower(lane, {
    params: () => ({ token: tokens[Math.min(calls, 1)] }),
    reconnectAfterMs: () => 400,
  });
  socket.onOpen(() => opened.push(Date.now()));
  const seqs = [await post("before")];
  await until(() => told.seqs.length === 1);
  calls = 1;
  await until(() => !socket.isConnected(), "the token ends");
  seqs.push(await post("while away 1"), await post("while away 2"));
  await until(() => opened.length === 1 && channel.state === "joined");
  seqs.push(await post("back"));
  await until(() => told.seqs.length >= seqs.length);
  assert.deepEqual(told.seqs, seqs);
});

scenario("the server restarts; the client comes back and misses nothing", async (lane) => {
  const valid = await token(300);
  const { socket, channel, told } = await follower(lane, { params: { token: valid }, reconnectAfterMs: () => 1500 });
  const seqs = [await post("before")];
  await until(() => told.seqs.length === 1);
  let closed = 0;
  socket.onClose(() => (closed += 1));
  const { again } = await ask("restart", { lane: lane.name });
  assert.ok(again);
  await until(() => closed >= 1);
  seqs.push(await post("while away"));
  await until(() => channel.state === "joined" && socket.isConnected());
  await until(() => told.seqs.length >= 2);
  seqs.push(await post("back"));
  await until(() => told.seqs.length >= 3);
  // The other transport's client records too: the same user's.
  assert.deepEqual(told.seqs.filter((seq) => seqs.includes(seq)), seqs);
  assert.deepEqual(told.seqs, [...new Set(told.seqs)].sort((a, b) => a - b), "in order, none twice");
});

const lanes = [new Lane(url, "websocket", "2.0.0"), new Lane(url, "longpoll", "2.0.0")];
await play(process.env.LANE ? lanes.filter((lane) => lane.name === process.env.LANE) : [lanes[0]]);
