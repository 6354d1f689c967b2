"""The CRDT of Phoenix.Tracker: an add-wins observed-remove set of presences with delta merging (`Phoenix.Tracker.State`).

Each change of a replica's own presences increments its clock. A join has the tag (replica, clock), which is unique, so a leave
removes exactly the join that it has observed. A replica knows of every other one the clock up to which it has seen all changes
(`context`), and single clocks beyond a gap (`clouds`). Replicas exchange a `Delta`: ranges of clocks and those of their joins
that still exist; a whole state is the delta from clock 0.

Pure data: no time and no I/O. Other nodes go down and come back by `down`, `up` and `forget` only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from runtime.otp.exact_key import exact

Replica = tuple[str, int]  # name of the node, and vsn of the start
Clocks = dict[Replica, int]
Meta = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class TrackerEntry:
    """A presence of a process in a topic under a key. `replica` and `clock` are its tag."""

    topic: str
    pid: Any
    key: Hashable
    meta: Meta
    replica: Replica
    clock: int


Tag = tuple[Replica, int]


@dataclass(frozen=True, slots=True)
class Delta:
    """Changes of replicas: the clocks `ranges[replica] = (after, until)`, single clocks in `clouds`, and `entries`.

    A clock in a range or a cloud without an entry means that its join has been left. All entries are in a range or a cloud.
    """

    ranges: dict[Replica, tuple[int, int]] = field(default_factory=dict)
    clouds: dict[Replica, frozenset[int]] = field(default_factory=dict)
    entries: dict[Tag, TrackerEntry] = field(default_factory=dict)

    def saw(self, replica: Replica, clock: int) -> bool:
        """True if the delta covers a clock of a replica."""
        after, until = self.ranges.get(replica, (0, 0))
        return after < clock <= until or clock in self.clouds.get(replica, ())

    def __len__(self) -> int:
        return len(self.entries) + sum(map(len, self.clouds.values()))

    def joins_up_with(self, later: Delta) -> bool:
        """True if no clock is missing between this delta and a later one."""
        for replica, (after, until) in later.ranges.items():
            mine = self.ranges.get(replica)
            if mine is not None and (mine[1] < after or until < mine[0]):
                return False
        return True

    def merged(self, later: Delta) -> Delta:
        """Merges a later delta; they must join up."""
        ranges = dict(self.ranges)
        for replica, (after, until) in later.ranges.items():
            mine = ranges.get(replica, (after, until))
            ranges[replica] = min(mine[0], after), max(mine[1], until)
        entries = {
            tag: entry for tag, entry in self.entries.items() if tag in later.entries or not later.saw(*tag)
        }
        entries |= {
            tag: entry for tag, entry in later.entries.items() if tag in self.entries or not self.saw(*tag)
        }
        clouds: dict[Replica, frozenset[int]] = {}
        for replica in chain(self.clouds, later.clouds):
            after, until = ranges.get(replica, (0, 0))
            ticks = self.clouds.get(replica, frozenset()) | later.clouds.get(replica, frozenset())
            if rest := frozenset(tick for tick in ticks if not after < tick <= until):
                clouds[replica] = rest
        return Delta(ranges, clouds, entries)

    def without(self, replica: Replica) -> Delta:
        """The delta without one replica."""
        return Delta(
            {r: span for r, span in self.ranges.items() if r != replica},
            {r: ticks for r, ticks in self.clouds.items() if r != replica},
            {tag: entry for tag, entry in self.entries.items() if tag[0] != replica},
        )


class State:
    """The state of one replica. Its own presences change by `join`, `update` and `leave`, those of others by `merge`.

    Invariants: the tag of an entry has been seen; a process has one entry per topic and key; every entry's replica is in
    `context`.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.context: Clocks = {replica: 0}
        self.clouds: dict[Replica, set[int]] = {}
        self.downs: set[Replica] = set()
        self._topics: dict[str, dict[tuple[Any, Hashable], TrackerEntry]] = {}
        self._held: dict[Replica, dict[int, TrackerEntry]] = {replica: {}}
        self._own: dict[Any, dict[tuple[str, Hashable], TrackerEntry]] = {}
        self._reset()

    # ---- the replica's own presences

    def join(self, pid: Any, topic: str, key: Hashable, meta: Meta) -> TrackerEntry:
        """Adds an own presence, which must not exist."""
        assert self.own(pid, topic, key) is None
        return self._add_own(pid, topic, key, meta)

    def update(self, old: TrackerEntry, meta: Meta) -> TrackerEntry:
        """Changes the meta of an own presence: a leave and a join for others."""
        # The leave has a clock of its own, so that a replica that sees the new join left has not thereby seen this leave.
        self._tick()
        self._over(old)
        return self._add_own(old.pid, old.topic, old.key, meta)

    def leave(self, entry: TrackerEntry) -> None:
        """Removes an own presence."""
        self._tick()
        self._over(entry)
        held = self._own[entry.pid]
        del held[entry.topic, exact(entry.key)]
        if not held:
            del self._own[entry.pid]
        self._drop(entry)

    def own(self, pid: Any, topic: str, key: Hashable) -> TrackerEntry | None:
        """An own presence, or None."""
        held = self._own.get(pid)
        return None if held is None else held.get((topic, exact(key)))

    def of_pid(self, pid: Any) -> list[TrackerEntry]:
        """All own presences of a process, oldest first."""
        return list(self._own.get(pid, {}).values())

    def pids(self) -> list[Any]:
        """The processes with own presences."""
        return list(self._own)

    def _add_own(self, pid: Any, topic: str, key: Hashable, meta: Meta) -> TrackerEntry:
        clock = self._tick()
        entry = TrackerEntry(topic, pid, key, meta, self.replica, clock)
        self._own.setdefault(pid, {})[topic, exact(key)] = entry
        self._add(entry)
        self._entries[self.replica, clock] = entry
        return entry

    def _tick(self) -> int:
        clock = self.context[self.replica] = self.context[self.replica] + 1
        return clock

    def _over(self, entry: TrackerEntry) -> None:
        """Records the end of an own join for the next delta."""
        del self._held[self.replica][entry.clock]
        if self._entries.pop((self.replica, entry.clock), None) is None:
            self._ended.add(entry.clock)

    # ---- reading

    def entries(self, topic: str, with_down: bool = False) -> list[TrackerEntry]:
        """The presences of a topic, by default without those of replicas that are down."""
        found = self._topics.get(topic)
        if not found:
            return []
        if with_down or not self.downs:
            return list(found.values())
        return [entry for entry in found.values() if entry.replica not in self.downs]

    def counts(self) -> tuple[int, int]:
        """The number of topics with presences, and of presences."""
        return len(self._topics), sum(map(len, self._held.values()))

    # ---- deltas

    @property
    def changed(self) -> bool:
        """True if own presences have changed since the last `take_delta`."""
        return self.context[self.replica] != self._since

    @property
    def published(self) -> Clocks:
        """The context, with the own clock as of the last `take_delta`."""
        return {**self.context, self.replica: self._since}

    def take_delta(self) -> Delta:
        """Returns the own changes since the last call."""
        replica = self.replica
        clouds = {replica: frozenset(self._ended)} if self._ended else {}
        delta = Delta({replica: (self._since, self.context[replica])}, clouds, self._entries)
        self._reset()
        return delta

    def _reset(self) -> None:
        self._since = self.context[self.replica]
        self._entries: dict[Tag, TrackerEntry] = {}
        self._ended: set[int] = set()

    def clocks(self) -> Clocks:
        """The context without replicas that are down.

        A new replica that does not know one of these would request transfers again and again.
        """
        return {replica: clock for replica, clock in self.context.items() if replica not in self.downs}

    def extract(self, receiver: Replica) -> Delta:
        """The whole state as a delta for another replica, without that replica's own presences."""
        return Delta(
            {replica: (0, clock) for replica, clock in self.context.items() if replica != receiver},
            {
                replica: frozenset(ticks)
                for replica, ticks in self.clouds.items()
                if ticks and replica != receiver
            },
            {
                (replica, clock): entry
                for replica, held in self._held.items()
                if replica != receiver
                for clock, entry in held.items()
            },
        )

    def merge(self, delta: Delta) -> tuple[list[TrackerEntry], list[TrackerEntry]]:
        """Merges the delta of another replica. Returns the joins and leaves.

        Changes of this replica's own presences and of unknown replicas are ignored.
        """
        left = [entry for replica in {**delta.ranges, **delta.clouds} for entry in self._gone(replica, delta)]
        joined = [
            entry
            for (replica, clock), entry in delta.entries.items()
            if replica != self.replica and replica in self.context and not self._saw(replica, clock)
        ]
        for entry in joined:
            self._add(entry)
        for entry in left:
            del self._held[entry.replica][entry.clock]
            self._drop(entry)
        for replica, (after, until) in delta.ranges.items():
            self._advance(replica, after, until, delta.clouds.get(replica, ()))
        for replica, ticks in delta.clouds.items():
            if replica not in delta.ranges:
                self._advance(replica, 0, 0, ticks)
        return joined, left

    def _saw(self, replica: Replica, clock: int) -> bool:
        return clock <= self.context[replica] or clock in self.clouds.get(replica, ())

    def _gone(self, replica: Replica, delta: Delta) -> Iterator[TrackerEntry]:
        """Presences of a replica that the delta covers but does not contain any more."""
        held = self._held.get(replica)
        if not held or replica == self.replica:
            return
        after, until = delta.ranges.get(replica, (0, 0))
        ticks: Iterable[int]
        if until - after < len(held):
            ticks = range(after + 1, until + 1)
        else:
            ticks = [clock for clock in held if after < clock <= until]
        for clock in dict.fromkeys(chain(ticks, sorted(delta.clouds.get(replica, ())))):
            entry = held.get(clock)
            if entry is not None and (replica, clock) not in delta.entries:
                yield entry

    def _advance(self, replica: Replica, after: int, until: int, ticks: Iterable[int]) -> None:
        known = self.context.get(replica)
        if known is None or replica == self.replica:
            return
        cloud = self.clouds.setdefault(replica, set())
        if after <= known:
            known = max(known, until)
        else:
            cloud.update(range(after + 1, until + 1))
        cloud.update(ticks)
        while known + 1 in cloud:
            known += 1
        self.context[replica] = known
        rest = {tick for tick in cloud if tick > known}
        if rest:
            self.clouds[replica] = rest
        else:
            del self.clouds[replica]

    # ---- other replicas

    def up(self, replica: Replica) -> list[TrackerEntry]:
        """A replica is up, for the first time or again. Returns its presences."""
        self.context.setdefault(replica, 0)
        self._held.setdefault(replica, {})
        self.downs.discard(replica)
        return list(self._held[replica].values())

    def down(self, replica: Replica) -> list[TrackerEntry]:
        """A replica is down: hides its presences and returns them."""
        self.downs.add(replica)
        return list(self._held[replica].values())

    def forget(self, replica: Replica) -> None:
        """A replica is permanently down: removes everything of it."""
        for entry in list(self._held.pop(replica, {}).values()):
            self._drop(entry)
        self.context.pop(replica, None)
        self.clouds.pop(replica, None)
        self.downs.discard(replica)

    # ---- the table

    def _add(self, entry: TrackerEntry) -> None:
        self._held[entry.replica][entry.clock] = entry
        there = self._topics.setdefault(entry.topic, {})
        place = entry.pid, exact(entry.key)
        older = there.get(place)
        # Through another replica an old join may arrive after the update that has replaced it.
        if older is None or older.clock < entry.clock or older.replica != entry.replica:
            there[place] = entry  # keeps the position: lists are in order of arrival

    def _drop(self, entry: TrackerEntry) -> None:
        there = self._topics[entry.topic]
        place = entry.pid, exact(entry.key)
        if there.get(place) is entry:
            del there[place]
            if not there:
                del self._topics[entry.topic]


