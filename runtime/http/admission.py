"""Admission control: work is admitted by how long it would wait, not by how much of it there is.

The length of a lane and its service rate give the waiting time of the next piece of work (Little's law). Work that would wait
longer than `longest` is refused at once, while that is cheap, so what is admitted is served soon under any load. The rate is
measured while the lane is busy. A lane that is served in batches is empty after each; there it is measured by how long work has
waited that had other work ahead of it. Otherwise a sample can only raise the rate, since it shows how much work there was and not
how much could be done.

An owner may hold up to `SHARE` times the room that is left (the dynamic threshold of Choudhury and Hahne, 1998): one owner
alone gets two thirds of the lane, two get two fifths each, and there is always room for another. When the rate falls, the lane
may already hold too much of a greedy owner's work. Modest owners do not pay for that: up to `OVER` times its room the lane still
admits an owner that holds less than half of an equal share.

A pure state machine without a clock: the caller passes the time (`now`, monotonic seconds).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Final

LONGEST: Final = 0.4  # seconds that work may wait; half a second including its time in an `AcceptQueue`
LEAST: Final = 16  # always admitted: the rate of a slow lane could not be measured with fewer
LEAST_EACH: Final = 4  # of these, per owner
SHARE: Final = 2.0
OVER: Final = 1.5
PROMPT: Final = 0.02  # seconds that work may take by itself, whatever the rate
ROUND: Final = 0.1  # seconds, at least, per measurement of the rate
MEMORY: Final = 0.5  # seconds: the time constant of the rate's exponential average
FORGET: Final = 10.0  # idle seconds after which a low rate is forgotten
LONGEST_RETRY: Final = 30


class Admission:
    """One lane. `assumed` is its rate, per second, until one has been measured; `longest` the seconds that work may wait."""

    __slots__ = (
        "_ahead", "_assumed", "_began", "_entered", "_last", "_lowest", "_owners", "_room", "_served", "_waited", "longest",
        "rate", "waiting",
    )  # fmt: skip

    def __init__(self, assumed: float, longest: float = LONGEST) -> None:
        self.longest = longest
        self._serves(assumed)
        self.waiting = 0  # admitted and not served yet
        self._assumed = assumed
        self._owners: dict[Hashable, int] = {}
        self._last = -math.inf  # when work was last served, or the lane ceased to be empty
        self._began = 0.0  # start of the current measurement, moved by the time without work
        self._served = 0  # since then
        self._lowest = 0  # the least that was waiting since then
        # Of each that waits: when it came, and how many were ahead of it.
        self._entered: deque[tuple[float, int]] = deque()
        self._ahead = 0  # of those served since the last measurement that had LEAST or more ahead
        self._waited = 0.0  # seconds beyond PROMPT, of these

    def expected(self) -> float:
        """Seconds that the next piece of work would wait."""
        return self.waiting / self.rate

    def full(self, now: float) -> bool:
        """True if no owner is admitted: a caller that asks this first can save finding out the owner."""
        return self.waiting >= LEAST and (self.waiting >= OVER * self._room or self._stalled(now))

    def enter(self, owner: Hashable, now: float) -> bool:
        """Returns True if a piece of work is admitted; `leave` must be called when it is served."""
        own = self._owners.get(owner, 0)
        crowded = self.waiting >= LEAST or own >= LEAST_EACH
        if crowded and (self.full(now) or own >= self._share(own)):
            return False
        if not self.waiting:
            if now - self._last > FORGET:
                self._serves(max(self.rate, self._assumed))
                self._begin_round(now)
            else:
                self._began += now - self._last  # idle time is no part of a measurement
            self._last = now
        self._entered.append((now, self.waiting))
        self.waiting += 1
        self._owners[owner] = own + 1
        return True

    def leave(self, owner: Hashable, now: float) -> None:
        """An admitted piece of work was served, or has failed."""
        owners = self._owners
        left = owners[owner] - 1
        if left:
            owners[owner] = left
        else:
            del owners[owner]
        self.waiting -= 1
        assert self.waiting >= 0
        self._last = now
        self._served += 1
        entered, ahead = self._entered.popleft()  # as if the first to come were the first to go
        if ahead >= LEAST and now - entered > PROMPT:
            self._ahead += ahead
            self._waited += now - entered - PROMPT
        if self.waiting < self._lowest:
            self._lowest = self.waiting
        if now - self._began >= ROUND:
            self._measured(self._served / (now - self._began), now - self._began)
            self._begin_round(now)

    def retry_after(self, now: float) -> int:
        """Whole seconds after which a retry may succeed."""
        over = now - self._last if self._stalled(now) else self.expected() - self.longest
        return max(1, min(LONGEST_RETRY, math.ceil(over)))

    def _share(self, own: int) -> float:
        left = self._room - self.waiting
        if left > 0:
            return max(LEAST_EACH, SHARE * left)
        return self._room / (2 * (len(self._owners) + (own == 0)))

    def _serves(self, rate: float) -> None:
        self.rate = rate
        self._room = max(LEAST, rate * self.longest)

    def _stalled(self, now: float) -> bool:
        return self.waiting > 0 and now - self._last > self.longest

    def _begin_round(self, now: float) -> None:
        self._began, self._served, self._lowest = now, 0, self.waiting

    def _measured(self, sample: float, seconds: float) -> None:
        if self._lowest >= LEAST or self._waited:
            if self._lowest < LEAST:
                sample = max(sample, self._ahead / self._waited)
            self._ahead, self._waited = 0, 0.0
            self._serves(self.rate + (sample - self.rate) * (1.0 - math.exp(-seconds / MEMORY)))
        else:
            self._serves(max(self.rate, sample))
