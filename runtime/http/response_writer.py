"""What a connection writes: answers whole, or in pieces as fast as the peer takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from runtime.core import telemetry

CLOSED: Final = ("http", "server", "connection", "stop")


class ResponseWriter:
    """The writing side of one connection.

    `paused`: the peer does not take what is written. `sent`: bytes that were written, whether it has taken them or not.
    """

    __slots__ = ("_drained", "_transport", "paused", "sent")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # None once the connection is lost
        self._drained: asyncio.Future[None] | None = None  # what a streamed answer waits for while `paused`
        self.paused = False
        self.sent = 0

    @property
    def buffered(self) -> int:
        """Bytes that the peer has not taken; 0 once the connection is lost."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Writes, unless the connection is being closed."""
        transport = self._transport
        if not transport.is_closing():
            self.sent += len(data)
            transport.write(data)

    async def stream(self, pieces: AsyncIterator[bytes]) -> bool:
        """Writes the pieces as they come, no faster than the peer takes them. False if it has gone before their end."""
        async for piece in pieces:
            if self._transport is None:
                return False
            self.write(piece)
            if self.paused:
                self._drained = asyncio.get_running_loop().create_future()
                await self._drained
        return self._transport is not None

    def pause(self) -> None:
        """From the transport: too much is buffered."""
        self.paused = True

    def resume(self) -> None:
        """From the transport: the peer has taken most of it."""
        self.paused = False
        self._wake()

    def lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self._transport = None
        self._wake()
        if telemetry.attached(CLOSED):
            telemetry.execute(CLOSED, {"bytes_sent": self.sent}, {"error": error})

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
