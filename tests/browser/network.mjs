// A network between a browser and a server that can be cut: a TCP relay on an address of its own.
import net from "node:net";

export class Network {
  #open = new Set();
  #up = true;

  static async to(url) {
    const { hostname, port } = new URL(url);
    const network = new Network();
    network.server = net.createServer((client) => {
      if (!network.#up) return client.destroy();
      const server = net.connect(Number(port), hostname);
      for (const [from, into] of [[client, server], [server, client]]) {
        network.#open.add(from);
        from.pipe(into);
        from.on("error", () => into.destroy());
        from.on("close", () => {
          network.#open.delete(from);
          into.destroy();
        });
      }
    });
    await new Promise((ready) => network.server.listen(0, "127.0.0.1", ready));
    network.url = `http://127.0.0.1:${network.server.address().port}`;
    return network;
  }

  /** Every connection breaks, and no new one gets through. */
  cut() {
    this.#up = false;
    for (const socket of this.#open) socket.destroy();
  }

  mend() {
    this.#up = true;
  }

  async close() {
    this.cut();
    await new Promise((done) => this.server.close(done));
  }
}
