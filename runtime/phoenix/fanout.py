"""A broadcast to many sockets, in slices: the loop is held for one slice at a time, and the order at each socket stays.

The first SLICE sockets are written to at once, a process sees to the rest. Whatever else goes to a socket meanwhile
goes behind what waits for it: a transport calls `flush` before it sends while anything is `pending`.
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
        for transport in self._order[self._at : end]:
            frames = _taken(transport)
            if (frame := self.frames.pop(transport, None)) is not None:  # not among the pending yet
                frames.append(frame)
            for frame in frames:
                transport.push(frame)
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
    """Sends what waits for a transport."""
    for frame in _taken(transport):
        transport.push(frame)


def _taken(transport: SocketTransport) -> list[Frame]:
    """What waits for a transport, oldest first. All of it, before any is pushed: a push flushes again."""
    return [frame for each in pending if (frame := each.frames.pop(transport, None)) is not None]
