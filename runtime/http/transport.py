"""The asyncio protocol of one connection: handles the requests of its `Pipeline` one at a time, in order.

Reading pauses while the pipeline or the transport's write buffer is full. Every phase has a deadline, which the server's sweep
checks; a connection has no timer. After the last response the transport gets another protocol: `LingeringClose`, or that of an
upgrade.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from runtime.core import telemetry
from runtime.core.eager_task import Task
from runtime.http import response_encoder
from runtime.http.body import DISCONNECTED, EMPTY, BodyError
from runtime.http.deadlines import Deadlines, Phase, Progress
from runtime.http.lingering_close import LingeringClose
from runtime.http.messages import Peer, Request, Response, Upgrade, UpgradedProtocol
from runtime.http.pipeline import Pipeline
from runtime.http.response_writer import ResponseWriter
from runtime.http.target import Refusal

if TYPE_CHECKING:
    from runtime.http.server import Listener

REQUEST_STOP: Final = ("http", "server", "request", "stop")

FRESH: Final = 2.0  # seconds that a stopping server waits for the first request of a new connection
TURN: Final = 0.001  # seconds of pipelined requests that are handled before other connections get a turn

_log = logging.getLogger("runtime.http")


class HttpProtocol(asyncio.Protocol):
    """A connection of a `Listener`, up to its close or upgrade."""

    __slots__ = (
        "_continued", "_current", "_deadlines", "_disconnected", "_eof", "_listener", "_peer", "_pipeline", "_reading",
        "_resuming", "_task", "_transport", "_writer", "scheme",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.scheme = listener.scheme
        self._pipeline = Pipeline(listener.options)
        self._deadlines = Deadlines(listener.now())
        self._transport: Any = None  # None again once it is lost or has another protocol
        self._writer: ResponseWriter
        self._current: Request | None = None  # being handled, or its response being streamed
        self._task: Task = None
        self._peer: Peer | None = None
        self._disconnected: asyncio.Future[None] | None = None
        self._eof = False
        self._continued = False
        self._reading = True
        self._resuming = False

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener, options = self._listener, self._listener.options
        self._transport = transport
        self._writer = ResponseWriter(transport)
        open_now = len(listener.connections) + len(listener.upgraded)
        if options.max_connections and open_now >= options.max_connections:
            self._transport.abort()
            return
        listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        pipeline = self._pipeline
        request = pipeline.receive(data, self, self._current is None and not self._writer.paused)
        if request is not None:
            self._handle(request)
            if self._transport is None or (
                self._current is None and self._reading and not pipeline.http.rest
            ):
                return  # nothing waits behind it
        http = pipeline.http
        if http.unfinished:
            self._listener.loop.call_soon(self._receive_rest)
        if self._current is None and (pipeline.queue or pipeline.refused):
            self._start()
        elif pipeline.full or not self._reading:
            self._go_on()

    def _receive_rest(self) -> None:
        if self._transport is not None and self._pipeline.http.unfinished:
            self.data_received(b"")

    def eof_received(self) -> bool:
        """True keeps the transport: a peer that sends no more may still wait for its answers. Of TLS no side closes alone."""
        self._tell_disconnected()
        self._pipeline.fail(DISCONNECTED, "the client has gone")
        self._eof = True
        return self.scheme == "http" and (self._current is not None or not self._pipeline.idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._transport = None
        self._pipeline.fail(DISCONNECTED, "the client has gone")
        self._pipeline.close()
        self._tell_disconnected()
        self._disconnected = self._current = None
        self._writer.lost(exc)

    def pause_writing(self) -> None:
        self._writer.pause()
        self._regulate()

    def resume_writing(self) -> None:
        self._writer.resume()
        self._go_on()

    def _regulate(self) -> None:
        """Pauses or resumes reading."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        read = not (self._writer.paused or self._pipeline.full)
        if read is not self._reading:
            self._reading = read
            if read:
                transport.resume_reading()
            else:
                transport.pause_reading()

    # ---- the handler

    def _start(self) -> None:
        """Handles queued requests, at most `max_ahead` and for at most `TURN`, so that other connections get the loop."""
        pipeline, queue = self._pipeline, self._pipeline.queue
        until = monotonic() + TURN
        while queue and self._current is None and not self._writer.paused and self._transport is not None:
            waiting = queue.pop(0)
            if isinstance(waiting, Refusal):
                self._answer_refusal(waiting)
            else:
                self._handle(waiting)
                if queue and monotonic() > until:
                    break
        if self._transport is None:
            return
        if pipeline.refused and not queue and self._current is None:
            self._finish(True)  # refused within a body whose request is answered
        elif queue or pipeline.http.pending or pipeline.http.rest or not self._reading:
            self._go_on()

    def _go_on(self) -> None:
        """Continues with the next requests after a response was written or read."""
        if self._transport is None:
            return
        if (
            self._current is None
            and not self._writer.paused
            and (self._pipeline.queue or self._pipeline.http.rest)
            and not self._resuming
        ):
            self._resuming = True
            self._listener.loop.call_soon(self._resume)
        self._regulate()

    def _resume(self) -> None:
        self._resuming = False
        if self._transport is None or self._current is not None:
            return
        if self._pipeline.queue:
            self._start()
        elif self._pipeline.http.rest:
            self.data_received(b"")
        if self._eof and self._current is None and self._pipeline.idle and self._transport is not None:
            self._transport.close()  # what is left is an incomplete request

    def _handle(self, request: Request) -> None:
        listener = self._listener
        self._current = request
        if listener.forwarded is not None:
            listener.forwarded.apply(request)
        try:
            outcome: Any = listener.handler(request)
            if type(outcome) is CoroutineType:
                outcome, task = listener.runner.begin(outcome, self._done)
                if task is not None:
                    self._task = task
                    return
        except Exception as error:
            outcome = self._failed(error)
        self._answer(request, outcome)

    def _done(self, task: Task) -> None:
        self._task = None
        request = self._current
        try:
            error = task.exception()
        except asyncio.CancelledError as cancelled:  # of an asyncio.Task; an EagerTask returns it
            error = cancelled
        if error is None:
            outcome = task.result()
        else:
            outcome = None if isinstance(error, asyncio.CancelledError) else self._failed(error)
        if request is not None and self._transport is not None:
            self._answer(request, outcome)
            if self._pipeline.queue or self._pipeline.http.rest or not self._reading:
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
        if response is None:  # the client has gone
            self._transport.close()  # flushes the earlier responses
            return
        if type(response) is Upgrade:
            self._upgrade(response)
            return
        keep, linger = self._persists(request)
        connection = (
            response_encoder.CLOSE
            if not keep
            else response_encoder.KEEP_ALIVE
            if request.version == "1.0"
            else b""
        )
        if type(response.body) is not bytes and isinstance(response.body, AsyncIterator):
            self._stream(request, response, keep, linger, connection)
        else:
            self._writer.write(response_encoder.whole(response, connection, request.method != "HEAD"))
            self._answered(request, response.status, keep, linger)

    def _answer_refusal(self, refusal: Refusal) -> None:
        response = self._listener.options.refusal(refusal.status, refusal.reason)
        self._writer.write(response_encoder.whole(response, response_encoder.CLOSE))
        self._finish(True)

    def _persists(self, request: Request) -> tuple[bool, bool]:
        """Two flags: another request may follow (RFC 9112 9.3); the peer may still be sending."""
        if request.upgrade:
            return False, True
        body = request.body
        ends = not request.keep_alive or self._listener.closing or (self._eof and self._pipeline.idle)
        if body.complete:
            return not ends, False
        if ends or (request.expects_continue and not self._continued):
            return False, not self._eof
        return self._pipeline.can_drain(body), True

    def _answered(self, request: Request, status: int, keep: bool, linger: bool) -> None:
        body = request.body
        if body is not EMPTY:
            if not body.complete:
                body.discard()
            self._continued = False
        self._current = None
        if telemetry.attached(REQUEST_STOP):
            telemetry.execute(
                REQUEST_STOP, {"count": 1}, {"method": request.method, "path": request.path, "status": status}
            )
        if not keep:
            self._finish(linger)
            return
        self._pipeline.http.answered()

    def _stream(
        self, request: Request, response: Response, keep: bool, linger: bool, connection: bytes
    ) -> None:
        if response_encoder.ends_with_connection(response, request.version):
            keep, connection = False, response_encoder.CLOSE
        pieces = response_encoder.pieces(response, request.version, connection, request.method != "HEAD")

        async def streaming() -> None:
            if await self._writer.stream(pieces):
                self._answered(request, response.status, keep, linger)

        self._task = self._listener.loop.create_task(streaming())
        self._task.add_done_callback(self._done_streaming)

    def _done_streaming(self, task: asyncio.Task[None]) -> None:
        self._task = None
        failed = task.cancelled() or task.exception() is not None
        if failed and not task.cancelled():
            _log.error("a response broke off", exc_info=task.exception())
        if self._transport is not None:
            if failed:  # the peer must notice that the response is incomplete
                self._transport.abort()
            else:
                self._go_on()

    def _upgrade(self, response: Upgrade) -> None:
        self._writer.write(response_encoder.head(101, response.headers))
        behind = self._pipeline.http.rest
        self._pipeline.close()
        protocol, upgraded = response.protocol, self._listener.upgraded
        protocol.connections = upgraded
        upgraded.add(protocol)
        self._become(protocol)
        if behind:
            protocol.data_received(behind)

    # ---- the end

    def _finish(self, linger: bool) -> None:
        """Closes the connection after the last response; with `linger`, because the peer may still be sending."""
        self._pipeline.close()
        if linger:
            self._tell_disconnected()
            closing = LingeringClose(self._listener, self._writer)
            self._listener.connections.add(closing)
            self._become(closing)
        else:
            self._transport.close()

    def _become(self, protocol: UpgradedProtocol | LingeringClose) -> None:
        """Hands the transport over to another protocol."""
        transport, self._transport = self._transport, None
        self._current = None
        self._listener.connections.discard(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not self._reading and not transport.is_closing():
            transport.resume_reading()

    def shutdown(self) -> None:
        """The server is stopping: closes the connection, or lets its current request finish first."""
        if self._transport is None or self._pipeline.http.begun:
            return
        seen, now = self._progress(), self._listener.now()
        if seen.phase is Phase.IDLE or (
            seen.phase is Phase.HEAD and self._deadlines.spent(seen, now) >= FRESH
        ):
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # ---- time

    def tick(self, now: float) -> None:
        """From the server's sweep: ends the connection if its phase has exceeded its deadline."""
        transport = self._transport
        if transport is None:
            return
        seen = self._progress()
        # The peer must still read the last response in time.
        if transport.is_closing() and seen.phase is not Phase.SEND:
            return
        if not self._deadlines.is_over(seen, self._listener.options, now):
            return
        match seen.phase:
            case Phase.IDLE:
                transport.close()
            case Phase.HEAD:
                self._too_slow("sends its head too slowly", 408 if self._pipeline.http.begun else None)
            case Phase.BODY:
                self._too_slow("sends its body too slowly", 408)
            case _:
                self._too_slow("takes its answer too slowly", None)

    def _progress(self) -> Progress:
        http, body = self._pipeline.http, self._pipeline.arriving
        buffered = self._writer.buffered
        if buffered:
            return Progress(Phase.SEND, 0, self._writer.sent - buffered)
        if body is not None and self._reading:
            return Progress(Phase.BODY, http.count, body.received)
        if body is not None or self._current is not None or self._pipeline.queue or self._resuming:
            return Progress(Phase.HANDLER, http.count)
        if http.begun or not http.count:
            return Progress(Phase.HEAD, http.count)
        return Progress(Phase.IDLE, http.count)

    def _too_slow(self, what: str, status: int | None) -> None:
        if status is None:
            _log.info("a client %s", what)
            if self._writer.sent:
                self._transport.abort()
            else:
                self._transport.close()
        else:
            self._pipeline.refuse(Refusal(status, f"the client {what}"))
            self._start()

    # ---- RequestOrigin

    def peer(self) -> Peer | None:
        """Address and port of the peer; None on a Unix socket."""
        if self._peer is None and self._transport is not None:
            name = self._transport.get_extra_info("peername")
            if isinstance(name, tuple):
                self._peer = (name[0], name[1])
        return self._peer

    def disconnected(self) -> asyncio.Future[None]:
        """See `Request.disconnected`."""
        if self._disconnected is None:
            self._disconnected = self._listener.loop.create_future()
            if self._transport is None:
                self._disconnected.set_result(None)
        return self._disconnected

    def body_wanted(self) -> None:
        """From the body: the handler is waiting for more of it."""
        request = self._current
        if (
            request is not None
            and request.expects_continue
            and not self._continued
            and self._transport is not None
        ):
            self._continued = True
            if not request.body.received:
                self._writer.write(response_encoder.CONTINUE)
        self._regulate()

    def _tell_disconnected(self) -> None:
        if self._disconnected is not None and not self._disconnected.done():
            self._disconnected.set_result(None)
