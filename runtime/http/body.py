"""The body of a request: the connection feeds it, the handler reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

DISCONNECTED: Final = 0


class BodyError(Exception):
    """The body cannot be read: `status` is that of the response (413, 408, 400), or DISCONNECTED if the client has gone."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Body:
    """The part of a body that was received and not read. `complete` once the last byte has arrived."""

    __slots__ = (
        "_error",
        "_gathering",
        "_parts",
        "_waiter",
        "buffered",
        "complete",
        "discarded",
        "length",
        "received",
        "wanted",
    )

    def __init__(
        self, length: int | None, wanted: Callable[[], None] | None = None, come: bytes = b""
    ) -> None:
        """`length` is the Content-Length, None if chunked; `wanted` is called when a reader waits; `come` is its beginning."""
        self.length = length
        self.received = self.buffered = len(come)
        self.complete = length == self.received
        self.discarded = False
        self.wanted = wanted
        self._gathering = False
        self._parts = [come] if come else []
        self._waiter: asyncio.Future[None] | None = None
        self._error: BodyError | None = None

    @property
    def unread(self) -> int:
        """Bytes that wait for a reader; 0 during `read`, which has its own limit."""
        return 0 if self._gathering else self.buffered

    # ---- the connection's side

    def feed(self, data: bytes) -> None:
        """Adds a piece."""
        self.received += len(data)
        if not self.discarded:
            self._parts.append(data)
            self.buffered += len(data)
            self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.complete = True
        self._wake()

    def fail(self, error: BodyError) -> None:
        """The rest will not come: readers get the error."""
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def discard(self) -> None:
        """Drops what has come and will come: the handler will not read it."""
        self.discarded = True
        self._parts.clear()
        self.buffered = 0
        self.wanted = None

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- the handler's side

    def whole(self, limit: int) -> bytes | None:
        """The whole body if it has arrived, else None. Raises BodyError 413 if it is longer than `limit` bytes."""
        if self.received > limit or (self.length is not None and self.length > limit):
            raise BodyError(413, f"The body is larger than {limit} bytes")
        if not self.complete:
            return None
        parts, self._parts = self._parts, []
        self.buffered = 0
        return b"".join(parts)

    async def read(self, limit: int) -> bytes:
        """Waits for the whole body. Raises BodyError, with 413 as soon as it is known to be longer than `limit` bytes."""
        self._gathering = True
        while (whole := self.whole(limit)) is None:
            await self._more()
        return whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the body in pieces as they arrive. Raises BodyError."""
        while True:
            if self._parts:
                parts, self._parts = self._parts, []
                self.buffered = 0
                yield b"".join(parts)
            elif self.complete:
                return
            else:
                await self._more()

    async def _more(self) -> None:
        self._check()
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        if self.wanted is not None:
            self.wanted()
        await waiter
        self._check()

    def _check(self) -> None:
        error = self._error
        if error is not None and not self.complete:
            # A new one: the stored one would reference the frames that reference it.
            raise BodyError(error.status, error.reason)


EMPTY: Final = Body(0)  # shared by all requests without one
