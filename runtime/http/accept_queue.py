"""Load shedding at accept: keeps the accept queue of one listening socket short under overload.

If every request opens a connection, the excess waits in the kernel's accept queue, where its path is unknown: /health waits
behind everything else, and a request is served long after its client has given up. Once that queue is full the kernel drops
SYNs, and clients retry after one, three and seven seconds.

So while the kernel's queue is longer than `SHORT`, all of it is accepted and the first request of each connection is peeked at
(`MSG_PEEK`):

* a request that `HttpOptions.sheddable` protects is served at once;
* of the others the newest is considered first, since it can still be served in time (adaptive LIFO: Maurer, "Fail at scale",
  2015). `Admission`, with the client's address as the owner, lets it into the line or refuses it;
* one that was not considered within `LONGEST` seconds is refused. One of these is refused after each of the newest, so that the
  oldest do not wait for the end of the flood;
* a connection that has sent nothing yet is looked at again after `PAUSE`, and served after `SILENCE`.

A refusal needs no transport and costs a tenth of a response. Refusing takes at most `SHARE` of the loop's time; once `MOST`
connections are undecided, no more are accepted and the kernel drops the excess at no cost (Mogul and Ramakrishnan, "Eliminating
receive livelock", 1996).

Only Linux reports the length of the queue. On other systems, with TLS, and on Unix sockets (whose proxy reuses connections)
nothing is shed here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtime.core import telemetry
from runtime.http import response_encoder
from runtime.http.admission import Admission
from runtime.http.connection import END, Connection
from runtime.http.messages import Request

if TYPE_CHECKING:
    from runtime.http.server import Listener

SHED: Final = ("http", "server", "shed")

SHORT: Final = 16
PAUSE: Final = 0.004  # seconds between two looks at the queue
SILENCE: Final = 0.05  # seconds that a connection may send nothing before it gets a transport
SHARE: Final = 0.75  # of the loop's time, at most, spent on refusing
HOLD: Final = 0.012  # seconds, at most, that one look blocks the loop
MOST: Final = 8192  # undecided connections
TOGETHER: Final = 4  # connections served per turn of the loop
LONGEST: Final = 0.1  # seconds, at most, undecided, and again in the line
ASSUMED: Final = 5000.0  # connections a second, until measured
ALL: Final = 0.25  # seconds for the last look, when the server stops
PEEKED: Final = 16_384  # bytes
MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)
# Offset of tcpi_unacked in struct tcp_info: of a listening socket, the length of its accept queue.
_QUEUED: Final = 24


class _Accepted(NamedTuple):
    """A connection that was accepted at the time `at`."""

    socket: socket.socket
    address: str
    at: float
    request: Request | None = None  # set if it may be refused


class AcceptQueue:
    """The accept queue of one listening socket. Owns the connections it has accepted, not the socket."""

    __slots__ = (
        "_last", "_line", "_listener", "_new", "_running", "_silent", "_socket", "_tasks", "_timer", "admission",
    )  # fmt: skip

    def __init__(self, listener: Listener, bound: socket.socket) -> None:
        self._listener = listener
        self._socket = bound
        self._new: deque[_Accepted] = deque()  # undecided
        self._silent: list[_Accepted] = []  # have sent nothing yet
        self._line: deque[_Accepted] = deque()  # admitted
        self._last = 0.0
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.admission = Admission(ASSUMED, LONGEST)

    def length(self) -> int:
        """Connections in the kernel's queue; 0 where the system does not report it."""
        if not hasattr(socket, "TCP_INFO"):
            return 0
        try:
            information = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED + 4)
        except OSError:
            return 0
        return struct.unpack_from("I", information, _QUEUED)[0] if len(information) == _QUEUED + 4 else 0

    def look(self, now: float) -> None:
        """Called for each new connection: drains the queue if many wait behind it."""
        since = now - self._last
        if since < PAUSE:
            return
        length = self.length()
        if self._new or self._silent or length > SHORT:
            self._drain(length, min(since * SHARE / (1 - SHARE), HOLD))
        self._last = self._listener.now()

    def empty(self) -> None:
        """Accepts everything in the kernel's queue and serves the undecided, before the socket is closed."""
        self._drain(MOST, ALL)
        for accepted in (*self._silent, *self._new):
            self._serve(accepted)
        self._silent.clear()
        self._new.clear()

    @property
    def busy(self) -> bool:
        """True while an accepted connection is not yet one of the listener's."""
        return bool(self._new or self._silent or self._line or self._tasks)

    def close(self) -> None:
        """Closes the accepted connections that are not yet the listener's."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for waiting in (self._new, self._silent, self._line):
            for accepted in waiting:
                accepted.socket.close()
            waiting.clear()

    def _drain(self, length: int, budget: float) -> None:
        """Accepts `length` connections, then decides about the newest for `budget` seconds."""
        now = self._listener.now
        silent, self._silent = self._silent, []
        for accepted in silent:
            self._sort(accepted, now())
        with suppress(OSError):  # the queue is empty, or there is no file descriptor left
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
        """The request if it may be refused. It must be complete: data that arrives after the close would cause a reset."""
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
        data = response_encoder.whole(response, response_encoder.CLOSE, request.method != "HEAD")
        with opened, suppress(OSError):
            opened.recv(PEEKED)
            # MSG_MORE sends the response and the FIN in one segment, which saves a third of the cost.
            opened.send(data, MSG_MORE)
        if telemetry.attached(SHED):
            telemetry.execute(SHED, {"count": 1}, {"method": request.method, "path": request.path})

    def _advance(self) -> None:
        """Serves the first few of the line, then yields to the loop."""
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
        task.add_done_callback(partial(self._served, accepted.socket))

    def _served(self, opened: socket.socket, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # maybe before it began
            opened.close()

    async def _connect(self, opened: socket.socket) -> None:
        try:
            await self._listener.loop.connect_accepted_socket(self._listener.make, opened)
        except OSError:  # the client has closed it meanwhile
            opened.close()
