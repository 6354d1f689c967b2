// Every method of Socket, Channel, Push and Presence on the conformance app: `node everyday.mjs URL`. See scenarios.mjs.
import assert from "node:assert/strict";
import { LongPoll, Presence } from "phoenix";
import WebSocket from "ws";
import { Lane, PATIENCE, answer, play, scenario, sleep, until } from "./scenarios.mjs";

const url = process.argv[2];

scenario("a socket opens, tells its state and closes", async (lane) => {
  const socket = lane.socket({ params: { a: "1", nested: { k: "v w" } } });
  const seen = [];
  socket.onOpen(() => seen.push("open"));
  socket.onClose((event) => seen.push(["close", event.code]));
  socket.onError(() => seen.push("error"));
  assert.equal(socket.connectionState(), "closed");
  assert.equal(socket.isConnected(), false);
  assert.equal(socket.ping(() => {}), false);
  assert.ok(decodeURIComponent(socket.endPointURL()).endsWith(`/conformance/websocket?a=1&nested[k]=v w&vsn=${lane.vsn}`), socket.endPointURL());
  socket.connect();
  socket.connect(); // the second does nothing
  assert.equal(socket.connectionState(), "connecting");
  await until(() => socket.isConnected());
  assert.equal(socket.connectionState(), "open");
  const channel = socket.channel(lane.topic("open"));
  await answer(channel.join());
  const [, me] = await answer(channel.push("whoami", {}));
  assert.deepEqual(me.params, { a: "1", nested: { k: "v w" }, vsn: lane.vsn });
  assert.equal(me.transport, lane.transport);
  let called = 0;
  socket.disconnect(() => (called += 1), 4000, "enough");
  await until(() => called === 1 && socket.connectionState() === "closed");
  await sleep(150);
  assert.deepEqual(seen, ["open", ["close", lane.transport === "websocket" ? 1000 : 4000]], "closed for good; the server answers a close with 1000");
});

scenario("the url of a socket with a path is that of the page", async (lane) => {
  const before = globalThis.location;
  globalThis.location = { protocol: "https:", host: "bank.example" };
  try {
    const socket = lane.socket();
    socket.endPoint = "/socket/websocket";
    assert.equal(socket.protocol(), "wss");
    assert.equal(socket.endPointURL(), `wss://bank.example/socket/websocket?vsn=${lane.vsn}`);
    socket.endPoint = "//other.example/socket/websocket";
    assert.equal(socket.endPointURL(), `wss://other.example/socket/websocket?vsn=${lane.vsn}`);
  } finally {
    globalThis.location = before;
  }
});

scenario("refs count up, callbacks come off, the log sees all", async (lane) => {
  const log = [];
  const { socket, channel } = await lane.joined(lane.topic("refs"), {}, { logger: (kind, text, data) => log.push([kind, text, data]) });
  assert.equal(Number(socket.makeRef()) + 1, Number(socket.makeRef()));
  assert.ok(socket.hasLogger());
  socket.log("mine", "hello", { n: 1 });
  assert.deepEqual(log.at(-1), ["mine", "hello", { n: 1 }]);
  const messages = [];
  const gone = [];
  socket.onMessage((message) => messages.push(message));
  const ref = socket.onMessage((message) => gone.push(message));
  socket.off([ref]);
  assert.deepEqual(await answer(channel.push("echo", { x: 1 })), ["ok", { x: 1 }]);
  assert.equal(gone.length, 0);
  const reply = messages.find((message) => message.event === "phx_reply");
  assert.deepEqual(reply.payload, { status: "ok", response: { x: 1 } });
  assert.ok(log.some(([kind, text]) => kind === "push" && text.includes("echo")));
  assert.ok(log.some(([kind]) => kind === "receive"));
});

scenario("ping and heartbeat are answered", async (lane) => {
  const socket = lane.socket({ heartbeatIntervalMs: 1200 });
  let closed = 0;
  socket.onClose(() => (closed += 1));
  socket.connect();
  await until(() => socket.isConnected());
  const trip = await new Promise((resolve) => assert.equal(socket.ping(resolve), true));
  assert.ok(trip >= 0);
  const beats = [];
  socket.onMessage((message) => message.topic === "phoenix" && beats.push(message));
  socket.sendHeartbeat();
  assert.ok(socket.pendingHeartbeatRef);
  await until(() => socket.pendingHeartbeatRef === null);
  await until(() => beats.length >= 4); // they go on by themselves
  assert.deepEqual(beats[0].payload, { status: "ok", response: {} });
  assert.equal(closed, 0);
});

