"""The accept queue of one listening socket, kept short when connections come faster than they can be served.

Where each request has a connection of its own, what is too much waits in the kernel, unseen: no path is known there, so
/health waits behind all the rest, and what is served at last was given up long ago. So while the kernel's queue is longer
than `SHORT`, connections are taken out of it and looked at (`MSG_PEEK`). Who has sent nothing yet, and what
`HttpOptions.sheddable` says no to, is served at once. The others wait in line here, by address, as long as their waiting
time allows it (`Admission`); the rest are refused without a transport, which costs a tenth of an answer.

No more than `BUDGET` seconds in `PAUSE` go into this: beyond that the kernel drops what comes, for nothing (Mogul and
Ramakrishnan, "Eliminating receive livelock", 1996).

Linux alone says how long the queue is. Elsewhere, with TLS, and on a unix socket, whose proxy keeps connections, nothing
is done.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from runtime.core import telemetry
from runtime.http import answer
from runtime.http.admission import Admission
from runtime.http.connection import END, Connection
from runtime.http.messages import Request

if TYPE_CHECKING:
    from runtime.http.server import Listener

SHED: Final = ("http", "server", "shed")

SHORT: Final = 16
PAUSE: Final = 0.01  # seconds from one look to the next
BUDGET: Final = 0.005
TOGETHER: Final = 4  # taken out of the line at once
LONGEST: Final = 0.25  # seconds in the line
ASSUMED: Final = 2000.0  # connections a second, until it has been measured
PEEKED: Final = 16_384
_QUEUED: Final = 24  # where struct tcp_info has, of a listening socket, the length of its queue


class AcceptQueue:
    """Owns nothing of the socket but what it took out of its queue."""

    __slots__ = ("_last", "_line", "_listener", "_running", "_socket", "_tasks", "admission")

    def __init__(self, listener: Listener, bound: socket.socket) -> None:
        self._listener = listener
        self._socket = bound
        self._line: deque[tuple[socket.socket, str]] = deque()
        self._last = 0.0
        self._running = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self.admission = Admission(ASSUMED, LONGEST)

    def length(self) -> int:
        """Connections that wait in the kernel; 0 where it does not say."""
        if not hasattr(socket, "TCP_INFO"):
            return 0
        try:
            information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED + 4)
        except OSError:
            return 0
        return struct.unpack_from("I", information, _QUEUED)[0] if len(information) == _QUEUED + 4 else 0

    def look(self, now: float) -> None:
        """A connection was made: are there many behind it?"""
        if now - self._last < PAUSE:
            return
        self._last = now
        if self.length() > SHORT:
            self.empty()

    def empty(self) -> None:
        """Takes everybody out of the kernel's queue, as long as `BUDGET` allows it."""
        now = self._listener.now
        until = now() + BUDGET
        with suppress(OSError):  # nobody is left, or no descriptor
            while now() < until and not self._listener.closing:
                accepted, address = self._socket.accept()
                accepted.setblocking(False)
                self._sort(accepted, address[0])
        if self._line and not self._running:
            self._running = True
            self._listener.loop.call_soon(self._advance)

    @property
    def busy(self) -> bool:
        """Whether somebody was taken out of the kernel's queue and is not yet a connection of the listener."""
        return bool(self._line or self._tasks)

    def close(self) -> None:
        """Closes what is not yet a connection of the listener."""
        for task in self._tasks:
            task.cancel()
        while self._line:
            self._line.popleft()[0].close()

    def _sort(self, accepted: socket.socket, address: str) -> None:
        request = self._peeked(accepted)
        if request is None:
            self._serve(accepted)
        elif self.admission.enter(address, self._listener.now()):
            self._line.append((accepted, address))
        else:
            self._refuse(accepted, request)

    def _peeked(self, accepted: socket.socket) -> Request | None:
        """The request that may be refused: it is here as a whole, so that no more of it comes when the socket is closed."""
        try:
            data = accepted.recv(PEEKED, socket.MSG_PEEK)
        except OSError:
            return None
        parser = Connection(self._listener.options)
        events = parser.receive(data)
        parser.close()
        if not events or not isinstance(request := events[0], Request):
            return None
        whole = len(events) == 1 if request.content_length == 0 else events[-1] is END
        return request if whole and self._listener.options.sheddable(request) else None

    def _refuse(self, accepted: socket.socket, request: Request) -> None:
        response = self._listener.options.refusal(503, "too many connections wait")
        data = answer.whole(response, answer.CLOSE, request.method != "HEAD")
        with accepted, suppress(OSError):
            accepted.recv(PEEKED)
            accepted.send(data)
        if telemetry.attached(SHED):
            telemetry.execute(SHED, {"count": 1}, {"method": request.method, "path": request.path})

    def _advance(self) -> None:
        """Some of the line; then others have their turn."""
        for _ in range(min(TOGETHER, len(self._line))):
            accepted, address = self._line.popleft()
            self._serve(accepted)
            self.admission.leave(address, self._listener.now())
        self.look(self._listener.now())
        self._running = bool(self._line)
        if self._running:
            self._listener.loop.call_soon(self._advance)

    def _serve(self, accepted: socket.socket) -> None:
        task = self._listener.loop.create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._listener.loop.connect_accepted_socket(self._listener.make, accepted)
        except OSError:  # it has gone meanwhile
            accepted.close()
