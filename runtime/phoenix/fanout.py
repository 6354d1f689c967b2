"""A broadcast to many sockets, in slices: the loop is held for one slice at a time, and the order at each socket stays.

The first SLICE sockets are written to at once, a process sees to the rest. Whatever else goes to a socket meanwhile
goes behind what waits for it: while anything is `pending`, a transport's `push` and `emit` call `flush` first, and its `send`
is what they and a broadcast have in common.
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
MOST_PENDING: Final = 16  # broadcasts; the oldest is finished at once when there is one more


class Fanout:
    """What is left of one broadcast: transports in order, and the frame of each that has not had it."""

    __slots__ = ("_at", "_order", "frames")

    def __init__(self, order: list[SocketTransport], frames: dict[SocketTransport, Frame]) -> None:
        self._order = order
        self._at = 0
        self.frames = frames

    def step(self, count: int) -> bool:
        """Serves the next `count` transports; True if there are more."""
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
        """Serves all that are left."""
        self.step(len(self._order))


pending: Final[list[Fanout]] = []  # oldest first


def start(order: list[SocketTransport], frames: dict[SocketTransport, Frame]) -> None:
    """Writes a frame to each transport, each of them once in `order`."""
    fanout = Fanout(order, frames)
    if not fanout.step(SLICE):
        return
    pending.append(fanout)
    if len(pending) > MOST_PENDING:
        pending[0].finish()

    def end(_pid: Pid) -> None:
        pending.remove(fanout)

    erlang.spawn(_serve, fanout).cell.on_exit(end)


async def _serve(fanout: Fanout) -> None:
    while fanout.step(SLICE):
        await asyncio.sleep(0)  # the loop's other work


def flush(transport: SocketTransport) -> None:
    """Sends what waits for a transport, oldest first."""
    for fanout in pending:
        frame = fanout.frames.pop(transport, None)
        if frame is not None:
            transport.send(frame)


def flush_before(fanout: Fanout, transport: SocketTransport) -> None:
    """Sends what waits for a transport from older broadcasts than this one."""
    for older in pending:
        if older is fanout:
            return
        frame = older.frames.pop(transport, None)
        if frame is not None:
            transport.send(frame)
