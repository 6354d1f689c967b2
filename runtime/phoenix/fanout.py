"""A broadcast to many sockets in slices, so that it blocks the loop for one slice at a time.

The first SLICE sockets are written to at once, a process does the rest. The order at each socket is kept: while a fanout is
`pending`, a transport's `push` and `emit` first `flush` the frames that wait for it; all three end in its `send`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from runtime.core.pid import Pid
from runtime.otp import erlang

if TYPE_CHECKING:
    from runtime.phoenix.messages import Frame
    from runtime.phoenix.socket import SocketTransport

SLICE: Final = 256  # sockets: about 3 ms
MAX_PENDING: Final = 16  # broadcasts; with one more the oldest is finished at once


class Fanout:
    """The rest of a broadcast: transports in order, and the frames of those that have not received it."""

    __slots__ = ("_at", "_order", "frames")

    def __init__(self, order: list[SocketTransport], frames: dict[SocketTransport, Frame]) -> None:
        self._order = order
        self._at = 0
        self.frames = frames

    def step(self, count: int) -> bool:
        """Sends to the next `count` transports; True if there are more."""
        end = min(self._at + count, len(self._order))
        frames = self.frames
        oldest = not pending or pending[0] is self
        for transport in self._order[self._at : end]:
            if not oldest:
                flush_before(self, transport)
            frame = frames.pop(transport, None)
            if frame is not None:
                transport.send(frame)
        self._at = end
        return end < len(self._order)

    def finish(self) -> None:
        """Sends to all remaining transports."""
        self.step(len(self._order))


pending: Final[list[Fanout]] = []  # oldest first


def start(order: list[SocketTransport], frames: dict[SocketTransport, Frame]) -> None:
    """Sends each transport in `order`, in which it stands once, its frame."""
    fanout = Fanout(order, frames)
    if not fanout.step(SLICE):
        return
    pending.append(fanout)
    if len(pending) > MAX_PENDING:
        pending[0].finish()

    def end(_pid: Pid) -> None:
        pending.remove(fanout)

    erlang.spawn(_serve, fanout).cell.on_exit(end)


async def _serve(fanout: Fanout) -> None:
    while fanout.step(SLICE):
        await asyncio.sleep(0)  # lets other work run


def flush(transport: SocketTransport) -> None:
    """Sends the frames that wait for a transport, oldest first."""
    for fanout in pending:
        frame = fanout.frames.pop(transport, None)
        if frame is not None:
            transport.send(frame)


def flush_before(fanout: Fanout, transport: SocketTransport) -> None:
    """Sends the frames that wait for a transport in older broadcasts than `fanout`."""
    for older in pending:
        if older is fanout:
            return
        frame = older.frames.pop(transport, None)
        if frame is not None:
            transport.send(frame)
