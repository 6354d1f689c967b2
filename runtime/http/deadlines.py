"""How long each phase of a connection may take, and whether it has taken longer. Pure: the server's sweep brings the time.

A connection has no timer, so that nothing is paid where nothing is slow: a phase begins when a sweep first sees it, and what
it may take is exceeded by one sweep at most. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from runtime.http.options import HttpOptions


class Phase(Enum):
    """What a connection is doing."""

    HEAD = auto()  # a head is to come: the first one, or one that has begun
    BODY = auto()  # of a request, and we are reading
    HANDLER = auto()  # has the request, or what it has not read is enough for now
    SEND = auto()  # the peer is to take an answer
    IDLE = auto()  # between two requests


@dataclass(frozen=True, slots=True)
class Progress:
    """What a sweep sees.

    `request` is its number, so that two phases of one kind are told apart; `count`: bytes of its body that have come, or bytes of
    answers that the peer has taken.
    """

    phase: Phase
    request: int = 0
    count: int = 0


class Deadlines:
    """Of one connection."""

    __slots__ = ("_begun", "_since")

    def __init__(self, now: float) -> None:
        self._begun = Progress(Phase.HEAD)  # as it was when its phase began
        self._since = now

    def is_over(self, seen: Progress, options: HttpOptions, now: float) -> bool:
        """Whether the phase has taken longer than it may."""
        if seen.phase is not self._begun.phase or seen.request != self._begun.request:
            self._begun, self._since = seen, now
        spent = now - self._since
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
