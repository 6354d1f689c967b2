"""Sockets that come back as the npm package `phoenix` does, joined to their users' transactions with the `last_seq` they saw."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import orjson

from bench.socket_load import text_frame
from tests.upgrade.requests import Account

AGAIN_MS = (10, 50, 100, 150, 200, 250, 500, 1000, 2000)  # the package's reconnectAfterMs, then 5 s
LATER_MS = 5000
BEAT_SECONDS = 20.0


class Tab:
    """One browser tab: one socket at a time. `told` are the events it got, seq and when, in order."""

    def __init__(self, url: str, account: Account) -> None:
        self.account = account
        self.told: list[tuple[int, float]] = []
        self.last_seq = 0
        self.joined = asyncio.Event()
        self.comebacks: list[float] = []  # seconds from each loss to the next join
        self.ends: list[str] = []
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._lost: float | None = None
        self._tries = 0
        self._stopped = False
        self._socket: _Socket | None = None
        self._timers: list[asyncio.TimerHandle] = []

    async def open(self) -> None:
        """Connects and joins."""
        self._connect()
        await self.joined.wait()

    def stop(self) -> None:
        """Closes it for good."""
        self._stopped = True
        for timer in self._timers:
            timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def _connect(self) -> None:
        task = asyncio.ensure_future(self._try())
        task.add_done_callback(lambda done: done.exception())

    async def _try(self) -> None:
        host, port = self._address
        try:
            _, self._socket = await asyncio.get_running_loop().create_connection(
                lambda: _Socket(self), host, port
            )
        except OSError as error:
            self.lost(f"connect: {error}")

    def opened(self, socket: _Socket) -> None:
        """The handshake is done."""
        socket.say(["1", "1", f"transaction:{self.account.id}", "phx_join", {"last_seq": self.last_seq}])
        self._beat(socket)

    def _beat(self, socket: _Socket) -> None:
        if not self._stopped and socket is self._socket:
            socket.say([None, "h", "phoenix", "heartbeat", {}])
            loop = asyncio.get_running_loop()
            self._timers = [loop.call_later(BEAT_SECONDS, self._beat, socket)]

    def hear(self, text: bytes) -> None:
        """A message of the server."""
        join_ref, _, topic, event, payload = orjson.loads(text)
        if event == "new_transaction":
            self.told.append((payload["ledger_seq"], time.monotonic()))
            self.last_seq = max(self.last_seq, payload["ledger_seq"])
        elif event == "phx_reply" and join_ref == "1" and payload["status"] == "ok":
            self._tries = 0
            self.joined.set()
            if self._lost is not None:
                self.comebacks.append(time.monotonic() - self._lost)
                self._lost = None
        elif event in ("phx_error", "phx_reply") and topic != "phoenix":
            self.ends.append(f"{event} {payload}")
            if self._socket is not None:
                self._socket.close()

    def lost(self, why: str) -> None:
        """The socket is gone."""
        if self._stopped:
            return
        self.joined.clear()
        self.ends.append(why)
        if self._lost is None:
            self._lost = time.monotonic()
        wait = AGAIN_MS[self._tries] if self._tries < len(AGAIN_MS) else LATER_MS
        self._tries += 1
        self._timers = [asyncio.get_running_loop().call_later(wait / 1000, self._connect)]


class _Socket(asyncio.Protocol):
    """One WebSocket on bare bytes: thousands of them must cost the machine little."""

    transport: asyncio.WriteTransport

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self._buffer = b""
        self._open = False
        self._why = "closed without a close frame"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        token = self._tab.account.token
        transport.write(
            f"GET /socket/websocket?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: upgrade\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._why = head.split(b"\r\n")[0].decode()
                self.close()
                return
            self._open, self._buffer = True, rest
            self._tab.opened(self)
        while (frame := self._frame()) is not None:
            kind, payload = frame
            if kind == 1:
                self._tab.hear(payload)
            elif kind == 8:
                self._why = f"close frame {int.from_bytes(payload[:2], 'big')}"
                self.close()

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1], 2
        if size > 125:
            at = 4 if size == 126 else 10
            if len(buffer) < at:
                return None
            size = int.from_bytes(buffer[2:at], "big")
        if len(buffer) < at + size:
            return None
        self._buffer = buffer[at + size :]
        return buffer[0] & 15, buffer[at : at + size]

    def say(self, message: list[object]) -> None:
        """Sends a message."""
        payload = orjson.dumps(message)
        self.transport.write(text_frame(payload))

    def close(self) -> None:
        """Ends the connection."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tab.lost(f"{type(exc).__name__}: {exc}" if exc else self._why)
