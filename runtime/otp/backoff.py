"""The restart backoff of a child: ours, OTP has none.

A child whose spec has a `Backoff` is restarted after a delay: `min`, then twice as long each time up to `max`, and from `min`
again once it has lived for `reset_after`. The delay bounds how often it is restarted, so these restarts use up none of the
supervisor's intensity: what waits for something outside (a database, a disk, a peer) may wait for ever without taking the tree
along. Until its delay has passed the child is listed as restarting, as one whose restart failed is in OTP, and under
rest_for_one and one_for_all the others run on. Without a `Backoff` everything is as in OTP.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """All in milliseconds: the first delay, the longest, and after which life the next delay is the first again."""

    min: int = 100
    max: int = 5_000
    reset_after: int = 10_000

    def problem(self) -> str | None:
        """What is wrong with these numbers, None if nothing is."""
        numbers = (self.min, self.max, self.reset_after)
        if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
            return "min, max and reset_after are milliseconds, whole numbers from 0"
        return None if self.min <= self.max else "min is more than max"


@dataclass(slots=True)
class Delays:
    """The delays of one child so far. Times in seconds of the engine's clock."""

    failures: int = 0
    started: float = 0.0

    def next(self, backoff: Backoff, now: float) -> int:
        """Milliseconds to wait before the restart that is due at `now`."""
        if now - self.started >= backoff.reset_after / 1000:
            self.failures = 0
        delay = min(backoff.min << min(self.failures, 40), backoff.max)
        self.failures += 1
        return delay
