// The npm `phoenix` client on a channel: `node client.mjs URL TOKEN TOPIC [PARAMS] [HEARTBEAT_MS]`. Prints what happens, one JSON
// object a line; the sequence of the messages is the order in which the client's callbacks ran. With `last_seq` among PARAMS each
// join tells the last event that has come.
import { Socket } from "phoenix";
import WebSocket from "ws";

const [url, token, topic, params = "{}", heartbeat = "30000"] = process.argv.slice(2);
const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

const socket = new Socket(url.replace(/^http/, "ws") + "/socket", {
  transport: WebSocket,
  params: { token },
  heartbeatIntervalMs: Number(heartbeat),
  reconnectAfterMs: () => 100,
  rejoinAfterMs: () => 100,
});
socket.onOpen(() => say("open"));
socket.onClose(() => say("close"));
const joining = JSON.parse(params);
const channel = socket.channel(topic, () => joining);
channel.on("new_transaction", (payload) => {
  if ("last_seq" in joining) joining.last_seq = payload.ledger_seq;
  say("new_transaction", { payload });
});
channel.onError(() => say("phx_error"));
channel.onClose(() => say("phx_close"));
channel
  .join()
  .receive("ok", (response) => say("joined", { response }))
  .receive("error", (response) => say("refused", { response }))
  .receive("timeout", () => say("timeout"));
socket.connect();
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
