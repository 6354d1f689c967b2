"""Deadlines: how long each phase of a connection may take. A pure state machine; the server's sweep passes the time.

Connections have no timers, so a fast one pays nothing. A phase begins when a sweep first sees it, so it may exceed its deadline
by at most the interval of two sweeps. Times are seconds.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from runtime.http.options import HttpOptions


class Phase(Enum):
    """What a connection is doing."""

    HEAD = auto()  # waiting for the first head, or for the rest of one
    BODY = auto()  # reading a body
    HANDLER = auto()  # the handler runs, or has enough of the body to read
    SEND = auto()  # waiting for the peer to read a response
    IDLE = auto()  # between two requests


class Progress(Struct, frozen=True):
    """What a sweep sees of a connection.

    `request` is the request's number, which distinguishes two phases of one kind; `count` the bytes of its body received so far,
    or the bytes of responses that the peer has read.
    """

    phase: Phase
    request: int = 0
    count: int = 0


_BEGINNING: Final = Progress(Phase.HEAD)


class Deadlines(Struct, eq=False):
    """The deadlines of one connection, made at its beginning."""

    _since: float  # when the phase began
    _begun: Progress = _BEGINNING  # as it was then

    def spent(self, seen: Progress, now: float) -> float:
        """For how long the current phase has lasted."""
        if seen.phase is not self._begun.phase or seen.request != self._begun.request:
            self._begun, self._since = seen, now
        return now - self._since

    def is_over(self, seen: Progress, options: HttpOptions, now: float) -> bool:
        """True if the current phase has exceeded its deadline."""
        spent = self.spent(seen, now)
        match seen.phase:
            case Phase.HEAD:
                return spent > options.head_timeout
            case Phase.BODY:
                return spent > options.body_timeout + seen.count / options.body_rate
            case Phase.HANDLER:
                return False
            case Phase.SEND:
                return spent > options.send_timeout + (seen.count - self._begun.count) / options.send_rate
            case Phase.IDLE:
                return spent > options.keepalive_timeout
