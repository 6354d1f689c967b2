"""Restart backoff of a child: an extension, OTP has none.

A child whose spec has a `Backoff` is restarted after a delay: `min`, doubled each time up to `max`, and `min` again once it has
run for `reset_after`. These restarts do not count against the supervisor's intensity, since the delay bounds their rate: a child
that depends on something outside (a database, a disk, a peer) may wait for it without ending the tree. During the delay the
child is listed as restarting, as a child whose restart has failed is in OTP, and under rest_for_one and one_for_all its
siblings keep running. Without a `Backoff` restarts are OTP's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """In milliseconds: the first delay, the longest delay, and the uptime after which the delays start over."""

    min: int = 100
    max: int = 5_000
    reset_after: int = 10_000

    def problem(self) -> str | None:
        """What is wrong with the values; None if they are valid."""
        numbers = (self.min, self.max, self.reset_after)
        if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
            return "min, max and reset_after are milliseconds, whole numbers from 0"
        return None if self.min <= self.max else "min is more than max"


@dataclass(slots=True)
class Delays:
    """The restart history of one child. Times in seconds of the engine's clock."""

    failures: int = 0
    started: float = 0.0

    def next(self, backoff: Backoff, now: float) -> int:
        """Counts a restart at `now` and returns its delay in milliseconds."""
        if now - self.started >= backoff.reset_after / 1000:
            self.failures = 0
        delay = min(backoff.min << min(self.failures, 40), backoff.max)
        self.failures += 1
        return delay
