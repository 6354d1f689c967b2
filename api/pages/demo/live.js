// The live side: one Phoenix socket, the user's transaction channel, and the state of the connection in words.

import { Socket } from "/vendor/phoenix.mjs";
import * as session from "/shared/session.js";

/**
 * Joins the user's channel and stays joined. `shown(state, text)` tells of the connection, `joined()` of every (re)join,
 * `received(transaction)` of each new transaction, missed ones included.
 */
export function follow(user, { shown, joined, received, ended }) {
  let lastSeq = null;
  let stopped = false;
  const socket = new Socket("/socket", {
    authToken: () => session.current()?.token ?? "",
    longPollFallbackMs: 3000,
    reconnectAfterMs: (tries) => [300, 1000, 2000, 5000][tries - 1] ?? 10000 + Math.random() * 5000,
    rejoinAfterMs: (tries) => [300, 1000, 2000][tries - 1] ?? 5000,
  });
  const channel = socket.channel(`transaction:${user.id}`, () => (lastSeq === null ? {} : { last_seq: lastSeq }));

  channel.on("new_transaction", (payload) => {
    if (lastSeq === null || payload.ledger_seq > lastSeq) lastSeq = payload.ledger_seq;
    received(payload);
  });
  channel.onError(() => !stopped && shown("waiting", "Reconnecting…"));

  // The socket takes the newest token at each connection, so it only has to be there: renewed early, and after a close.
  const renew = () =>
    session.fresh().then(
      (known) => {
        if (!stopped && !known) ended();
      },
      () => {},
    );
  socket.onOpen(() => shown("waiting", "Joining…"));
  socket.onClose(() => {
    if (stopped) return;
    shown(navigator.onLine ? "waiting" : "broken", navigator.onLine ? "Reconnecting…" : "You are offline");
    renew();
  });
  socket.onError(renew);
  const timer = setInterval(renew, 30000);
  // After a change of network the old connection may be half dead without a word: take a new one.
  const online = () => socket.disconnect(() => !stopped && socket.connect());
  const offline = () => shown("broken", "You are offline");
  addEventListener("online", online);
  addEventListener("offline", offline);

  shown("waiting", "Connecting…");
  socket.connect();
  channel
    .join()
    .receive("ok", () => {
      shown("live", "Live");
      joined();
    })
    .receive("error", (reply) => {
      shown("broken", `The channel was refused: ${reply?.reason ?? "no reason given"}`);
      renew();
    });

  return {
    stop() {
      stopped = true;
      clearInterval(timer);
      removeEventListener("online", online);
      removeEventListener("offline", offline);
      socket.disconnect();
    },
  };
}
