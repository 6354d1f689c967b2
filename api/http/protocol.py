"""HTTP as uvicorn speaks it, with an answer in one write.

uvicorn writes an answer's head and its body one by one, and uvloop makes a system call of each, which also wakes the client
twice: that was a sixth of the CPU of a POST. Here what is written in one turn of the loop goes out together.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 65_536  # beyond what came with its first piece
HEAD_SECONDS: Final = 20.0  # from the connection, or from a later head's first byte, until the head is whole
TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GatheredWrites:
    """A transport that writes at the end of the loop's turn; all else is the transport's own."""

    __slots__ = ("_held", "_loop", "transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """As `Transport.write`."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def flush(self) -> None:
        """Writes now what was gathered."""
        held, self._held = self._held, []
        if held:
            self.transport.write(b"".join(held))

    def is_closing(self) -> bool:
        """As `Transport.is_closing`."""
        return self.transport.is_closing()

    def close(self) -> None:
        """As `Transport.close`: what was written still goes out."""
        self.flush()
        self.transport.close()


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection. For uvicorn's `http=`."""

    _heads = 0  # begun on this connection
    _head_bytes: int | None = None  # of the head under way
    _deadline: asyncio.TimerHandle | None = None  # of the head under way, or of the first one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.transport = GatheredWrites(self.transport, self.loop)  # type: ignore[assignment]
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """From the transport."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Neither the parser nor uvicorn bounds a head, in bytes or in time: clients that never end theirs would fill
        our memory.
        """
        begun = None if self._head_bytes is None else self._heads
        super().data_received(data)
        if begun == self._heads and self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")
        if self._deadline is not None or self.timeout_keep_alive_task is not None:
            return
        answered = self.cycle is not None and self.cycle.response_complete
        if (
            answered or self._head_bytes is not None
        ) and self.transport.get_protocol() is self:  # no WebSocket yet
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            if self._head_bytes is not None:
                self.transport.write(TOO_SLOW)
            self.transport.close()

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_message_begin(self) -> None:
        """From the parser."""
        self._heads += 1
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From the parser."""
        self._head_bytes = None
        self._in_time()
        super().on_headers_complete()

    def _get_upgrade(self) -> bytes | None:
        # uvicorn's own looks at the last field of a name only, and at an Upgrade of several protocols not at all.
        wanted = {(b"connection", b"upgrade"), (b"upgrade", b"websocket")}
        said = {(name, token.strip().lower()) for name, value in self.headers for token in value.split(b",")}
        return b"websocket" if wanted <= said else None

    def handle_websocket_upgrade(self) -> None:
        """The transport itself goes on to the WebSocket's protocol."""
        gathered: Any = self.transport
        gathered.flush()
        self.transport = gathered.transport
        super().handle_websocket_upgrade()
