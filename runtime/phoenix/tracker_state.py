"""The data of Phoenix.Tracker: an add-wins set of presences that replicas merge by deltas (`Phoenix.Tracker.State`).

Every change that a replica makes to its own presences takes the next tick of its clock. A join is tagged by (replica, tick);
no tag is used twice, so a leave takes away the very join that it has seen and nothing else. A replica knows of each other one
how far it has seen its ticks (`context`), and single ticks beyond a gap (`clouds`). What is sent is a `Delta`: some ticks of
some replicas and those of their joins that still hold; a whole state is the delta from tick 0.

Pure data: it knows no time, sends nothing and never hears of a node that is gone but by `down`, `up` and `forget`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

Replica = tuple[str, int]  # name of the node, and which start of it
Clocks = dict[Replica, int]
Meta = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class TrackerEntry:
    """One presence: a process is in a topic under a key. `replica` and `clock` are its tag."""

    topic: str
    pid: Any
    key: Hashable
    meta: Meta
    replica: Replica
    clock: int


Tag = tuple[Replica, int]


@dataclass(frozen=True, slots=True)
class Delta:
    """The ticks `ranges[replica] = (after, until)` of each replica, and what is there because of them.

    `clouds` are further ticks whose joins have been seen: of a tick that is in a range or a cloud and has no entry, the join is
    over. Entries are those of the ticks given.
    """

    ranges: dict[Replica, tuple[int, int]] = field(default_factory=dict)
    clouds: dict[Replica, frozenset[int]] = field(default_factory=dict)
    entries: dict[Tag, TrackerEntry] = field(default_factory=dict)

    def saw(self, replica: Replica, clock: int) -> bool:
        """Whether this tick is among those it tells of."""
        after, until = self.ranges.get(replica, (0, 0))
        return after < clock <= until or clock in self.clouds.get(replica, ())

    def __len__(self) -> int:
        return len(self.entries) + sum(map(len, self.clouds.values()))

    def joins_up_with(self, later: Delta) -> bool:
        """Whether no tick is missing between this delta and a later one."""
        for replica, (after, until) in later.ranges.items():
            mine = self.ranges.get(replica)
            if mine is not None and (mine[1] < after or until < mine[0]):
                return False
        return True

    def merged(self, later: Delta) -> Delta:
        """Both in one; they must join up."""
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
        """The same without what one replica has to do with it."""
        return Delta(
            {r: span for r, span in self.ranges.items() if r != replica},
            {r: ticks for r, ticks in self.clouds.items() if r != replica},
            {tag: entry for tag, entry in self.entries.items() if tag[0] != replica},
        )


class State:
    """What one replica knows. Its own presences change by `join`, `update` and `leave`, those of others by `merge`.

    Invariants: an entry's tag has been seen; a process has one entry for a topic and key; of a replica that is not in `context`
    there is no entry.
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
        """A process of this node is there; it must not be so already."""
        assert self.own(pid, topic, key) is None
        return self._add_own(pid, topic, key, meta)

    def update(self, old: TrackerEntry, meta: Meta) -> TrackerEntry:
        """An own presence has another meta: for others that is a leave and a join."""
        # A tick of its own: whoever sees that the new join is over, too, must still miss the tick that ended the old one.
        self._tick()
        self._over(old)
        return self._add_own(old.pid, old.topic, old.key, meta)

    def leave(self, entry: TrackerEntry) -> None:
        """An own presence is over."""
        self._tick()
        self._over(entry)
        held = self._own[entry.pid]
        del held[entry.topic, entry.key]
        if not held:
            del self._own[entry.pid]
        self._drop(entry)

    def own(self, pid: Any, topic: str, key: Hashable) -> TrackerEntry | None:
        """The presence of a process of this node."""
        held = self._own.get(pid)
        return None if held is None else held.get((topic, key))

    def of_pid(self, pid: Any) -> list[TrackerEntry]:
        """All presences of a process of this node, oldest first."""
        return list(self._own.get(pid, {}).values())

    def pids(self) -> list[Any]:
        """The processes of this node that are present somewhere."""
        return list(self._own)

    def _add_own(self, pid: Any, topic: str, key: Hashable, meta: Meta) -> TrackerEntry:
        clock = self._tick()
        entry = TrackerEntry(topic, pid, key, meta, self.replica, clock)
        self._own.setdefault(pid, {})[topic, key] = entry
        self._add(entry)
        self._entries[self.replica, clock] = entry
        return entry

    def _tick(self) -> int:
        clock = self.context[self.replica] = self.context[self.replica] + 1
        return clock

    def _over(self, entry: TrackerEntry) -> None:
        """Notes for the next delta that a join of ours is over."""
        del self._held[self.replica][entry.clock]
        if self._entries.pop((self.replica, entry.clock), None) is None:
            self._ended.add(entry.clock)

    # ---- what is there

    def entries(self, topic: str, with_down: bool = False) -> list[TrackerEntry]:
        """Who is in a topic; without those of replicas that are down here."""
        found = self._topics.get(topic)
        if not found:
            return []
        if with_down or not self.downs:
            return list(found.values())
        return [entry for entry in found.values() if entry.replica not in self.downs]

    def counts(self) -> tuple[int, int]:
        """How many topics have presences, and how many of those there are."""
        return len(self._topics), sum(map(len, self._held.values()))

    # ---- deltas

    @property
    def changed(self) -> bool:
        """Whether own presences have changed since the last `take_delta`."""
        return self.context[self.replica] != self._since

    @property
    def published(self) -> Clocks:
        """How far everybody's ticks are seen, the own ones as far as deltas have published them."""
        return {**self.context, self.replica: self._since}

    def take_delta(self) -> Delta:
        """The own changes since the last time, which begins anew."""
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
        """How far the ticks of each replica are seen, but for those that are down.

        A newcomer who never heard of one of these would ask for everything again and again.
        """
        return {replica: clock for replica, clock in self.context.items() if replica not in self.downs}

    def extract(self, asker: Replica) -> Delta:
        """The whole state, for a replica that needs it: without its own presences, which nobody knows better."""
        return Delta(
            {replica: (0, clock) for replica, clock in self.context.items() if replica != asker},
            {
                replica: frozenset(ticks)
                for replica, ticks in self.clouds.items()
                if ticks and replica != asker
            },
            {
                (replica, clock): entry
                for replica, held in self._held.items()
                if replica != asker
                for clock, entry in held.items()
            },
        )

    def merge(self, delta: Delta) -> tuple[list[TrackerEntry], list[TrackerEntry]]:
        """Takes in what another replica tells; returns what is new and what is over.

        News of this replica's own presences, and of replicas it does not know, are passed over.
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
        """Presences of a replica whose joins the delta has seen and holds no longer."""
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
        """A replica is there, for the first time or again; returns what of it was hidden."""
        self.context.setdefault(replica, 0)
        self._held.setdefault(replica, {})
        self.downs.discard(replica)
        return list(self._held[replica].values())

    def down(self, replica: Replica) -> list[TrackerEntry]:
        """A replica is silent: its presences are hidden and kept. Returns them."""
        self.downs.add(replica)
        return list(self._held[replica].values())

    def forget(self, replica: Replica) -> None:
        """A replica will not come back: nothing of it is kept."""
        for entry in list(self._held.pop(replica, {}).values()):
            self._drop(entry)
        self.context.pop(replica, None)
        self.clouds.pop(replica, None)
        self.downs.discard(replica)

    # ---- the table

    def _add(self, entry: TrackerEntry) -> None:
        self._held[entry.replica][entry.clock] = entry
        there = self._topics.setdefault(entry.topic, {})
        older = there.get((entry.pid, entry.key))
        # What an update replaces may come after it, by way of another replica: it is over.
        if older is None or older.clock < entry.clock or older.replica != entry.replica:
            there[entry.pid, entry.key] = entry  # in the place of the older: a list is in order of arrival

    def _drop(self, entry: TrackerEntry) -> None:
        there = self._topics[entry.topic]
        if there.get((entry.pid, entry.key)) is entry:
            del there[entry.pid, entry.key]
            if not there:
                del self._topics[entry.topic]


class Generations:
    """The latest changes, kept so that who missed a few need not be sent everything (`Phoenix.Tracker.DeltaGeneration`).

    One delta for each of `sizes`, the larger ones reaching further back.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._kept: list[tuple[int, Delta | None]] = [(size, None) for size in sorted(sizes)]

    def push(self, delta: Delta) -> None:
        """Adds the newest change. Where it does not join up with what is kept that begins anew."""
        newest: Delta | None = delta
        kept: list[tuple[int, Delta | None]] = []
        for size, old in self._kept:
            merged = old.merged(delta) if old is not None and old.joins_up_with(delta) else delta
            # One that has grown too large is followed by the next smaller one.
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
        self, asker: Replica, known: Mapping[Replica, int], ours: Mapping[Replica, int]
    ) -> Delta | None:
        """The smallest kept delta that brings one who knows `known` to `ours`; None if there is none."""
        missing = {r: clock for r, clock in ours.items() if r != asker and known.get(r, 0) < clock}
        for _size, delta in self._kept:
            if delta is not None and all(
                _bridges(delta, r, known.get(r, 0), clock) for r, clock in missing.items()
            ):
                return delta.without(asker)
        return None

    def forget(self, replica: Replica) -> None:
        """Drops what a replica has to do with it."""
        self._kept = [(size, delta and delta.without(replica)) for size, delta in self._kept]


def _bridges(delta: Delta, replica: Replica, known: int, clock: int) -> bool:
    after, until = delta.ranges.get(replica, (0, 0))
    return after <= known and until >= clock


def behind(mine: Mapping[Replica, int], theirs: Mapping[Replica, int]) -> bool:
    """Whether they have seen something of a replica that both know, and I have not."""
    return any(clock > mine[replica] for replica, clock in theirs.items() if replica in mine)


def trimmed(askable: Mapping[Replica, Clocks]) -> Iterator[Replica]:
    """Of those that know more than we do, as few as have all of it: one that another dominates is left out."""
    chosen: list[tuple[Replica, Clocks]] = []
    for replica, clocks in askable.items():
        if any(_dominates(other, clocks) for _, other in chosen):
            continue
        chosen = [(r, other) for r, other in chosen if not _dominates(clocks, other)]
        chosen.append((replica, clocks))
    return (replica for replica, _ in chosen)


def _dominates(one: Clocks, other: Clocks) -> bool:
    return all(one.get(replica, 0) >= clock for replica, clock in other.items())
