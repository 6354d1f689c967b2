"""Load shedding at accept: keeps the accept queue of one listening socket short under overload.

If every request opens a connection, the excess waits in the kernel's accept queue, where its path is unknown: /health waits
behind everything else, and a request is served long after its client has given up. Once that queue is full the kernel drops
SYNs, and clients retry after one, three and seven seconds.

The event loop accepts a few connections per turn. So while more than `SHORT` wait, they are accepted here, and the first request
of each is peeked at (`MSG_PEEK`):

* a request that `HttpOptions.sheddable` protects is served at once;
* `Admission`, with the client's address (of IPv6 its /64) as the owner, lets any other into the line or refuses it;
* a connection whose request is not complete is looked at again after `PAUSE`, and served after `SILENCE`.

A refusal needs no transport, and most need no parser (`Shedding`): it costs a tenth of a response. Refusing takes at most `SHARE`
of the loop's time. What is not accepted in that time stays in the kernel's queue, and what finds that full is dropped at no cost
(Mogul and Ramakrishnan, "Eliminating receive livelock", 1996).

Only Linux reports the length of the queue. On other systems, with TLS, and on Unix sockets (whose proxy reuses connections)
nothing is shed here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.core import telemetry
from runtime.core.eager_task import Task
from runtime.http import shedding
from runtime.http.admission import Admission
from runtime.http.messages import Request
from runtime.http.shedding import INCOMPLETE, Shedding

if TYPE_CHECKING:
    from runtime.http.server import Listener

SHED: Final = ("http", "server", "shed")

SHORT: Final = 64
PAUSE: Final = 0.004  # seconds between two looks at the queue
SILENCE: Final = 0.05  # seconds that a request may be incomplete before its connection gets a transport
SHARE: Final = 0.75  # of the loop's time, at most, spent on refusing
HOLD: Final = 0.02  # seconds, at most, that one look blocks the loop
TOGETHER: Final = 4  # connections served per turn of the loop
URGENT: Final = 256  # connections to be served at once; while there are as many, none is accepted
LONGEST: Final = 0.1  # seconds, at most, in the line
ASSUMED: Final = 5000.0  # connections a second, until measured
ALL: Final = 0.25  # seconds for the last look, when the server stops
MSG_MORE: Final = getattr(socket, "MSG_MORE", 0)
# Offset of tcpi_unacked in struct tcp_info: of a listening socket, the length of its accept queue.
_QUEUED: Final = 24
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"
_SITE: Final = 8  # bytes: a provider assigns each site at least a /64


@lru_cache(4096)
def owner(address: str) -> Hashable:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_IPV4_MAPPED) :])
    return packed[:_SITE]


class _Accepted(NamedTuple):
    """A connection that was accepted at the time `at`."""

    socket: socket.socket
    owner: Hashable
    at: float


class AcceptQueue:
    """The accept queue of one listening socket. Owns the connections it has accepted, not the socket."""

    __slots__ = (
        "_incomplete", "_last", "_line", "_listener", "_running", "_shedding", "_socket", "_tasks", "_timer", "_urgent",
        "admission",
    )  # fmt: skip

    def __init__(self, listener: Listener, bound: socket.socket) -> None:
        self._listener = listener
        self._socket = bound
        self._shedding = Shedding(listener.options)
        self._incomplete: list[_Accepted] = []
        self._urgent: deque[_Accepted] = deque()  # to be served at once
        self._line: deque[_Accepted] = deque()  # admitted
        self._last = 0.0
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[Task] = set()
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
        if self._incomplete or self.length() > SHORT:
            self._drain(now + min(since * SHARE / (1 - SHARE), HOLD), URGENT)
        self._last = self._listener.now()

    def empty(self) -> None:
        """Accepts everything in the kernel's queue and serves the incomplete, before the socket is closed."""
        now = self._listener.now()
        self._drain(now + ALL, sys.maxsize)
        self._urgent.extend(self._incomplete)
        self._incomplete.clear()
        self._advance_soon()

    @property
    def busy(self) -> bool:
        """True while an accepted connection is not yet one of the listener's."""
        return bool(self._incomplete or self._urgent or self._line or self._tasks)

    def close(self) -> None:
        """Closes the accepted connections that are not yet the listener's."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for waiting in (self._incomplete, self._urgent, self._line):
            for accepted in waiting:
                accepted.socket.close()
            waiting.clear()

    def _drain(self, until: float, most: int) -> None:
        """Decides about connections until a time, or until this many are to be served at once."""
        clock, accept = self._listener.now, self._socket.accept
        incomplete, self._incomplete = self._incomplete, []
        for accepted in incomplete:
            self._decide(accepted, clock())
        with suppress(OSError):  # the queue is empty, or there is no file descriptor left
            while (now := clock()) < until and len(self._urgent) < most:
                opened, address = accept()
                opened.setblocking(False)
                self._decide(_Accepted(opened, owner(address[0]), now), now)
        self._advance_soon()
        self._look_later()

    def _look_later(self) -> None:
        if self._incomplete and self._timer is None:
            self._timer = self._listener.loop.call_later(PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look(self._listener.now())
        self._look_later()

    def _decide(self, accepted: _Accepted, now: float) -> None:
        """Serves, admits or refuses a connection, or leaves it until its request is complete."""
        data = _peek(accepted.socket)
        if data == b"":  # the client has gone, and has asked for nothing
            accepted.socket.close()
            return
        verdict = INCOMPLETE if data is None else self._shedding.judge(data)
        if verdict is None or (verdict == INCOMPLETE and now - accepted.at >= SILENCE):
            self._urgent.append(accepted)
        elif verdict == INCOMPLETE:
            self._incomplete.append(accepted)
        elif self.admission.enter(accepted.owner, now):
            self._line.append(accepted)
        else:
            self._refuse(accepted.socket, verdict)

    def _refuse(self, opened: socket.socket, request: Request) -> None:
        with opened, suppress(OSError):
            opened.recv(shedding.MOST)
            # MSG_MORE sends the response and the FIN in one segment, which saves a third of the cost.
            opened.send(self._shedding.refusal(request), MSG_MORE)
        if telemetry.attached(SHED):
            telemetry.execute(SHED, {"count": 1}, {"method": request.method, "path": request.path})

    def _advance_soon(self) -> None:
        if not self._running and (self._urgent or self._line):
            self._running = True
            self._listener.loop.call_soon(self._advance)

    def _advance(self) -> None:
        """Serves the urgent and the first few of the line, then yields to the loop."""
        self._running = False
        for _ in range(len(self._urgent)):
            self._serve(self._urgent.popleft())
        for _ in range(min(TOGETHER, len(self._line))):
            accepted = self._line.popleft()
            self._serve(accepted)
            self.admission.leave(accepted.owner, self._listener.now())
        self.look(self._listener.now())
        self._advance_soon()

    def _serve(self, accepted: _Accepted) -> None:
        opened = accepted.socket
        _, task = self._listener.runner.begin(self._connect(opened), partial(self._served, opened))
        if task is not None:
            self._tasks.add(task)

    def _served(self, opened: socket.socket, task: Task) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            opened.close()

    async def _connect(self, opened: socket.socket) -> None:
        try:
            await self._listener.loop.connect_accepted_socket(self._listener.make, opened)
        except OSError:  # the client has closed it meanwhile
            opened.close()


def _peek(opened: socket.socket) -> bytes | None:
    """What has arrived and stays there; None if nothing has, b"" if nothing ever will."""
    try:
        return opened.recv(shedding.MOST, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
