"""The lanes of the front: each kind of work is admitted by its own waiting time, so that one does not use up the others'.

What operators need has none: health, metrics and admin are served however much of the rest is refused.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

from api.http.errors import ApiError, overloaded
from api.http.router import SIGN_IN, WORK, WRITE
from runtime import telemetry
from runtime.http.admission import LEAST, Admission

SHED: Final = ("http", "shed")
ASSUMED: Final = {WORK: 1000.0, WRITE: 2000.0, SIGN_IN: 50.0}  # served a second, until it has been measured


class Lanes:
    """Those of one server."""

    def __init__(self) -> None:
        self.of: dict[str, Admission] = {lane: Admission(assumed) for lane, assumed in ASSUMED.items()}

    def check(self, lane: str) -> None:
        """Before anything is known but the lane. Raises ApiError 503 when nobody can be let in."""
        admission = self.of[lane]
        if admission.waiting >= LEAST and admission.full(now := time.monotonic()):
            raise self._refused(lane, now)

    def enter(self, lane: str, owner: Hashable) -> None:
        """Before a piece of work; `leave` follows it.

        Raises ApiError 503 when it would wait too long, or its owner has too much there.
        """
        if not self.of[lane].enter(owner, now := time.monotonic()):
            raise self._refused(lane, now)

    def leave(self, lane: str, owner: Hashable) -> None:
        """After a piece of work that has entered."""
        self.of[lane].leave(owner, time.monotonic())

    def _refused(self, lane: str, now: float) -> ApiError:
        telemetry.execute(SHED, {"count": 1}, {"lane": lane})
        return overloaded(self.of[lane].retry_after(now))
