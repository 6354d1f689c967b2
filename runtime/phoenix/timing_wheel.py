"""A hashed timing wheel (Varghese and Lauck, 1987) for many timeouts, most of which never expire.

The owner polls it for expired entries. Entries that have not expired are never visited, and adding or removing an entry takes
constant time. It has no clock: the caller passes the time.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Entry = TypeVar("Entry", bound=Hashable)


class TimingWheel(Generic[Entry]):
    """Entries by time slot, within a slot in order of insertion.

    Invariant: `_order` is a heap of the keys of `_slots`, each of them once.
    """

    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[float, dict[Entry, None]] = {}
        self._order: list[float] = []

    def put(self, entry: Entry, due: float, tick: float) -> float:
        """Adds an entry that expires at `due` or up to `tick` later, in seconds. Returns its slot, for `remove`.

        An entry that is in the wheel has to be removed first.
        """
        slot = math.ceil(due / tick) * tick
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = {entry: None}
            heappush(self._order, slot)
        else:
            entries[entry] = None
        return slot

    def remove(self, entry: Entry, slot: float) -> None:
        """Removes an entry; no effect if it has expired."""
        entries = self._slots.get(slot)
        if entries is not None:
            entries.pop(entry, None)

    def take(self, now: float) -> list[Entry]:
        """Removes and returns the entries that have expired by `now`, in seconds, earliest slot first."""
        taken: list[Entry] = []
        while self._order and self._order[0] <= now:
            taken += self._slots.pop(heappop(self._order))
        return taken
