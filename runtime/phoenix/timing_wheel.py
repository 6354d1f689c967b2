"""A hashed timing wheel (Varghese and Lauck, 1987): many entries, each with a moment at which it falls due, and one clock.

Whoever owns it asks from time to time what has fallen due. What has not is never looked at, however much of it there is, and to
put off or remove an entry costs the same whatever the wheel holds. Pure: the caller brings the time.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Entry = TypeVar("Entry", bound=Hashable)


class TimingWheel(Generic[Entry]):
    """Entries by the slot of time in which they fall due; those of one slot in the order in which they were put there.

    Invariant: `_order` is a heap of the keys of `_slots`, each of them once.
    """

    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[float, dict[Entry, None]] = {}
        self._order: list[float] = []

    def put(self, entry: Entry, due: float, tick: float) -> float:
        """Lets `entry` fall due at `due`, or up to `tick` later. Returns its slot, which `remove` asks for.

        All three are in seconds. An entry that is in the wheel already has to be removed first.
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
        """Takes an entry out; one that has been taken already is no mistake."""
        entries = self._slots.get(slot)
        if entries is not None:
            entries.pop(entry, None)

    def take(self, now: float) -> list[Entry]:
        """Takes out what has fallen due by `now`, in seconds: the earliest slot first."""
        taken: list[Entry] = []
        while self._order and self._order[0] <= now:
            taken += self._slots.pop(heappop(self._order))
        return taken
