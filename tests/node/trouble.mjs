// What goes wrong between the client and the conformance app: restarts, blocked WebSockets. `node trouble.mjs URL`.
import assert from "node:assert/strict";
import { LongPoll } from "phoenix";
import WebSocket from "ws";
import { gateway } from "./gateway.mjs";
import { Lane, answer, ask, play, scenario, until } from "./scenarios.mjs";

const url = process.argv[2];

class Store {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, value);
  removeItem = (key) => this.kept.delete(key);
}

for (const how of ["shutdown", "kill"]) {
  scenario(`every transport comes back after a server restart (${how})`, async () => {
    const lanes = ["websocket", "longpoll"].flatMap((transport) => ["2.0.0", "1.0.0"].map((vsn) => new Lane(url, transport, vsn)));
    const clients = await Promise.all(lanes.map((lane) => lane.joined("room:restart", {}, { params: lane.user("restart") })));
    const heard = clients.map(() => []);
    const seen = clients.map(() => ({ close: 0, error: 0, open: 0 }));
    clients.forEach(({ socket, channel }, index) => {
      channel.on("shout", ({ n }) => heard[index].push(n));
      channel.onError(() => (seen[index].error += 1));
      socket.onClose(() => (seen[index].close += 1));
      socket.onOpen(() => (seen[index].open += 1));
    });
    await answer(clients[0].channel.push("broadcast_reply", { n: 1 }));
    await until(() => heard.every((list) => list.length === 1));
    await ask(how);
    let waiting;
    try {
      await until(() => seen.every(({ close, error }) => close >= 1 && error >= 1), "all see the server go");
      waiting = clients[0].channel.push("echo", { kept: true }); // is sent when the channel is back
    } finally {
      await ask("start");
    }
    await until(() => clients.every(({ channel, socket }) => socket.isConnected() && channel.state === "joined"), "all are back");
    assert.deepEqual(await answer(waiting), ["ok", { kept: true }]);
    await answer(clients[0].channel.push("broadcast_reply", { n: 2 }));
    await until(() => heard.every((list) => list.length === 2));
    assert.ok(heard.every(([first, second]) => first === 1 && second === 2));
    lanes.forEach((lane) => lane.end());
  });
}

for (const how of ["refuse", "hang", "mute"]) {
  scenario(`a blocked WebSocket (${how}) falls back to LongPoll`, async () => {
    const blocked = await gateway(url, how);
    const lane = new Lane(blocked.url, "websocket", "2.0.0");
    try {
      const store = new Store();
      const options = { longPollFallbackMs: 300, sessionStorage: store };
      const { socket, channel } = await lane.joined(`room:blocked-${how}`, {}, options);
      assert.equal(socket.transport, LongPoll);
      assert.deepEqual(await answer(channel.push("echo", { n: 1 })), ["ok", { n: 1 }]);
      assert.equal((await answer(channel.push("whoami", {})))[1].transport, "longpoll");
      assert.equal(store.getItem("phx:fallback:LongPoll"), "true");
      assert.equal(blocked.upgrades(), 1);
      // The next socket of the session remembers.
      const again = await lane.joined(`room:blocked-${how}`, {}, options);
      assert.equal(again.socket.transport, LongPoll);
      assert.equal(blocked.upgrades(), 1);
    } finally {
      lane.end();
      blocked.close();
    }
  });
}

scenario("an open way keeps WebSocket with a fallback set", async (lane) => {
  const { socket, channel } = await lane.joined("room:open-way", {}, { longPollFallbackMs: 20000, sessionStorage: new Store() });
  await until(() => socket.primaryPassedHealthCheck);
  assert.equal(socket.transport, WebSocket);
  assert.equal((await answer(channel.push("whoami", {})))[1].transport, "websocket");
});

scenario("a server that answers nothing more is left by the heartbeat", async () => {
  const muted = await gateway(url, "mute");
  const lane = new Lane(muted.url, "websocket", "2.0.0");
  try {
    const socket = lane.socket({ heartbeatIntervalMs: 100 });
    socket.connect();
    await until(() => muted.upgrades() >= 2, "it connects again");
  } finally {
    lane.end();
    muted.close();
  }
});

await play([new Lane(url, "websocket", "2.0.0")]);
