"""Throttles: limits per key, kept in this server's memory and bounded in size.

`FailedAttempts` slows down guessing: after some free tries each further failure doubles the wait. `Bucket` is a token bucket.
`CallerLocks` serializes the attempts of one key.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

MAX_KEYS = 20_000

Clock = Callable[[], float]


class FailedAttempts:
    """Failed attempts by key: `free` failures have no effect, then waits double from `first` up to `longest` seconds.

    A key without an attempt for `forget` seconds starts again.
    """

    def __init__(
        self,
        free: int,
        first: float = 1.0,
        longest: float = 300.0,
        forget: float = 900.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._free, self._first, self._longest, self._forget = free, first, longest, forget
        self._clock = clock
        self._counts: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Seconds until this key may try again; 0 when it may now."""
        count, last = self._counts.get(key, (0, 0.0))
        if count <= self._free - 1:
            return 0.0
        passed = self._clock() - last
        if passed > self._forget:
            del self._counts[key]
            return 0.0
        pause = min(self._longest, self._first * 2.0 ** min(count - self._free, 30))
        return max(0.0, pause - passed)

    def failed(self, key: Hashable) -> None:
        """Counts one failure."""
        count, last = self._counts.pop(key, (0, 0.0))
        if self._clock() - last > self._forget:
            count = 0
        self._counts[key] = (count + 1, self._clock())
        if len(self._counts) > MAX_KEYS:
            self._counts.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forgets the key's failures."""
        self._counts.pop(key, None)


class Bucket:
    """A token bucket by key: `burst` at once, then `rate` a second."""

    def __init__(self, burst: int, rate: float, clock: Clock = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Takes one; 0 when there was one, else the seconds until there is."""
        now = self._clock()
        level, since = self._levels.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + (now - since) * self._rate)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self._rate
        self._levels[key] = (level - 1.0 if wait == 0.0 else level, now)
        if len(self._levels) > MAX_KEYS:
            self._levels.popitem(last=False)
        return wait


class CallerLocks:
    """One lock per key, kept only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: Hashable) -> asyncio.Lock:
        """The key's lock."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
