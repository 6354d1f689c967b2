"""The accept queue of one listening socket, kept short when connections come faster than they can be served.

Where each request has a connection of its own, what is too much waits in the kernel, unseen: no path is known there, so
/health waits behind all the rest, and what is served at last was given up long ago. Once the queue is full the kernel
drops what comes, and its client tries again after one second, three, seven. So while the kernel's queue is longer than
`SHORT`, it is emptied, and what has come is read without taking it (`MSG_PEEK`). What `HttpOptions.sheddable` says no to is
served at once. Of the others the newest is the first: who has just come can be helped in time, whatever waits behind
(adaptive LIFO: Maurer, "Fail at scale", 2015). They wait in line, by address, as long as their waiting time allows it
(`Admission`); the rest, and who was not looked at in time, are refused without a transport, which costs a tenth of an
answer. With each of the newest one is refused who has waited too long, so that nobody waits for the flood to end to hear it.
Who has said nothing yet is looked at again a moment later.

No more than `SHARE` of the time goes into refusing: beyond that it waits, and once `MOST` wait, the kernel drops what comes
for nothing (Mogul and Ramakrishnan, "Eliminating receive livelock", 1996).

Linux alone says how long the queue is. Elsewhere, with TLS, and on a unix socket, whose proxy keeps connections, nothing
is done.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtime.core import telemetry
from runtime.http import answer
from runtime.http.admission import Admission
from runtime.http.connection import END, Connection
from runtime.http.messages import Request

if TYPE_CHECKING:
    from runtime.http.server import Listener

SHED: Final = ("http", "server", "shed")

SHORT: Final = 16
PAUSE: Final = 0.004  # seconds from one look to the next
SILENCE: Final = 0.05  # seconds that a connection may say nothing before it gets a transport
SHARE: Final = 0.75
HOLD: Final = 0.012  # seconds, at most, that one look holds the loop
MOST: Final = 8192  # of whom it is not decided yet whether they are refused
TOGETHER: Final = 4  # taken out of the line at once
LONGEST: Final = 0.1  # seconds until it is looked at, and in the line
ASSUMED: Final = 5000.0  # connections a second, until it has been measured
ALL: Final = 0.25  # seconds for the last look
PEEKED: Final = 16_384
MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)
_QUEUED: Final = 24  # where struct tcp_info has, of a listening socket, the length of its queue


class _Accepted(NamedTuple):
    """A connection that was taken out of the kernel's queue at `at`."""

    socket: socket.socket
    address: str
    at: float
    request: Request | None = None  # if it may be refused


class AcceptQueue:
    """Owns nothing of the socket but what it took out of its queue."""

    __slots__ = (
        "_last", "_line", "_listener", "_new", "_running", "_silent", "_socket", "_tasks", "_timer", "admission",
    )  # fmt: skip

    def __init__(self, listener: Listener, bound: socket.socket) -> None:
        self._listener = listener
        self._socket = bound
        self._new: deque[_Accepted] = deque()  # may be refused
        self._silent: list[_Accepted] = []  # have said nothing yet
        self._line: deque[_Accepted] = deque()
        self._last = 0.0
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
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
        since = now - self._last
        if since < PAUSE:
            return
        length = self.length()
        if self._new or self._silent or length > SHORT:
            self._drain(length, min(since * SHARE / (1 - SHARE), HOLD))
        self._last = self._listener.now()

    def empty(self) -> None:
        """Takes everybody out of the kernel's queue, and waits for nobody's first words: it is the last look."""
        self._drain(MOST, ALL)
        for accepted in (*self._silent, *self._new):
            self._serve(accepted)
        self._silent.clear()
        self._new.clear()

    @property
    def busy(self) -> bool:
        """Whether somebody was taken out of the kernel's queue and is not yet a connection of the listener."""
        return bool(self._new or self._silent or self._line or self._tasks)

    def close(self) -> None:
        """Closes what is not yet a connection of the listener."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for waiting in (self._new, self._silent, self._line):
            for accepted in waiting:
                accepted.socket.close()
            waiting.clear()

    def _drain(self, length: int, budget: float) -> None:
        """Takes `length` connections out of the kernel's queue; then decides about the newest, in `budget` seconds."""
        now = self._listener.now
        silent, self._silent = self._silent, []
        for accepted in silent:
            self._sort(accepted, now())
        with suppress(OSError):  # nobody is left, or no descriptor
            for _ in range(min(length, MOST - len(self._new))):
                opened, address = self._socket.accept()
                opened.setblocking(False)
                at = now()
                self._sort(_Accepted(opened, address[0], at), at)
        until = now() + budget
        while self._new and (at := now()) < until:
            self._decide(self._new.pop(), at)
            if self._new and at - self._new[0].at >= LONGEST:
                self._refuse(self._new.popleft())
        if self._line and not self._running:
            self._running = True
            self._listener.loop.call_soon(self._advance)
        self._look_later()

    def _look_later(self) -> None:
        if (self._new or self._silent) and self._timer is None:
            self._timer = self._listener.loop.call_later(PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look(self._listener.now())
        self._look_later()

    def _sort(self, accepted: _Accepted, now: float) -> None:
        try:
            data = accepted.socket.recv(PEEKED, socket.MSG_PEEK)
        except BlockingIOError:
            if now - accepted.at < SILENCE:
                self._silent.append(accepted)
            else:
                self._serve(accepted)
            return
        except OSError:
            data = b""
        request = self._sheddable(data)
        if request is None:
            self._serve(accepted)
        else:
            self._new.append(accepted._replace(request=request))

    def _decide(self, accepted: _Accepted, now: float) -> None:
        if now - accepted.at < LONGEST and self.admission.enter(accepted.address, now):
            self._line.append(accepted)
        else:
            self._refuse(accepted)

    def _sheddable(self, data: bytes) -> Request | None:
        """The request that may be refused: it is here as a whole, so that no more of it comes when the socket is closed."""
        parser = Connection(self._listener.options)
        events = parser.receive(data)
        parser.close()
        if not events or not isinstance(request := events[0], Request):
            return None
        whole = len(events) == 1 if request.content_length == 0 else events[-1] is END
        return request if whole and self._listener.options.sheddable(request) else None

    def _refuse(self, accepted: _Accepted) -> None:
        opened, request = accepted.socket, accepted.request
        assert request is not None
        response = self._listener.options.refusal(503, "too many connections wait")
        data = answer.whole(response, answer.CLOSE, request.method != "HEAD")
        with opened, suppress(OSError):
            opened.recv(PEEKED)
            # MSG_MORE: in one segment with the FIN, which saves a third of the cost.
            opened.send(data, MSG_MORE)
        if telemetry.attached(SHED):
            telemetry.execute(SHED, {"count": 1}, {"method": request.method, "path": request.path})

    def _advance(self) -> None:
        """Some of the line; then others have their turn."""
        for _ in range(min(TOGETHER, len(self._line))):
            accepted = self._line.popleft()
            self._serve(accepted)
            self.admission.leave(accepted.address, self._listener.now())
        self.look(self._listener.now())
        self._running = bool(self._line)
        if self._running:
            self._listener.loop.call_soon(self._advance)

    def _serve(self, accepted: _Accepted) -> None:
        task = self._listener.loop.create_task(self._connect(accepted.socket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, opened: socket.socket) -> None:
        try:
            await self._listener.loop.connect_accepted_socket(self._listener.make, opened)
        except OSError:  # it has gone meanwhile
            opened.close()
