"""Writes responses: whole, or in pieces as fast as the peer reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import Struct

from runtime.core import telemetry

CLOSED: Final = ("http", "server", "connection", "stop")


class ResponseWriter(Struct, eq=False):
    """The writing side of one connection.

    `paused` is True while the transport's buffer is full; `sent` counts the bytes written, whether the peer has read them or not.
    """

    _transport: Any  # None once the connection is lost
    _drained: asyncio.Future[None] | None = None  # what `stream` waits for while `paused`
    paused: bool = False
    sent: int = 0

    @property
    def buffered(self) -> int:
        """Bytes in the transport's buffer; 0 once the connection is lost."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Writes `data` unless the connection is closing."""
        transport = self._transport
        if not transport.is_closing():
            self.sent += len(data)
            transport.write(data)

    async def stream(self, pieces: AsyncIterator[bytes]) -> bool:
        """Writes the pieces no faster than the peer reads them. Returns False if the connection is lost before the last one."""
        async for piece in pieces:
            if self._transport is None:
                return False
            self.write(piece)
            if self.paused:
                self._drained = asyncio.get_running_loop().create_future()
                await self._drained
        return self._transport is not None

    def pause(self) -> None:
        """From the transport: its buffer is full."""
        self.paused = True

    def resume(self) -> None:
        """From the transport: its buffer has room again."""
        self.paused = False
        self._wake()

    def lost(self, error: Exception | None) -> None:
        """The connection is lost."""
        self._transport = None
        self._wake()
        if telemetry.attached(CLOSED):
            telemetry.execute(CLOSED, {"bytes_sent": self.sent}, {"error": error})

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
