"""Lingering close: ends a connection whose peer may still be sending (RFC 9112 9.6).

If the socket were closed at once, data that still arrives would cause a reset, and the peer could lose our last response. So
only the write side is closed, and data is read and dropped until the peer closes as well or its time is over.

TLS has no half-close: its `close` sends close_notify (RFC 8446 6.1), and reads and drops data itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.http.deadlines import Deadlines, Phase, Progress
from runtime.http.response_writer import ResponseWriter

if TYPE_CHECKING:
    from runtime.http.server import Listener


class LingeringClose(asyncio.Protocol):
    """The protocol of a connection after its last response, which `writer` has written."""

    __slots__ = ("_deadlines", "_dropped", "_heard", "_listener", "_since", "_transport", "_writer")

    def __init__(self, listener: Listener, writer: ResponseWriter) -> None:
        self._listener = listener
        self._writer = writer
        self._transport: Any = None
        self._deadlines = Deadlines(listener.now())  # for the response that the peer is still reading
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
        """From the server's sweep: ends a connection whose peer sends for too long, or sends nothing."""
        options, writer = self._listener.options, self._writer
        if buffered := writer.buffered:  # the peer reads the response first, with the usual deadline
            if self._deadlines.is_over(Progress(Phase.SEND, 0, writer.sent - buffered), options, now):
                self.abort()
            self._since = self._heard = now
        elif now - self._since > options.lingering_time or now - self._heard > options.lingering_timeout:
            self.abort()

    def shutdown(self) -> None:
        """Does nothing when the server stops: the peer may still read its response."""

    def abort(self) -> None:
        """Ends the connection now."""
        if self._transport is not None:
            self._transport.abort()
