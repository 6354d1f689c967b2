// The package ws: echo, and a broadcast to all. `node ws.mjs PORT`.
import { readFileSync } from "node:fs";
import { WebSocketServer } from "ws";

const { topic, event, payload } = JSON.parse(readFileSync(new URL("../event.json", import.meta.url)));
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    if (data.toString() !== "broadcast") return socket.send(data, { binary: false });
    const frame = JSON.stringify([null, null, topic, event, payload]);
    for (const each of server.clients) each.send(frame);
  });
});
