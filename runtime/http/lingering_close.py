"""The end of a connection whose peer may still be sending: a lingering close (RFC 9112 9.6).

If the socket were closed at once, what still comes would be answered with a reset, and the peer could lose our last answer
in it. So only the write side closes, and what comes is read and dropped until the peer closes as well, or has had its time.

Of TLS no write side can close alone: its `close` says that nothing follows (RFC 8446 6.1), and reads and drops by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.http.deadlines import Deadlines, Phase, Progress
from runtime.http.response_writer import ResponseWriter

if TYPE_CHECKING:
    from runtime.http.server import Listener


class LingeringClose(asyncio.Protocol):
    """What a connection of a `Listener` is behind its last answer, which `writer` has written."""

    __slots__ = ("_deadlines", "_dropped", "_heard", "_listener", "_since", "_transport", "_writer")

    def __init__(self, listener: Listener, writer: ResponseWriter) -> None:
        self._listener = listener
        self._writer = writer
        self._transport: Any = None
        self._deadlines = Deadlines(listener.now())  # of the answer that is still to be taken
        self._since = self._heard = listener.now()
        self._dropped = 0  # bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._transport.can_write_eof():
            self._transport.write_eof()  # behind what is still buffered
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._heard = self._listener.now()
        self._dropped += len(data)
        if self._dropped > self._listener.options.max_lingering:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._transport = None
        self._writer.lost(exc)

    def tick(self, now: float) -> None:
        """From the server's sweep: ends a connection whose peer goes on too long, or says nothing."""
        options, writer = self._listener.options, self._writer
        if buffered := writer.buffered:  # it has to take the answer first, in the time of every other
            if self._deadlines.is_over(Progress(Phase.SEND, 0, writer.sent - buffered), options, now):
                self.abort()
            self._since = self._heard = now
        elif now - self._since > options.lingering_time or now - self._heard > options.lingering_timeout:
            self.abort()

    def shutdown(self) -> None:
        """The server stops; the peer may have its answer all the same."""

    def abort(self) -> None:
        """Ends the connection now."""
        if self._transport is not None:
            self._transport.abort()