scenario("a join is answered with ok, error, a crash, a timeout", async (lane) => {
  const { socket, response } = await lane.joined("room:reply", { p: 1 }, { params: lane.user("joins") });
  assert.deepEqual(response, { welcome: "hi", user: lane.user("joins").user, params: { p: 1 } });
  const refused = socket.channel("room:error");
  assert.deepEqual(await answer(refused.join()), ["error", { reason: "unauthorized" }]);
  assert.equal(refused.state, "errored");
  refused.leave();
  const crashed = socket.channel("room:raise");
  assert.deepEqual(await answer(crashed.join()), ["error", { reason: "join crashed" }]);
  crashed.leave();
  const unknown = socket.channel("nowhere");
  assert.deepEqual(await answer(unknown.join()), ["error", { reason: "unmatched topic" }]);
  unknown.leave();
  const slow = socket.channel("room:slow");
  assert.deepEqual(await answer(slow.join()), ["ok", { slow: true }]);
  assert.throws(() => slow.join(), /multiple times/);
  const slower = socket.channel("room:slower");
  assert.equal((await answer(slower.join(100)))[0], "timeout");
  slower.leave();
  const late = socket.channel(lane.topic("late"));
  assert.throws(() => late.push("echo", {}), /before joining/);
});

scenario("params of a join may be a function, called at each join", async (lane) => {
  let calls = 0;
  const { channel, response } = await lane.joined("room:reply", () => ({ call: ++calls }));
  assert.deepEqual(response.params, { call: 1 });
  const again = [];
  channel.joinPush.receive("ok", (reply) => again.push(reply.params));
  channel.push("crash", {});
  await until(() => again.some((params) => params.call === 2));
});

scenario("a push is answered with ok, error, another status, a timeout", async (lane) => {
  const { channel } = await lane.joined(lane.topic("push"));
  assert.deepEqual(await answer(channel.push("echo", { text: "Grüße 🎉", n: [1, 2.5, null, true] })), ["ok", { text: "Grüße 🎉", n: [1, 2.5, null, true] }]);
  assert.deepEqual(await answer(channel.push("reply_ok_empty")), ["ok", {}]);
  assert.deepEqual(await answer(channel.push("reply_error", {})), ["error", { reason: "bad" }]);
  assert.deepEqual(await answer(channel.push("reply_custom", { a: 1 }), "maybe"), ["maybe", { a: 1 }]);
  assert.deepEqual(await answer(channel.push("reply_list", {})), ["ok", [1, "two", null]]);
  assert.equal((await answer(channel.push("noreply", {}, 80)))[0], "timeout");
  assert.deepEqual(await answer(channel.push("async_timer", { later: 1 })), ["ok", { later: 1 }]);
  const done = channel.push("echo", { kept: 1 });
  await answer(done);
  const late = [];
  done.receive("ok", (response) => late.push(response)); // at once, the answer is there
  assert.deepEqual(late, [{ kept: 1 }]);
});

scenario("what is pushed before the join waits for it", async (lane) => {
  const socket = lane.socket();
  const channel = socket.channel(lane.topic("early"));
  const join = channel.join();
  const first = channel.push("echo", { n: 1 });
  const second = channel.push("echo", { n: 2 });
  socket.connect();
  assert.equal((await answer(join))[0], "ok");
  assert.deepEqual(await Promise.all([answer(first), answer(second)]), [["ok", { n: 1 }], ["ok", { n: 2 }]]);
});

scenario("many messages keep their order", async (lane) => {
  const { channel } = await lane.joined(lane.topic("many"));
  const ticks = [];
  channel.on("tick", ({ i }) => ticks.push(i));
  await answer(channel.push("many", { n: 300 }, PATIENCE));
  assert.deepEqual(ticks, Array.from({ length: 300 }, (_, i) => i + 1));
  const replies = [];
  // The client's own 10 s are too short for as many requests over LongPoll on a busy machine.
  const pushes = Array.from({ length: 250 }, (_, i) => channel.push("echo", { i }, PATIENCE).receive("ok", (reply) => replies.push(reply.i)));
  await answer(pushes.at(-1));
  assert.deepEqual(replies, Array.from({ length: 250 }, (_, i) => i));
  const [, { big }] = await answer(channel.push("big", { n: 200000 }));
  assert.equal(big.length, 200000);
});

