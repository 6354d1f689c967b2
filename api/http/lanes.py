"""Admission lanes: each kind of work (writes, sign-ins, the rest) is admitted by its own waiting time, so none starves another.

What operators need has no lane: health, metrics and admin are served however much else is refused.
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
# Requests a second, until the rate has been measured.
ASSUMED: Final = {WORK: 1000.0, WRITE: 2000.0, SIGN_IN: 50.0}


class Lanes:
    """The lanes of one server."""

    def __init__(self) -> None:
        self.of: dict[str, Admission] = {lane: Admission(assumed) for lane, assumed in ASSUMED.items()}

    def check(self, lane: str) -> None:
        """Refuses early, before the caller is known. Raises ApiError 503 if the lane is full for everybody."""
        admission = self.of[lane]
        if admission.waiting >= LEAST and admission.full(now := time.monotonic()):
            raise self._refused(lane, now)

    def enter(self, lane: str, owner: Hashable) -> None:
        """Admits a request of this owner; `leave` must follow.

        Raises ApiError 503 if it would wait too long, or its owner has too many requests in the lane.
        """
        if not self.of[lane].enter(owner, now := time.monotonic()):
            raise self._refused(lane, now)

    def leave(self, lane: str, owner: Hashable) -> None:
        """Frees the place of a request that was admitted."""
        self.of[lane].leave(owner, time.monotonic())

    def _refused(self, lane: str, now: float) -> ApiError:
        telemetry.execute(SHED, {"count": 1}, {"lane": lane})
        return overloaded(self.of[lane].retry_after(now))
