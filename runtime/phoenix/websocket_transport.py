"""A WebSocket on asyncio: what an HTTP connection is after its upgrade.

It moves bytes between the socket and the connection's process. Frames go straight to the asyncio transport, so that a
broadcast costs a write per socket and nothing else.
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

_HIGH_WATER: Final = 64 * 1024  # bytes in the write buffer from which on asyncio tells us about it


class WebSocketTransport(UpgradedProtocol):
    """One open socket. It starts the process when it is given the transport."""

    __slots__ = ("_connection", "_opening", "_sockets", "_transport", "write")

    def __init__(
        self, socket: Socket, options: WebSocketOptions, deflate: Deflate | None, sockets: Sockets
    ) -> None:
        self._sockets = sockets
        self._transport: Any = None
        self._connection: WebSocketConnection | None = None
        self.write: Any = None
        self._opening = socket, options, deflate

    # ---- asyncio's side

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
        """The peer will send no more: asyncio closes the transport."""

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = True

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused = False

    # ---- the server's side

    def shutdown(self) -> None:
        """The server stops: whoever was not drained leaves now."""
        if self._connection is not None:
            drainer.send_away(self._connection)

    def abort(self) -> None:
        """Ends the connection now."""
        self._transport.abort()

    # ---- the connection's IO

    def buffered(self) -> int:
        """Bytes that the peer has not taken."""
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
        """Nothing more will be written, and what still comes is dropped. Forgets the connection: the peer may take its time."""
        self._connection = None
        if self._transport.is_closing():
            return
        self.resume_reading()
        # Closing while bytes of the peer are unread would reset the connection, and the close frame could be lost.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        self._sockets.await_close(self)