scenario("on, off by ref, off, and the message hook", async (lane) => {
  const { channel } = await lane.joined(lane.topic("on"));
  const seen = { one: 0, two: 0 };
  const one = channel.on("pushed", () => (seen.one += 1));
  channel.on("pushed", () => (seen.two += 1));
  await answer(channel.push("push_reply", { a: 1 }));
  channel.off("pushed", one);
  await answer(channel.push("push_reply", { a: 1 }));
  assert.deepEqual(seen, { one: 1, two: 2 });
  channel.off("pushed");
  await answer(channel.push("push_reply", { a: 1 }));
  assert.deepEqual(seen, { one: 1, two: 2 });
  const hooked = [];
  channel.on("pushed", (payload) => hooked.push(payload));
  channel.onMessage = (event, payload) => (event === "pushed" ? { ...payload, hook: true } : payload);
  await answer(channel.push("push_reply", { a: 2 }));
  assert.deepEqual(hooked, [{ a: 2, hook: true }]);
});

scenario("broadcasts reach all, all but the sender, and pass handle_out", async (lane) => {
  const topic = lane.topic("shout");
  const one = await lane.joined(topic, {}, { params: lane.user("one") });
  const two = await lane.joined(topic, {}, { params: lane.user("two") });
  const heard = { one: [], two: [] };
  for (const [name, { channel }] of Object.entries({ one, two })) {
    channel.on("shout", (payload) => heard[name].push(payload.n));
    channel.on("secret", (payload) => heard[name].push(payload.seen_by));
  }
  await answer(one.channel.push("broadcast_reply", { n: 1 }));
  await until(() => heard.one.length === 1 && heard.two.length === 1);
  await answer(one.channel.push("broadcast_from", { n: 2 }));
  await until(() => heard.two.length === 2);
  one.channel.push("broadcast_secret", {});
  await until(() => heard.one.length === 2 && heard.two.length === 3);
  assert.deepEqual(heard.one, [1, lane.user("one").user]);
  assert.deepEqual(heard.two, [1, 2, lane.user("two").user]);
});

scenario("leave is answered, closes the channel and ends its messages", async (lane) => {
  const topic = lane.topic("observed");
  const observer = await lane.joined("room:observer");
  const ends = [];
  observer.channel.on("terminated", (told) => told.topic === topic && ends.push(told.reason));
  const { socket, channel } = await lane.joined(topic);
  const other = await lane.joined(topic);
  const seen = [];
  channel.onClose(() => seen.push("close"));
  channel.on("shout", () => seen.push("shout"));
  assert.equal((await answer(channel.leave()))[0], "ok");
  assert.deepEqual(seen, ["close"]);
  assert.equal(channel.state, "closed");
  assert.equal(socket.channels.length, 0);
  await answer(other.channel.push("broadcast_reply", { n: 1 }));
  await until(() => ends.length === 1);
  assert.deepEqual(ends, ["shutdown:left"]);
  assert.deepEqual(seen, ["close"]);
  assert.ok(socket.isConnected());
  if (lane.vsn === "1.0.0") return; // it does not tell whose phx_close came: a channel that joins at once would take it for its own
  const again = socket.channel(topic);
  assert.equal((await answer(again.join()))[0], "ok");
});

scenario("a second channel on the topic replaces the first", async (lane) => {
  if (lane.vsn === "1.0.0") return; // as above
  const { socket, channel } = await lane.joined(lane.topic("dup"));
  const seen = [];
  channel.onClose(() => seen.push("close"));
  const second = socket.channel(lane.topic("dup"));
  assert.equal((await answer(second.join()))[0], "ok");
  await until(() => seen.length === 1);
  assert.deepEqual(await answer(second.push("echo", { n: 1 })), ["ok", { n: 1 }]);
});

scenario("a removed channel hears nothing", async (lane) => {
  const { socket, channel } = await lane.joined(lane.topic("remove"));
  const other = await lane.joined(lane.topic("remove"));
  const heard = [];
  channel.on("shout", () => heard.push("removed"));
  other.channel.on("shout", () => heard.push("other"));
  socket.remove(channel);
  await answer(other.channel.push("broadcast_reply", {}));
  await until(() => heard.length === 1);
  const trip = await new Promise((resolve) => socket.ping(resolve)); // what was on its way is here now
  assert.ok(trip >= 0);
  assert.deepEqual(heard, ["other"]);
});

