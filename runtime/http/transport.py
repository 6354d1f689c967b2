"""One connection on asyncio: bytes from the socket into the state machine, requests to the handler, answers to the
socket.

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
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final

from runtime.core import eager_task, telemetry
from runtime.http import messages
from runtime.http.body import DISCONNECTED, Body, BodyError
from runtime.http.clock import Clock
from runtime.http.connection import UPGRADED, Connection
from runtime.http.messages import Peer, Request, Response, Upgrade
from runtime.http.target import Refusal

if TYPE_CHECKING:
    from runtime.http.server import Listener

REQUEST_STOP: Final = ("http", "server", "request", "stop")
REFUSED: Final = ("http", "server", "refused")
CLOSED: Final = ("http", "server", "connection", "stop")

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"connection: close\r\n"
_KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"

_log = logging.getLogger("runtime.http")


class HttpProtocol(asyncio.Protocol):
    """A connection of a `Listener`, up to its end or its upgrade."""

    __slots__ = (
        "_arriving", "_clock", "_continued", "_current", "_disconnected", "_dropped", "_eof", "_http", "_lingering", "_listener",
        "_paused", "_peer", "_pressed", "_queue", "_reading", "_resuming", "_sent", "_task", "_transport",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._http = Connection(listener.options)
        self._transport: Any = None
        self._queue: deque[Request | _Refused] = deque()
        self._current: Request | None = None  # being handled, or its answer being streamed
        self._task: asyncio.Task[Any] | None = None
        self._arriving: Body | None = None  # that is not complete
        self._peer: Peer | None = None
        self._disconnected: asyncio.Future[None] | None = None
        self._clock = Clock()
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
        if options.max_connections and len(listener.connections) >= options.max_connections:
            transport.abort()  # type: ignore[attr-defined]
            return
        listener.connections.add(self)
        self._clock.spent("head", 0, listener.now())

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._clock.heard = self._listener.now()
            self._dropped += len(data)
            if self._dropped > self._listener.options.max_lingered:
                self._transport.abort()
            return
        self._take(data)

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
        for event in self._http.receive(data):
            kind = type(event)
            if kind is Request:
                self._announced(event)  # type: ignore[arg-type]
            elif kind is bytes:
                if self._arriving is not None:
                    self._arriving.feed(event)  # type: ignore[arg-type]
            elif kind is Refusal:
                self._refused(event)  # type: ignore[arg-type]
                return
            elif self._arriving is not None:  # END
                self._arriving.end()
                self._arriving = None
        if self._http.unfinished:
            self._listener.loop.call_soon(self._take_rest)
        if self._current is None and self._queue:
            self._start()
        else:
            self._regulate()

    def _take_rest(self) -> None:
        if self._transport is not None and not self._lingering and self._http.unfinished:
            self._take(b"")

    def _announced(self, request: Request) -> None:
        body = request.body = Body(request.content_length)
        request.link = self
        if not body.complete:
            body.wanted = self._wanted
            self._arriving = body
        self._queue.append(request)

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
            self._queue.append(_Refused(refusal))
            if self._current is None:
                self._start()

    def _answer_refusal(self, refusal: Refusal) -> None:
        self._write(_whole(self._listener.options.refusal(refusal.status, refusal.reason), _CLOSE))
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
                self._write(_CONTINUE)
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
        """Handles what waits, a few at a time: others want the loop as well."""
        for _ in range(self._listener.options.max_ahead):
            if self._transport is None or self._pressed or self._current is not None or not self._queue:
                break
            self._handle(self._queue.popleft())
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

    def _handle(self, request: Request | _Refused) -> None:
        if isinstance(request, _Refused):
            self._answer_refusal(request.refusal)
            return
        listener = self._listener
        self._current = request
        self._continued = False
        request.scheme = listener.scheme
        if not request.upgrade or listener.forwarded is not None:
            request.client = self.peer()
        if listener.forwarded is not None:
            listener.forwarded.apply(request)
        try:
            outcome = listener.handler(request)
            if not isinstance(outcome, Response) and outcome is not None:
                assert iscoroutine(outcome)
                outcome, task = eager_task.begin(outcome, listener.loop)
                if task is not None:
                    self._task = task
                    task.add_done_callback(self._done)
                    return
        except Exception as error:
            outcome = self._failed(error)
        self._answer(request, outcome)

    def _done(self, task: asyncio.Task[Any]) -> None:
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
        connection = _CLOSE if not keep else _KEEP_ALIVE if request.version == "1.0" else b""
        if isinstance(response.body, AsyncIterator):
            self._stream(request, response, keep, linger, connection)
            return
        data = _whole(response, connection, with_body=request.method != "HEAD")
        self._write(data)
        self._answered(request, response.status, keep, linger)

    def _goes_on(self, request: Request) -> tuple[bool, bool]:
        """Whether another request may follow, and whether the peer may still be sending."""
        body = request.body
        if request.upgrade:
            return False, True
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
        request.body.discard()
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
        streaming = self._streamed(request, response, keep, linger, connection)
        self._task = self._listener.loop.create_task(streaming)
        self._task.add_done_callback(self._done_streaming)

    async def _streamed(
        self, request: Request, response: Response, keep: bool, linger: bool, connection: bytes
    ) -> None:
        sized = any(name == b"content-length" for name, _ in response.headers)
        chunked = request.version == "1.1" and not sized and messages.has_body(response.status)
        if not chunked and not sized:
            keep, connection = False, _CLOSE
        lines = [line for line in (_CHUNKED if chunked else b"", connection, messages.date_line()) if line]
        self._write(messages.head(response.status, response.headers, *lines))
        async for part in response.body:
            if self._transport is None:
                return
            if part and request.method != "HEAD":
                self._write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if self._pressed:
                self._paused = self._listener.loop.create_future()
                await self._paused
        if self._transport is not None:
            if chunked and request.method != "HEAD":
                self._write(b"0\r\n\r\n")
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
        self._write(messages.head(101, response.headers))
        rest = self._http.take_rest()
        listener.connections.discard(self)
        self._transport = self._current = None
        self._http.close()
        protocol.connections = listener.connections
        listener.connections.add(protocol)
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
        self._clock.heard = self._listener.now()
        if transport.can_write_eof():
            transport.write_eof()
        self._regulate()

    def shutdown(self) -> None:
        """The server stops: the answer under way is the last one."""
        if self._transport is not None and self._current is None and not self._queue and not self._lingering:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # ---- time

    def tick(self, now: float) -> None:
        """From the server's sweep: ends a connection whose phase takes too long. A phase is known by its name and its
        request.
        """
        transport, options, http = self._transport, self._listener.options, self._http
        if transport is None or transport.is_closing():
            return
        clock, body = self._clock, self._arriving
        buffered = transport.get_write_buffer_size()
        if self._lingering:
            if clock.spent("linger", 0, now) > options.linger or now - clock.heard > options.linger_timeout:
                transport.abort()
        elif buffered:
            taken = self._sent - buffered
            if (
                clock.spent("send", 0, now, taken)
                > options.send_timeout + (taken - clock.mark) / options.send_rate
            ):
                self._too_slow("takes its answer too slowly", None)
        elif body is not None:
            if self._reading:
                allowed = options.body_timeout + body.received / options.body_rate
                if clock.spent("body", http.count, now) > allowed:
                    self._too_slow("sends its body too slowly", 408)
            else:
                clock.spent("handler", http.count, now)
        elif self._current is not None or self._queue or self._resuming:
            clock.spent("handler", http.count, now)
        elif http.begun or not http.count:
            if clock.spent("head", http.count, now) > options.head_timeout:
                self._too_slow("sends its head too slowly", 408 if http.begun else None)
        elif clock.spent("idle", http.count, now) > options.keepalive_timeout:
            transport.close()

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


class _Refused:
    """A refusal behind requests that are not answered yet."""

    __slots__ = ("refusal",)

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def _whole(response: Response, connection: bytes, with_body: bool = True) -> bytes:
    length = messages.length_line(response)
    lines = [line for line in (length, connection, messages.date_line()) if line]
    head = messages.head(response.status, response.headers, *lines)
    return head + response.body if with_body and messages.has_body(response.status) else head
