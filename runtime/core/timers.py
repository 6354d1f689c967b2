"""The timers of an engine: a heap by due time, made for timers of which most are cancelled (the timeouts of calls)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Any, Final

from msgspec import Struct

from runtime.core.exits import Error

_CANCELLED_KEPT: Final = 512  # cancelled entries that are left in the heap


class Timer(Struct, eq=False):
    """A pending timer: calls `callback(*args)` at `due`, in seconds of the engine's clock. `callback` is None once it is over."""

    timers: Timers
    due: float
    callback: Callable[..., Any] | None
    args: tuple[Any, ...]

    def cancel(self) -> bool:
        """Cancels it. False if it has fired or was cancelled already."""
        if self.callback is None:
            return False
        self.callback = None
        self.args = ()
        timers = self.timers
        timers.cancelled += 1
        if timers.cancelled > _CANCELLED_KEPT:
            timers.compact()
        return True


class Timers:
    """Pending timers, earliest first; those due at the same time in the order in which they were set.

    It has no clock: the engine passes the time to `fire`. `changed()` is called when a new timer is due before all others, so
    that the engine can wake up earlier.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self.cancelled = 0  # of the heap's entries

    def __len__(self) -> int:
        """The number of entries, some of which may be cancelled."""
        return len(self._heap)

    def at(self, due: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Runs `callback(*args)` at a time of the engine's clock (seconds). Raises Error("badarg") for NaN and infinity."""
        if not due < inf:  # also true for NaN
            raise Error("badarg")
        timer = Timer(self, due, callback, args)
        self._count += 1
        heap = self._heap
        heapq.heappush(heap, (due, self._count, timer))
        if heap[0][2] is timer:
            self._changed()
        return timer

    def compact(self) -> None:
        """Removes the cancelled entries from the heap once most are."""
        if self.cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self.cancelled = 0

    def next(self) -> float | None:
        """The due time of the next timer, in seconds of the engine's clock; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self.cancelled -= 1
        return heap[0][0] if heap else None

    def fire(self, now: float, at_most: int | None = None) -> int:
        """Runs the timers that are due at `now`, at most `at_most`. Returns how many have run."""
        fired = 0
        while at_most is None or fired < at_most:
            due = self.next()
            if due is None or due > now:
                break
            timer = heapq.heappop(self._heap)[2]
            callback, args = timer.callback, timer.args
            timer.callback = None
            timer.args = ()
            assert callback is not None
            callback(*args)
            fired += 1
        return fired