scenario("a channel that crashes is joined again, the socket stays", async (lane) => {
  const tries = [];
  const { socket, channel } = await lane.joined(lane.topic("crash"), {}, { rejoinAfterMs: (n) => (tries.push(n), 30) });
  const other = socket.channel(lane.topic("bystander"));
  await answer(other.join());
  const seen = [];
  socket.onClose(() => seen.push("socket closed"));
  channel.onError(() => seen.push("error"));
  other.onError(() => seen.push("bystander's error"));
  await answer(channel.push("assign_count", {}));
  assert.deepEqual(await answer(channel.push("assign_count", {})), ["ok", { count: 2 }]);
  channel.push("crash", {});
  await until(() => seen.length === 1);
  await until(() => channel.state === "joined");
  assert.deepEqual(await answer(channel.push("assign_count", {})), ["ok", { count: 1 }], "a new process");
  assert.deepEqual(seen, ["error"]);
  assert.deepEqual(tries, [1]);
});

scenario("a channel that stops is closed and not joined again", async (lane) => {
  const { socket, channel } = await lane.joined(lane.topic("stop"));
  const seen = [];
  channel.onClose(() => seen.push("close"));
  channel.onError(() => seen.push("error"));
  assert.deepEqual(await answer(channel.push("stop_reply", { bye: 1 })), ["ok", { bye: 1 }]);
  await until(() => channel.state === "closed");
  await sleep(100);
  assert.deepEqual(seen, ["close"]);
  assert.equal(socket.channels.length, 0);
});

scenario("presences sync, join, leave; tabs are metas", async (lane) => {
  const topic = `presence:${lane.name}`;
  const ada = lane.user("ada").user;
  const bob = lane.user("bob").user;
  const watcher = lane.socket({ params: lane.user("ada") });
  watcher.connect();
  const channel = watcher.channel(topic, { meta: { tab: 1 } });
  const presence = new Presence(channel);
  const seen = [];
  let synced = 0;
  presence.onSync(() => (synced += 1));
  presence.onJoin((key, current, joined) => seen.push(["join", key, current ? current.metas.length : 0, joined.metas.map((meta) => meta.tab)]));
  presence.onLeave((key, current, left) => seen.push(["leave", key, current.metas.length, left.metas.map((meta) => meta.tab)]));
  await answer(channel.join());
  await until(() => seen.length === 1);
  const first = await lane.joined(topic, { meta: { tab: 1 } }, { params: lane.user("bob") });
  await until(() => seen.length === 2);
  const second = await lane.joined(topic, { meta: { tab: 2 } }, { params: lane.user("bob") });
  await until(() => seen.length === 3);
  assert.deepEqual(presence.list((key, { metas }) => [key, metas.map((meta) => meta.tab)]), [[ada, [1]], [bob, [1, 2]]]);
  assert.equal(presence.list().length, 2);
  assert.deepEqual(Presence.list(presence.state, (key) => key), [ada, bob]);
  assert.equal(presence.inPendingSyncState(), false);
  const [, listed] = await answer(channel.push("list", {}));
  const joins = [];
  const state = Presence.syncState({}, listed, (key) => joins.push(key), () => {});
  assert.deepEqual(joins.sort(), [ada, bob]);
  const left = [];
  const after = Presence.syncDiff(state, { joins: {}, leaves: { [ada]: listed[ada] } }, () => {}, (key) => left.push(key));
  assert.deepEqual([Object.keys(after), left], [[bob], [ada]]);
  first.socket.disconnect();
  await until(() => seen.length === 4);
  await answer(second.channel.push("update", { tab: 3 }));
  await until(() => presence.state[bob]?.metas.length === 1 && presence.state[bob].metas[0].tab === 3);
  await answer(second.channel.leave());
  await until(() => !presence.state[bob]);
  assert.deepEqual(seen.slice(0, 4), [["join", ada, 0, [1]], ["join", bob, 0, [1]], ["join", bob, 1, [2]], ["leave", bob, 1, [1]]]);
  assert.deepEqual(seen.at(-1), ["leave", bob, 0, [3]]);
  assert.ok(synced >= 5);
});

scenario("params of the socket may be a function, called at each connect", async (lane) => {
  let calls = 0;
  const { socket, channel } = await lane.joined(lane.topic("fresh"), {}, { params: () => ({ ...lane.user("fresh"), call: ++calls }) });
  const before = (await answer(channel.push("whoami", {})))[1].params.call;
  let opened = 0;
  socket.onOpen(() => (opened += 1));
  channel.push("disconnect_me", {}); // the server closes every socket of this id
  await until(() => opened === 1 && channel.state === "joined");
  const after = (await answer(channel.push("whoami", {})))[1].params.call;
  assert.ok(Number(after) > Number(before), `${after} after ${before}`);
});

