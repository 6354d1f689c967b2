"""One connection on asyncio: bytes from the socket into the state machine, requests to the handler, answers to the socket.

Requests are handled one at a time, in order. Reading stops while answers are not taken, while `max_ahead` requests
wait, and while a body has more than `max_buffered` bytes unread. Every phase has a deadline, which the server's sweep
compares with the time; a connection has no timer.

A connection that is closed before its peer has stopped sending closes its write side first and drops what still comes
for a moment, so that the answer is not lost in a reset (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from runtime.core import telemetry
from runtime.core.eager_task import Task
from runtime.http import answer
from runtime.http.body import DISCONNECTED, EMPTY, Body, BodyError
from runtime.http.connection import END, UPGRADED, Connection, Event
from runtime.http.deadlines import Deadlines, Phase, Progress
from runtime.http.messages import Peer, Request, Response, Upgrade
from runtime.http.target import Refusal

if TYPE_CHECKING:
    from runtime.http.server import Listener

REQUEST_STOP: Final = ("http", "server", "request", "stop")
REFUSED: Final = ("http", "server", "refused")
CLOSED: Final = ("http", "server", "connection", "stop")

TURN: Final = 0.001  # seconds of requests that wait behind one another, without a look at other connections

_log = logging.getLogger("runtime.http")


class HttpProtocol(asyncio.Protocol):
    """A connection of a `Listener`, up to its end or its upgrade."""

    __slots__ = (
        "_arriving", "_continued", "_current", "_deadlines", "_disconnected", "_dropped", "_eof", "_http", "_lingering",
        "_listener", "_paused", "_peer", "_pressed", "_queue", "_reading", "_resuming", "_sent", "_task", "_transport",
        "scheme",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.scheme = listener.scheme
        self._http = Connection(listener.options)
        self._deadlines = Deadlines(listener.now())
        self._transport: Any = None
        self._queue: deque[Request | Refusal] = (
            deque()
        )  # in order: what is not handled yet, and why there is no more
        self._current: Request | None = None  # being handled, or its answer being streamed
        self._task: Task = None
        self._arriving: Body | None = None  # that is not complete
        self._peer: Peer | None = None
        self._disconnected: asyncio.Future[None] | None = None
        self._eof = False
        self._lingering = False
        self._dropped = 0  # bytes that came after the last answer
        self._continued = False
        self._reading = True
        self._pressed = False  # the peer does not take what we write
        self._paused: asyncio.Future[None] | None = None  # what a streamed answer waits for meanwhile
        self._resuming = False
        self._sent = 0

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener, options = self._listener, self._listener.options
        self._transport = transport
        open_now = len(listener.connections) + len(listener.upgraded)
        if options.max_connections and open_now >= options.max_connections:
            transport.abort()  # type: ignore[attr-defined]
            return
        listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if not self._lingering:
            self._take(data)
        else:
            self._deadlines.heard = self._listener.now()
            self._dropped += len(data)
            if self._dropped > self._listener.options.max_lingered:
                self._transport.abort()

    def eof_received(self) -> bool:
        """A peer that sends no more may still wait for its answer; otherwise asyncio closes the transport."""
        if self._disconnected is not None and not self._disconnected.done():
            self._disconnected.set_result(None)
        if self._arriving is not None:
            self._arriving.fail(BodyError(DISCONNECTED, "the client has gone"))
        self._eof = True
        return not self._lingering and (self._current is not None or bool(self._queue))

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._transport = None
        self._http.close()
        self._queue.clear()
        if self._arriving is not None:
            self._arriving.fail(BodyError(DISCONNECTED, "the client has gone"))
            self._arriving = None
        for waiting in (self._disconnected, self._paused):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        self._disconnected = self._paused = self._current = None
        if telemetry.attached(CLOSED):
            telemetry.execute(CLOSED, {"bytes_sent": self._sent}, {"error": exc})

    def pause_writing(self) -> None:
        self._pressed = True
        self._regulate()

    def resume_writing(self) -> None:
        self._pressed = False
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None
        self._go_on()

    # ---- in

    def _take(self, data: bytes) -> None:
        http = self._http
        events = http.receive(data)
        if self._current is not None or self._queue or self._pressed:
            self._enqueue(events)
        elif len(events) == 3 and events[2] is END and type(events[1]) is bytes:
            request: Any = events[0]  # and its body, as most come
            request.link = self
            request.body = Body.whole_of(events[1])
            self._handle(request)
        elif len(events) == 1 and type(events[0]) is Request and events[0].content_length == 0:
            events[0].link = self
            self._handle(events[0])
        else:
            self._enqueue(events)
        if self._lingering:
            return
        if http.unfinished:
            self._listener.loop.call_soon(self._take_rest)
        if self._queue and self._current is None:
            self._start()
        elif http.pending or http.waiting or not self._reading:
            self._go_on()

    def _enqueue(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is Request:
                event.link = self
                if event.content_length != 0:
                    self._arriving = event.body = Body(event.content_length, self._wanted)
                self._queue.append(event)
            elif type(event) is bytes:
                if self._arriving is not None:
                    self._arriving.feed(event)
            elif type(event) is Refusal:
                self._refused(event)
            elif self._arriving is not None:  # END
                self._arriving.end()
                self._arriving = None

    def _take_rest(self) -> None:
        if self._transport is not None and not self._lingering and self._http.unfinished:
            self._take(b"")

    def _refused(self, refusal: Refusal) -> None:
        if telemetry.attached(REFUSED):
            telemetry.execute(REFUSED, {"count": 1}, {"status": refusal.status, "reason": refusal.reason})
        _log.info("refused: %d, %s", refusal.status, refusal.reason)
        if self._arriving is not None:  # the answer is the handler's
            body, self._arriving = self._arriving, None
            body.fail(BodyError(refusal.status, refusal.reason))
            if not self._queue and self._current is None:
                self._finish(True)
                return
        if self._current is None and not self._queue:
            self._answer_refusal(refusal)
        else:
            self._queue.append(refusal)
            if self._current is None:
                self._start()

    def _answer_refusal(self, refusal: Refusal) -> None:
        response = self._listener.options.refusal(refusal.status, refusal.reason)
        self._write(answer.whole(response, answer.CLOSE))
        self._finish(True)

    def _wanted(self) -> None:
        """The handler waits for its body."""
        request = self._current
        if (
            request is not None
            and request.expects_continue
            and not self._continued
            and self._transport is not None
        ):
            self._continued = True
            if not request.body.received:
                self._write(answer.CONTINUE)
        self._regulate()

    def _regulate(self) -> None:
        """Reads exactly while there is room for what may come."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        http = self._http
        arriving = self._arriving
        read = self._lingering or not (
            self._pressed
            or http.waiting
            or http.phase == UPGRADED
            or http.pending >= self._listener.options.max_ahead
            or (arriving is not None and arriving.unread > self._listener.options.max_buffered)
        )
        if read is not self._reading:
            self._reading = read
            if read:
                transport.resume_reading()
            else:
                transport.pause_reading()

    # ---- the handler

    def _start(self) -> None:
        """Handles what waits, `max_ahead` requests at most, and no longer than TURN: others want the loop as well."""
        queue = self._queue
        until = monotonic() + TURN
        while queue and self._current is None and not self._pressed and self._transport is not None:
            waiting = queue.popleft()
            if type(waiting) is Refusal:
                self._answer_refusal(waiting)
            else:
                self._handle(waiting)  # type: ignore[arg-type]
                if queue and monotonic() > until:
                    self._go_on()
                    return
        if self._http.pending or self._http.waiting or not self._reading:
            self._go_on()

    def _go_on(self) -> None:
        """Once an answer is out or taken: the next requests."""
        if self._transport is None or self._lingering:
            return
        if (
            self._current is None
            and not self._pressed
            and (self._queue or self._http.waiting)
            and not self._resuming
        ):
            self._resuming = True
            self._listener.loop.call_soon(self._resume)
        self._regulate()

    def _resume(self) -> None:
        self._resuming = False
        if self._transport is None or self._lingering or self._current is not None:
            return
        if self._queue:
            self._start()
        elif self._http.waiting:
            self._take(b"")

    def _handle(self, request: Request) -> None:
        listener = self._listener
        self._current = request
        if listener.forwarded is not None:
            listener.forwarded.apply(request)
        try:
            outcome = listener.handler(request)
            if type(outcome) is CoroutineType:
                outcome, task = listener.runner.begin(outcome, self._done)
                if task is not None:
                    self._task = task
                    return
        except Exception as error:
            outcome = self._failed(error)
        self._answer(request, outcome)  # type: ignore[arg-type]

    def _done(self, task: Task) -> None:
        self._task = None
        request = self._current
        if task.cancelled():
            outcome = None
        elif (error := task.exception()) is not None:
            outcome = self._failed(error)
        else:
            outcome = task.result()
        if request is not None and self._transport is not None:
            self._answer(request, outcome)
            if self._queue or self._http.waiting or not self._reading:
                self._go_on()

    def _failed(self, error: BaseException) -> Response | None:
        if isinstance(error, BodyError):
            if error.status == DISCONNECTED:
                return None
            return self._listener.options.refusal(error.status, error.reason)
        _log.error("a handler failed", exc_info=error)
        return self._listener.options.refusal(500, "Internal Server Error")

    # ---- out

    def _answer(self, request: Request, response: Response | None) -> None:
        if self._transport is None:
            return
        if response is None:  # there is nobody to answer
            self._transport.abort()
            return
        if type(response) is Upgrade:
            self._upgrade(request, response)
            return
        keep, linger = self._goes_on(request)
        connection = answer.CLOSE if not keep else answer.KEEP_ALIVE if request.version == "1.0" else b""
        if type(response.body) is not bytes and isinstance(response.body, AsyncIterator):
            self._stream(request, response, keep, linger, connection)
        else:
            self._write(answer.whole(response, connection, request.method != "HEAD"))
            self._answered(request, response.status, keep, linger)

    def _goes_on(self, request: Request) -> tuple[bool, bool]:
        """Whether another request may follow, and whether the peer may still be sending."""
        body = request.body
        if request.upgrade:
            return False, True
        if body is EMPTY and request.keep_alive and not self._listener.closing and not self._eof:
            return True, False
        if not request.keep_alive or self._listener.closing or self._eof:
            return False, not body.complete
        if body.complete:
            return True, False
        left = self._listener.options.max_drained
        if (
            body.length is None
            or body.length - body.received > left
            or (request.expects_continue and not self._continued)
        ):
            return False, True
        return self._arriving is body, True

    def _answered(self, request: Request, status: int, keep: bool, linger: bool) -> None:
        if request.body is not EMPTY:
            request.body.discard()
            self._continued = False
        self._current = None
        if telemetry.attached(REQUEST_STOP):
            telemetry.execute(
                REQUEST_STOP, {"count": 1}, {"method": request.method, "path": request.path, "status": status}
            )
        if not keep:
            self._finish(linger)
            return
        self._http.answered()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._sent += len(data)
            self._transport.write(data)

    def _stream(
        self, request: Request, response: Response, keep: bool, linger: bool, connection: bytes
    ) -> None:
        self._current = request
        if answer.ends_with_connection(response, request.version):
            keep, connection = False, answer.CLOSE
        streaming = self._streamed(request, response, keep, linger, connection)
        self._task = self._listener.loop.create_task(streaming)
        self._task.add_done_callback(self._done_streaming)

    async def _streamed(
        self, request: Request, response: Response, keep: bool, linger: bool, connection: bytes
    ) -> None:
        with_body = request.method != "HEAD"
        async for piece in answer.pieces(response, request.version, connection, with_body):
            if self._transport is None:
                return
            self._write(piece)
            if self._pressed:
                self._paused = self._listener.loop.create_future()
                await self._paused
        if self._transport is not None:
            self._answered(request, response.status, keep, linger)

    def _done_streaming(self, task: asyncio.Task[None]) -> None:
        self._task = None
        failed = task.cancelled() or task.exception() is not None
        if failed and not task.cancelled():
            _log.error("an answer broke off", exc_info=task.exception())
        if self._transport is not None:
            if failed:  # the peer must see that it is not whole
                self._transport.abort()
            else:
                self._go_on()

    def _upgrade(self, request: Request, response: Upgrade) -> None:
        transport, listener, protocol = self._transport, self._listener, response.protocol
        self._write(answer.head(101, response.headers))
        rest = self._http.take_rest()
        listener.connections.discard(self)
        self._transport = self._current = None
        self._http.close()
        protocol.connections = listener.upgraded
        listener.upgraded.add(protocol)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not self._reading:
            transport.resume_reading()
        if rest:
            protocol.data_received(rest)

    # ---- the end

    def _finish(self, linger: bool) -> None:
        """Nothing more will be written."""
        transport = self._transport
        self._http.close()
        self._queue.clear()
        if self._arriving is not None:
            self._arriving.discard()
            self._arriving = None
        if not linger:
            transport.close()
            return
        self._lingering = True
        self._deadlines.heard = self._listener.now()
        if transport.can_write_eof():
            transport.write_eof()
        self._regulate()

    def shutdown(self) -> None:
        """The server stops: ends the connection unless it is within a request; then it ends with the answer."""
        if self._transport is None or self._http.begun:
            return
        if self._progress().phase in (Phase.IDLE, Phase.HEAD):
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # ---- time

    def tick(self, now: float) -> None:
        """From the server's sweep: ends a connection whose phase takes too long."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        seen = self._progress()
        if not self._deadlines.is_over(seen, self._listener.options, now):
            return
        match seen.phase:
            case Phase.LINGER:
                transport.abort()
            case Phase.IDLE:
                transport.close()
            case Phase.HEAD:
                self._too_slow("sends its head too slowly", 408 if self._http.begun else None)
            case Phase.BODY:
                self._too_slow("sends its body too slowly", 408)
            case _:
                self._too_slow("takes its answer too slowly", None)

    def _progress(self) -> Progress:
        http, body = self._http, self._arriving
        buffered = self._transport.get_write_buffer_size()
        if self._lingering:
            return Progress(Phase.LINGER)
        if buffered:
            return Progress(Phase.SEND, 0, self._sent - buffered)
        if body is not None and self._reading:
            return Progress(Phase.BODY, http.count, body.received)
        if body is not None or self._current is not None or self._queue or self._resuming:
            return Progress(Phase.HANDLER, http.count)
        if http.begun or not http.count:
            return Progress(Phase.HEAD, http.count)
        return Progress(Phase.IDLE, http.count)

    def _too_slow(self, what: str, status: int | None) -> None:
        if status is None:
            _log.info("a client %s", what)
            self._transport.abort() if self._sent else self._transport.close()
        else:
            self._refused(Refusal(status, f"the client {what}"))

    # ---- what a request asks of its connection

    def peer(self) -> Peer | None:
        """Address and port of the other end; None on a unix socket."""
        if self._peer is None and self._transport is not None:
            name = self._transport.get_extra_info("peername")
            if isinstance(name, tuple):
                self._peer = (name[0], name[1])
        return self._peer

    def disconnected(self) -> asyncio.Future[None]:
        """See Request.disconnected."""
        if self._disconnected is None:
            self._disconnected = self._listener.loop.create_future()
            if self._transport is None:
                self._disconnected.set_result(None)
        return self._disconnected
