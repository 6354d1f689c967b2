"""Pipelining: the requests of a connection that wait to be handled in order, and the body being received (RFC 9112 9.3.2).

Sans-IO and without a clock, as the `Connection` that it feeds.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from runtime.core import telemetry
from runtime.http.body import Body, BodyError
from runtime.http.connection import END, UPGRADED, Connection, Event
from runtime.http.messages import Request, RequestOrigin
from runtime.http.options import HttpOptions
from runtime.http.target import Refusal

REFUSED: Final = ("http", "server", "refused")

_log = logging.getLogger("runtime.http")


class Pipeline:
    """The received and unhandled requests of one connection.

    Invariants: `arriving` is the body of the last parsed request while it is incomplete; a `Refusal` is the last in `queue`; once
    `refused`, no body is arriving.
    """

    __slots__ = ("_options", "arriving", "http", "queue", "refused")

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self.http = Connection(options)
        # Short, and an empty deque would cost each connection 700 bytes.
        self.queue: list[Request | Refusal] = []
        self.arriving: Body | None = None
        self.refused = False  # no request will follow those in `queue`

    def receive(self, data: bytes, origin: RequestOrigin, idle: bool) -> Request | None:
        """Parses bytes that were received on `origin`.

        If that is `idle`, a complete request that comes alone is returned at once; everything else goes to `queue`.
        """
        events = self.http.receive(data)
        if idle and not self.queue:
            if len(events) == 3 and events[2] is END and type(events[1]) is bytes:
                request: Any = events[0]  # the usual case: a head and its whole body
                request.link = origin
                request.body = Body(len(events[1]), None, events[1])
                return request
            if len(events) == 1 and type(events[0]) is Request and events[0].content_length == 0:
                events[0].link = origin
                return events[0]
        self._enqueue(events, origin)
        return None

    def _enqueue(self, events: list[Event], origin: RequestOrigin) -> None:
        for event in events:
            if type(event) is Request:
                assert self.arriving is None
                event.link = origin
                if event.content_length != 0:
                    self.arriving = event.body = Body(event.content_length, origin.body_wanted)
                self.queue.append(event)
            elif type(event) is bytes:
                if self.arriving is not None:
                    self.arriving.feed(event)
            elif type(event) is Refusal:
                self.refuse(event)
            elif self.arriving is not None:  # END
                self.arriving.end()
                self.arriving = None

    def refuse(self, refusal: Refusal) -> None:
        """Stops reading. The reader of the arriving body gets the error; without one the refusal is queued."""
        if telemetry.attached(REFUSED):
            telemetry.execute(REFUSED, {"count": 1}, {"status": refusal.status, "reason": refusal.reason})
        _log.info("refused: %d, %s", refusal.status, refusal.reason)
        self.refused = True
        if self.arriving is None:
            self.queue.append(refusal)
        else:
            self.fail(refusal.status, refusal.reason)

    def fail(self, status: int, reason: str) -> None:
        """Fails the arriving body with a `BodyError`."""
        body, self.arriving = self.arriving, None
        if body is not None:
            body.fail(BodyError(status, reason))

    @property
    def idle(self) -> bool:
        """True if nothing waits to be handled, parsed or not."""
        return not self.queue and not self.http.rest

    @property
    def full(self) -> bool:
        """True if reading should pause."""
        http = self.http
        return (
            http.rest != b""
            or http.phase == UPGRADED
            or http.pending >= self._options.max_ahead
            or (
                (self.arriving is not None or bool(self.queue))
                and self._unread() > self._options.max_buffered
            )
        )

    def _unread(self) -> int:
        """Bytes of bodies that wait to be read by handlers."""
        bodies = {each.body for each in self.queue if type(each) is Request}
        if self.arriving is not None:  # its request may be queued, or with a handler already
            bodies.add(self.arriving)
        return sum([body.unread for body in bodies])

    def can_drain(self, body: Body) -> bool:
        """True if the rest of a body that its handler did not read is short enough to be read and dropped."""
        return (
            self.arriving is body
            and body.length is not None
            and body.length - body.received <= self._options.max_drained
        )

    def close(self) -> None:
        """Drops everything: no more requests will be handled."""
        self.http.close()
        self.queue.clear()
        if self.arriving is not None:
            self.arriving.discard()
            self.arriving = None
