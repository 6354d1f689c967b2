// A gateway between clients and a server that lets HTTP through and does something to WebSocket, as proxies and firewalls do.
import http from "node:http";
import net from "node:net";

/** `how`: "refuse" answers an upgrade with 403, "hang" never answers it, "mute" lets it open and passes nothing on after. */
export async function gateway(url, how) {
  const { hostname, port } = new URL(url);
  const kept = new Set();
  const server = http.createServer((request, response) => {
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  let upgrades = 0;
  server.on("upgrade", (request, socket) => {
    upgrades += 1;
    socket.on("error", () => {});
    kept.add(socket);
    if (how === "refuse") socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    if (how !== "mute") return;
    const onward = net.connect(Number(port), hostname, () => {
      const headers = request.rawHeaders.reduce((text, part, i) => text + part + (i % 2 ? "\r\n" : ": "), "");
      onward.write(`GET ${request.url} HTTP/1.1\r\n${headers}\r\n`);
    });
    kept.add(onward);
    onward.on("error", () => {});
    onward.once("data", (head) => socket.write(head));
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    upgrades: () => upgrades,
    close() {
      for (const socket of kept) socket.destroy();
      server.closeAllConnections();
      server.close();
    },
  };
}
