"""The asyncio protocol of a WebSocket, which takes over from the HTTP connection after the upgrade.

It moves bytes between the asyncio transport and the process of the connection. Frames are written directly to the transport, so
that a broadcast costs one write per socket.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from runtime.http.messages import UpgradedProtocol
from runtime.phoenix import drainer
from runtime.phoenix.deflate import Deflate
from runtime.phoenix.drainer import Sockets
from runtime.phoenix.mount import WebSocketOptions
from runtime.phoenix.socket import Socket
from runtime.phoenix.websocket import WebSocketConnection

_HIGH_WATER: Final = 64 * 1024  # asyncio's default high-water mark of the write buffer, in bytes


class WebSocketTransport(UpgradedProtocol):
    """One open WebSocket. It starts the process of the connection in `connection_made`."""

    __slots__ = ("_connection", "_opening", "_sockets", "_transport", "write")

    def __init__(
        self, socket: Socket, options: WebSocketOptions, deflate: Deflate | None, sockets: Sockets
    ) -> None:
        self._sockets = sockets
        self._transport: Any = None
        self._connection: WebSocketConnection | None = None
        self.write: Any = None
        self._opening = socket, options, deflate

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.write = self._transport.write
        socket, options, deflate = self._opening
        del self._opening
        if options.max_buffer < 2 * _HIGH_WATER:
            self._transport.set_write_buffer_limits(high=options.max_buffer // 2)
        self._connection = WebSocketConnection(socket, self, options, deflate)
        self._sockets.open(self._connection)

    def data_received(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sockets.closed(self)
        if self._connection is not None:
            self._connection.peer_closed()
        self._connection = None

    def eof_received(self) -> None:
        """The peer has closed its write side: asyncio closes the transport."""

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = True

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = False

    # ---- for the server

    def shutdown(self) -> None:
        """The server stops: closes the connection if it was not drained."""
        if self._connection is not None:
            drainer.send_away(self._connection)

    def abort(self) -> None:
        """Closes the connection at once."""
        self._transport.abort()

    # ---- websocket.IO

    def buffered(self) -> int:
        """See `websocket.IO`."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """See `websocket.IO`."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `websocket.IO`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """See `websocket.IO`. Drops further input and the reference to the process: the peer may be slow to close."""
        self._connection = None
        if self._transport.is_closing():
            return
        self.resume_reading()
        # Closing with unread bytes of the peer would reset the connection, and the close frame could be lost.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        self._sockets.await_close(self)