scenario("authToken arrives, a wrong one is refused and tried again", async (lane) => {
  for (const authToken of ["good-token", () => "good-token"]) {
    const { channel } = await lane.joined(lane.topic("auth"), {}, { authToken });
    const [, me] = await answer(channel.push("whoami", {}));
    assert.equal(me.user, "from-auth-token");
    assert.equal(me.auth_token, "good-token");
    assert.ok(!JSON.stringify(me.uri).includes("good-token"), "not in the url");
  }
  let token = "bad-token";
  const socket = lane.socket({ authToken: () => token });
  const seen = { error: 0, open: 0, close: 0 };
  socket.onError(() => (seen.error += 1));
  socket.onOpen(() => (seen.open += 1));
  socket.onClose(() => (seen.close += 1));
  socket.connect();
  if (lane.transport === "websocket") {
    await until(() => seen.error >= 3);
    assert.equal(seen.open, 0);
  } else {
    await until(() => seen.error >= 1 && seen.close >= 1);
    assert.equal(seen.open, 0);
  }
  token = "good-token";
  socket.disconnect();
  socket.connect();
  await until(() => socket.isConnected());
});

scenario("binary goes and comes", async (lane) => {
  const { socket, channel } = await lane.joined(lane.topic("binary"));
  if (lane.vsn === "1.0.0") return; // the first version has no binary
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 256);
  assert.deepEqual(await answer(channel.push("binary_size", bytes.buffer)), ["ok", { kind: "binary", size: 1000 }]);
  if (lane.binary) {
    const [status, back] = await answer(channel.push("echo", bytes.buffer));
    assert.equal(status, "ok");
    assert.deepEqual(new Uint8Array(back), bytes);
    const seen = [];
    channel.on("bin", (payload) => seen.push(["push", ...new Uint8Array(payload)]));
    channel.on("binshout", (payload) => seen.push(["broadcast", ...new Uint8Array(payload)]));
    channel.push("push_binary", {});
    await answer(channel.push("broadcast_binary", {}));
    await until(() => seen.length === 2);
    assert.deepEqual(seen, [["push", 0, 1, 2, 253, 254, 255], ["broadcast", 0, 1, 2, 253, 254, 255]]);
    assert.deepEqual(new Uint8Array((await answer(channel.push("reply_binary", {})))[1]), Uint8Array.of(0, 1, 2, 253, 254, 255));
  } else {
    // The client parses JSON there, so the server refuses: that poll is the session's last. The client notices with what it
    // pushes once the session is gone, and comes back.
    let opened = 0;
    socket.onOpen(() => (opened += 1));
    channel.push("push_binary", {});
    await until(() => {
      channel.push("noreply", {}, 50);
      return opened >= 1 && channel.state === "joined";
    });
    assert.deepEqual(await answer(channel.push("echo", { n: 1 })), ["ok", { n: 1 }]);
  }
});

scenario("a client that gives its polls up comes back and misses nothing it asks for", async (lane) => {
  if (lane.transport === "websocket") return; // the option is LongPoll's
  const { socket, channel } = await lane.joined(lane.topic("impatient"), {}, { longpollerTimeout: 300 }); // of a window of 1000
  let closes = 0;
  socket.onClose(() => (closes += 1));
  await until(() => closes >= 3);
  socket.longpollerTimeout = 20000;
  await until(() => socket.conn?.timeout === 20000 && channel.state === "joined");
  assert.deepEqual(await answer(channel.push("echo", { n: 1 })), ["ok", { n: 1 }]);
});

scenario("the transport can be replaced while channels are joined", async (lane) => {
  const { socket, channel } = await lane.joined(lane.topic("replace"));
  assert.equal(socket.getLongPollTransport(), LongPoll);
  const next = lane.transport === "websocket" ? lane.longPoll : WebSocket;
  let errors = 0;
  channel.onError(() => (errors += 1));
  socket.replaceTransport(next);
  socket.connect();
  await until(() => channel.state === "joined" && socket.isConnected());
  assert.equal(errors, 1);
  const [, me] = await answer(channel.push("whoami", {}));
  assert.equal(me.transport, next === WebSocket ? "websocket" : "longpoll");
});

await play(["websocket", "longpoll"].flatMap((transport) => ["2.0.0", "1.0.0"].map((vsn) => new Lane(url, transport, vsn))));
