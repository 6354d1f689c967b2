// The frame for scenarios with the real client. `scenario(name, play)` registers one; `play(lanes)` runs them, those of one
// lane one after the other, the lanes at once. Each ends with one printed line: passed, or failed and why.
import { createInterface } from "node:readline";
import { LongPoll, Socket } from "phoenix";
import WebSocket from "ws";

export const PATIENCE = 60000; // ms for whatever ought to happen: the machine may be busy, and only a failure takes all of it
const scenarios = [];
const answers = new Map();
let asked = 0;

export const scenario = (name, play) => scenarios.push({ name, play });
export const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks the test that runs this script for something only it can do; resolves with its answer. */
export function ask(what, more = {}) {
  const id = ++asked;
  return new Promise((resolve) => {
    answers.set(id, resolve);
    say("ask", { id, what, ...more });
  });
}

/** Resolves when `condition()` is true. */
export async function until(condition, what = String(condition)) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not come true: ${what}`);
    await sleep(5);
  }
}

/** A push's answer as a promise of [status, response]. */
export function answer(push, ...statuses) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no answer to ${push.event} on ${push.channel.topic}`)), PATIENCE);
    for (const status of ["ok", "error", "timeout", ...statuses]) {
      push.receive(status, (response) => {
        clearTimeout(late);
        resolve([status, response]);
      });
    }
  });
}

const V1 = {
  encode: (message, send) => send(JSON.stringify(message)),
  decode: (text, take) => take(JSON.parse(text)),
};

/** How clients of the first version posted: no batches, plain JSON. Servers take a batch in the second version only. */
class LongPollV1 extends LongPoll {
  batchSend(messages, offset = 0) {
    this.awaitingBatchAck = true;
    this.ajax("POST", { "Content-Type": "application/json" }, messages[offset], () => this.ontimeout(), (answer) => {
      if (answer?.status !== 200) this.closeAndRetry(answer?.status, 1011, "internal server error", false);
      else if (offset + 1 < messages.length) this.batchSend(messages, offset + 1);
      else if (this.batchBuffer.length > 0) this.batchSend(this.batchBuffer.splice(0));
      else this.awaitingBatchAck = false;
    });
  }
}

/** One way to talk to the server: transport and version. Sockets made through it are disconnected at the scenario's end. */
export class Lane {
  #sockets = [];

  constructor(url, transport, vsn) {
    Object.assign(this, { url, transport, vsn, name: `${transport} ${vsn}` });
    this.longPoll = vsn === "1.0.0" ? LongPollV1 : LongPoll;
    this.binary = transport === "websocket" && vsn === "2.0.0";
  }

  /** A socket, not connected. */
  socket(options = {}, path = "/conformance") {
    const socket = new Socket(this.url.replace(/^http/, "ws") + path, {
      transport: this.transport === "websocket" ? WebSocket : this.longPoll,
      vsn: this.vsn,
      reconnectAfterMs: () => 50,
      rejoinAfterMs: () => 50,
      ...(this.vsn === "1.0.0" ? V1 : {}),
      ...options,
    });
    this.#sockets.push(socket);
    return socket;
  }

  /** A connected socket, and a channel of it that has joined. */
  async joined(topic, params = {}, options = {}, path = undefined) {
    const socket = this.socket(options, path);
    socket.connect();
    const channel = socket.channel(topic, params);
    const [status, response] = await answer(channel.join());
    if (status !== "ok") throw new Error(`join of ${topic}: ${status} ${JSON.stringify(response)}`);
    return { socket, channel, response };
  }

  /** A topic that no other lane uses. */
  topic(name) {
    return `room:${name}-${this.transport}-${this.vsn}`;
  }

  user(name) {
    return { auth: "ok", user: `${name}-${this.transport}-${this.vsn}` };
  }

  end() {
    for (const socket of this.#sockets.splice(0)) socket.disconnect();
  }
}

const withTimeout = (promise, seconds) =>
  Promise.race([promise, sleep(seconds * 1000).then(() => Promise.reject(new Error(`not done in ${seconds} s`)))]);

export async function play(lanes) {
  createInterface({ input: process.stdin }).on("line", (line) => {
    const { id, ...rest } = JSON.parse(line);
    answers.get(id)(rest);
    answers.delete(id);
  });
  await Promise.all(
    lanes.map(async (lane) => {
      for (const { name, play } of scenarios) {
        const started = Date.now();
        try {
          await withTimeout(play(lane), 120);
          say("passed", { scenario: name, lane: lane.name, ms: Date.now() - started });
        } catch (error) {
          say("failed", { scenario: name, lane: lane.name, why: error.stack });
        }
        lane.end();
      }
    }),
  );
  process.exit(0);
}

process.on("uncaughtException", (error) => say("failed", { scenario: "uncaught", lane: "", why: error.stack }));