class Generations:
    """Recent deltas, from which a replica that has missed a few changes is served (`Phoenix.Tracker.DeltaGeneration`).

    One delta for each of `sizes`; larger ones reach further back.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._kept: list[tuple[int, Delta | None]] = [(size, None) for size in sorted(sizes)]

    def push(self, delta: Delta) -> None:
        """Merges a new delta into each; one that it does not join up with is replaced."""
        newest: Delta | None = delta
        kept: list[tuple[int, Delta | None]] = []
        for size, old in self._kept:
            merged = old.merged(delta) if old is not None and old.joins_up_with(delta) else delta
            # A delta that has grown too large is replaced by the next smaller one.
            newest = (
                merged
                if len(merged) <= size
                else newest
                if newest is not None and len(newest) <= size
                else None
            )
            kept.append((size, newest))
        self._kept = kept

    def extract(
        self, receiver: Replica, known: Mapping[Replica, int], ours: Mapping[Replica, int]
    ) -> Delta | None:
        """The smallest delta that takes a replica from the context `known` to `ours`; None if there is none."""
        missing = {r: clock for r, clock in ours.items() if r != receiver and known.get(r, 0) < clock}
        for _size, delta in self._kept:
            if delta is not None and all(
                _bridges(delta, r, known.get(r, 0), clock) for r, clock in missing.items()
            ):
                return delta.without(receiver)
        return None

    def forget(self, replica: Replica) -> None:
        """Removes a replica from all deltas."""
        self._kept = [(size, delta and delta.without(replica)) for size, delta in self._kept]


def _bridges(delta: Delta, replica: Replica, known: int, clock: int) -> bool:
    after, until = delta.ranges.get(replica, (0, 0))
    return after <= known and until >= clock


def behind(mine: Mapping[Replica, int], theirs: Mapping[Replica, int]) -> bool:
    """True if `theirs` is ahead of `mine` for a replica that both know."""
    return any(clock > mine[replica] for replica, clock in theirs.items() if replica in mine)


def trimmed(ahead: Mapping[Replica, Clocks]) -> Iterator[Replica]:
    """Of the replicas that are ahead of this one, those whose clocks no other one dominates."""
    chosen: list[tuple[Replica, Clocks]] = []
    for replica, clocks in ahead.items():
        if any(_dominates(other, clocks) for _, other in chosen):
            continue
        chosen = [(r, other) for r, other in chosen if not _dominates(clocks, other)]
        chosen.append((replica, clocks))
    return (replica for replica, _ in chosen)


def _dominates(one: Clocks, other: Clocks) -> bool:
    return all(one.get(replica, 0) >= clock for replica, clock in other.items())
