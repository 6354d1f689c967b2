"""Admission: work is let in by how long it would wait, not by how much of it there is.

What is in a lane and how fast the lane serves give the waiting time of the next (Little's law). The rate is measured
while the lane is pressed; at other times a sample can only raise it, since then it tells how much there was to do and
not how much could be done. So what would wait longer than `longest` is refused at once, while it costs little, and
what is let in is answered soon whatever is offered.

An owner may fill the lane up to `SHARE` times the room that is left (the dynamic threshold of Choudhury and Hahne,
1998): one alone gets two thirds, two get two fifths each, and there is always room for somebody new. When the rate
falls, what a greedy one has put in before is suddenly too much; those who ask for little do not pay for that: up to
`OVER` times its room the lane still takes what an owner has less of than half an equal share.

A pure state machine: it is told what happens and when (`now`, monotonic seconds), and has no clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

LONGEST: Final = 0.4  # seconds that work may wait; half a second with what it waited in an `AcceptQueue`
LEAST: Final = 16  # in a lane without question, else a slow lane could not be measured
LEAST_EACH: Final = 4  # of them of one owner
SHARE: Final = 2.0
OVER: Final = 1.5
ROUND: Final = 0.1  # seconds, at least, over which a rate is measured
MEMORY: Final = 0.5  # seconds after which a measured rate counts for two thirds
FORGET: Final = 10.0  # seconds of idleness after which a low rate says nothing any more
LONGEST_RETRY: Final = 30


class Admission:
    """One lane. `assumed`: served a second, as long as nothing has been measured."""

    __slots__ = (
        "_assumed", "_began", "_last", "_lowest", "_owners", "_room", "_served", "longest", "rate", "waiting",
    )  # fmt: skip

    def __init__(self, assumed: float, longest: float = LONGEST) -> None:
        self.longest = longest
        self._serves(assumed)
        self.waiting = 0  # let in and not served yet
        self._assumed = assumed
        self._owners: dict[Hashable, int] = {}
        self._last = -math.inf  # when something was served, or the lane ceased to be empty
        self._began = 0.0  # of the round that is being measured
        self._served = 0  # in it
        self._lowest = 0  # what waited in it, at least

    def expected(self) -> float:
        """Seconds that the next would wait."""
        return self.waiting / self.rate

    def full(self, now: float) -> bool:
        """Whether nobody is let in. Who asks this first need not find out whose the work is."""
        return self.waiting >= LEAST and (self.waiting >= OVER * self._room or self._stalled(now))

    def enter(self, owner: Hashable, now: float) -> bool:
        """Whether this piece of work is let in; if it is, `leave` has to follow."""
        own = self._owners.get(owner, 0)
        crowded = self.waiting >= LEAST or own >= LEAST_EACH
        if crowded and (self.full(now) or own >= self._share(own)):
            return False
        if not self.waiting:
            if now - self._last > FORGET:
                self._serves(max(self.rate, self._assumed))
            self._last = now
            self._begin_round(now)
        self.waiting += 1
        self._owners[owner] = own + 1
        return True

    def leave(self, owner: Hashable, now: float) -> None:
        """What was let in is served, or has failed: it waits no more."""
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
        if self.waiting < self._lowest:
            self._lowest = self.waiting
        if now - self._began >= ROUND:
            self._measured(self._served / (now - self._began), now - self._began)
            self._begin_round(now)

    def retry_after(self, now: float) -> int:
        """Whole seconds after which it is worth to ask again."""
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
        if self._lowest >= LEAST:
            self._serves(self.rate + (sample - self.rate) * (1.0 - math.exp(-seconds / MEMORY)))
        else:
            self._serves(max(self.rate, sample))
